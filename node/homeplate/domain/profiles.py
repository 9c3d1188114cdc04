"""Retention profiles: what laws and cities allow at most, by name. A profile caps rules; it keeps nothing by itself.

The figures are those of the named sources, and no legal advice. Hits and everything else have clocks of their own.
"""

from dataclasses import dataclass
from enum import StrEnum

from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import RETENTION_CAP_S, Trigger


class Profile(StrEnum):
    """A profile's name in `rules.json` and in `[narrow] profile`."""

    CHP = "chp"
    SB_274 = "sb-274"
    SAN_JOSE = "san-jose"
    MAINE = "maine"
    VIRGINIA = "virginia"
    WASHINGTON = "washington"
    NEW_HAMPSHIRE = "new-hampshire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The longest retention, in seconds, of hits and of everything else, and who says so."""

    hit_s: int
    everything_s: int
    source: str


def _both(days: int, source: str) -> Caps:
    return Caps(hit_s=days * DAY_SECONDS, everything_s=days * DAY_SECONDS, source=source)


CAPS = {
    Profile.CHP: _both(60, "California Vehicle Code 2413(b)"),
    # The bill gave 14 days more in which to destroy what was over; a node needs none.
    Profile.SB_274: _both(60, "California SB 274 (2025, vetoed)"),
    Profile.SAN_JOSE: _both(30, "City of San Jose, 2026"),
    Profile.MAINE: _both(21, "Maine"),
    Profile.VIRGINIA: _both(21, "Virginia"),
    Profile.WASHINGTON: _both(21, "Washington"),
    Profile.NEW_HAMPSHIRE: Caps(hit_s=RETENTION_CAP_S, everything_s=180, source="New Hampshire: non-hits, 3 minutes"),
}


def cap_s(profile: Profile | None, trigger: Trigger) -> int:
    """Return the longest retention, in seconds, that a rule of this trigger may have."""
    if profile is None:
        return RETENTION_CAP_S
    caps = CAPS[profile]
    return caps.hit_s if trigger is Trigger.HIT else caps.everything_s
