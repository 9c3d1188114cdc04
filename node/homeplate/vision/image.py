"""Cuts and scales pictures for the models: the letterbox of a frame, the crop of a plate, the reader's input.

Pure functions of arrays. Which plate is cropped and whether its corners can be trusted is `detector`'s to say.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection, Image, PlateCrop

PAD = 114
"""Grey of a letterbox's border, as in training."""
MARGIN_ACROSS, MARGIN_DOWN = 0.06, 0.09
"""How far a plate crop reaches beyond the plate on each side, as a share of its width and height: the box is never
quite right, and letters that are cut are lost."""
STRAIGHTENED_MARGIN = 0.1
"""The same for a straightened plate: corners are less exact than boxes, and at 3 % characters are cut (held-out plates
read exactly: 0.70 at 0.03, 0.73 at 0.07 and more)."""
TILTED = 0.88
"""A plate is straightened where it covers less than this share of its box. The reader takes the tilt of the others, and
straightening them costs more by inexact corners than it gains (held-out plates read exactly: all straightened 0.745 to
0.764, none 0.775, below this share 0.775 to 0.777)."""


def letterbox(image: Image, *, width: int, height: int) -> tuple[Image, float]:
    """Scale a picture to fit, at the top left of a grey canvas.

    Args:
        image: [H, W, 3] BGR, neither side empty.
        width: pixels of the canvas.
        height: pixels of the canvas.

    Returns:
        The canvas [height, width, 3] and the scale: canvas pixels = scale * picture pixels.
    """
    scale = min(width / image.shape[1], height / image.shape[0])
    columns = min(width, max(1, round(image.shape[1] * scale)))
    rows = min(height, max(1, round(image.shape[0] * scale)))
    image = _halved(image, width=columns, height=rows)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:rows, columns:] = canvas[rows:] = PAD
    cv2.resize(image, (columns, rows), dst=canvas[:rows, :columns], interpolation=cv2.INTER_LINEAR)
    return canvas, scale


def _halved(image: Image, *, width: int, height: int) -> Image:
    """Scale a frame by halves as far as it goes: 0.7 ms for 1920x1080, where averaging by area takes 4.7."""
    while image.shape[1] >= 2 * width and image.shape[0] >= 2 * height:
        image = np.asarray(
            cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA), np.uint8
        )
    return image


def resized(image: Image, *, width: int, height: int) -> Image:
    """Return the picture stretched to [height, width, 3], averaged where it shrinks (an alias looks like a stroke)."""
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)


def closer(image: Image, box: Box, margin: float) -> Image:
    """Return what a crop around a plate in the picture would show, in the picture's own size.

    Args:
        image: [H, W, 3].
        box: the plate, in pixels; what lies beyond the picture repeats its edge.
        margin: added on each side, as a share of the plate's width and height.
    """
    height, width = image.shape[:2]
    shown = box.scaled(1 + 2 * margin, 1 + 2 * margin)
    across, down = shown.width / width, shown.height / height
    # Pixel centres lie at half a pixel.
    x, y = shown.left + (across - 1) / 2, shown.top + (down - 1) / 2
    matrix = np.array([[across, 0, x], [0, down, y]], np.float32)
    way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=way, borderMode=cv2.BORDER_REPLICATE))


def plate_crop(image: Image, detection: Detection) -> PlateCrop:
    """Return the plate at full resolution, straightened where it is tilted and its corners are known.

    Args:
        image: the frame, [H, W, 3] BGR.
        detection: a plate in it; it may reach beyond the frame.

    Returns:
        The crop, [h, w, 3] BGR, a copy; h or w is 0 where the plate lies outside the frame.
    """
    if detection.quad is None or area(detection.quad) >= TILTED * detection.box.area:
        return _cut(image, detection.box)
    return _straightened(image, detection.quad)


def area(quad: Quad) -> float:
    """Return the area in square pixels that the corners span, by the shoelace formula; negative counter-clockwise."""
    following = (*quad.corners[1:], quad.corners[0])
    return 0.5 * sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(quad.corners, following, strict=True))


def _cut(image: Image, box: Box) -> PlateCrop:
    rows, columns = image.shape[:2]
    across, down = box.width * MARGIN_ACROSS, box.height * MARGIN_DOWN
    left, right = max(0, math.floor(box.left - across)), min(columns, math.ceil(box.right + across))
    top, bottom = max(0, math.floor(box.top - down)), min(rows, math.ceil(box.bottom + down))
    crop = image[top : max(top, bottom), left : max(left, right)].copy()
    return PlateCrop(image=crop, into_frame=_shift(left, top))


def _straightened(image: Image, quad: Quad) -> PlateCrop:
    corners = np.array(quad.corners, np.float32)
    width = max(1, round(float(np.linalg.norm(corners[[1, 2]] - corners[[0, 3]], axis=1).max())))
    height = max(1, round(float(np.linalg.norm(corners[[3, 2]] - corners[[0, 1]], axis=1).max())))
    across, down = round(width * STRAIGHTENED_MARGIN), round(height * STRAIGHTENED_MARGIN)
    goal = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    goal += np.array([across, down], np.float32)
    # Pixel centres lie at half a pixel: without it the crop is shifted by that much.
    matrix = cv2.getPerspectiveTransform(corners - 0.5, goal - 0.5)
    size = (width + 2 * across, height + 2 * down)
    crop = cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    into_frame = _shift(0.5, 0.5) @ np.linalg.inv(matrix) @ _shift(-0.5, -0.5)
    return PlateCrop(image=np.asarray(crop, np.uint8), into_frame=into_frame)


def _shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)
