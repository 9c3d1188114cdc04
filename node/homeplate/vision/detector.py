"""Finds plates in a frame: the detector's output, cell by cell, becomes boxes, and corners where they can be trusted.

Everything but `Detector` is a pure function of arrays. The network and what its numbers mean are in
`tools/train/detector_net.py`; the thresholds come from the manifest.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection, Image
from homeplate.vision.image import letterbox

STRIDE = 8
"""Pixels of the network's input a cell of its output."""
MOST_CELLS = 300
"""Cells that are looked at, the best ones: a picture of nothing but plates cannot hold the vision thread up."""
DISTANCE_LIMIT = 5.0
"""Largest log distance in cells that the network may claim (as in training)."""
CLUSTER = 0.5
"""Cells with at least this share of the best one's score vote on its box and corners."""
LEAST_FILL = 0.5
"""Least share of its box that a plate's corners span: less is seen too much from aside to be straightened."""

Floats = NDArray[np.float32]


class Network(Protocol):
    """What `Detector` needs of a model."""

    def run(self, batch: NDArray[np.uint8]) -> list[Floats]:
        """Return the outputs for a batch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The manifest's thresholds.

    Attributes:
        score: least score of a plate, 0..1.
        overlap: boxes that overlap (IoU) by more are one plate.
        corners: most disagreement of the cells on a corner, in heights of the plate.
        across: share of a claimed box's width that is plate; weights may claim small plates too large.
        down: the same of its height.
    """

    score: float
    overlap: float
    corners: float
    across: float = 1.0
    down: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """The cells that claim a plate, best first, in pixels of the network's input.

    Attributes:
        scores: [K], 0..1.
        boxes: [K, 4], left, top, right, bottom.
        corners: [K, 4, 2], x and y, clockwise from the top left.
    """

    scores: Floats
    boxes: Floats
    corners: Floats


def cells_of(heads: Floats, least: float) -> Cells:
    """Decode the cells of a score of at least `least`.

    Args:
        heads: [13, rows, columns]: logit of the score, log of the distances to the four sides in cells, and the
            corners as fractions of the box.
        least: between 0 and 1, both excluded.
    """
    logits = heads[0].ravel()
    chosen = np.flatnonzero(logits >= math.log(least / (1 - least)))
    chosen = chosen[np.argsort(-logits[chosen], kind="stable")][:MOST_CELLS]
    values = heads.reshape(heads.shape[0], -1)[:, chosen].T
    row, column = np.divmod(chosen, heads.shape[2])
    centre = (np.stack((column, row), axis=1).astype(np.float32) + np.float32(0.5)) * STRIDE
    reach = np.exp(np.clip(values[:, 1:5], -DISTANCE_LIMIT, DISTANCE_LIMIT)) * STRIDE
    low, high = centre - reach[:, :2], centre + reach[:, 2:]
    corners = low[:, None] + values[:, 5:13].reshape(-1, 4, 2) * (high - low)[:, None]
    scores = np.asarray(1 / (1 + np.exp(-values[:, 0])), np.float32)
    return Cells(scores=scores, boxes=np.concatenate((low, high), axis=1), corners=corners)


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Return the IoU of a box [4] with each of `boxes` [K, 4], [K]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = np.prod(box[2:] - box[:2]) + areas - both
    return np.asarray(both / np.maximum(union, 1e-6), np.float32)


def clusters_of(cells: Cells, overlap: float) -> list[NDArray[np.intp]]:
    """Group the cells by plate, greedily from the best one: indices, best first, in each group."""
    groups = []
    left = np.arange(len(cells.scores))
    while len(left):
        same = overlaps(cells.boxes[left[0]], cells.boxes[left]) > overlap
        same[0] = True
        groups.append(left[same])
        left = left[~same]
    return groups


def detection_of(cells: Cells, group: NDArray[np.intp], scale: float, limits: Limits) -> Detection:
    """Merge the cells of one plate into a detection in pixels of the frame (input pixels / `scale`)."""
    scores = cells.scores[group]
    voters = group[scores >= CLUSTER * scores[0]]
    weights = (cells.scores[voters] / cells.scores[voters].sum()).astype(np.float32)
    left, top, right, bottom = (float(v) for v in weights @ cells.boxes[voters] / scale)
    corners = np.asarray(np.tensordot(weights, cells.corners[voters], 1), np.float32)
    spread = float(np.abs(cells.corners[voters] - corners).max())
    sure = len(voters) > 1 and spread <= limits.corners * (bottom - top) * scale
    box = Box(left=left, top=top, right=right, bottom=bottom)
    quad = quad_of(corners / np.float32(scale), box) if sure else None
    return Detection(box=box.scaled(limits.across, limits.down), score=float(scores[0]), quad=quad)


def quad_of(corners: Floats, box: Box) -> Quad | None:
    """Return the corners [4, 2] as a Quad where they are those of a plate that fills its box, else None."""
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    x, y = corners[:, 0], corners[:, 1]
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    clockwise_and_convex = bool((turns > 0).all())
    if not clockwise_and_convex or area < LEAST_FILL * box.area:
        return None
    first, second, third, fourth = ((float(px), float(py)) for px, py in corners)
    return Quad(corners=(first, second, third, fourth))


def detections_of(heads: Floats, scale: float, limits: Limits) -> list[Detection]:
    """Return the plates that the heads [13, rows, columns] show, best first, in pixels of the frame."""
    cells = cells_of(heads, limits.score)
    return [detection_of(cells, group, scale, limits) for group in clusters_of(cells, limits.overlap)]


class Detector:
    """Implements `ports.PlateDetector` with a network."""

    def __init__(self, network: Network, *, width: int, height: int, limits: Limits) -> None:
        self._network, self._limits = network, limits
        self._width, self._height = width, height

    @property
    def least_score(self) -> float:
        """The score from which it calls something a plate."""
        return self._limits.score

    def asked_for(self, score: float) -> "Detector":
        """Return the same detector with another least score, above 0 and below 1."""
        limits = replace(self._limits, score=score)
        return Detector(self._network, width=self._width, height=self._height, limits=limits)

    def detect(self, image: Image) -> list[Detection]:
        """Return the plates in a BGR picture [H, W, 3], best first; none in an empty picture.

        Raises:
            ModelError: the model cannot be run.
        """
        if image.size == 0:
            return []
        canvas, scale = letterbox(image, width=self._width, height=self._height)
        return detections_of(self._network.run(canvas[None])[0][0], scale, self._limits)
