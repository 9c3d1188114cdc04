"""How a camera is set for plates that pass: shutter, focus, sensor mode, and the time at which a picture was taken.

Pure functions of what the technician knows of the place and what the camera says of itself; no camera is touched here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

PLATE_WIDTH_M = 0.3048
"""A plate of the United States is 12 inches wide (SAE J686)."""
KMH_PER_MS = 3.6
SHUTTER_LEAST_US, SHUTTER_MOST_US = 30, 10_000
"""Sensors have no shorter exposure (the IMX296: 29 us); a longer one than 10 ms flickers under lamps on the mains."""
AGE_MOST_NS = 2_000_000_000
"""A picture that claims to be older than this when it is handed over has a stamp of another clock."""


def scale_px_per_m(plate_width_px: float) -> float:
    """Return the pixels that a metre takes up where a plate is so many pixels wide."""
    return plate_width_px / PLATE_WIDTH_M


def shutter_us(*, blur_px: float, scale_px_per_m: float, speed_kmh: float) -> int:
    """Return the longest exposure in microseconds in which a plate smears by at most `blur_px` pixels.

    A vehicle that crosses the picture at right angles is the worst case: one that comes nearer smears less.

    Args:
        blur_px: the budget, pixels, above 0.
        scale_px_per_m: pixels that a metre takes up where plates are read, above 0.
        speed_kmh: of the fastest vehicle, above 0.
    """
    longest = blur_px * KMH_PER_MS / (scale_px_per_m * speed_kmh) * 1e6
    return int(min(max(longest, SHUTTER_LEAST_US), SHUTTER_MOST_US))


def lens_position(distance_m: float, least: float, most: float) -> float:
    """Return the lens position in dioptres (1/m) that focuses at a distance, within what the lens can do."""
    return min(max(1.0 / distance_m, least), most)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorMode:
    """One way in which a sensor can be read.

    Attributes:
        width, height: pixels that it delivers.
        bits: of a pixel.
        fps: most pictures a second.
        field: (left, top, width, height) in the sensor's own pixels that it covers.
    """

    width: int
    height: int
    bits: int
    fps: float
    field: tuple[int, int, int, int]

    @property
    def area(self) -> int:
        """The sensor's pixels that it covers."""
        return self.field[2] * self.field[3]


FULL = 0.97
"""Share of the largest field from which a mode counts as full: binned modes lose a few columns at the edges."""


def full_field(modes: Sequence[SensorMode], *, width: int, height: int, fps: float) -> SensorMode | None:
    """Return the mode that sees all that the lens shows, or None where the camera lists no mode.

    Among the modes with the whole field, the one with the fewest pixels that has as many as the picture and is fast
    enough (fewer pixels are read out faster, and binned ones gather more light); else the largest, else the fastest.
    A cropped mode would take plates out of the picture at the sides without a word.
    """
    if not modes:
        return None
    most = max(mode.area for mode in modes)
    whole = [mode for mode in modes if mode.area >= FULL * most]
    enough = [mode for mode in whole if mode.width >= width and mode.height >= height]
    fast = [mode for mode in enough if mode.fps >= fps]
    if fast:
        return min(fast, key=lambda mode: (mode.width * mode.height, -mode.bits))
    if enough:
        return max(enough, key=lambda mode: (mode.fps, mode.bits))
    return max(whole, key=lambda mode: (mode.width * mode.height, mode.fps))


def captured_ns(now_ns: int, age_ns: int) -> int:
    """Return node time at capture: `now_ns` less the picture's age, or `now_ns` where the age cannot be true.

    Args:
        now_ns: node time at which the picture was handed over.
        age_ns: nanoseconds since the sensor took it, by one clock; another clock's stamp gives nonsense.
    """
    return now_ns - age_ns if 0 <= age_ns <= AGE_MOST_NS else now_ns


def lores_size(width: int, height: int, wide: int = 320) -> tuple[int, int]:
    """Return the size of the motion gate's stream: `wide` pixels or the picture's width, even, of the same shape."""
    across = min(wide, width) // 2 * 2
    return across, max(2, math.floor(across * height / width / 2) * 2)
