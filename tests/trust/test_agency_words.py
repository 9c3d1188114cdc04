"""Each refusal of an agency in words, and the edges of what its entry may say."""

import re

import pytest

from homeplate.domain.agency import Agency, AgencyKind, Endpoint, KemKind, SealingKey
from homeplate.errors import TrustError
from homeplate.sealing.keys import key_id
from homeplate.trust.agencies import IneligibleError, agencies, to_agency
from homeplate_custodian.authority import create_authority
from tests.trust.forge import NOW_S, entry
from tests.trust.saying import says

HOME = "US-CA"
NAME = "San Diego Police Department"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder, name="test", now_s=NOW_S)
    return (folder / "ca.crt").read_text()


def test_an_entry_becomes_the_agency_that_it_says(pem):
    one = entry(pem, ori="CA0371100", endpoint={"pins": ["0a" * 32, "0b" * 32], "network": "198.51.100.0/24"})
    assert to_agency(one, HOME) == Agency(
        identifier="CA0371100",
        legal_name=NAME,
        kind=AgencyKind.CITY_AGENCY,
        jurisdiction="US-CA",
        ori="CA0371100",
        endpoints=(
            Endpoint(
                network="198.51.100.0/24", port=8883, tls_name="broker.example", authority_pem=pem,
                pins=(b"\x0a" * 32, b"\x0b" * 32),
            ),
        ),
        sealing_keys=(
            SealingKey(
                key_id=key_id(KemKind.X25519, b"\x11" * 32), kem=KemKind.X25519, public=b"\x11" * 32,
                not_before_s=NOW_S, not_after_s=NOW_S + 1,
            ),
        ),
    )  # fmt: skip


STRANGE = f"{NAME} is of kind %s, and only California's own public agencies receive (Civil Code 1798.90.5(f))"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"legal_name": "San Di\u0435go Police"},
         "homograph: the name of CA0371100 holds CYRILLIC SMALL LETTER IE"),
        ({"legal_name": "San Diego\u0301 Police"}, "homograph: the name of CA0371100 holds COMBINING ACUTE ACCENT"),
        ({"legal_name": "San Diego Police!"}, "name-form: the name of CA0371100 holds EXCLAMATION MARK"),
        ({"legal_name": "San Diego\ue000 Police"}, "name-form: the name of CA0371100 holds a character without a name"),
        ({"legal_name": "x"}, "name-form: the name of CA0371100 has 2 to 120 characters"),
        ({"legal_name": "San Diego Police " + "x" * 104}, "name-form: the name of CA0371100 has 2 to 120 characters"),
        ({"legal_name": "San Diego P0lice"}, "homograph: the name of CA0371100 holds P0l, which looks like letters"),
        ({"legal_name": "City of 0akland"}, "homograph: the name of CA0371100 holds 0a, which looks like letters"),
        ({"legal_name": "CaIifornia Patrol"}, "homograph: the name of CA0371100 holds I, which looks like letters"),
        ({"kind": "tribal"}, f"other-kind: {STRANGE % 'tribal'}"),
        ({"kind": "surprise"}, f"other-kind: {STRANGE % 'surprise'}"),
        ({"kind": "foreign"}, f"foreign: {STRANGE % 'foreign'}"),
        ({"kind": "united_states"}, f"federal: {STRANGE % 'united_states'}"),
        ({"kind": "nonprofit"}, f"private: {STRANGE % 'nonprofit'}"),
        ({"kind": "vendor", "jurisdiction": "US-NV"},
         f"private: {NAME} is of kind vendor, which is no public agency of a state"),
        ({"jurisdiction": "US"}, f"federal: {NAME} is of the United States, not of US-CA"),
        ({"jurisdiction": "US-NV"}, f"other-state: {NAME} is of US-NV, not of US-CA"),
        ({"jurisdiction": "US-NVA"}, f"foreign: {NAME} is of US-NVA, not of US-CA"),
        ({"legal_name": "Drug Enforcement Administration"},
         "federal: Drug Enforcement Administration is a federal name, whatever kind the entry gives"),
        ({"legal_name": "Acme Parking Inc"},
         "private: Acme Parking Inc is a private body's name, whatever kind the entry gives"),
        ({"legal_name": "MPCA ASSN"}, "initials: MPCA ASSN is no legal name written out; initials alone name nobody"),
        ({"ori": "CA037110"}, f"ori-form: {NAME} has the ORI CA037110; an ORI has 9 characters"),
        ({"ori": "TX0371100"}, f"other-state: {NAME} has the ORI TX0371100, which is not of CA"),
        ({"endpoints": []}, f"no-endpoint: {NAME} has no endpoint to send to"),
        ({"sealing_keys": []}, f"no-sealing-key: {NAME} has no sealing key"),
        ({"endpoint": {"pins": []}}, f"no-pin: {NAME} pins no key of its broker"),
        ({"endpoint": {"pins": ["00" * 32] * 2}}, f"pin-twice: {NAME} gives one pin twice"),
        ({"endpoint": {"tls_name": "*.example"}},
         f"wildcard: {NAME} gives the TLS name '*.example'; it has to name one host"),
        ({"endpoint": {"tls_name": "::1"}}, f"tls-address: {NAME} gives the address '::1' where the TLS name stands"),
        ({"endpoint": {"tls_name": "10.1"}}, f"tls-address: {NAME} gives the address '10.1' where the TLS name stands"),
        ({"endpoint": {"tls_name": "0x7f.0x1"}},
         f"tls-address: {NAME} gives the address '0x7f.0x1' where the TLS name stands"),
        ({"endpoint": {"tls_name": "1."}}, f"tls-address: {NAME} gives the address '1.' where the TLS name stands"),
        ({"endpoint": {"tls_name": "a..b"}},
         f"tls-name: {NAME} gives 'a..b', which is no name that a certificate carries"),
        ({"endpoint": {"tls_name": "a.b."}},
         f"tls-name: {NAME} gives 'a.b.', which is no name that a certificate carries"),
        ({"endpoint": {"tls_name": "-a.b"}},
         f"tls-name: {NAME} gives '-a.b', which is no name that a certificate carries"),
        ({"endpoint": {"network": "broker"}},
         f"address: {NAME} gives 'broker', which is no address or range (names are not resolved)"),
        ({"endpoint": {"network": "192.0.2.7/24"}},
         f"address: {NAME} gives '192.0.2.7/24', which is no address or range (names are not resolved)"),
        ({"endpoint": {"network": "192.0.2.7/32"}},
         f"address-form: {NAME} gives '192.0.2.7/32'; it is written 192.0.2.7"),
        ({"endpoint": {"network": "192.0.2.0/23"}}, f"address-range: {NAME} gives 192.0.2.0/23, wider than /24"),
        ({"endpoint": {"network": "2001:db8::/63"}}, f"address-range: {NAME} gives 2001:db8::/63, wider than /64"),
        ({"endpoint": {"network": "224.0.0.1"}}, f"address: {NAME} gives 224.0.0.1, which is nobody's own address"),
        ({"endpoint": {"network": "240.0.0.1"}}, f"address: {NAME} gives 240.0.0.1, which is nobody's own address"),
        ({"endpoint": {"network": "::"}}, f"address: {NAME} gives ::, which is nobody's own address"),
        ({"endpoint": {"network": "::2"}}, f"address: {NAME} gives ::2, an IPv4 address in another guise"),
        ({"endpoint": {"authority_pem": "none"}},
         f"authority: {NAME} gives no readable certificate of an authority"),
        ({"key": {"public": "11" * 33}}, f"key-form: {NAME} gives a sealing key of 33 bytes for x25519"),
        ({"key": {"not_after_s": NOW_S}}, f"key-dates: {NAME} gives a sealing key that ends before it begins"),
    ],
    ids=range(47),
)  # fmt: skip
def test_a_refusal_says_which_rule_who_and_what(pem, changed, message):
    with says(message, kind=IneligibleError):
        to_agency(entry(pem, **changed), HOME)


