"""What a legal name says of whose body it is: federal, tribal, of another state, private, or a state's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.agency import AgencyKind, Jurisdiction
from homeplate.errors import TrustError
from homeplate.trust.agencies import IneligibleError, to_agency
from homeplate.trust.names import STATES, misfit, names_a_public_body
from homeplate_custodian.authority import create_authority
from tests.trust.forge import NOW_S, entry

CA = "US-CA"
FEDERAL = [
    "FBI San Diego Field Office",
    "San Diego Police Department and HSI Task Force",
    "DEA Los Angeles Division",
    "CBP Office of Field Operations",
    "DHS Police, Los Angeles County",
    "ATF Los Angeles Office",
    "ICE San Diego Office",
    "ERO Bakersfield Office",
    "USMS Eastern District of California",
    "NCIS San Diego Office",
    "Naval Base San Diego Police",
    "Naval Air Station Lemoore Police",
    "Navy Region Southwest Command",
    "Fort Irwin Army Police Department",
    "Travis Air Force Base Security Office",
    "Marine Corps Air Station Miramar",
    "Camp Pendleton Marine Corps Base Police",
    "Vandenberg Space Force Base Police",
    "Department of the Navy Police",
    "Provost Marshal's Office, Camp Pendleton",
    "Department of Justice",
    "Department of Justice, Northern District of California",
    "Dept. of Justice Police",
    "department of veterans affairs Police, Palo Alto",
    "Department of the Interior",
    "California Office of the Department of Justice",
    "Cleveland National Forest Service Police",
]
TRIBAL = [
    "Navajo Nation Police",
    "Hoopa Valley Tribal Police Department",
    "Yurok Tribe Police Department",
    "Confederated Tribes Police Department",
    "Robinson Rancheria Police Department",
    "Pechanga Band of Indians Police Department",
    "Morongo Band of Mission Indians Police",
    "Bishop Indian Reservation Police",
]
OTHER_STATES = [
    "Texas Department of Public Safety",
    "TEXAS DEPARTMENT OF PUBLIC SAFETY",
    "The Texas Rangers Division",
    "Texas Rangers",
    "Texas National Guard",
    "Arizona Attorney General's Office",
    "Nevada Highway Patrol",
    "Nevada State Police",
    "Oregon State Police",
    "Washington State Patrol",
    "New  Mexico State Police",
    "West Virginia State Police",
    "Virginia State Police",
    "District of Columbia Department of Corrections",
    "Puerto Rico Bureau of Police",
    "State of Nevada",
    "Office of the Governor, State of Idaho",
    "Commonwealth of Virginia",
    "University of Arizona Police Department",
    "Austin Police Department, Texas",
    "Police Department (Reno), Nevada, City",
    "Metropolitan Police Department, Washington, D.C.",
    "Region 1, Texas Department of Public Safety",
]
PRIVATE = ["Flock Safety", "Vigilant Data", "Motorola Readers and Records", "Acme Technologies Police Systems",
           "Neighbors of Oak Hill", "Oakland Police Holdings", "Acme Parking Incorporated"]  # fmt: skip
CALIFORNIAN = [
    "Nevada County Sheriff's Office",
    "County of Nevada",
    "City of Nevada City",
    "Nevada Irrigation District",
    "Delano Police Department",
    "National City Police Department",
    "Indian Wells Police Department",
    "California Department of Justice",
    "CALIFORNIA DEPARTMENT OF JUSTICE",
    "Department of Justice, State of California",
    "California Department of Veterans Affairs",
    "California Military Department",
    "California State Parks, Office of Public Safety",
    "Virginia Beach Police Department",
    "Port Washington Police Department",
    "Police Department, Washington Township",
    "Kansas City Police Department",
    "Oregon City Police Department",
    "Ontario Police Department",
    "Delaware County Sheriff's Office",
    "Indiana County Sheriff",
    "Sheriff's Office, Nevada County",
    "Oakland Unified School District Police",
    "Bay Area Rapid Transit Police",
    "Regents of the University of California",
    "Los Angeles World Airports",
    "Port of San Diego Harbor Police",
    "Superior Court, County of Marin",
    "Army Street Parking District",  # no base, no station
    "Ice House Road Fire District",  # ICE is written in capitals
]


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder, name="test", now_s=NOW_S)
    return (folder / "ca.crt").read_text()


def code_of(name, home=CA, *, subdivision=False):
    found = misfit(name, home, subdivision=subdivision)
    return found.code if found else None


@pytest.mark.parametrize("kind", [AgencyKind.CITY_AGENCY, AgencyKind.STATE_AGENCY, AgencyKind.POLITICAL_SUBDIVISION])
@pytest.mark.parametrize(
    ("names", "code"),
    [(FEDERAL, "federal"), (TRIBAL, "other-kind"), (OTHER_STATES, "other-state"), (PRIVATE, "private")],
    ids=["federal", "tribal", "other-state", "private"],
)
def test_a_name_of_somebody_else_under_a_californian_kind_is_refused_by_whose_it_is(pem, names, code, kind):
    for name in names:
        with pytest.raises(IneligibleError) as refused:
            to_agency(entry(pem, legal_name=name, kind=kind), CA)
        assert str(refused.value).startswith(f"{code}: {name} "), str(refused.value)


@pytest.mark.parametrize("name", CALIFORNIAN)
def test_californian_names_that_sound_like_others_are_taken(pem, name):
    assert to_agency(entry(pem, legal_name=name), CA).legal_name == name


def test_every_jurisdiction_has_a_name():
    assert set(STATES) == set(Jurisdiction)
    assert len(set(STATES.values())) == len(STATES)


STATE_BODIES = ["Department of Public Safety", "Dept. of Revenue", "State Police", "Highway Patrol", "Attorney General",
                "Bureau of Investigation", "Division of Forestry", "Office of the Governor", "Rangers",
                "National Guard", "Commission on Crime"]  # fmt: skip
LOCAL_BODIES = ["County Sheriff's Office", "City Police Department", "Township Police", "Beach Police Department",
                "Village Marshal", "Borough Police", "Police Department", "Port Authority"]  # fmt: skip
codes = st.sampled_from(list(STATES))


@given(codes, codes, st.sampled_from(STATE_BODIES), st.sampled_from([str.upper, str.lower, str]))
def test_a_states_own_body_is_taken_at_home_alone(home, state, body, written):
    name = written(f"{STATES[state]} {body}")
    assert code_of(name, home) == (None if home == state else "other-state")


@given(codes, codes, st.sampled_from(LOCAL_BODIES), st.sampled_from(["", "Port ", "Sheriff's Office, ", "Town of "]))
def test_a_local_body_that_is_called_like_a_state_is_taken_everywhere(home, state, body, before):
    assert code_of(f"{before}{STATES[state]} {body}", home) is None


@given(codes, codes, st.sampled_from(["State of {}", "Commonwealth of {}", "Springfield Police Department, {}",
                                      "University of {} Police", "Town Police, {}, Region 2"]))  # fmt: skip
def test_a_state_that_is_named_as_the_place_is_the_homes(home, state, form):
    assert code_of(form.format(STATES[state]), home) == (None if home == state else "other-state")


@given(codes)
def test_a_department_of_justice_is_a_states_where_its_name_says_so(home):
    assert code_of("Department of Justice", home) == "federal"
    assert code_of(f"{STATES[home]} Department of Justice", home) is None
    other = "US-TX" if home != "US-TX" else "US-NV"
    assert code_of(f"{STATES[other]} Department of Justice", home) in {"federal", "other-state"}


def test_a_joint_powers_authority_may_be_called_an_association_and_nothing_more():
    assert code_of("Association of Bay Area Governments", subdivision=True) is None
    assert code_of("Association of Bay Area Governments") == "private"
    assert code_of("Police Association Foundation", subdivision=True) == "private"


def test_a_name_says_what_public_body_it_is():
    assert names_a_public_body("Yolo County Children's Alliance")
    assert not names_a_public_body("Countywide Policing Statewide")


def test_the_refusal_says_which_state(pem):
    with pytest.raises(TrustError, match=r"^other-state: Texas Rangers is a name of Texas's, not of US-CA, whatever"):
        to_agency(entry(pem, legal_name="Texas Rangers"), CA)
    with pytest.raises(TrustError, match=r"^other-state: .* is a name of West Virginia's"):
        to_agency(entry(pem, legal_name="Police Department, West Virginia"), CA)
