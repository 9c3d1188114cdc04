"""Which node's signature counts."""

from dataclasses import replace

from homeplate.domain.node import NodeEntry
from homeplate.policy.enrolment import enrolled
from homeplate.policy.verdict import Refused
from tests.policy.values import NOW_S

NODE = NodeEntry(
    pseudonym=bytes(16),
    record_public=b"r" * 32,
    ledger_public=b"l" * 32,
    hot_list_public=b"h" * 32,
    cameras=("north",),
    not_before_s=NOW_S,
    not_after_s=NOW_S + 10,
)


def test_an_enrolled_node_counts_within_its_dates():
    for at_s in (NOW_S, NOW_S + 10):
        assert enrolled([NODE], NODE.pseudonym, at_s) is NODE


def test_a_node_outside_its_dates_is_refused():
    for at_s in (NOW_S - 1, NOW_S + 11):
        assert enrolled([NODE], NODE.pseudonym, at_s).reason.startswith("node-out-of-dates:")


def test_an_unknown_node_is_refused():
    verdict = enrolled([NODE], b"x" * 16, NOW_S)
    assert isinstance(verdict, Refused)
    assert verdict.reason.startswith("unknown-node:")
    assert isinstance(enrolled([], NODE.pseudonym, NOW_S), Refused)


def test_a_revoked_node_is_refused():
    verdict = enrolled([replace(NODE, revoked=True)], NODE.pseudonym, NOW_S)
    assert verdict.reason.startswith("revoked-node:")
