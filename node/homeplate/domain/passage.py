"""The way of a plate in values: Frame, Detection, Sighting, Passage."""

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.plate import PlateReading, PlateText

Image = NDArray[np.uint8]
"""Rows x columns x 3, BGR, 0..255."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture of one source. Masks are already applied.

    Attributes:
        source: the source's name in the configuration.
        index: its number in the source, from 0; gaps are frames that were dropped.
        stream_ns: nanoseconds since the source's first frame, by the sensor's clock or the file's frame rate.
        captured_ns: node time (see clock.py) at capture, nanoseconds since 1970.
        image: BGR picture.
        still: True where each picture is its own sighting (no motion gate, no second look, no tracking).
    """

    source: str
    index: int
    stream_ns: int
    captured_ns: int
    image: Image = field(repr=False)
    still: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A plate found in a frame: box in full-frame pixels, corners where the model is sure of them, score 0..1."""

    box: Box
    score: float
    quad: Quad | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sighting:
    """One plate in one frame: where, and what was read (None: found, not read). `crop` is what the reader was given."""

    source: str
    frame_index: int
    captured_ns: int
    detection: Detection
    reading: PlateReading | None
    crop: Image | None = field(repr=False, default=None)


class Direction(StrEnum):
    """Travel across the picture, by the movement of the plate's centre and size."""

    APPROACHING = "approaching"
    RECEDING = "receding"
    LEFT = "left"
    RIGHT = "right"
    STILL = "still"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Passage:
    """One vehicle, once: the vote over its sightings.

    Attributes:
        first_frame, last_frame: indices in the source; with the source they name the passage (files are deterministic).
        text: the voted text.
        confidence: least voted probability of a position, 0..1.
        ambiguity: for each position the characters that cannot be told apart, likeliest first (at least one each).
        raw_text: the vote before a grammar re-ranked it; the same text where none did.
        jurisdiction: what the plate looks like ("US-CA"), or "unknown".
        seen: how many sightings had a reading; agreeing: how many of them agree with `text`.
        crop: the plate crop of the best reading.
        still: True for a picture that is its own sighting.
    """

    source: str
    first_frame: int
    last_frame: int
    first_captured_ns: int
    last_captured_ns: int
    text: PlateText
    raw_text: PlateText
    confidence: float
    ambiguity: tuple[str, ...] = field(repr=False)
    jurisdiction: str
    seen: int
    agreeing: int
    direction: Direction
    box: Box
    crop: Image | None = field(repr=False, default=None)
    still: bool = False
