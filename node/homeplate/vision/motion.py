"""Decides whether a frame is worth looking at: an empty road costs a small grey copy and no inference.

Motion is a local change against a picture of the recent past, after the light of the whole picture was matched to it.
Time comes with the frame; there is no clock here.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.passage import Image

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionLimits:
    """When the gate opens.

    Attributes:
        width: pixels of the grey copy; its height follows.
        difference: grey levels (0..255) by which a pixel of the copy has to change.
        share: share of the copy's pixels that have to change, 0..1.
        hold_frames: frames for which the gate stays open after motion.
        forced_ns: stream time after which a frame is looked at all the same (a car that stopped is read).
        memory_ns: time constant with which the picture of the past follows.
    """

    width: int = 160
    difference: float = 14.0
    share: float = 0.002
    hold_frames: int = 6
    forced_ns: int = 2 * NANOSECONDS
    memory_ns: int = NANOSECONDS // 2


DEFAULT_LIMITS = MotionLimits()


class MotionGate:
    """Opens on motion in the frames of one source."""

    def __init__(self, limits: MotionLimits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._past: NDArray[np.float32] | None = None
        self._last_ns = 0
        self._looked_ns = 0
        self._hold = 0

    def open(self, image: Image, stream_ns: int) -> bool:
        """Tell whether to look at this frame.

        Args:
            image: [H, W, 3] BGR or [H, W] grey, not empty.
            stream_ns: the frame's time in its stream; where it goes back or the size changes, the gate starts anew.
        """
        grey = small_grey(image, self._limits.width)
        if self._past is None or self._past.shape != grey.shape or stream_ns < self._last_ns:
            self._past, self._last_ns, self._looked_ns = grey, stream_ns, stream_ns
            self._hold = self._limits.hold_frames
            return True
        moved = moving_share(grey, self._past, self._limits.difference) >= self._limits.share
        follow = 1 - math.exp((self._last_ns - stream_ns) / self._limits.memory_ns)
        self._past += np.float32(follow) * (grey - self._past)
        self._last_ns = stream_ns
        self._hold = self._limits.hold_frames if moved else self._hold - 1
        looks = self._hold >= 0 or stream_ns - self._looked_ns >= self._limits.forced_ns
        if looks:
            self._looked_ns = stream_ns
        return looks


def small_grey(image: Image, width: int) -> NDArray[np.float32]:
    """Return a grey copy `width` pixels wide, [rows, width], averaged so that noise is no motion.

    Of a large frame only every n-th line is averaged, at least two for each of the copy: 0.3 ms instead of 1.0 for
    1280x720.
    """
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    lines = image[:: max(1, image.shape[0] // (2 * height))]
    small = cv2.resize(lines, (width, height), interpolation=cv2.INTER_AREA)
    grey = (small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)).astype(np.float32)  # noqa: PLR2004
    return np.asarray(cv2.blur(grey, (3, 3)), np.float32)


def moving_share(now: NDArray[np.float32], past: NDArray[np.float32], difference: float) -> float:
    """Return the share of pixels that changed by more than `difference` beyond a change of the whole picture's light.

    The light is matched by quartiles (of every fourth pixel), which a car that covers less than a quarter of the
    picture hardly moves.
    """
    low, middle, high = np.percentile(past[::2, ::2], (25, 50, 75))
    now_low, now_middle, now_high = np.percentile(now[::2, ::2], (25, 50, 75))
    gain = float(np.clip((now_high - now_low + 1) / (high - low + 1), 0.5, 2.0))
    expected = (past - middle) * gain + now_middle
    return float(np.mean(np.abs(now - expected) > difference))
