"""Who may receive: default deny, two signers, a reason of its own for each refusal."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.agency import Agency, Grant
from homeplate.policy.allowlist import Allowed, address_of, may_connect, recipient_of_key, recipients, sealing_key
from homeplate.policy.verdict import Refused
from tests.policy.values import AGENCIES, GRANTS, HOME, NOW_S, SECONDS, agency, endpoint, grant, known
from tests.policy.values import sealing_key as key


def test_an_agency_that_both_signers_name_may_receive():
    found = known(agency())
    assert set(found.allowed) == {"CA0371100"}
    assert found.refused == {}
    assert found.nobody is None


def test_nobody_may_receive_from_empty_lists_and_the_reason_says_so():
    assert recipients((), (), HOME, NOW_S).nobody.startswith("empty:")
    assert recipients((), (grant(),), HOME, NOW_S).nobody.startswith("empty-registry:")
    assert recipients((agency(),), (), HOME, NOW_S).nobody.startswith("no-recipient:")


def test_one_signer_is_not_enough():
    assert recipients((agency(),), (), HOME, NOW_S).refused["CA0371100"].startswith("not-granted:")
    assert recipients((), (grant(),), HOME, NOW_S).refused["CA0371100"].startswith("not-registered:")


def test_an_agency_of_another_state_is_refused_though_both_signers_name_it():
    found = known(agency(jurisdiction="US-TX"))
    assert found.allowed == {}
    assert found.refused["CA0371100"].startswith("other-state:")
    assert "US-TX" in found.refused["CA0371100"]


def test_a_grant_without_attestation_is_refused():
    assert known(agency(), grants=(grant(attested=False),)).refused["CA0371100"].startswith("not-attested:")


def test_a_grant_is_over_in_the_second_in_which_it_expires():
    assert known(agency(), grants=(grant(expires_s=NOW_S + 1),)).allowed
    assert known(agency(), grants=(grant(expires_s=NOW_S),)).refused["CA0371100"].startswith("grant-expired:")


def test_two_grants_for_one_agency_are_refused_whatever_their_order():
    for grants in ((grant(), grant(attested=False)), (grant(attested=False), grant())):
        found = known(agency(), grants=grants)
        assert found.allowed == {}
        assert found.refused["CA0371100"].startswith("granted-twice:")


def test_the_loaders_reason_stands_for_what_can_be_no_agency():
    found = recipients((agency(),), (grant(),), HOME, NOW_S, unregistered={"CA0371100": "federal: X"})
    assert found.allowed == {}
    assert found.refused == {"CA0371100": "federal: X"}


@given(
    st.lists(AGENCIES, max_size=4, unique_by=lambda who: who.identifier),
    st.lists(GRANTS, max_size=5),
    st.dictionaries(st.sampled_from(["A1", "B2", "Z9"]), st.just("federal: X"), max_size=2),
)
def test_every_name_is_either_allowed_by_both_or_refused_with_a_reason(
    registry: list[Agency], allowlist: list[Grant], unregistered: dict[str, str]
):
    found = recipients(registry, allowlist, HOME, NOW_S, unregistered=unregistered)
    named = {who.identifier for who in registry} | {given.identifier for given in allowlist} | set(unregistered)
    assert set(found.allowed) | set(found.refused) == named
    assert not set(found.allowed) & set(found.refused)
    assert all(":" in reason for reason in found.refused.values())
    assert (found.nobody is None) == bool(found.allowed)
    for identifier, who in found.allowed.items():
        assert who.agency in registry
        assert [given for given in allowlist if given.identifier == identifier] == [who.grant]
        assert who.agency.jurisdiction == HOME
        assert who.grant.attested
        assert who.grant.expires_s > NOW_S
        assert identifier not in unregistered


@given(
    st.lists(AGENCIES, max_size=4, unique_by=lambda who: who.identifier),
    st.lists(GRANTS, max_size=4, unique_by=lambda given: given.identifier),
    st.data(),
)
def test_taking_an_entry_or_a_grant_away_never_lets_anybody_in(
    registry: list[Agency], allowlist: list[Grant], data: st.DataObject
):
    before = set(recipients(registry, allowlist, HOME, NOW_S).allowed)
    fewer = data.draw(st.lists(st.sampled_from(registry), unique_by=id)) if registry else []
    given_fewer = data.draw(st.lists(st.sampled_from(allowlist), unique_by=id)) if allowlist else []
    assert set(recipients(fewer, given_fewer, HOME, NOW_S).allowed) <= before


def test_a_connection_goes_to_the_endpoint_that_the_registry_signed():
    who = agency(endpoints=(endpoint("192.0.2.7", 1), endpoint("198.51.100.0/24", 2)))
    for address, port in (("192.0.2.7", 1), ("198.51.100.9", 2)):
        verdict = may_connect(address, "CA0371100", known(who), NOW_S)
        assert isinstance(verdict, Allowed)
        assert verdict.recipient.agency == who
        assert verdict.endpoint.port == port


def test_the_address_to_connect_to_is_the_first_endpoint_that_is_no_range():
    for networks, address in (
        (("192.0.2.7",), "192.0.2.7"),
        (("198.51.100.0/24", "192.0.2.7", "192.0.2.8"), "192.0.2.7"),
        (("198.51.100.8/31", "2001:db8::1"), "2001:db8::1"),
        (("198.51.100.0/24", "198.51.100.8/31"), None),
    ):
        found = known(agency(endpoints=tuple(endpoint(network) for network in networks)))
        assert address_of(found.allowed["CA0371100"]) == address


def test_a_connection_elsewhere_is_refused():
    for address in ("192.0.2.8", "::1", "2001:db8::1"):
        verdict = may_connect(address, "CA0371100", known(agency()), NOW_S)
        assert isinstance(verdict, Refused)
        assert verdict.reason.startswith("other-address:")


def test_a_name_is_no_address():
    for name in ("broker.example", "", "192.0.2.7 ", "192.0.2.007", "0xc0000207"):
        verdict = may_connect(name, "CA0371100", known(agency()), NOW_S)
        assert isinstance(verdict, Refused)
        assert verdict.reason.startswith("not-an-address:")


def test_a_connection_for_nobody_we_know_is_refused_with_the_reason_that_is_known():
    assert may_connect("192.0.2.7", "XX", known(agency()), NOW_S) == Refused("not-listed: neither signer names it")
    other = known(agency(jurisdiction="US-TX"))
    assert may_connect("192.0.2.7", "CA0371100", other, NOW_S) == Refused(other.refused["CA0371100"])


def test_a_grant_that_ran_out_since_the_lists_were_read_stops_the_next_connection():
    verdict = may_connect("192.0.2.7", "CA0371100", known(agency()), NOW_S + 1000)
    assert isinstance(verdict, Refused)
    assert verdict.reason.startswith("grant-expired:")


@given(st.ip_addresses(), st.sampled_from(["192.0.2.7", "198.51.100.0/24", "2001:db8::/64"]))
def test_only_an_address_inside_the_signed_network_is_allowed(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str
):
    verdict = may_connect(str(address), "CA0371100", known(agency(endpoints=(endpoint(network),))), NOW_S)
    assert isinstance(verdict, Allowed) == (address in ipaddress.ip_network(network))


def test_a_key_names_its_owner_also_after_its_sealing_dates():
    old, new = key(1, not_after_s=NOW_S - 1), key(2)
    found = known(agency(keys=(old, new)))
    assert recipient_of_key(old.key_id, found) is found.allowed["CA0371100"]
    assert recipient_of_key(bytes(16), found) is None


def test_the_key_of_a_refused_agency_names_nobody():
    assert recipient_of_key(key(1).key_id, known(agency(jurisdiction="US-TX"))) is None


@given(st.lists(st.builds(key, st.integers(1, 9), not_before_s=SECONDS, not_after_s=SECONDS), max_size=4))
def test_sealing_uses_the_newest_key_within_its_dates_or_none(keys: list):
    chosen = sealing_key(agency(keys=tuple(keys)), NOW_S)
    usable = [one for one in keys if one.not_before_s <= NOW_S <= one.not_after_s]
    if chosen is None:
        assert usable == []
    else:
        assert chosen in usable
        assert chosen.not_before_s == max(one.not_before_s for one in usable)
