"""Takes plates out of the preview's pictures. A picture waits until those after it were looked at too.

Black is, in each picture: every box that the detector claims in it and in those around it, down to scores that capture
would not believe, with a margin that grows with the time between; and every place at which a plate would be that was
seen twice around it, on a straight way. So a plate that is missed for a moment stays black. What is never claimed at
all is not black: the pictures are small for that reason (docs/aim.md has what was measured, and the limits).
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Image

SECOND = 1_000_000_000
LEAST_SCORE = 0.15
"""Score from which on a box is black; capture believes the manifest's 0.3."""
HOLD_NS = 6 * SECOND // 10
"""How long before and after it was claimed a box is black."""
DELAY_NS = 4 * SECOND // 10
"""How long a picture waits at least."""
LATER = 2
"""Looks that have to follow a picture at least, however slow they are."""
MARGIN_ACROSS, MARGIN_DOWN = 0.25, 0.4
"""How far black reaches beyond a box on each side, as a share of its width and height."""
GROWS = 1.0
"""Widths a second by which the margin grows with the time to the look that claims the box."""
NEAREST = 3
"""Looks on either side of which ways are made."""
SIZE_STEP = 1.8
"""Most ratio of the widths of two boxes that are one plate."""
FASTEST = 45.0
"""Widths a second of a plate that crosses at 50 km/h (0.305 m wide)."""
MOST_BOXES = 40
"""Boxes of a look that ways are made of, the best ones; the others are black where they are."""
MOST_WAITING = 64
"""Pictures that wait; the oldest is dropped, not shown, where there are more."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """A picture for the preview, and the boxes in it, best first, in its own pixels."""

    at_ns: int
    image: Image = field(repr=False)
    boxes: tuple[Box, ...]
    text: tuple[str, ...] = ()
    shown: tuple[tuple[Box, bool], ...] = ()
    """Plates as capture sees them, and whether each is good enough: for the outlines."""


class Blackout:
    """The waiting pictures of one source."""

    def __init__(self) -> None:
        self._shots: deque[Shot] = deque(maxlen=MOST_WAITING)
        self._next = 0  # index in `_shots` of the first that was not handed out

    def put(self, shot: Shot) -> list[Shot]:
        """Take the next picture; return those that are due, with their plates black, oldest first."""
        if self._shots and shot.at_ns <= self._shots[-1].at_ns:
            self._shots.clear()  # another stream began: what waited is dropped
            self._next = 0
        if len(self._shots) == self._shots.maxlen:
            self._next = max(0, self._next - 1)
        self._shots.append(shot)
        due = []
        while self._next < len(self._shots) - LATER and shot.at_ns - self._shots[self._next].at_ns >= DELAY_NS:
            due.append(self._blackened(self._next))
            self._next += 1
        while self._next > 0 and self._shots[self._next].at_ns - self._shots[0].at_ns > HOLD_NS:
            self._shots.popleft()
            self._next -= 1
        return due

    def _blackened(self, index: int) -> Shot:
        shot, shots = self._shots[index], list(self._shots)
        paint(shot.image, masks_of(shot.at_ns, index, shots))
        return shot


def masks_of(at_ns: int, index: int, shots: Sequence[Shot]) -> Floats:
    """Return what is black in a picture: [N, 4], left, top, right, bottom in its pixels.

    Args:
        at_ns: its time.
        index: its place in `shots`.
        shots: all that wait and were lately shown, in the order of their times.
    """
    held = [_grown(shot, at_ns) for shot in shots if abs(shot.at_ns - at_ns) <= HOLD_NS and shot.boxes]
    near = shots[max(0, index - NEAREST) : index + NEAREST + 1]
    ways = [way for one, two in itertools.combinations(near, 2) if len(way := _between(one, two, at_ns))]
    return np.concatenate([*held, *ways]) if held or ways else np.empty((0, 4))


def _rows(boxes: Iterable[Box]) -> Floats:
    return np.array([(box.left, box.top, box.right, box.bottom) for box in boxes], np.float64).reshape(-1, 4)


def _grown(shot: Shot, at_ns: int) -> Floats:
    """Return a look's boxes with the margin that they have at another time."""
    return _with_margin(_rows(shot.boxes), GROWS * abs(shot.at_ns - at_ns) / SECOND)


def _with_margin(boxes: Floats, more: float) -> Floats:
    size = boxes[:, 2:] - boxes[:, :2]
    reach = size * (MARGIN_ACROSS, MARGIN_DOWN) + size[:, :1] * more * (1.0, 0.5)
    return np.concatenate((boxes[:, :2] - reach, boxes[:, 2:] + reach), axis=1)


def _between(one: Shot, two: Shot, at_ns: int) -> Floats:
    """Return where each plate that two looks may share is at a time, on a straight way, with a margin.

    A box is taken for the nearest one of the other look that it can be, as seen from either.
    """
    first, second = _rows(one.boxes[:MOST_BOXES]), _rows(two.boxes[:MOST_BOXES])
    if not len(first) or not len(second) or abs(at_ns - one.at_ns) > HOLD_NS or abs(at_ns - two.at_ns) > HOLD_NS:
        return np.empty((0, 4))
    wide, wider = first[:, None, 2] - first[:, None, 0], second[None, :, 2] - second[None, :, 0]
    ratio = np.maximum(wide, wider) / np.maximum(1e-6, np.minimum(wide, wider))
    middles = (first[:, None, :2] + first[:, None, 2:] - second[None, :, :2] - second[None, :, 2:]) / 2
    took_s = (two.at_ns - one.at_ns) / SECOND
    far = np.hypot(*np.moveaxis(middles, 2, 0))
    far[(ratio > SIZE_STEP) | (far > np.maximum(wide, wider) * FASTEST * took_s)] = np.inf
    a, b = np.nonzero(np.isfinite(far) & ((far == far.min(axis=1)[:, None]) | (far == far.min(axis=0)[None, :])))
    share = (at_ns - one.at_ns) / (two.at_ns - one.at_ns)
    beyond = max(0.0, -share, share - 1) * took_s
    return _with_margin(first[a] + (second[b] - first[a]) * share, GROWS * beyond)


def paint(image: Image, masks: Floats) -> None:
    """Paint boxes [N, 4] of a picture [H, W, 3] black, in place; pixels that an edge touches are black too."""
    height, width = image.shape[:2]
    low = np.clip(np.floor(masks[:, :2]), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(masks[:, 2:]), 0, (width, height)).astype(int)
    for (left, top), (right, bottom) in zip(low.tolist(), high.tolist(), strict=True):
        image[top:bottom, left:right] = 0
