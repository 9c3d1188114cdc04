"""Civil Code 1798.90.5(f) and what went wrong under it: each case of the table by its name, for any state's node."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.agency import AgencyKind, Jurisdiction
from homeplate.errors import TrustError
from homeplate.policy.allowlist import Allowed, Refused, may_connect, recipients
from homeplate.trust.agencies import IneligibleError, agencies, to_agency
from homeplate.trust.contents import grants
from homeplate.trust.schema import AllowlistFile, GrantEntry, RegistryFile, RootMark, decode, encode
from homeplate_custodian.authority import create_authority
from tests.bodies import REFUSED_BY_LAW
from tests.trust.forge import NOW_S, entry

STATES = st.sampled_from(list(Jurisdiction))
ORI_PREFIX = {Jurisdiction.NE: "NB"}


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder, name="test", now_s=NOW_S)
    return (folder / "ca.crt").read_text()


def prefix(state):
    return ORI_PREFIX.get(state, state.removeprefix("US-"))


def granted(identifier, **changed):
    fields = {
        "identifier": identifier,
        "need": "recover stolen vehicles",
        "purpose": "stolen vehicles",
        "approver": "Chief of Police",
        "approved_on": "2026-09-01",
        "expires_s": NOW_S + 10,
        "attested": True,
    }
    return GrantEntry(**(fields | changed))


def judged(pem, *, home=Jurisdiction.CA, now_s=NOW_S, grant=None, **changed):
    """Return who may receive where the registry signs one entry and the operator grants it, as a node judges it."""
    one = entry(pem, **({"jurisdiction": str(home), "identifier": "somebody"} | changed))
    good, bad = agencies([one], home)
    allowlist = AllowlistFile(grants=[granted("somebody", **(grant or {}))])
    return recipients(good, grants(allowlist), home, now_s, unregistered=bad)


def code(pem, **changed):
    return judged(pem, **changed).refused["somebody"].split(":")[0]


CIV_CODE_1798_90_5_F_ALLOWED = [
    ("California Highway Patrol", "state_agency", "CACHP0000"),
    ("San Diego Police Department", "city_agency", "CA0371100"),
    ("Marin County Sheriff", "county_agency", "CA0210000"),
    ("State of California", "state", None),
    ("County of Alameda", "county", None),
    ("City of Oakland", "city", None),
    ("City and County of San Francisco", "city_and_county", None),
    ("San Francisco Police Department", "city_and_county_agency", "CA0380100"),
    ("East Bay Regional Park District", "political_subdivision", None),
]


@pytest.mark.parametrize(("name", "kind", "ori"), CIV_CODE_1798_90_5_F_ALLOWED)
def test_civ_code_1798_90_5_f_a_public_agency_of_the_state_may_be_a_recipient(pem, name, kind, ori):
    assert set(judged(pem, legal_name=name, kind=kind, ori=ori).allowed) == {"somebody"}


@pytest.mark.parametrize(("name", "kind", "where", "reason"), REFUSED_BY_LAW)
def test_civ_code_1798_90_5_f_nobody_else_may_be_a_recipient(pem, name, kind, where, reason):
    found = judged(pem, legal_name=name, kind=kind, jurisdiction=where)
    assert not found.allowed
    assert found.refused["somebody"].startswith(f"{reason}: {name}")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("U.S. Customs and Border Protection", "state_agency", "federal"),
        ("Immigration and Customs Enforcement, San Diego", "county_agency", "federal"),
        ("Homeland Security Investigations", "city_agency", "federal"),
        ("Enforcement and Removal Operations", "state_agency", "federal"),
        ("Missouri Police Chiefs Association", "state_agency", "private"),
        ("Acme Reader Corporation", "political_subdivision_of_none", "other-kind"),
    ],
)
def test_a_federal_or_private_body_under_a_californian_kind_is_refused_by_its_name(pem, name, kind, reason):
    assert code(pem, legal_name=name, kind=kind) == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("San Di\u0435go Police Department", "homograph"),  # Cyrillic ie
        ("\u13a0an Diego Police Department", "homograph"),  # Cherokee letter a
        ("San Diego \u03a1olice Department", "homograph"),  # Greek capital rho
        ("\uff23alifornia Highway Patrol", "homograph"),  # fullwidth C
        ("California Highway Patro\u217c", "homograph"),  # Roman numeral fifty
        ("Calif\u0301ornia Highway Patrol", "homograph"),  # a combining accent
        ("CaIifornia Highway PatroI", "homograph"),  # a capital I for each l
        ("0akland Police Department", "homograph"),
        ("Oakland P0lice Department", "homograph"),
        ("Oakland Po1ice Department", "homograph"),
        ("Oakland Police \u2010 Department", "name-form"),
        ("Oakland_Police Department", "name-form"),
        ("O", "name-form"),
    ],
)
def test_a_name_that_looks_like_another_is_refused_and_not_repeated(pem, name, reason):
    refused = judged(pem, legal_name=name).refused["somebody"]
    assert refused.split(":")[0] == reason
    assert name not in refused or len(name) == 1


@pytest.mark.parametrize(
    "name",
    [
        "McIntosh County Sheriff",
        "MacIntyre City Police",
        "Cañon City Police",
        "Fire District 10A",
        "21st District Court",
    ],
)
def test_names_with_particles_accents_and_numbers_are_no_homographs(pem, name):
    assert judged(pem, legal_name=name).allowed


@pytest.mark.parametrize("name", ["MPCA", "M.P.C.A.", "CHP", "S F P D", "LAPD SDPD", "Dept. of PD"])
def test_initials_alone_name_nobody(pem, name):
    assert code(pem, legal_name=name) == "initials"


def test_auditor_31_and_32_a_need_that_is_over_is_refused_from_its_own_second_on(pem):
    assert judged(pem, now_s=NOW_S + 9).allowed
    assert code(pem, now_s=NOW_S + 10) == "grant-expired"


def test_a_grant_without_attestation_allows_nobody(pem):
    assert code(pem, grant={"attested": False}) == "not-attested"


@pytest.mark.parametrize("field", ["need", "purpose", "approver"])
def test_a_grant_without_need_purpose_or_approver_is_refused_by_that_field(pem, field):
    with pytest.raises(TrustError, match=f"blank {field}"):
        judged(pem, grant={field: " "})


@pytest.mark.parametrize("field", ["need", "purpose", "approver", "approved_on", "expires_s", "attested"])
def test_a_grant_that_leaves_a_field_out_is_refused_by_that_field(field):
    document = json.loads(encode(AllowlistFile(grants=[granted("somebody")])))
    del document["grants"][0][field]
    with pytest.raises(TrustError, match=rf"allowlist\.json.*`{field}`"):
        decode(json.dumps(document).encode(), AllowlistFile, "allowlist.json")


def test_an_ori_of_another_state_is_refused_also_as_the_identifier_alone(pem):
    assert code(pem, ori="TX0371100") == "other-state"
    good, bad = agencies([entry(pem, identifier="TX0371100")], Jurisdiction.CA)
    assert (good, bad["TX0371100"].split(":")[0]) == ((), "other-state")


@pytest.mark.parametrize(
    ("first", "second"),
    [('"kind":"federal"', '"kind":"city_agency"'), ('"jurisdiction":"US"', '"jurisdiction":"US-CA"')],
)
def test_a_key_that_is_there_twice_in_one_object_refuses_the_file_whichever_value_is_last(pem, first, second):
    good = encode(RegistryFile(agencies=[entry(pem)])).decode()
    for pair in (f"{first},{second}", f"{second},{first}", f"{second},{second}"):
        with pytest.raises(TrustError, match="twice in one object"):
            decode(good.replace(second, pair).encode(), RegistryFile, "registry.json")
    assert decode(good.encode(), RegistryFile, "registry.json").agencies


@pytest.mark.parametrize(
    ("tls_name", "reason"),
    [
        ("*.example", "wildcard"),
        ("*", "wildcard"),
        ("broker.*.example", "wildcard"),
        ("b*.agency.example", "wildcard"),
        ("192.0.2.7", "tls-address"),
        ("2001:db8::1", "tls-address"),
        ("[2001:db8::1]", "tls-address"),
        ("10.1", "tls-address"),
        ("3221225991", "tls-address"),
        ("0xc0.0x0.0x2.0x7", "tls-address"),
        ("192.0.2.7.", "tls-address"),
        ("broker.example.", "tls-name"),
        ("-broker.example", "tls-name"),
        ("broker_1.example", "tls-name"),
        ("Broker.example", "tls-name"),
        ("broker example", "tls-name"),
        ("br\u043eker.example", "tls-name"),
        ("x" * 64 + ".example", "tls-name"),
    ],
)
def test_a_tls_name_is_one_hosts_name_and_neither_a_wildcard_nor_an_address(pem, tls_name, reason):
    assert code(pem, endpoint={"tls_name": tls_name}) == reason


@given(number=st.integers(0, 2**32 - 1))
def test_an_address_outside_the_signed_range_is_refused_and_one_inside_is_not(pem, number):
    address = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    known = judged(pem, endpoint={"network": "192.0.2.0/24"})
    verdict = may_connect(address, "somebody", known, NOW_S)
    if address.startswith("192.0.2."):
        assert isinstance(verdict, Allowed)
    else:
        assert isinstance(verdict, Refused)
        assert verdict.reason.startswith("other-address")


@pytest.mark.parametrize("address", ["192.0.3.0", "192.0.1.255", "::ffff:192.0.2.7", "2001:db8::7", "broker.example"])
def test_the_neighbours_of_a_range_and_the_same_address_in_another_guise_are_outside(pem, address):
    known = judged(pem, endpoint={"network": "192.0.2.0/24"})
    assert isinstance(may_connect("192.0.2.255", "somebody", known, NOW_S), Allowed)
    assert isinstance(may_connect(address, "somebody", known, NOW_S), Refused)


@given(home=STATES, kind=st.sampled_from(list(AgencyKind)), digits=st.text(string.digits, min_size=7, max_size=7))
def test_any_state_can_be_the_nodes_and_its_own_agencies_of_every_kind_are_taken(pem, home, kind, digits):
    found = judged(pem, home=home, kind=str(kind), ori=prefix(home) + digits)
    assert found.allowed["somebody"].agency.jurisdiction is home


@given(home=STATES, other=STATES, kind=st.sampled_from(list(AgencyKind)))
def test_no_other_states_agency_and_no_other_states_ori_is_taken_whichever_state_is_the_nodes(pem, home, other, kind):
    expected = {"allowed"} if home is other else {"other-state"}
    for changed in ({"jurisdiction": str(other)}, {"ori": prefix(other) + "0371100"}):
        found = judged(pem, home=home, kind=str(kind), **changed)
        assert {"allowed"} if found.allowed else {found.refused["somebody"].split(":")[0]} == expected


@given(
    home=STATES,
    kind=st.one_of(st.sampled_from(["federal", "private", "tribal", "vendor"]), st.text("abcdefghijk_", min_size=1)),
    where=st.one_of(STATES.map(str), st.just("US"), st.from_regex("[A-Z]{2}-[A-Z]{2,3}", fullmatch=True)),
)
def test_what_is_of_no_public_kind_is_never_taken_whatever_state_it_claims(pem, home, kind, where):
    if kind in set(AgencyKind):
        return
    with pytest.raises(IneligibleError):
        to_agency(entry(pem, kind=kind[:40], jurisdiction=where), home)


@pytest.mark.parametrize("where", ["US", "US-XX", "US-ca", "US-PR", "CA", "MX-BCN", ""])
def test_a_root_for_no_state_is_none(where):
    mark = {"demo": False, "jurisdiction": where, "registry_body": "a", "operator_body": "b"}
    with pytest.raises(TrustError, match="jurisdiction"):
        decode(json.dumps(mark).encode(), RootMark, "the root")
    assert decode(json.dumps(mark | {"jurisdiction": "US-NE"}).encode(), RootMark, "r").jurisdiction is Jurisdiction.NE


def test_two_entries_with_one_name_in_another_case_or_one_key_refuse_the_registry(pem):
    with pytest.raises(TrustError, match="twice"):
        agencies([entry(pem, identifier="a"), entry(pem, identifier="A", key={"public": "22" * 32})], Jurisdiction.CA)
    with pytest.raises(TrustError, match="sealing key"):
        agencies([entry(pem, identifier="a"), entry(pem, identifier="b")], Jurisdiction.CA)


def test_an_agency_granted_twice_receives_nothing(pem):
    good, _ = agencies([entry(pem, identifier="somebody")], Jurisdiction.CA)
    with pytest.raises(TrustError, match="twice"):
        grants(AllowlistFile(grants=[granted("somebody"), granted("SOMEBODY")]))
    one = grants(AllowlistFile(grants=[granted("somebody")]))
    found = recipients(good, one + one, Jurisdiction.CA, NOW_S)
    assert found.refused["somebody"].startswith("granted-twice")
