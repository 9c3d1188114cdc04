"""Whether a passage's text is on the hot list: exact match, in memory, before anything is sealed.

Ambiguity never makes a hit: a stop on a plate that was only nearly read is the field's best-known harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from homeplate.domain.hotlist import HotListEntry
from homeplate.domain.plate import PlateText
from homeplate.domain.record import HitKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A match: how it matched, and the second (since 1970) at which its entry ends."""

    kind: HitKind
    expires_s: int


def match(text: PlateText, entries: Mapping[PlateText, HotListEntry], now_s: int) -> Hit | None:
    """Return the hit for `text`, or None where no entry names it or its entry is over."""
    entry = entries.get(text)
    if entry is None or entry.expires_s <= now_s:
        return None
    return Hit(kind=HitKind.EXACT, expires_s=entry.expires_s)
