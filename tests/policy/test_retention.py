"""How long a record lives: never longer than its retention, and its slot says when it ends."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.record import DAY_SECONDS, SlotId
from homeplate.policy.retention import RETENTION_CAP_S, duration_s, expired, keep_until, review_due, slot_of

CAPTURED = st.integers(1_700_000_000, 1_900_000_000)
RETENTIONS = st.integers(1, RETENTION_CAP_S)


@given(CAPTURED, RETENTIONS)
def test_a_slot_is_at_most_a_twelfth_of_its_retention_and_ends_within_it(captured_s: int, retention_s: int):
    slot = slot_of(captured_s, retention_s)
    assert slot.length_s >= 1
    assert slot.length_s * 12 <= retention_s or slot.length_s == 1
    assert slot.expiry_s % slot.length_s == 0
    assert captured_s + retention_s - slot.length_s < slot.expiry_s <= captured_s + retention_s
    assert keep_until(captured_s, retention_s) == slot.expiry_s


@given(CAPTURED, RETENTIONS, st.integers(0, 100_000))
def test_what_is_captured_later_never_ends_earlier(captured_s: int, retention_s: int, later_s: int):
    assert keep_until(captured_s + later_s, retention_s) >= keep_until(captured_s, retention_s)


def test_a_rule_of_twenty_seconds_has_slots_of_one_second():
    assert slot_of(1_790_000_007, 20).length_s == 1
    assert slot_of(1_790_000_007, 20).expiry_s == 1_790_000_027


def test_the_cap_is_sixty_days():
    assert RETENTION_CAP_S == 60 * DAY_SECONDS
    for retention_s in (0, -1, RETENTION_CAP_S + 1):
        with pytest.raises(ValueError, match="a retention is"):
            slot_of(1_790_000_000, retention_s)


@given(
    st.dictionaries(
        st.binary(min_size=16, max_size=16).map(lambda value: SlotId(value=value)),
        st.tuples(st.just("hits"), st.integers(0, 9)),
    )
)
def test_exactly_the_slots_whose_time_is_over_are_returned_with_their_rule(slots: dict):
    for now_s in range(11):
        gone = expired(slots, now_s)
        assert set(gone) == {slot for slot, (_, expiry_s) in slots.items() if now_s >= expiry_s}
        assert set(gone.values()) <= {"hits"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("20s", 20), ("5min", 300), ("12h", 43_200), ("30d", 2_592_000), ("60d", 5_184_000)],
)
def test_a_duration_is_a_whole_number_and_its_unit(text: str, seconds: int):
    assert duration_s(text, key="k") == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "5m", "5 s", "-5s", "1.5h", "05s", "5s ", "5S", "123456789s"])
def test_what_is_no_duration_is_refused_with_its_key_and_how_to_write_one(text: str):
    with pytest.raises(ValueError, match=r'^k: .* is no duration; write a whole number .* as in "12h"$'):
        duration_s(text, key="k")


@pytest.mark.parametrize("text", ["61d", "1441h", "86401min", "5184001s"])
def test_a_duration_above_the_cap_is_refused_with_the_cap(text: str):
    with pytest.raises(ValueError, match=f"^k: {text} is above the cap of 60d that no rule may exceed$"):
        duration_s(text, key="k")


def test_a_review_is_due_after_two_years_by_the_days_of_utc(monkeypatch):
    midnight_s = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    for zone in ("UTC", "Etc/GMT+12", "Etc/GMT-14"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert review_due("", midnight_s) == "the retention was never reviewed"
            for days in (0, 1, 730):
                for second in (0, DAY_SECONDS - 1):
                    assert review_due("2026-01-01", midnight_s + days * DAY_SECONDS + second) is None
            assert review_due("2026-01-01", midnight_s + 731 * DAY_SECONDS) == (
                "the retention was last reviewed on 2026-01-01, more than two years ago"
            )
            assert review_due("2026-01-01", midnight_s - 1) == (
                "the retention is said to be reviewed on 2026-01-01, which is to come"
            )
        finally:
            monkeypatch.undo()
            time.tzset()
