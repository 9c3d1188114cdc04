"""Privacy masks: what they cover is painted over in the frame itself, before any copy of it is made."""

from collections.abc import Sequence

import cv2
import numpy as np

from homeplate.domain.passage import Image
from homeplate.domain.source import Polygon


def apply_masks(image: Image, masks: Sequence[Polygon]) -> None:
    """Paint polygons black, in place.

    Args:
        image: [H, W, 3] BGR, writable.
        masks: corners as fractions of width and height; pixels that an edge touches are covered too.
    """
    height, width = image.shape[:2]
    for mask in masks:
        corners = np.array([(x * (width - 1), y * (height - 1)) for x, y in mask])
        cv2.fillPoly(image, [np.rint(corners).astype(np.int32)], (0, 0, 0))
