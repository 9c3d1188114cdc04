"""What the configuration says of one source of frames, as a value."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from homeplate.domain.passage import Direction

Polygon = tuple[tuple[float, float], ...]
"""Corners as fractions of the picture's width and height, 0..1, at least three, not closed."""

WHOLE_PICTURE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

MINIMUM_PLATE_WIDTH = 60.0
"""Pixels of the full frame below which a plate is not read unless the configuration says otherwise."""


class SourceKind(StrEnum):
    """How frames are got."""

    VIDEO = "video"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One source.

    Attributes:
        region: a plate counts only where its centre lies in this polygon; None means everywhere.
        tiles: pieces side by side (and as many below each other as keep their shape) in which the region is looked at;
            more see plates that are further away.
        masks: painted over before any copy of the frame is made.
        minimum_plate_width: pixels of the full frame; narrower plates are counted as `too_small` and not read.
        directions: directions of travel that count; empty means all.
        stills: each picture is its own sighting.
        realtime_fps: imitate a live camera at this rate, newest frame wins; None: every frame is processed.
    """

    name: str
    kind: SourceKind
    path: PurePath
    region: Polygon | None = None
    tiles: int = 1
    masks: tuple[Polygon, ...] = ()
    minimum_plate_width: float = MINIMUM_PLATE_WIDTH
    directions: frozenset[Direction] = frozenset()
    stills: bool = False
    realtime_fps: float | None = None
