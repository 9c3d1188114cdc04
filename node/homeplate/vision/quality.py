"""Measures a picture and a plate in it for whoever aims the camera: light, contrast, sharpness, tilt. Reads nothing.

Pure functions of arrays. What the figures are worth, and what to change, is `aiming.advice`'s.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from homeplate.domain.geometry import Quad
from homeplate.domain.passage import Detection, Image

WHITE, BLACK = 250, 5
"""Grey levels from which a pixel is clipped: sensor and coding leave a few levels at either end."""
STEP = 4
"""Of the whole picture every so many lines and columns are looked at: 0.2 ms for 1920x1080."""
SIZE = (128, 64)
"""Width and height in pixels to which a plate is brought before its sharpness is measured: the reader's input."""
INK = (5, 95)
"""Percentiles that stand for characters and ground."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """How a picture is exposed: mean grey level (0..255), and the shares of its pixels that are clipped (0..1)."""

    mean: float
    white: float
    black: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateLook:
    """One sighting of a plate, without its text.

    Attributes:
        width_px: of its box, in pixels of the full frame.
        score: the detector's, 0..1.
        tilt_deg: by which it is turned clockwise in the picture; None where its corners are not known.
        sharpness: see `sharpness`.
        contrast: grey levels between its characters and its ground.
        white: share of its pixels that are clipped.
    """

    width_px: float
    score: float
    tilt_deg: float | None
    sharpness: float
    contrast: float
    white: float


def light_of(image: Image) -> Light:
    """Return how a BGR picture [H, W, 3], not empty, is exposed."""
    grey = cv2.cvtColor(np.ascontiguousarray(image[::STEP, ::STEP]), cv2.COLOR_BGR2GRAY)
    return Light(mean=float(grey.mean()), white=float((grey >= WHITE).mean()), black=float((grey <= BLACK).mean()))


def plate_look(image: Image, detection: Detection) -> PlateLook | None:
    """Return what is to be said of a plate in a BGR picture [H, W, 3]; None where it lies outside."""
    height, width = image.shape[:2]
    box = detection.box
    left, right = max(0, math.floor(box.left)), min(width, math.ceil(box.right))
    top, bottom = max(0, math.floor(box.top)), min(height, math.ceil(box.bottom))
    if right - left < 1 or bottom - top < 1:
        return None
    grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_BGR2GRAY)
    dark, light = np.percentile(grey, INK)
    return PlateLook(
        width_px=box.width,
        score=detection.score,
        tilt_deg=tilt_deg(detection.quad) if detection.quad is not None else None,
        sharpness=sharpness(np.asarray(grey, np.uint8)),
        contrast=float(light - dark),
        white=float((grey >= WHITE).mean()),
    )


def sharpness(grey: Image) -> float:
    """Return the variance of the Laplacian of a grey plate [h, w] at the reader's size, as a share of its variance.

    The share takes light and contrast out, so that the figure means the same by day and by night; noise raises it.
    """
    plate = cv2.resize(grey, SIZE, interpolation=cv2.INTER_AREA if grey.shape[1] > SIZE[0] else cv2.INTER_LINEAR)
    spread = float(plate.astype(np.float32).var())
    return float(cv2.Laplacian(plate, cv2.CV_32F).var()) / max(1.0, spread)


def tilt_deg(quad: Quad) -> float:
    """Return by how many degrees a plate's upper and lower edge are turned clockwise, the mean of the two."""
    first, second, third, fourth = quad.corners
    across, down = second[0] - first[0] + third[0] - fourth[0], second[1] - first[1] + third[1] - fourth[1]
    return math.degrees(math.atan2(down, across))
