"""How well a detector finds the held-out plates: recall and false alarms by score, and the error of its corners.

It decodes with the node's own functions, so that what is measured is what will run. Nothing here looks at an
evaluation set.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection
from homeplate.vision.detector import Limits, detections_of
from homeplate.vision.image import PAD, letterbox
from tools.train.detector_data import LEAST_WIDTH, SQUARED, Entry, Pack, Sampler

Heads = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""A detector: pictures [N, H, W, 3] to raw heads [N, 13, H / 8, W / 8]."""

LEAST_SCORE = 0.05
LOOSE = frozenset({"chirag"})
"""Sources that are left out of the sums: their boxes are drawn too loosely to judge a box by."""
MATCH = 0.5
CAMERA_FRAME = 1280
CAMERA_WIDTHS = (40, 60, 75, 95)
"""Pixels of a frame's width, and of plates in it, that the detector is made for."""
LEAST_SHRINKING = 0.85
"""Labelled plates that would be shrunk less than this are left out: they show no more than they did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Detections of a set of pictures against its labels: scores of hits and of false alarms, plates there were."""

    hits: tuple[float, ...]
    alarms: tuple[float, ...]
    plates: int
    pictures: int
    overlap: float

    def at(self, score: float) -> dict[str, float]:
        """Recall, precision and false alarms a picture of detections of at least this score."""
        hits, alarms = sum(s >= score for s in self.hits), sum(s >= score for s in self.alarms)
        return {
            "score": score,
            "recall": round(hits / max(1, self.plates), 4),
            "precision": round(hits / max(1, hits + alarms), 4),
            "alarms": round(alarms / max(1, self.pictures), 4),
        }

    def average_precision(self) -> float:
        """Area under precision over recall."""
        marks = sorted([(s, 1) for s in self.hits] + [(s, 0) for s in self.alarms], reverse=True)
        found = np.cumsum([hit for _, hit in marks])
        precision = found / np.arange(1, len(marks) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        recall = np.concatenate(([0], found)) / max(1, self.plates)
        return float(sum((b - a) * p for (a, b), p in zip(pairwise(recall), envelope, strict=True)))


def matched(found: Sequence[Detection], labelled: Sequence[Box], ignored: Sequence[bool]) -> list[tuple[float, float]]:
    """Pair detections, best first, with labels: (score, IoU) of each that counts, IoU 0 for a false alarm."""
    left = set(range(len(labelled)))
    pairs = []
    for detection in found:
        best = max(left, key=lambda index: detection.box.iou(labelled[index]), default=None)
        iou = 0.0 if best is None else detection.box.iou(labelled[best])
        if best is not None and iou >= MATCH:
            left.discard(best)
            if not ignored[best]:
                pairs.append((detection.score, iou))
        elif not any(ignored[i] and detection.box.iou(labelled[i]) > 0.1 for i in range(len(labelled))):
            pairs.append((detection.score, 0.0))
    return pairs


def measure(heads: Heads, pack: Pack, entries: Iterable[Entry], size: tuple[int, int], limits: Limits) -> Outcome:
    """Find the plates of pictures; those too small in the network's input count neither way."""
    pairs: list[tuple[float, float]] = []
    plates = pictures = 0
    for entry in entries:
        canvas, scale = letterbox(pack.picture(entry), width=size[0], height=size[1])
        found = detections_of(heads(canvas[None])[0], scale, limits)
        labelled = [Box(left=b[0], top=b[1], right=b[2], bottom=b[3]) for b in entry.boxes.tolist()]
        ignored = [box.width * scale < LEAST_WIDTH + 2 for box in labelled]
        pairs += matched(found, labelled, ignored)
        plates += ignored.count(False)
        pictures += 1
    good = [iou for _, iou in pairs if iou]
    return Outcome(
        hits=tuple(score for score, iou in pairs if iou),
        alarms=tuple(score for score, iou in pairs if not iou),
        plates=plates,
        pictures=pictures,
        overlap=float(np.mean(good)) if good else 0.0,
    )


def report(heads: Heads, pack: Pack, size: tuple[int, int], limits: Limits) -> dict[str, Any]:
    """Figures of the held-out pictures, in all and by source."""
    entries = pack.part(held_out=True)
    judged = [entry for entry in entries if entry.source not in LOOSE]
    whole = measure(heads, pack, judged, size, limits)
    rows: dict[str, Any] = {
        "plates": whole.plates,
        "ap": round(whole.average_precision(), 4),
        "iou": round(whole.overlap, 4),
        "scores": [whole.at(score) for score in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)],
    }
    for source in sorted({entry.source for entry in entries}):
        part = measure(heads, pack, [entry for entry in entries if entry.source == source], size, limits)
        rows[source] = {"plates": part.plates, "ap": round(part.average_precision(), 4), **part.at(0.3)}
    return rows


