"""Reads plate crops: the reader's probabilities become characters with their alternatives, padding left out.

`reading_of` is a pure function of arrays. Votes over several readings are `tracking`'s; a plate's text leaves this
module only inside a `PlateReading`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Image
from homeplate.domain.plate import CharReading, PlateReading
from homeplate.vision.image import closer, resized

MOST_ALTERNATIVES = 5
HOPELESS, SURE = 0.3, 0.8
"""A plate whose least certain character has a probability between these is looked at twice more, around the box that
the first look saw, and the three looks are averaged (decision 0035)."""
CLOSE_MARGINS = (0.04, 0.1)
"""Margins of the other looks, as a share of the seen plate's width and height."""
LEAST_EXTENT, FURTHEST = 0.2, 0.5
"""Least share of a crop's width and height that a plate in it takes up, and how far beyond the crop it may reach, as a
share of the same: a crop is cut around a plate, and none that was further off was learned from."""

Floats = NDArray[np.float32]
NOTHING = PlateReading(characters=())


class Network(Protocol):
    """What `Reader` needs of a model."""

    def run(self, batch: NDArray[np.uint8]) -> list[Floats]:
        """Return the outputs for a batch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the reader's outputs mean.

    Attributes:
        alphabet: classes of a position; the last one is padding.
        jurisdictions: classes of a plate.
        least_jurisdiction: a jurisdiction of a smaller probability is not named.
        least_alternative: a character of a smaller probability is not passed on (the likeliest always is).
    """

    alphabet: str
    jurisdictions: tuple[str, ...]
    least_jurisdiction: float
    least_alternative: float


def least_certain(characters: Floats) -> float:
    """Return the probability of the least certain character of [positions, classes]; 1 where none is read."""
    taken = characters[characters.argmax(axis=1) != characters.shape[1] - 1]
    return float(taken.max(axis=1).min()) if len(taken) else 1.0


def reading_of(characters: Floats, jurisdictions: Floats, classes: Classes) -> PlateReading:
    """Read one plate's probabilities.

    Args:
        characters: [positions, classes]; a position whose likeliest class is padding is left out.
        jurisdictions: [jurisdictions].
        classes: what they mean.
    """
    padding = len(classes.alphabet) - 1
    taken = characters[characters.argmax(axis=1) != padding, :padding]
    found = int(jurisdictions.argmax())
    chance = float(jurisdictions[found])
    return PlateReading(
        characters=tuple(_character(row, classes) for row in taken),
        jurisdiction=classes.jurisdictions[found] if chance >= classes.least_jurisdiction else "unknown",
        jurisdiction_confidence=chance,
    )


def box_of(extent: Floats, picture: Image) -> Box | None:
    """Return where a plate is in a picture [h, w, 3] cut around it, in pixels; None where that can be no plate's place.

    Args:
        extent: [4], left, top, right and bottom as shares of the picture's sides; beyond 0 and 1 is outside.
        picture: what was read.
    """
    left, top, right, bottom = (float(edge) for edge in extent)
    off = max(-left, -top, right - 1, bottom - 1)
    if not np.isfinite(extent).all() or min(right - left, bottom - top) < LEAST_EXTENT or off > FURTHEST:
        return None
    height, width = picture.shape[:2]
    return Box(left=left * width, top=top * height, right=right * width, bottom=bottom * height)


def _character(row: Floats, classes: Classes) -> CharReading:
    best = np.argsort(-row, kind="stable")[:MOST_ALTERNATIVES]
    kept = [index for index in best if row[index] >= classes.least_alternative] or [best[0]]
    return CharReading(alternatives=tuple((classes.alphabet[index], float(row[index])) for index in kept))


class Reader:
    """Implements `ports.PlateReader` with a network."""

    def __init__(self, network: Network, *, width: int, height: int, classes: Classes) -> None:
        self._network, self._classes = network, classes
        self._width, self._height = width, height

    def read(self, crops: Sequence[Image]) -> list[PlateReading]:
        """Return one reading a crop [h, w, 3] (BGR), in order; an empty crop reads as nothing.

        One at a time: four at once took as long for each and 4 MB more.

        Raises:
            ModelError: the model cannot be run.
        """
        return [self._one(crop) if crop.size else NOTHING for crop in crops]

    def _one(self, crop: Image) -> PlateReading:
        picture = resized(crop, width=self._width, height=self._height)
        looks = [self._network.run(picture[None])]
        box = box_of(looks[0][2][0], picture)
        if box is not None and HOPELESS <= least_certain(looks[0][0][0]) < SURE:
            looks += [self._network.run(closer(picture, box, margin)[None]) for margin in CLOSE_MARGINS]
        characters, jurisdictions = (np.mean([look[output][0] for look in looks], axis=0) for output in (0, 1))
        reading = reading_of(characters, jurisdictions, self._classes)
        if box is None or not reading.characters:
            return reading
        return replace(reading, box=box.stretched(crop.shape[1] / self._width, crop.shape[0] / self._height))
