"""How long a record lives, which retention slot ends it, and which slots are over. Pure; the purge does the deleting.

A slot is at most a twelfth of its retention and expiries are rounded down, so a record dies early by less than a
slot and never late (ARCHITECTURE 2.6).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from homeplate.domain.record import DAY_SECONDS, SlotId
from homeplate.domain.rules import RETENTION_CAP_S

__all__ = ["RETENTION_CAP_S", "Slot", "duration_s", "expired", "keep_until", "review_due", "slot_of"]

SLOTS_PER_RETENTION = 12
MINIMUM_SLOT_S = 1
REVIEW_DAYS = 2 * 365

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": DAY_SECONDS}
_DURATION = re.compile(r"([1-9][0-9]{0,7})(s|min|h|d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A retention slot: the second at which its key is destroyed, and its length in seconds."""

    expiry_s: int
    length_s: int


def slot_of(captured_s: int, retention_s: int) -> Slot:
    """Return the slot of what was captured at `captured_s` (seconds since 1970) and may live `retention_s` seconds.

    The expiry is a multiple of the length, at most `captured_s + retention_s`, and less than a length earlier.

    Raises:
        ValueError: where the retention is under a second or above the cap.
    """
    if not MINIMUM_SLOT_S <= retention_s <= RETENTION_CAP_S:
        raise ValueError(f"a retention is 1 to {RETENTION_CAP_S} seconds, not {retention_s}")
    length = max(MINIMUM_SLOT_S, retention_s // SLOTS_PER_RETENTION)
    return Slot(expiry_s=(captured_s + retention_s) // length * length, length_s=length)


def keep_until(captured_s: int, retention_s: int) -> int:
    """Return the second (since 1970) from which nothing may open the record: its slot's expiry.

    Raises:
        ValueError: where the retention is under a second or above the cap.
    """
    return slot_of(captured_s, retention_s).expiry_s


def expired(slots: Mapping[SlotId, tuple[str, int]], now_s: int) -> dict[SlotId, str]:
    """Return the slots whose time is over, each with the rule that says so.

    Args:
        slots: for each slot its rule's name and its expiry in seconds since 1970.
        now_s: node time in seconds since 1970.
    """
    return {slot: rule for slot, (rule, expiry_s) in slots.items() if expiry_s <= now_s}


def review_due(reviewed_on: str, now_s: int) -> str | None:
    """Return why the retention has to be reviewed; None where that was done within two years.

    State Auditor 2019-118, recommendations 33 and 47: from the age of what is really searched, every two years.

    Args:
        reviewed_on: "YYYY-MM-DD", or "" for never.
        now_s: node time in seconds since 1970.
    """
    if not reviewed_on:
        return "the retention was never reviewed"
    today = datetime.fromtimestamp(now_s, tz=UTC).date()
    age = today - date.fromisoformat(reviewed_on)
    if age.days > REVIEW_DAYS:
        return f"the retention was last reviewed on {reviewed_on}, more than two years ago"
    if age.days < 0:
        return f"the retention is said to be reviewed on {reviewed_on}, which is to come"
    return None


def duration_s(text: str, *, key: str) -> int:
    """Return a duration like "20s", "5min", "12h" or "30d" in seconds.

    Raises:
        ValueError: on another unit, and above the retention cap; the message begins with `key`.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{key}: {text!r} is no duration; write a whole number and s, min, h or d, as in "12h"')
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > RETENTION_CAP_S:
        raise ValueError(f"{key}: {text} is above the cap of {RETENTION_CAP_S // DAY_SECONDS}d that no rule may exceed")
    return seconds
