"""Distances and flat neighbourhoods on the WGS84 ellipsoid, without a special case at the poles or the antimeridian.

Everything goes through vectors in space: there a meridian is as good as another. Source of the constants and of the
way from degrees to metres: WGS84 (NGA.STND.0036).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from homeplate.domain.place import Position

SEMI_MAJOR_M = 6_378_137.0
FLATTENING = 1 / 298.257223563
_E2 = FLATTENING * (2 - FLATTENING)
_Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """A point on the plane that touches the earth somewhere: metres to the east and to the north of there."""

    east_m: float
    north_m: float


def chord_m(one: Position, other: Position) -> float:
    """Return the straight way between two points, metres. It is never longer than the way along the ground.

    For the 20 km that an area may measure it is at most a centimetre shorter.
    """
    return math.dist(_in_space(one), _in_space(other))


def flattened(points: Sequence[Position], around: Position) -> list[Flat]:
    """Return `points` on the plane that touches the earth at `around`; great circles become straight lines there.

    The projection is gnomonic, over the normals of the ellipsoid. Its metres are off by 0.7 % at most for points within
    100 km, which is all that it is for.
    """
    up = _normal(around)
    turn = math.radians(around.longitude_deg)
    east = (-math.sin(turn), math.cos(turn), 0.0)
    north = (
        up[1] * east[2] - up[2] * east[1],
        up[2] * east[0] - up[0] * east[2],
        up[0] * east[1] - up[1] * east[0],
    )
    found = []
    for normal in map(_normal, points):
        scale = SEMI_MAJOR_M / _dot(normal, up)
        found.append(Flat(east_m=scale * _dot(normal, east), north_m=scale * _dot(normal, north)))
    return found


def _dot(one: _Vector, other: _Vector) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _normal(point: Position) -> _Vector:
    latitude, longitude = math.radians(point.latitude_deg), math.radians(point.longitude_deg)
    across = math.cos(latitude)
    return across * math.cos(longitude), across * math.sin(longitude), math.sin(latitude)


def _in_space(point: Position) -> _Vector:
    x, y, z = _normal(point)
    across = SEMI_MAJOR_M / math.sqrt(1 - _E2 * z * z)
    return across * x, across * y, across * (1 - _E2) * z
