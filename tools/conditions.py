"""What weather, night, distance, cheap lenses and compression do to a labelled picture, one condition at a time.

Each condition is a function of a picture, the plate's box, a level and a generator; it returns the picture and the box
in it, and leaves what it is given alone. They are for measuring; training has `tools.render.wear`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Random = np.random.Generator
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""
Apply = Callable[[Image, Box, float, Random], tuple[Image, Box]]

FULL_WELL, READ_NOISE, GAMMA = 4000.0, 4.0, 2.2
"""Electrons of white and of the read-out in a small sensor's pixel, and the curve that pictures are stored with."""
PLATE_PX = 100.0
"""Blur is given for a plate this wide, so that it means the same near and far."""
FRAME: Final = (1280, 720)
"""Width and height of a node's frame, in which the plate's width is varied."""
GROUND = (104, 104, 104)
STREAK_LENGTH, STREAK_LIGHT, SLANT = 0.03, 70.0, 0.15
"""Of a streak of rain: share of the picture's height, grey levels, sideways share of its way."""
DRENCHED = 4000.0
"""Streaks a megapixel at which half the contrast is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that makes reading harder.

    Attributes:
        unit: what a level counts.
        levels: from mild to hard.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Apply


def blur(picture: Image, box: Box, level: float, _: Random) -> tuple[Image, Box]:
    """Defocus: a Gaussian of `level` pixels of deviation on a plate 100 pixels wide."""
    sigma = level * (box[2] - box[0]) / PLATE_PX
    return cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.uint8), box


def noise(picture: Image, box: Box, level: float, random: Random) -> tuple[Image, Box]:
    """Gaussian noise of `level` grey levels of deviation in every channel."""
    grain = random.standard_normal(picture.shape, np.float32) * np.float32(level)
    return np.clip(picture + grain, 0, 255).astype(np.uint8), box


def low_light(picture: Image, box: Box, level: float, random: Random) -> tuple[Image, Box]:
    """A share `level` of the light, with the noise of so few photons and of the sensor, and no gain."""
    electrons = (np.arange(256) / 255.0) ** GAMMA * FULL_WELL * level
    caught = random.poisson(electrons[picture]) + random.normal(0, READ_NOISE, picture.shape)
    shown = (np.clip(caught, 0, FULL_WELL) / FULL_WELL) ** (1 / GAMMA) * 255
    return shown.astype(np.uint8), box


def jpeg(picture: Image, box: Box, level: float, _: Random) -> tuple[Image, Box]:
    """Compression at quality `level`."""
    coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(level)])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8), box


def rain(picture: Image, box: Box, level: float, random: Random) -> tuple[Image, Box]:
    """Rain of `level` streaks a megapixel, and the veil that the farther drops are."""
    height, width = picture.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    slant = random.normal(0, SLANT)
    drops = random.uniform((0, 0, 0.4), (width, height, 1.6), (round(level * height * width / 1e6), 3))
    for x, y, size in drops.tolist():
        long = size * STREAK_LENGTH * height
        end = (round(x + slant * long), round(y + long))
        cv2.line(
            streaks, (round(x), round(y)), end, round(STREAK_LIGHT * size), max(1, round(height / 700)), cv2.LINE_AA
        )
    veil = 0.5 * min(1.0, level / DRENCHED)
    veiled = picture * (1 - veil) + veil * float(picture.mean())
    soft = cv2.GaussianBlur(streaks, (0, 0), 0.7).astype(np.float32)
    return np.clip(veiled + soft[..., None], 0, 255).astype(np.uint8), box


def tilt(picture: Image, box: Box, level: float, _: Random) -> tuple[Image, Box]:
    """The camera rolled by `level` degrees about the plate; the box is the one around the turned box."""
    height, width = picture.shape[:2]
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    turn = cv2.getRotationMatrix2D(centre, level, 1.0)
    turned = cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    corners = np.array([(x, y, 1.0) for x in box[::2] for y in box[1::2]]) @ turn.T
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return turned.astype(np.uint8), (left, top, right, bottom)


def plate_width(picture: Image, box: Box, level: float, _: Random) -> tuple[Image, Box]:
    """The plate `level` pixels wide in a frame of the usual size: the picture is scaled, then cut or bordered."""
    scale = level / (box[2] - box[0])
    height, width = picture.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(picture, size, interpolation=how)
    frame = np.full((FRAME[1], FRAME[0], 3), GROUND, np.uint8)
    x, x_from = _placed((box[0] + box[2]) / 2 * scale, size[0], FRAME[0])
    y, y_from = _placed((box[1] + box[3]) / 2 * scale, size[1], FRAME[1])
    part = scaled[y_from : y_from + FRAME[1], x_from : x_from + FRAME[0]]
    frame[y : y + part.shape[0], x : x + part.shape[1]] = part
    dx, dy = x - x_from, y - y_from
    return frame, (box[0] * scale + dx, box[1] * scale + dy, box[2] * scale + dx, box[3] * scale + dy)


def _placed(middle: float, length: int, room: int) -> tuple[int, int]:
    """Return where in a room a length is put, and from where on it is shown, with `middle` in sight."""
    if length <= room:
        return (room - length) // 2, 0
    return 0, min(max(0, math.floor(middle - room / 2)), length - room)


CONDITIONS: Final = (
    Condition(name="blur", unit="px of deviation at a plate 100 px wide", levels=(1, 2, 3, 4), apply=blur),
    Condition(name="noise", unit="grey levels of deviation", levels=(10, 25, 50), apply=noise),
    Condition(name="low light", unit="share of the light", levels=(1 / 8, 1 / 64, 1 / 256), apply=low_light),
    Condition(name="JPEG", unit="quality", levels=(40, 20, 10, 5), apply=jpeg),
    Condition(name="rain", unit="streaks a megapixel", levels=(500, 1500, 2500), apply=rain),
    Condition(name="tilt", unit="degrees", levels=(5, 10, 20, 30), apply=tilt),
    Condition(name="plate width", unit="px in 1280 x 720", levels=(200, 120, 80, 60, 40, 30, 20), apply=plate_width),
)
