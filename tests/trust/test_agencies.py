"""Who can be written down: California's own public agencies; everyone else is refused with a reason of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homeplate.domain.agency import AgencyKind, KemKind
from homeplate.errors import TrustError
from homeplate.policy.allowlist import recipients
from homeplate.sealing.keys import check_sealing_key, generate_sealing_key
from homeplate.trust.agencies import IneligibleError, agencies, to_agency
from homeplate.trust.contents import grants
from homeplate.trust.schema import AllowlistFile, GrantEntry
from homeplate_custodian.authority import create_authority, issue_client, issue_server
from tests.fuzzing import certificates as unreadable
from tests.trust import forge
from tests.trust.forge import NOW_S, entry

HOME = "US-CA"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder, name="test", now_s=NOW_S)
    return folder


@pytest.fixture(scope="module")
def pem(folder: Path) -> str:
    return (folder / "ca.crt").read_text()


# State Auditor 2019-118 and Civil Code 1798.90.5(f): who was shared with, and who may be.
ALLOWED = [
    ("CACHP0000", "California Highway Patrol", "state_agency", "CACHP0000"),
    ("CA0371100", "San Diego Police Department", "city_agency", "CA0371100"),
    ("marin-sheriff", "Marin County Sheriff's Office", "county_agency", "CA0210000"),
]
REFUSED = [
    ("TXDPS0000", "Texas Department of Public Safety", "state_agency", "US-TX", "other-state"),
    ("HI0020000", "Honolulu Police Department", "city_agency", "US-HI", "other-state"),
    ("cbp", "U.S. Customs and Border Protection", "federal_agency", "US", "federal"),
    ("ice", "U.S. Immigration and Customs Enforcement", "federal_agency", "US", "federal"),
    ("mo-chiefs", "Missouri Police Chiefs Association", "association", "US-MO", "private"),
    ("mpca", "MPCA", "state_agency", "US-CA", "initials"),
]


def test_the_audits_list_is_sorted_into_who_may_receive_and_who_may_not(pem: str):
    entries = [
        entry(pem, identifier=identifier, legal_name=name, kind=kind, ori=ori, key={"public": f"{number:02x}" * 32})
        for number, (identifier, name, kind, ori) in enumerate(ALLOWED)
    ]
    entries += [
        entry(pem, identifier=identifier, legal_name=name, kind=kind, jurisdiction=where)
        for identifier, name, kind, where, _ in REFUSED
    ]
    allowlist = AllowlistFile(
        grants=[
            GrantEntry(
                identifier=one.identifier,
                need="n",
                purpose="p",
                approver="a",
                approved_on="2026-09-01",
                expires_s=NOW_S + 1,
                attested=True,
            )
            for one in entries
        ]
    )
    good, unregistered = agencies(entries, HOME)
    found = recipients(good, grants(allowlist), HOME, NOW_S, unregistered=unregistered)
    assert set(found.allowed) == {identifier for identifier, *_ in ALLOWED}
    assert {name: reason.split(":")[0] for name, reason in found.refused.items()} == {
        identifier: code for identifier, *_, code in REFUSED
    }
    for identifier, name, *_ in REFUSED:
        assert name in found.refused[identifier]
    assert len(set(found.refused.values())) == len(REFUSED)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"kind": "federal"}, "federal"),
        ({"kind": "military"}, "federal"),
        ({"kind": "private"}, "private"),
        ({"kind": "vendor"}, "private"),
        ({"kind": "City_Agency"}, "other-kind"),
        ({"kind": "tribal"}, "other-kind"),
        ({"jurisdiction": "US"}, "federal"),
        ({"jurisdiction": "US-NV"}, "other-state"),
        ({"jurisdiction": "us-ca"}, "foreign"),
        ({"jurisdiction": "MX-BCN"}, "foreign"),
        ({"legal_name": "United States Marshals Service"}, "federal"),
        ({"legal_name": "US Border Patrol, San Diego Sector"}, "federal"),
        ({"legal_name": "Federal Bureau of Investigation"}, "federal"),
        ({"legal_name": "Department of Homeland Security, Los Angeles"}, "federal"),
        ({"legal_name": "Acme Parking Company"}, "private"),
        ({"legal_name": "Neighborhood Watch Foundation"}, "private"),
        ({"legal_name": "California Police Chiefs Association"}, "private"),
        ({"legal_name": "SDPD"}, "initials"),
        ({"legal_name": "S.D.P.D."}, "initials"),
        ({"legal_name": "M P C A"}, "initials"),
        ({"legal_name": "MPCA ASSN"}, "initials"),
        ({"legal_name": "CHP SDPD LAPD"}, "initials"),
        ({"legal_name": "CALEA IALEP"}, "initials"),
        ({"legal_name": "Police"}, "initials"),
        ({"ori": "TX0371100"}, "other-state"),
        ({"ori": "CA037110"}, "ori-form"),
        ({"ori": "ca0371100"}, "ori-form"),
        ({"identifier": "TX0371100"}, "other-state"),
        ({"endpoints": []}, "no-endpoint"),
        ({"sealing_keys": []}, "no-sealing-key"),
        ({"endpoint": {"pins": []}}, "no-pin"),
        ({"endpoint": {"pins": ["00" * 32, "00" * 32]}}, "pin-twice"),
        ({"endpoint": {"tls_name": "broker..example"}}, "tls-name"),
        ({"endpoint": {"network": "0.0.0.0/0"}}, "address-range"),
        ({"endpoint": {"network": "::/0"}}, "address-range"),
        ({"endpoint": {"network": "0.0.0.0/1"}}, "address-range"),
        ({"endpoint": {"network": "192.0.0.0/16"}}, "address-range"),
        ({"endpoint": {"network": "2001:db8::/32"}}, "address-range"),
        ({"endpoint": {"network": "0.0.0.0"}}, "address"),  # noqa: S104 - refused is what the test wants
        ({"endpoint": {"network": "::"}}, "address"),
        ({"endpoint": {"network": "224.0.0.1"}}, "address"),
        ({"endpoint": {"network": "255.255.255.255"}}, "address"),
        ({"endpoint": {"network": "ff02::1"}}, "address"),
        ({"endpoint": {"network": "::ffff:192.0.2.7"}}, "address-form"),
        ({"endpoint": {"network": "::ffff:c000:207"}}, "address"),
        ({"endpoint": {"network": "64:ff9b::c000:207"}}, "address"),
        ({"endpoint": {"network": "2002:c000:207::/64"}}, "address"),
        ({"endpoint": {"network": "192.0.2.7/32"}}, "address-form"),
        ({"endpoint": {"network": "192.0.2.7/24"}}, "address"),
        ({"endpoint": {"network": "192.0.2.07"}}, "address"),
        ({"endpoint": {"network": "2001:DB8::1"}}, "address-form"),
        ({"endpoint": {"network": "broker.example"}}, "address"),
        ({"endpoint": {"network": ""}}, "address"),
        ({"endpoint": {"authority_pem": ""}}, "authority"),
        ({"endpoint": {"authority_pem": "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----"}}, "authority"),
        ({"key": {"public": "11" * 33}}, "key-form"),
        ({"key": {"kem": KemKind.MLKEM768_X25519}}, "key-form"),
        ({"key": {"not_after_s": NOW_S}}, "key-dates"),
    ],
)
def test_what_can_be_no_agency_is_refused_by_name(pem: str, changed: dict[str, Any], code: str):
    with pytest.raises(IneligibleError) as caught:
        to_agency(entry(pem, **changed), HOME)
    assert str(caught.value).split(":")[0] == code


@pytest.mark.parametrize(
    "changed",
    [
        {"legal_name": "SAN DIEGO POLICE DEPARTMENT"},
        {"legal_name": "Nevada County Sheriff's Office", "kind": "county_agency", "ori": "CA0290000"},
        {"legal_name": "Nevada City Police Department"},
        {"legal_name": "Ontario Police Department"},
        {"legal_name": "La Cañada Flintridge City"},
        {"legal_name": "Association of Bay Area Governments", "kind": "political_subdivision"},
        {"legal_name": "City and County of San Francisco", "kind": "city_and_county"},
        {"legal_name": "Campus Police, University of California"},
        {"endpoint": {"network": "198.51.100.0/24"}},
        {"endpoint": {"network": "2001:db8::/64"}},
        {"endpoint": {"network": "127.0.0.1"}},
        {"endpoint": {"network": "::1"}},
        {"endpoint": {"pins": ["00" * 32, "01" * 32]}},
        {"key": {"kem": KemKind.MLKEM768_X25519, "public": "11" * 1216}},
    ],
)
def test_californian_agencies_with_unusual_names_and_addresses_are_accepted(pem: str, changed: dict[str, Any]):
    agency = to_agency(entry(pem, **changed), HOME)
    assert agency.jurisdiction == HOME
    assert agency.kind in set(AgencyKind)


def test_another_states_node_takes_that_states_agencies_with_its_own_ori_prefix(pem: str):
    agency = to_agency(
        entry(pem, identifier="omaha", legal_name="Omaha Police Department", jurisdiction="US-NE", ori="NB0280200"),
        "US-NE",
    )
    assert agency.ori == "NB0280200"


def test_a_leafs_certificate_is_no_authority_and_two_certificates_are_not_one(folder: Path, pem: str):
    leaf = issue_client(folder, forge.csr("node"), common_name="node", now_s=NOW_S)
    server = issue_server(folder, tls_name="broker.example", addresses=[], now_s=NOW_S)
    for wrong in (leaf, server.certificate.read_text(), pem + pem, pem + leaf):
        with pytest.raises(IneligibleError, match=r"^authority:"):
            to_agency(entry(pem, endpoint={"authority_pem": wrong}), HOME)


@pytest.mark.parametrize("damage", [unreadable.of_version_6, unreadable.with_an_extension_twice])
def test_an_authority_that_the_library_cannot_read_is_refused_by_name(pem: str, damage: Callable[[bytes], bytes]):
    wrong = unreadable.pem_of("CERTIFICATE", damage(unreadable.der_of(pem)))
    with pytest.raises(IneligibleError, match=r"^authority:"):
        to_agency(entry(pem, endpoint={"authority_pem": wrong}), HOME)


def test_one_bad_entry_leaves_the_others_usable(pem: str):
    good, refused = agencies([entry(pem), entry(pem, identifier="cbp", kind="federal")], HOME)
    assert [agency.identifier for agency in good] == ["CA0371100"]
    assert set(refused) == {"cbp"}


def test_entries_that_share_an_identifier_or_a_sealing_key_refuse_the_whole_registry(pem: str):
    with pytest.raises(TrustError, match="twice"):
        agencies([entry(pem), entry(pem, identifier="ca0371100", key={"public": "22" * 32})], HOME)
    with pytest.raises(TrustError, match="sealing key"):
        agencies([entry(pem), entry(pem, identifier="other")], HOME)


@pytest.mark.parametrize("kem", KemKind)
def test_a_sealing_keys_id_is_the_one_that_sealing_checks(pem: str, kem: KemKind):
    private = generate_sealing_key(kem)
    agency = to_agency(entry(pem, key={"kem": kem, "public": private.public_bytes.hex()}), HOME)
    assert agency.sealing_keys[0].key_id == private.key_id
    check_sealing_key(agency.sealing_keys[0])
