"""Whether a passage's plate is on the hot list: matched in memory, before anything is sealed.

An exact hit is the same text, on a plate that does not look like another state's. A near hit is a text that differs in
characters which look alike, or the same text on what looks like another state's plate: a lead to look at, never a hit.
Each has rules of its own, because a stop on a plate that was only nearly read is the field's best-known harm.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.hotlist import HotList, HotListTerms, code_of, folded_code_of
from homeplate.domain.plate import PlateText
from homeplate.domain.record import HitKind

UNKNOWN = "unknown"
"""What a reader says of a plate whose state it cannot tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A match: how it matched, and what the entry says: of several that match alike, the first in the list's order."""

    kind: HitKind
    terms: HotListTerms


def match(text: PlateText, state: str, hot_list: HotList, now_s: int) -> Hit | None:
    """Return the hit for a plate, or None where no entry that still counts names it or what it may be.

    Args:
        text: what was read.
        state: what the plate looks like, "US-CA", or "unknown".
        hot_list: the opened list.
        now_s: node time, seconds since 1970.
    """
    if hot_list.expires_s <= now_s:
        return None
    start, end = _range(hot_list.codes, code_of(text))
    same = _live(hot_list, range(start, end), now_s)
    exact = [terms for terms in same if state in {UNKNOWN, terms.state}]
    if exact:
        return Hit(kind=HitKind.EXACT, terms=min(exact))
    start, end = _range(hot_list.folded, folded_code_of(text))
    near = same or _live(hot_list, (int(place) for place in hot_list.folded_places[start:end]), now_s)
    return Hit(kind=HitKind.NEAR, terms=min(near)) if near else None


def _range(column: NDArray[np.uint64], code: int) -> tuple[int, int]:
    wanted = np.uint64(code)
    return int(np.searchsorted(column, wanted, "left")), int(np.searchsorted(column, wanted, "right"))


def _live(hot_list: HotList, places: Iterable[int], now_s: int) -> list[HotListTerms]:
    found = [hot_list.terms[int(hot_list.owners[place])] for place in places]
    return [terms for terms in found if terms.expires_s > now_s]
