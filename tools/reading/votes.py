"""What the node's vote makes of several sightings of a known plate, and what of it says that the text is right.

The sightings are worn apart (each by itself, so that mistakes hardly repeat) or alike (all the same, framed anew, so
that they do); a drive lies between the two. The rules are the pipeline's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection, Sighting
from homeplate.domain.plate import PlateReading
from homeplate.pipeline import LEAST_CHARACTERS, READ_LEAST, confirmed
from homeplate.ports import PlateReader
from homeplate.tracking import voting
from homeplate.tracking.tracker import Track
from homeplate.tracking.voting import Vote, vote
from tools.reading.looks import SEED, backdrop
from tools.render.wear import degrade
from tools.train.reader_data import Sample, look

COUNTS: Final = (1, 2, 4, 8)
"""How many looks at a plate are voted on."""
HOW: Final = ("apart", "alike")
BOX: Final = Box(left=0.0, top=0.0, right=100.0, bottom=50.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A known plate and the readings of all looks at it, in order."""

    truth: str = field(repr=False)
    readings: tuple[PlateReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A passage of a known plate: the vote, and the readings that it counted."""

    truth: str = field(repr=False)
    vote: Vote
    readings: tuple[PlateReading, ...]

    @property
    def right(self) -> bool:
        """Whether the vote is the plate's text."""
        return self.vote.text.reveal() == self.truth

    @property
    def right_folded(self) -> bool:
        """The same where O counts as 0 and I as 1."""
        return _folded(self.vote.text.reveal()) == _folded(self.truth)


def _folded(text: str) -> str:
    return text.replace("O", "0").replace("I", "1")


def sightings(
    reader: PlateReader, samples: Sequence[Sample], how: str, shown: Callable[[Sequence[Sample], str], Iterable[Sample]]
) -> list[Seen]:
    """Read as many looks at each plate as are voted on at most; `shown` passes samples on and shows progress."""
    rng = np.random.default_rng([SEED, 900 + HOW.index(how)])
    seen = []
    for sample in shown(samples, f"sightings worn {how}"):
        source = replace(sample, image=degrade(rng, sample.image)) if how == "alike" else sample
        wear = 0.0 if how == "alike" else 1.0
        looks = [look(rng, source, backdrop(rng, samples), wear) for _ in range(max(COUNTS))]
        seen.append(Seen(truth=sample.text, readings=tuple(reader.read(looks))))
    return seen


def passages(seen: Sequence[Seen], count: int) -> list[Passed]:
    """Return the passages that the first `count` looks at each plate make."""
    found = []
    for one in seen:
        legible = tuple(
            reading
            for reading in one.readings[:count]
            if len(reading.characters) >= LEAST_CHARACTERS and reading.confidence >= READ_LEAST
        )
        if legible and (decided := confirmed_vote(legible)) is not None:
            found.append(Passed(truth=one.truth, vote=decided, readings=legible))
    return found


def confirmed_vote(legible: Sequence[PlateReading]) -> Vote | None:
    """Return the vote on a track of legible readings, or None where the pipeline would not confirm it."""
    where = Detection(box=BOX, score=1.0)
    sighted = [
        Sighting(source="lane", frame_index=index, captured_ns=index, detection=where, reading=reading)
        for index, reading in enumerate(legible)
    ]
    track = Track(first=sighted[0], last=sighted[-1], first_ns=0, last_ns=len(sighted))
    for one in sighted:
        track.read(one)
    decided = vote(track.readings)
    return decided if confirmed(track, decided) else None


@contextmanager
def independence(exponent: float) -> Iterator[None]:
    """Let n readings count as n ** exponent independent ones, for as long as the context lasts."""
    usual, voting.INDEPENDENCE = voting.INDEPENDENCE, exponent
    try:
        yield
    finally:
        voting.INDEPENDENCE = usual


def _product(passed: Passed) -> float:
    return math.prod(position.confidence for position in passed.vote.characters)


def _surest(passed: Passed) -> float:
    return max((one.confidence for one in passed.readings if one.text == passed.vote.text), default=0.0)


def _mean(passed: Passed) -> float:
    agreeing = sum(one.confidence for one in passed.readings if one.text == passed.vote.text)
    return agreeing / len(passed.readings)


STATISTICS: Final[Mapping[str, Callable[[Passed], float]]] = {
    "vote's least character (`Vote.confidence`)": lambda passed: passed.vote.confidence,
    "product of the vote's characters": _product,
    "surest reading that says the text": _surest,
    "mean confidence of the readings, 0 for those that say another text": _mean,
}
"""What a bar on a passage may look at, each 0..1."""
