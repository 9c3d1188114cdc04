"""The way of a plate in values: Frame, Detection, Sighting, Passage."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.plate import PlateReading, PlateText

if TYPE_CHECKING:  # uplink sees no picture: loading numpy for a type would cost it 13 MB of its 50
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    """Rows x columns x 3, BGR, 0..255."""
else:
    Image = Any


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
        grey: the same picture small and grey, [rows, columns], where the camera makes one; for the motion gate.
    """

    source: str
    index: int
    stream_ns: int
    captured_ns: int
    image: Image = field(repr=False)
    still: bool = False
    grey: Image | None = field(repr=False, default=None)


class ChangeKind(StrEnum):
    """What became of a live camera."""

    LOST = "lost"
    BACK = "back"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraChange:
    """A live camera that was lost or came back.

    Attributes:
        source: the source's name.
        kind: every attempt to open it again that fails is a loss too.
        attempts: how often it was opened since it was lost, 0 at the loss itself.
        reason: why it was lost, a closed vocabulary; empty where it came back.
        message: the same for a person.
    """

    source: str
    kind: ChangeKind
    attempts: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A plate found in a frame: box in full-frame pixels, corners where the model is sure of them, score 0..1."""

    box: Box
    score: float
    quad: Quad | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlateCrop:
    """A plate cut out of a frame, straightened or not.

    Attributes:
        image: what the reader is given, BGR; empty where the plate lies outside the frame.
        into_frame: [3, 3], takes a point (x, y, 1) in the crop, in pixels, to (wx, wy, w) in the frame.
    """

    image: Image = field(repr=False)
    into_frame: "NDArray[np.float64]"

    def box_in_frame(self, box: Box) -> Box:
        """Return the smallest box in the frame around a box in the crop, both in pixels."""
        moved = [self.into_frame @ (x, y, 1.0) for x in (box.left, box.right) for y in (box.top, box.bottom)]
        xs, ys = [float(x / w) for x, _, w in moved], [float(y / w) for _, y, w in moved]
        return Box(left=min(xs), top=min(ys), right=max(xs), bottom=max(ys))


LEAST_SHARED = 0.2
"""Least IoU of the box that the reader saw with the detector's: two that share less are not of one plate, or the
perspective of a straightened crop took the box to the horizon."""


def located(detection: Detection, crop: PlateCrop, reading: PlateReading) -> Detection:
    """Return a detection with the box that the reader saw, the more exact one; its corners stay the detector's.

    It is returned as it is where the reader saw no character or no box, or one that shares too little with the
    detector's. A reading counts here though it may be too unsure to count as one: where a plate is, is easier to see.
    """
    if reading.box is None:
        return detection
    seen = crop.box_in_frame(reading.box)
    return replace(detection, box=seen) if seen.iou(detection.box) >= LEAST_SHARED else detection


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
