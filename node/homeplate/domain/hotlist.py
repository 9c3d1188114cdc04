"""The hot list as values: a plate and when its entry ends. Names, birth dates and charges have no field here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeplate.domain.plate import PlateText


@dataclass(frozen=True, slots=True, kw_only=True)
class HotListEntry:
    """One wanted plate. Every entry ends (State Auditor 2019-118, recommendations 34 and 57)."""

    text: PlateText
    expires_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HotList:
    """The opened list, held by the process that sees plates and by no other.

    Attributes:
        issued_s: when it was drawn up, seconds since 1970.
        expires_s: when the whole list stops counting.
        entries: by text, so that a passage is looked up once.
    """

    issued_s: int
    expires_s: int
    entries: Mapping[PlateText, HotListEntry] = field(repr=False)
