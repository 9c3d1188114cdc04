"""The kernel's rules: exactly what both signers name, one text for one set, closed before an entry ends."""

import re
import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.policy.egress import CLOSE_EARLY_S, Opening, common, nftables, openings, systemd_drop_in
from tests.policy.values import NOW_S, agency, endpoint, grant

ADDRESSES = [ip_address(f"192.0.2.{number}") for number in range(16)]
# Ranges and single addresses of one small network, so that they meet often.
RANGES = st.builds(
    lambda number, length: str(ip_network(f"192.0.2.{number >> (32 - length) << (32 - length)}/{length}")),
    st.integers(0, 15),
    st.integers(28, 32),
).map(lambda text: text.removesuffix("/32"))
OPENINGS = st.builds(lambda network, port: Opening(network=network, port=port), RANGES, st.sampled_from([8883, 8884]))
SETS = st.frozensets(OPENINGS, max_size=6)


def reached(opened, port):
    return {one for one in ADDRESSES for o in opened if o.port == port and one in ip_network(o.network)}


def parsed(rules):
    return [Opening(network=n, port=int(p)) for n, p in re.findall(r"([0-9a-f.:/]+) \. (\d+)", rules)]


def allowed_by_systemd(text):
    networks = [ip_network(value) for value in re.findall(r"IPAddressAllow=(\S+)", text)]
    return {one for one in ADDRESSES if any(one in network for network in networks)}


@given(SETS)
def test_the_texts_allow_exactly_what_was_opened(opened):
    for port in (8883, 8884):
        assert reached(parsed(nftables(opened)), port) == reached(opened, port)
    assert allowed_by_systemd(systemd_drop_in(opened)) == reached(opened, 8883) | reached(opened, 8884)


@given(SETS, SETS)
def test_what_is_common_is_reached_by_both_and_nothing_else_is(one, other):
    for port in (8883, 8884):
        assert reached(common(one, other), port) == reached(one, port) & reached(other, port)


@given(st.permutations(sorted(ip_network("192.0.2.0/28").subnets(new_prefix=31))))
def test_one_set_of_addresses_has_one_text_however_it_was_written(halves):
    parts = [Opening(network=str(half), port=8883) for half in halves]
    whole = [Opening(network="192.0.2.0/28", port=8883)]
    assert nftables(parts) == nftables(whole)
    assert systemd_drop_in([*parts, *whole]) == systemd_drop_in(whole)


def opened(now_s=NOW_S, *, ends_s=NOW_S + 10_000, registry=None, grants=None, unregistered=None):
    return openings(
        [agency()] if registry is None else registry,
        [grant()] if grants is None else grants,
        "US-CA",
        now_s,
        ends_s=ends_s,
        unregistered=unregistered or {},
    )


def test_every_endpoint_of_a_recipient_is_open_and_no_other_agency_s():
    two = replace(agency(), endpoints=(endpoint(), endpoint(network="2001:db8::1")))
    other = replace(agency(), identifier="CA0190000", endpoints=(endpoint(network="198.51.100.1"),))
    found = opened(registry=[two, other])
    assert {(opening.network, opening.port) for opening in found} == {(endpoint().network, 8883), ("2001:db8::1", 8883)}
    text = nftables(found)
    assert text.index("brokers4") < text.index(endpoint().network) < text.index("brokers6") < text.index("2001:db8::1")


@pytest.mark.parametrize(
    "nobody", [{"registry": []}, {"grants": []}, {"grants": [replace(grant(), attested=False)]}, {"registry": ()}]
)
def test_nothing_is_open_where_nobody_may_receive(nobody):
    assert opened(**nobody) == frozenset()


def test_nothing_is_open_for_an_entry_that_the_loader_refused():
    assert opened(unregistered={agency().identifier: "federal: X"}) == frozenset()


def test_an_entry_is_closed_a_minute_before_it_ends():
    ends = NOW_S + 5_000
    grants = [replace(grant(), expires_s=ends)]
    assert opened(ends - CLOSE_EARLY_S - 1, grants=grants)
    assert not opened(ends - CLOSE_EARLY_S, grants=grants)


def test_everything_is_closed_a_minute_before_the_bundle_ends():
    ends = NOW_S + 500
    assert opened(ends - CLOSE_EARLY_S - 1, ends_s=ends)
    assert not opened(ends - CLOSE_EARLY_S, ends_s=ends)


def test_no_opening_denies_everything():
    assert systemd_drop_in([]).splitlines()[1:] == [
        "[Service]",
        "IPAddressAllow=",
        "IPAddressDeny=",
        "IPAddressDeny=any",
    ]
    assert "elements" not in nftables([])


SAMPLES = {
    "nothing": [],
    "one": [Opening(network="192.0.2.10", port=8883)],
    "overlaps": [
        Opening(network="192.0.2.10", port=8883),
        Opening(network="192.0.2.0/24", port=8883),
        Opening(network="192.0.2.10", port=8884),
        Opening(network="2001:db8::/64", port=8883),
        Opening(network="2001:db8::1", port=8883),
    ],
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_nft_accepts_the_rules(sample, tmp_path):
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
    if nft is None:
        pytest.skip("nft is not installed: apt install nftables")
    if subprocess.run([nft, "list", "tables"], check=False, capture_output=True).returncode != 0:
        pytest.skip("nft may not talk to the kernel here")
    rules = tmp_path / "uplink.nft"
    rules.write_text(nftables(SAMPLES[sample], user="0"))
    done = subprocess.run([nft, "-c", "-f", str(rules)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("sample", SAMPLES)
def test_systemd_accepts_a_unit_with_the_drop_in(sample, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    unit = tmp_path / "homeplate-uplink.service"
    unit.write_text("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n")
    drop_in = tmp_path / "homeplate-uplink.service.d" / "50-egress.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(systemd_drop_in(SAMPLES[sample]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], check=False, capture_output=True, text=True
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "homeplate" in line or "egress" in line]
    assert (done.returncode, ours) == (0, [])
    drop_in.write_text(systemd_drop_in(SAMPLES[sample]) + "IPAddressAllow=nobody\n")
    wrong = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], check=False, capture_output=True, text=True
    )
    assert "50-egress.conf" in wrong.stdout + wrong.stderr, "this systemd does not look at the drop-in"


def test_one_address_is_written_as_such_and_a_range_with_its_prefix_in_the_order_of_the_addresses():
    opened = [
        Opening(network=network, port=port)
        for network, port in (
            ("198.51.100.0/24", 8883), ("192.0.2.7", 8884), ("192.0.2.7", 8883), ("192.0.2.9/32", 1),
            ("2001:db8::2", 1), ("2001:db8::/64", 2),
        )
    ]  # fmt: skip
    text = nftables(opened)
    assert "elements = { 192.0.2.7 . 8883, 192.0.2.7 . 8884, 192.0.2.9 . 1, 198.51.100.0/24 . 8883 }" in text
    assert "elements = { 2001:db8::/64 . 2, 2001:db8::2 . 1 }" in text
    allowed = [line for line in systemd_drop_in(opened).splitlines() if line.startswith("IPAddressAllow=")]
    assert allowed == [
        "IPAddressAllow=", "IPAddressAllow=192.0.2.7", "IPAddressAllow=192.0.2.9", "IPAddressAllow=198.51.100.0/24",
        "IPAddressAllow=2001:db8::/64",
    ]  # fmt: skip
