"""`places.json`, signed by the operator: sensitive areas in which no node reads. Judged in `policy.places`.

An area that encloses nothing, or of which nobody can say where its inside is, is refused with the whole file: the
operator mends it before it signs.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from homeplate.domain.geodesy import Flat, chord_m, flattened
from homeplate.domain.place import MAXIMUM_AREA_M, Circle, Outline, PlaceKind, Position, SensitivePlace
from homeplate.errors import TrustError
from homeplate.trust.contents import position
from homeplate.trust.schema import Entry, PositionEntry, Sentence

MAXIMUM_PLACES = 4096
MAXIMUM_CORNERS = 64
MAXIMUM_CORNERS_TOGETHER = 8192
"""Each pair of a polygon's edges is compared, so this bounds the time that a file may take."""

MINIMUM_AREA_M2 = 1.0


class CircleEntry(Entry, frozen=True, kw_only=True, tag="circle", tag_field="shape"):
    """A circle, as the operator writes it."""

    name: Sentence
    kind: PlaceKind
    source: Sentence
    centre: PositionEntry
    radius_m: Annotated[float, msgspec.Meta(ge=1, le=MAXIMUM_AREA_M)]


class PolygonEntry(Entry, frozen=True, kw_only=True, tag="polygon", tag_field="shape"):
    """A polygon, as the operator writes it; the last corner is joined to the first and not written twice."""

    name: Sentence
    kind: PlaceKind
    source: Sentence
    corners: Annotated[list[PositionEntry], msgspec.Meta(min_length=3, max_length=MAXIMUM_CORNERS)]


class PlacesFile(Entry, frozen=True, kw_only=True):
    """`places.json`."""

    format: Literal[1] = msgspec.field(default=1)
    places: Annotated[list[CircleEntry | PolygonEntry], msgspec.Meta(max_length=MAXIMUM_PLACES)]


def places(file: PlacesFile) -> tuple[SensitivePlace, ...]:
    """Return the sensitive areas.

    Raises:
        TrustError: where a name is blank or given twice, a source is blank, or a polygon is none: a corner twice,
            edges that cross or touch, corners too far apart, nothing enclosed.
    """
    if sum(len(entry.corners) for entry in file.places if isinstance(entry, PolygonEntry)) > MAXIMUM_CORNERS_TOGETHER:
        raise TrustError(f"places.json: more than {MAXIMUM_CORNERS_TOGETHER} corners; draw the polygons more simply")
    names: set[str] = set()
    for entry in file.places:
        if not entry.name.strip() or not entry.source.strip():
            raise TrustError("places.json: a place has a blank name or source; write down what it is and who says so")
        if entry.name.casefold() in names:
            raise TrustError(f"places.json: {entry.name} is there twice; say which is meant")
        names.add(entry.name.casefold())
    return tuple(_place(entry) for entry in file.places)


def _place(entry: CircleEntry | PolygonEntry) -> SensitivePlace:
    area: Circle | Outline
    if isinstance(entry, CircleEntry):
        area = Circle(centre=position(entry.centre), radius_m=entry.radius_m)
    else:
        corners = tuple(position(corner) for corner in entry.corners)
        _check_polygon(corners, f"places.json: {entry.name}")
        area = Outline(corners=corners)
    return SensitivePlace(name=entry.name, kind=entry.kind, source=entry.source, area=area)


def _check_polygon(corners: Sequence[Position], where: str) -> None:
    if max(chord_m(corners[0], corner) for corner in corners) > MAXIMUM_AREA_M:
        raise TrustError(f"{where}: corners more than {MAXIMUM_AREA_M} m apart; draw it as several areas")
    flat = flattened(corners, corners[0])
    if len({(corner.east_m, corner.north_m) for corner in flat}) != len(flat):
        raise TrustError(f"{where}: a corner is there twice; the last is joined to the first by itself")
    edges = list(zip(flat, [*flat[1:], flat[0]], strict=True))
    for i, edge in enumerate(edges):
        if _turn(*edge, edges[i - 1][0]) == 0 and _ahead(edge, edges[i - 1][0]):
            raise TrustError(f"{where}: an edge runs back along the one before it")
        for other in edges[i + 2 : len(edges) - (i == 0)]:
            if _touch(edge, other):
                raise TrustError(f"{where}: two edges cross or touch, so that nobody can say what is inside")
    if abs(sum(_turn(flat[0], one, other) for one, other in edges)) / 2 < MINIMUM_AREA_M2:
        raise TrustError(f"{where}: encloses less than {MINIMUM_AREA_M2} m2")


def _turn(one: Flat, two: Flat, three: Flat) -> float:
    """Return twice the signed area of a triangle, m2: positive where its corners go round to the left."""
    return (two.east_m - one.east_m) * (three.north_m - one.north_m) - (two.north_m - one.north_m) * (
        three.east_m - one.east_m
    )


def _ahead(edge: tuple[Flat, Flat], point: Flat) -> bool:
    """Tell whether `point`, on the line of `edge`, lies on the side to which the edge runs from its start."""
    start, end = edge
    return (end.east_m - start.east_m) * (point.east_m - start.east_m) + (end.north_m - start.north_m) * (
        point.north_m - start.north_m
    ) > 0


def _touch(one: tuple[Flat, Flat], other: tuple[Flat, Flat]) -> bool:
    sides = (_turn(*one, other[0]), _turn(*one, other[1]), _turn(*other, one[0]), _turn(*other, one[1]))
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    ends = ((one, other[0]), (one, other[1]), (other, one[0]), (other, one[1]))
    return any(side == 0 and _between(edge, point) for side, (edge, point) in zip(sides, ends, strict=True))


def _between(edge: tuple[Flat, Flat], point: Flat) -> bool:
    """Tell whether `point`, on the line of `edge`, is on the edge itself."""
    east, north = sorted(end.east_m for end in edge), sorted(end.north_m for end in edge)
    return east[0] <= point.east_m <= east[1] and north[0] <= point.north_m <= north[1]
