"""Whether a node may read where it stands: not inside a sensitive area, and not where nobody signed its position. Pure.

Areas and positions come from the signed bundle; the configuration has no key for either. What is on an edge is inside.
"""

import math
from collections.abc import Iterable, Sequence

from homeplate.domain.geodesy import Flat, chord_m, flattened
from homeplate.domain.node import NodeEntry
from homeplate.domain.place import MAXIMUM_AREA_M, Circle, Position, SensitivePlace
from homeplate.policy.verdict import Refused

EDGE_M = 1.0
"""So near to an edge counts as inside: a position in six decimals of a degree is good for 0.1 m, and so is the way from
the ellipsoid to the plane."""

_FAR_M = 2 * MAXIMUM_AREA_M + EDGE_M


def may_read_here(places: Sequence[SensitivePlace], node: NodeEntry | None, cameras: Iterable[str]) -> list[Refused]:
    """Return why capture may not read, one reason a camera; nothing where it may.

    Args:
        places: the signed list; where it is empty, every place will do.
        node: the bundle's entry of this node; None where the bundle does not name it.
        cameras: the sources that capture was asked to run.
    """
    refused: list[Refused] = []
    for camera in cameras if places else ():
        stands = None if node is None else node.camera_positions.get(camera, node.position)
        if stands is None:
            refused.append(
                Refused(
                    f"no-position: the bundle lists {len(places)} sensitive places and not where {camera} stands; "
                    "sign its position with `homeplate-custodian bundle position`"
                )
            )
            continue
        found = next((place for place in places if inside(stands, place)), None)
        if found is not None:
            refused.append(
                Refused(f"sensitive-place: {camera} stands in {found.name} ({found.kind}, after {found.source})")
            )
    return refused


def inside(point: Position, place: SensitivePlace) -> bool:
    """Tell whether `point` lies in the area of `place`, or so near to its edge that nobody can say."""
    area = place.area
    if isinstance(area, Circle):
        return chord_m(point, area.centre) <= area.radius_m + EDGE_M
    # No corner is farther from the first one than an area may measure, so neither is anything within.
    if chord_m(point, area.corners[0]) > _FAR_M:
        return False
    corners = flattened(area.corners, point)
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    return any(_way_to(*edge) <= EDGE_M for edge in edges) or sum(_crosses(*edge) for edge in edges) % 2 == 1


def _way_to(start: Flat, end: Flat) -> float:
    """Return the way from the plane's origin to an edge, metres."""
    east, north = end.east_m - start.east_m, end.north_m - start.north_m
    share = -(start.east_m * east + start.north_m * north) / (east * east + north * north)
    share = min(1.0, max(0.0, share))
    return math.hypot(start.east_m + share * east, start.north_m + share * north)


def _crosses(start: Flat, end: Flat) -> bool:
    """Tell whether an edge crosses the line that runs from the plane's origin to the east."""
    if (start.north_m > 0) == (end.north_m > 0):
        return False
    share = start.north_m / (start.north_m - end.north_m)
    return start.east_m + share * (end.east_m - start.east_m) > 0
