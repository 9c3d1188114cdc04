"""Says of what was seen of a camera whether it is enough, and what to change. Pure functions of values.

What is enough was measured on rendered cars with `python -m tools.measure_aim` (docs/aim.md has the table) and, for
widths and rates, in models/MODEL_CARD.md and models/driveby.md. Widths are those of the detector's boxes, which are
wider than the plates by about a tenth.
"""

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from homeplate.vision.quality import Light, PlateLook

WIDTH_ENOUGH_PX = 80.0
"""Boxes of plates 75 pixels wide, from which on a tenth more real plates are read than at 60, and no more by width."""
WIDTH_SLACK = 0.9
"""Share of that width from which on nothing is to be changed: no zoom is set more exactly."""
TILT_ENOUGH_DEG = 10.0
"""Degrees. Rendered plates are read up to 20, of real ones fewer from 10 on; past 25 their corners are not seen."""
SHARP_ENOUGH = 0.06
"""See `vision.quality.sharpness`: 98 of 100 plates are read at 0.055, 94 at 0.035, 87 at 0.022."""
CONTRAST_ENOUGH = 30.0
"""Grey levels between characters and ground: 98 of 100 are read at 28, 79 at 17; below, what looks sharp is noise."""
WHITE_MOST = 0.72
"""Share of a plate's pixels that may be clipped: its ground alone is as much. 97 of 100 are read there, 83 at 0.75."""
MEAN_LEAST, MEAN_MOST = 12.0, 235.0
"""Mean grey level of a picture, 0..255: 98 of 100 are read at 14 and 97 at 236; 79 at 8 and 83 at 246."""
FRAMES_ENOUGH = 10.0
"""Frames a second: with 10 every car at 50 km/h is read, with 5 three in four."""
LEAST_LOOKS = 3
"""Sightings below which nothing is said of plates."""
CUT_OFF_MOST, OUTSIDE_MOST = 0.5, 0.5
"""Share of the sightings that may be cut off by the picture's edge, or lie outside the source's region."""


