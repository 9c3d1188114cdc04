"""The hot list as values: wanted plates, each with its list, purpose, state, kind and end, and nothing else.

Names, birth dates and charges have no field here. The opened list is columns of numbers and never texts: a million
entries take 22 MB, and no plate of it is ever formatted.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.plate import ALPHABET, CONFUSABLE, MAX_CHARACTERS, PlateText

CHARACTER_BITS = 6
"""A place of a plate's code: a character's value, 1 to 36, or 0 after the last one."""

PLACE_SHIFTS = tuple(CHARACTER_BITS * place for place in reversed(range(MAX_CHARACTERS)))
"""How far each place of a code is shifted to the left, the first character's first."""


class HotListPurpose(StrEnum):
    """What an entry may be for, a closed list: immigration, reproductive and gender-affirming care have no value."""

    STOLEN_VEHICLE = "stolen-vehicle"
    STOLEN_PLATE = "stolen-plate"
    MISSING_PERSON = "missing-person"
    ABDUCTION_ALERT = "abduction-alert"
    FELONY_WARRANT = "felony-warrant"
    FELONY_INVESTIGATION = "felony-investigation"


class PlateKind(StrEnum):
    """What kind of plate an entry names."""

    PASSENGER = "passenger"
    COMMERCIAL = "commercial"
    MOTORCYCLE = "motorcycle"
    TRAILER = "trailer"
    EXEMPT = "exempt"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HotListTerms:
    """All that an entry says beside its plate. Every entry ends (State Auditor 2019-118, recommendations 34 and 57).

    Attributes:
        list_name: whose list it comes from: a to z, digits, hyphen.
        purpose: what it is for.
        state: where the plate was issued, ISO 3166-2: "US-CA".
        kind: what kind of plate it is.
        expires_s: the first second (since 1970) at which it no longer counts.
    """

    list_name: str
    purpose: HotListPurpose
    state: str
    kind: PlateKind
    expires_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HotListEntry:
    """One wanted plate."""

    text: PlateText
    terms: HotListTerms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HotList:
    """The opened list, held by the process that sees plates and by no other.

    Attributes:
        issued_s: when it was drawn up, seconds since 1970.
        expires_s: when the whole list stops counting.
        terms: what entries say beside their plate.
        codes: the plates' codes in ascending order.
        owners: for each of `codes` which of `terms` it is under.
        folded: the codes with characters that look alike made one, in ascending order.
        folded_places: for each of `folded` where its entry is in `codes`.
    """

    issued_s: int
    expires_s: int
    terms: tuple[HotListTerms, ...] = field(repr=False)
    codes: NDArray[np.uint64] = field(repr=False)
    owners: NDArray[np.uint16] = field(repr=False)
    folded: NDArray[np.uint64] = field(repr=False)
    folded_places: NDArray[np.uint32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.codes)


def _folded_values() -> tuple[int, ...]:
    """Return for each of 64 values the least that it is alike with, through others too (O, 0, Q, D are one)."""
    least = {character: character for character in ALPHABET}
    for pair in sorted(CONFUSABLE, key=sorted):
        merged = {least[character] for character in pair}
        least = {one: min(merged) if other in merged else other for one, other in least.items()}
    values = [0, *(ALPHABET.index(least[character]) + 1 for character in ALPHABET)]
    return tuple(values + [0] * (64 - len(values)))


FOLDED_VALUES = _folded_values()


def code_of(text: PlateText) -> int:
    """Return a plate's code, below 2**60. It is the plate in another form: it goes where a plate may go."""
    return _packed([ALPHABET.index(character) + 1 for character in text.reveal()])


def folded_code_of(text: PlateText) -> int:
    """Return the code of a plate whose characters that look alike are made one."""
    return _packed([FOLDED_VALUES[ALPHABET.index(character) + 1] for character in text.reveal()])


def _packed(values: list[int]) -> int:
    return sum(value << shift for value, shift in zip(values, PLACE_SHIFTS, strict=False))
