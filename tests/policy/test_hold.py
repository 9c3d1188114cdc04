"""Whether a signed hold counts here and now: each refusal has its own name."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hold import APPLY_WITHIN_S, HOLD_CAP_S, HOLD_WINDOW_S, MOST_HOLDS, Ground, Hold, Release
from homeplate.policy.hold import in_window, may_hold, may_release
from homeplate.policy.verdict import Refused

NOW_S = 1_790_000_000
NODE, KEY, HOLD_ID = bytes(range(16)), b"k" * 32, b"h" * 16
GOOD = Hold(
    hold_id=HOLD_ID,
    node=NODE,
    case="26-1234",
    ground=Ground.EVIDENCE,
    camera="road",
    from_s=NOW_S - 600,
    to_s=NOW_S,
    most_records=4,
    issued_s=NOW_S,
    expires_s=NOW_S + HOLD_CAP_S,
)


def asked(hold=GOOD, **changed):
    given_ = {"signer": KEY, "hold_keys": [KEY], "node": NODE, "now_s": NOW_S, "applied": (), "in_force": 0}
    return may_hold(hold, **{**given_, **changed})


def test_a_hold_within_all_bounds_may_be_applied():
    assert asked() is None


@pytest.mark.parametrize(
    ("code", "hold", "changed"),
    [
        ("unknown-signer", {}, {"hold_keys": []}),
        ("unknown-signer", {}, {"signer": b"x" * 32}),
        ("other-node", {"node": bytes(16)}, {}),
        ("replayed", {}, {"applied": [HOLD_ID]}),
        ("too-many-holds", {}, {"in_force": MOST_HOLDS}),
        ("expired", {"expires_s": NOW_S, "issued_s": NOW_S - 5}, {}),
        ("issued-in-future", {"issued_s": NOW_S + 1}, {}),
        ("stale", {"issued_s": NOW_S - APPLY_WITHIN_S - 1, "expires_s": NOW_S + 1}, {}),
        ("over-the-cap", {"expires_s": NOW_S + HOLD_CAP_S + 1}, {}),
        ("window-reversed", {"from_s": NOW_S, "to_s": NOW_S - 1}, {}),
        ("window-in-future", {"to_s": NOW_S + 1}, {}),
        ("window-too-long", {"from_s": NOW_S - HOLD_WINDOW_S - 1}, {}),
    ],
)
def test_a_hold_out_of_bounds_is_refused_by_name(code, hold, changed):
    refused = asked(dataclasses.replace(GOOD, **hold), **changed)
    assert isinstance(refused, Refused)
    assert refused.reason.partition(":")[0] == code


@pytest.mark.parametrize(
    ("hold", "changed"),
    [
        ({"issued_s": NOW_S - APPLY_WITHIN_S, "expires_s": NOW_S + 1}, {}),
        ({"from_s": NOW_S - HOLD_WINDOW_S}, {}),
        ({"from_s": NOW_S}, {}),
        ({}, {"in_force": MOST_HOLDS - 1}),
    ],
)
def test_a_hold_at_a_bound_may_be_applied(hold, changed):
    assert asked(dataclasses.replace(GOOD, **hold), **changed) is None


@given(st.integers(NOW_S - 1000, NOW_S + 1000), st.sampled_from(["road", "yard"]))
def test_a_hold_names_one_camera_and_both_ends_of_its_window(captured_s, camera):
    assert in_window(GOOD, camera, captured_s) == (camera == "road" and NOW_S - 600 <= captured_s <= NOW_S)


@pytest.mark.parametrize(("captured_s", "named"), [(-601, False), (-600, True), (0, True), (1, False)])
def test_the_first_and_the_last_second_of_a_hold_are_in_it(captured_s, named):
    assert in_window(GOOD, "road", NOW_S + captured_s) is named


RELEASE = Release(hold_id=HOLD_ID, node=NODE, case="26-1234", issued_s=NOW_S)


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        (None, {}),
        ("unknown-signer", {"hold_keys": []}),
        ("other-node", {"node": bytes(16)}),
        ("no-such-hold", {"in_force": []}),
        ("no-such-hold", {"in_force": [(HOLD_ID, "another case")]}),
    ],
)
def test_a_release_ends_the_hold_that_it_names_with_its_case_and_no_other(code, changed):
    asked_of = {"signer": KEY, "hold_keys": [KEY], "node": NODE, "in_force": [(HOLD_ID, "26-1234")]}
    refused = may_release(RELEASE, **{**asked_of, **changed})
    assert (refused.reason.partition(":")[0] if refused else None) == code
