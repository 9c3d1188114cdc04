"""Where a node stands and where none may read: positions and sensitive areas on the WGS84 ellipsoid."""

from dataclasses import dataclass
from enum import StrEnum

MAXIMUM_AREA_M = 20_000
"""The largest radius of a circle and the longest way from a polygon's first corner to another one, metres: a city."""


class PlaceKind(StrEnum):
    """What a sensitive area is."""

    CLINIC = "clinic"
    COURT = "court"
    PLACE_OF_WORSHIP = "place_of_worship"
    SCHOOL = "school"
    SHELTER = "shelter"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A point on the ellipsoid. Latitude -90 to 90, longitude -180 to 180, degrees."""

    latitude_deg: float
    longitude_deg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """All that is at most `radius_m` metres from `centre`."""

    centre: Position
    radius_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """All that lies within a polygon whose edges are great circles from corner to corner, and back to the first."""

    corners: tuple[Position, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivePlace:
    """An area where no node reads.

    Attributes:
        name: what a refusal calls it.
        kind: what is there.
        source: where the area was taken from.
        area: a circle or an outline.
    """

    name: str
    kind: PlaceKind
    source: str
    area: Circle | Outline