def test_two_authorities_are_one_too_many(pem):
    with says(f"authority: {NAME} must give exactly one certificate, of an authority", kind=IneligibleError):
        to_agency(entry(pem, endpoint={"authority_pem": pem + pem}), HOME)


@pytest.mark.parametrize(
    "changed",
    [
        {"legal_name": "San Diego Police " + "x" * 103},
        {"legal_name": "McIntosh County Police"},
        {"legal_name": "Bay Police"},  # a word of three letters is one
        {"legal_name": "MacIntyre County Police"},
        {"legal_name": "Route 101 Patrol Authority"},
        {"legal_name": "USS Midway Harbor Police"},  # no word boundary after the second letter
        {"legal_name": "Incline Village Police"},
        {"endpoint": {"tls_name": "a" * 63 + ".b-c.d0"}},
        {"endpoint": {"tls_name": "0x7g.example"}},
        {"endpoint": {"network": "::1"}},
        {"endpoint": {"network": "2001:db8::/64"}},
        {"endpoint": {"network": "fe80::1"}},
    ],
    ids=range(12),
)
def test_what_only_looks_like_a_fault_is_taken(pem, changed):
    assert to_agency(entry(pem, **changed), HOME)


def test_a_long_label_is_no_name(pem):
    with pytest.raises(IneligibleError, match=r"^tls-name:"):
        to_agency(entry(pem, endpoint={"tls_name": "a" * 64 + ".example"}), HOME)


def test_the_registry_is_told_whom_it_names_twice_and_other_entries_keep_their_own_reason(pem):
    with says("registry.json names ca0371100 twice; the registry must say which is meant"):
        agencies([entry(pem), entry(pem, identifier="ca0371100", key={"public": "22" * 32})], HOME)
    twice = "registry.json gives a sealing key of %s twice; no key has two owners"
    with says(twice % "other"):
        agencies([entry(pem), entry(pem, identifier="other")], HOME)
    doubled = entry(pem)
    with says(twice % "CA0371100"):
        agencies([entry(pem, sealing_keys=doubled.sealing_keys * 2)], HOME)
    good, refused = agencies(
        [entry(pem, identifier="cbp", kind="federal"), entry(pem), entry(pem, identifier="x", legal_name="MPCA"),
         entry(pem, identifier="last", key={"public": "33" * 32})],
        HOME,
    )  # fmt: skip
    assert [agency.identifier for agency in good] == ["CA0371100", "last"]
    assert refused == {
        "cbp": f"federal: {STRANGE % 'federal'}",
        "x": "initials: MPCA is no legal name written out; initials alone name nobody",
    }


def test_an_entry_that_is_refused_still_has_its_name(pem):
    with pytest.raises(TrustError, match=re.escape("names CBP twice")):
        agencies([entry(pem, identifier="cbp", kind="federal"), entry(pem, identifier="CBP")], HOME)
