"""Pictures as cameras hand them over: a plane of luma, chroma at half size, padding at the end of each line."""

from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.passage import Image

SIDE_LEAST, SIDE_MOST = 16, 8192
"""Pixels of a side."""
_DENSE = 3, 2
"""Bytes for two pixels, chroma included."""


class PixelFormat(StrEnum):
    """How chroma follows luma: two planes, or one of pairs."""

    I420 = "I420"
    NV12 = "NV12"


_TO_BGR = {PixelFormat.I420: cv2.COLOR_YUV2BGR_I420, PixelFormat.NV12: cv2.COLOR_YUV2BGR_NV12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the pixels of a picture lie.

    Attributes:
        width, height: pixels, even.
        stride: bytes from one line of luma to the next; of chroma in I420 half of it.
        pixels: how chroma follows.

    Raises:
        ValueError: no picture of ours looks so.
    """

    width: int
    height: int
    stride: int
    pixels: PixelFormat

    def __post_init__(self) -> None:
        sides = (self.width, self.height)
        if not all(SIDE_LEAST <= side <= SIDE_MOST and side % 2 == 0 for side in sides):
            raise ValueError(f"{self.width}x{self.height} pixels; a side is even and has {SIDE_LEAST} to {SIDE_MOST}")
        if not self.width <= self.stride <= 2 * SIDE_MOST or self.stride % 2:
            raise ValueError(f"lines of {self.stride} bytes for {self.width} pixels")

    @property
    def size(self) -> int:
        """Bytes of the picture, padding included."""
        return self.stride * self.height * _DENSE[0] // _DENSE[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planes:
    """A picture as it came: its bytes, of their own, where the pixels lie, and nanoseconds since it was taken."""

    data: NDArray[np.uint8] = field(repr=False)
    layout: Layout
    age_ns: int


def to_bgr(data: NDArray[np.uint8], layout: Layout) -> Image:
    """Return a picture's bytes as [height, width, 3] BGR, memory of its own.

    Raises:
        ValueError: there are fewer bytes than the layout has.
    """
    planes = data.reshape(-1)[: layout.size].reshape(layout.height * _DENSE[0] // _DENSE[1], layout.stride)
    image = cv2.cvtColor(planes, _TO_BGR[layout.pixels])
    return np.ascontiguousarray(image[:, : layout.width], np.uint8)


def luma(data: NDArray[np.uint8], layout: Layout) -> Image:
    """Return a picture's luma, [height, width], memory of its own.

    Raises:
        ValueError: there are fewer bytes than the layout has.
    """
    plane = data.reshape(-1)[: layout.stride * layout.height].reshape(layout.height, layout.stride)
    return plane[:, : layout.width].copy()