class Thing(StrEnum):
    """What a piece of advice is about."""

    FRAMES = "frames"
    LIGHT = "light"
    PLATES = "plates"
    PLACE = "place"
    WIDTH = "width"
    TILT = "tilt"
    CONTRAST = "contrast"
    SHARPNESS = "sharpness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a source in the last seconds.

    Attributes:
        source: its name in the configuration.
        frame: width and height in pixels; None before the first frame.
        arriving: frames that came, a second.
        looked: frames that were looked at, a second.
        frames: how many were looked at in the time that the sightings are of.
        looks: sightings of plates in the source's region, not cut off.
        cut_off: sightings that the picture's edge cuts off.
        outside: sightings outside the source's region.
        light: of the newest frame.
        minimum_width: in pixels, below which the source's plates are not read (configuration).
        said: why it ended, where it did.
    """

    source: str
    frame: tuple[int, int] | None = None
    arriving: float = 0.0
    looked: float = 0.0
    frames: int = 0
    looks: tuple[PlateLook, ...] = ()
    cut_off: int = 0
    outside: int = 0
    light: Light | None = None
    minimum_width: float = 0.0
    said: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the sightings, None where there are none; units as in `vision.quality.PlateLook`.

    Attributes:
        a_frame: plates a frame.
        smallest_px: the narrowest.
        nearest_px: a quarter of the sightings are as wide or wider: where cars are near, and are read.
    """

    sightings: int
    a_frame: float
    score: float | None
    width_px: float | None
    smallest_px: float | None
    nearest_px: float | None
    tilt_deg: float | None
    sharpness: float | None
    contrast: float | None
    white: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing: whether it is enough (None: not known yet), and that in words, with what to change."""

    thing: Thing
    enough: bool | None
    text: str


def figures_of(seen: Seen) -> Figures:
    """Return the figures of what was seen."""
    looks = seen.looks
    return Figures(
        sightings=len(looks),
        a_frame=len(looks) / max(1, seen.frames),
        score=_median(look.score for look in looks),
        width_px=_median(look.width_px for look in looks),
        smallest_px=min((look.width_px for look in looks), default=None),
        nearest_px=sorted(look.width_px for look in looks)[3 * len(looks) // 4] if looks else None,
        tilt_deg=_median(look.tilt_deg for look in looks),
        sharpness=_median(look.sharpness for look in looks),
        contrast=_median(look.contrast for look in looks),
        white=_median(look.white for look in looks),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def advice(seen: Seen) -> tuple[Advice, ...]:
    """Return what is to be said, what has to be changed first coming first."""
    if seen.frame is None:
        return (Advice(thing=Thing.FRAMES, enough=None, text=seen.said or "no frame has come yet"),)
    found = figures_of(seen)
    given = [_frames(seen), *_light(seen.light), _place(seen), *(_plates(found, seen) if found.sightings else ())]
    ranks = {False: 0, None: 1, True: 2}
    return tuple(sorted(given, key=lambda one: ranks[one.enough]))


def _frames(seen: Seen) -> Advice:
    if seen.looked >= FRAMES_ENOUGH:
        return Advice(thing=Thing.FRAMES, enough=True, text=f"{seen.looked:.0f} frames a second are looked at")
    slow = seen.looked < 0.8 * seen.arriving
    change = "fewer tiles, a smaller region or more models.threads" if slow else "raise the camera's rate"
    text = f"{seen.looked:.1f} frames a second are looked at; {FRAMES_ENOUGH:.0f} are needed at 50 km/h: {change}"
    return Advice(thing=Thing.FRAMES, enough=False, text=text)


def _light(light: Light | None) -> Iterator[Advice]:
    if light is None:
        return
    if light.mean < MEAN_LEAST:
        text = f"the picture is dark (mean {light.mean:.0f} of 255): light the road, raise the gain, check the lens cap"
    elif light.mean > MEAN_MOST:
        text = f"the picture is too bright (mean {light.mean:.0f} of 255): shorten the shutter or lower the gain"
    else:
        yield Advice(thing=Thing.LIGHT, enough=True, text=f"the picture's mean is {light.mean:.0f} of 255")
        return
    yield Advice(thing=Thing.LIGHT, enough=False, text=text)


def _place(seen: Seen) -> Advice:
    inside, every = len(seen.looks), len(seen.looks) + seen.cut_off + seen.outside
    if every < LEAST_LOOKS:
        text = "no plate is seen: wait for a car, or turn the camera to where cars come nearer"
        return Advice(thing=Thing.PLATES, enough=None, text=text)
    if seen.outside > OUTSIDE_MOST * every:
        text = f"{seen.outside} of {every} plates lie outside the source's region: turn the camera, or widen `region`"
        return Advice(thing=Thing.PLACE, enough=False, text=text)
    if seen.cut_off > CUT_OFF_MOST * every:
        text = f"{seen.cut_off} of {every} plates are cut off by the picture's edge: turn the camera to where they stay"
        return Advice(thing=Thing.PLACE, enough=False, text=text)
    return Advice(thing=Thing.PLACE, enough=True, text=f"{inside} of {every} plates are whole and in the region")


def _plates(found: Figures, seen: Seen) -> Iterator[Advice]:
    """Yield what is to be said of the plates; of blur nothing where width, light or noise would be taken for it."""
    if found.sightings < LEAST_LOOKS:
        return
    width = _width(found, seen.minimum_width)
    contrast = _contrast(found)
    yield from (width, _tilt(found), contrast)
    if width.enough and contrast.enough:
        yield _sharpness(found)


def _width(found: Figures, minimum: float) -> Advice:
    """Say how wide plates are. Below `minimum` none is read, but a tenth under enough is not worth a word."""
    assert found.nearest_px is not None
    needed = max(WIDTH_ENOUGH_PX, minimum)
    text = f"plates are {found.nearest_px:.0f} px wide where they are nearest"
    if found.nearest_px >= max(WIDTH_SLACK * WIDTH_ENOUGH_PX, minimum):
        return Advice(thing=Thing.WIDTH, enough=True, text=f"{text}; about {needed:.0f} px are needed")
    share = found.nearest_px / needed
    change = f"zoom in {1 / share:.1f} times, or move {100 * (1 - share):.0f} % nearer"
    if share > WIDTH_SLACK:
        change = "zoom in a little, or lower the source's minimum_plate_width_px"
    return Advice(thing=Thing.WIDTH, enough=False, text=f"{text}; {needed:.0f} px are needed: {change}")


def _tilt(found: Figures) -> Advice:
    if found.tilt_deg is None:
        return Advice(
            thing=Thing.TILT, enough=None, text="the plates' corners are not seen, so their tilt is not known"
        )
    by = abs(found.tilt_deg)
    if by <= TILT_ENOUGH_DEG:
        return Advice(thing=Thing.TILT, enough=True, text=f"plates are turned by {by:.0f} degrees")
    # What is turned clockwise in the picture is level once the camera is turned the same way.
    way = "clockwise" if found.tilt_deg > 0 else "counter-clockwise"
    text = (
        f"plates are turned by {by:.0f} degrees; {TILT_ENOUGH_DEG:.0f} are the most: turn the camera {by:.0f} degrees"
    )
    return Advice(thing=Thing.TILT, enough=False, text=f"{text} {way} (as seen from behind it), or look along the road")


def _contrast(found: Figures) -> Advice:
    assert found.contrast is not None
    assert found.white is not None
    text = f"characters and ground are {found.contrast:.0f} grey levels apart"
    if found.white > WHITE_MOST:
        change = f"{found.white:.0%} of the plates is white: shorten the shutter, lower the gain or the lamp"
    elif found.contrast < CONTRAST_ENOUGH:
        change = f"{text}; {CONTRAST_ENOUGH:.0f} are needed: more light on the plates, or against haze and glare a hood"
    else:
        return Advice(thing=Thing.CONTRAST, enough=True, text=text)
    return Advice(thing=Thing.CONTRAST, enough=False, text=change)


def _sharpness(found: Figures) -> Advice:
    assert found.sharpness is not None
    text = f"sharpness is {found.sharpness:.2f}; {SHARP_ENOUGH:.2f} is needed"
    if found.sharpness >= SHARP_ENOUGH:
        return Advice(thing=Thing.SHARPNESS, enough=True, text=text)
    change = "focus at the plates' distance; where parked cars are sharp and moving ones are not, shorten the shutter"
    return Advice(thing=Thing.SHARPNESS, enough=False, text=f"{text}: {change}")
