"""One text from many readings of one plate: a vote per character position, weighted by log-probability.

Readings of different lengths are never aligned: the length with the most weight wins and the others do not vote. What
the plate may also be stays with the vote as its ambiguity set. Nothing here knows of time, frames or grammar.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.plate import ALPHABET, CONFUSABLE, CharReading, PlateReading, PlateText

FLOOR = 1e-3
"""Least probability that a reading gives any character: one sure and wrong reading cannot veto all others."""
INDEPENDENCE = 0.1
"""n readings count as n ** 0.1 independent ones: frames of one passage share light, angle and dirt, and what is read
wrong in one is read wrong in the next (`tools/measure_reader.py`, looks that were worn down alike)."""
CLOSE = 0.2
"""A character with this share of the best one's voted probability cannot be told apart from it."""
CLOSE_CONFUSABLE = 0.02
"""The same where plates and weather make the two alike (REQUIREMENTS 4): readers are too sure of those."""
LISTED = 0.005
"""Characters below this voted probability are left out of the voted distribution."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What many readings say together.

    Attributes:
        characters: the voted distribution of each position, likeliest first; its text is the vote.
        ambiguity: for each position the characters that cannot be told apart, likeliest first.
        counted: how many readings had the voted length.
    """

    characters: tuple[CharReading, ...]
    ambiguity: tuple[str, ...] = field(repr=False)
    counted: int

    @property
    def text(self) -> PlateText:
        """The likeliest text."""
        return PlateText("".join(position.character for position in self.characters))

    @property
    def confidence(self) -> float:
        """The least voted probability of a position, 0..1."""
        return min(position.confidence for position in self.characters)

    def support(self, texts: Mapping[PlateText, int]) -> int:
        """Return how many readings support the position that fewest support.

        It is the number of readings that agree with the vote, but for this: four readings that are each wrong in one
        place support a vote that none of them says. A confusable character that cannot be told apart supports, too.

        Args:
            texts: how often each text was read.
        """
        same_length = [(text.reveal(), count) for text, count in texts.items() if len(text) == len(self.characters)]
        return min(
            sum(count for text, count in same_length if _same(text[place], among))
            for place, among in enumerate(self.ambiguity)
        )


def vote(readings: Sequence[PlateReading]) -> Vote:
    """Return the vote over the readings of one plate; their order does not matter.

    Raises:
        ValueError: where no reading has a character.
    """
    length = _length(readings)
    chosen = [reading for reading in readings if len(reading.characters) == length]
    scores = np.zeros((length, len(ALPHABET)))
    for reading in sorted(chosen, key=_sort_key):
        scores += np.log([_distribution(position) for position in reading.characters])
    scores *= len(chosen) ** INDEPENDENCE / len(chosen)
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    posterior = odds / odds.sum(axis=1, keepdims=True)
    characters = tuple(_ranked(row) for row in posterior)
    return Vote(characters=characters, ambiguity=tuple(_alike(c) for c in characters), counted=len(chosen))


def weight(reading: PlateReading) -> float:
    """Return the probability that the whole reading is right, if its characters were independent, 0..1."""
    return math.prod(position.confidence for position in reading.characters)


def _length(readings: Sequence[PlateReading]) -> int:
    """Choose the length with the most weight; the longer one where two weigh the same (cut-off plates read short)."""
    weights: dict[int, list[float]] = {}
    for reading in readings:
        if reading.characters:
            weights.setdefault(len(reading.characters), []).append(weight(reading))
    if not weights:
        raise ValueError("a vote needs at least one reading with characters")
    return max(weights, key=lambda length: (math.fsum(weights[length]), length))


def _sort_key(reading: PlateReading) -> tuple[tuple[tuple[str, float], ...], ...]:
    """Order readings by content: sums of floats depend on their order, and a vote must not."""
    return tuple(position.alternatives for position in reading.characters)


def _distribution(position: CharReading) -> Floats:
    """Return probabilities over ALPHABET; what the reader left over is spread, each below anything that it listed."""
    listed = dict(position.alternatives)
    left_over = max(0.0, 1.0 - sum(listed.values())) / max(1, len(ALPHABET) - len(listed))
    spread = max(FLOOR, min(left_over, min(listed.values()) / 2))
    row = np.array([max(listed[c], 2 * FLOOR) if c in listed else spread for c in ALPHABET])
    return np.asarray(row / row.sum(), np.float64)


def _ranked(posterior: Floats) -> CharReading:
    order = np.argsort(-posterior, kind="stable")
    kept = [i for i in order if posterior[i] >= LISTED] or [order[0]]
    return CharReading(alternatives=tuple((ALPHABET[i], float(posterior[i])) for i in kept))


def _same(character: str, among: str) -> bool:
    return character == among[0] or (character in among and frozenset((character, among[0])) in CONFUSABLE)


def _alike(position: CharReading) -> str:
    best, top = position.alternatives[0]
    alike = [best]
    for other, chance in position.alternatives[1:]:
        share = CLOSE_CONFUSABLE if frozenset((best, other)) in CONFUSABLE else CLOSE
        if chance >= share * top:
            alike.append(other)
    return "".join(alike)