def as_camera_sees(
    picture: NDArray[np.uint8], box: Box, size: tuple[int, int], width: float
) -> tuple[NDArray[np.uint8], Box]:
    """Shrink a picture until the plate is `width` pixels wide, cut the network's input around it: picture and box."""
    scale = width / box.width
    columns, rows = max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale))
    canvas = np.full((max(size[1], rows), max(size[0], columns), 3), PAD, np.uint8)
    canvas[:rows, :columns] = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    x, y = (v * scale for v in box.centre)
    left = int(np.clip(x - size[0] / 2, 0, canvas.shape[1] - size[0]))
    top = int(np.clip(y - size[1] / 2, 0, canvas.shape[0] - size[1]))
    seen = Box(
        left=box.left * scale - left,
        top=box.top * scale - top,
        right=box.right * scale - left,
        bottom=box.bottom * scale - top,
    )
    return np.ascontiguousarray(canvas[top : top + size[1], left : left + size[0]]), seen


def camera_report(heads: Heads, pack: Pack, size: tuple[int, int], limits: Limits) -> list[dict[str, float]]:
    """How many plates of a given width in a 1280-pixel frame are found, by held-out pictures shrunk to that.

    This is what the input size is chosen by: in the letterboxed pictures themselves a larger input shows no more.
    """
    rows = []
    for wide in CAMERA_WIDTHS:
        found = []
        for entry in pack.part(held_out=True):
            if entry.source in LOOSE | SQUARED or not len(entry.boxes):
                continue
            left, top, right, bottom = max(entry.boxes.tolist(), key=lambda b: b[2] - b[0])
            box = Box(left=left, top=top, right=right, bottom=bottom)
            width = wide * size[0] / CAMERA_FRAME
            if width > LEAST_SHRINKING * box.width:
                continue
            picture, seen = as_camera_sees(pack.picture(entry), box, size, width)
            plates = detections_of(heads(picture[None])[0], 1.0, limits)
            found.append(max((plate.box.iou(seen) for plate in plates), default=0.0))
        good = np.array(found)
        row = {"width": wide, "plates": len(good), "found": float((good >= MATCH).mean())}
        rows.append({**row, "missed": float((good < 0.1).mean()), "iou": float(np.median(good))})
    return [{key: round(value, 4) for key, value in row.items()} for row in rows]


def corner_errors(heads: Heads, sampler: Sampler, limits: Limits, count: int) -> dict[str, float]:
    """Distance of straightened corners from composited ones, in plate heights, and how many plates had corners."""
    errors, known = [], 0
    for _ in range(count):
        picture, plates = sampler.draw()
        found = detections_of(heads(picture[None])[0], 1.0, limits)
        for plate in plates:
            if plate.corners is None or plate.ignored:
                continue
            left, top, right, bottom = plate.box.tolist()
            box = Box(left=left, top=top, right=right, bottom=bottom)
            hit = next((d for d in found if d.box.iou(box) >= MATCH), None)
            known += hit is not None
            if hit is not None and hit.quad is not None:
                gaps = np.linalg.norm(np.array(hit.quad.corners) - plate.corners, axis=1)
                errors.append(float(gaps.mean()) / max(1.0, bottom - top))
    return {
        "found": known,
        "with_corners": round(len(errors) / max(1, known), 4),
        "median_error": round(float(np.median(errors)), 4) if errors else -1.0,
        "p90_error": round(float(np.percentile(errors, 90)), 4) if errors else -1.0,
    }
