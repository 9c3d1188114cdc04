"""Pictures for the detector: the packed cache, augmentation, composited plates and the targets a cell.

A sample is a mosaic of one to four pictures, each scaled so that a plate of it comes out at a drawn width, with plate
crops pasted in perspective over some of the plates: those are the only plates whose corners are known. What happens to
a sample afterwards (network, loss) is not decided here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from homeplate.vision.image import PAD
from tools.render.plates import render_plate
from tools.train.split import held_out_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Floats = NDArray[np.float32]

STRIDE = 8
LEAST_WIDTH, LEAST_HEIGHT = 10.0, 4.5
"""Plates smaller than this in the network's input are neither learnt nor held against the network."""
SOURCE_WEIGHT = {"chirag": 0.25, "rhit": 0.6, "openimages": 1.3}
"""How often a picture of a source is drawn; chirag's boxes are loose and many of its pictures are one plate."""
TRUSTED_HEIGHT = 16.0
"""Pixels of height in the labelled picture from which a plate's box is wholly believed."""
CROP_BORDER = 0.965
"""Share of a real plate crop's width and height that is plate; the rest is background around it."""
RENDERED = "synthetic"
HELD_OUT_CACHE = Path("tools/train/runs/split.json")
SQUARED = frozenset({"chirag", "rhit"})
"""Sources whose pictures were stretched to squares: they are drawn wider again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plate:
    """A plate in a picture: box [4] (left, top, right, bottom, pixels), corners [4, 2] clockwise from the top left.

    `trust` weighs its box: labels are drawn to a pixel or two, which is much of a small plate.
    """

    box: Floats
    corners: Floats | None = None
    ignored: bool = False
    trust: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a packed picture lies and what is on it."""

    path: str
    source: str
    offset: int
    height: int
    width: int
    boxes: Floats = field(repr=False)
    held_out: bool


class Pack:
    """All pictures of a set, decoded, in one memory-mapped file."""

    def __init__(self, folder: Path, name: str) -> None:
        rows = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for row in rows:
            row["boxes"] = np.array(row["boxes"], np.float32).reshape(-1, 4)
        self.entries = [Entry(**row) for row in rows]
        self._bytes = np.memmap(folder / f"{name}.u8", np.uint8, "r")

    def picture(self, entry: Entry) -> Picture:
        """The picture [H, W, 3] BGR, read-only."""
        size = entry.height * entry.width * 3
        flat = self._bytes[entry.offset : entry.offset + size]
        return np.asarray(flat.reshape(entry.height, entry.width, 3))

    def part(self, *, held_out: bool) -> list[Entry]:
        """The entries of one side of the split."""
        return [entry for entry in self.entries if entry.held_out == held_out]


def decoded(data: Path, rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Yield rows of a label file with their pictures, marked as held out or not.

    Raises:
        ValueError: a picture that is missing or cannot be decoded.
    """
    held_out = held_out_paths(data, HELD_OUT_CACHE)
    for row in rows:
        picture = cv2.imread(str(data / row["path"]))
        if picture is None:
            message = f"{row['path']}: cannot be decoded; fetch the data again"
            raise ValueError(message)
        yield {**row, "held_out": row["path"] in held_out}, np.asarray(picture, np.uint8)


def rendered(count: int, seed: int) -> Iterator[tuple[dict[str, Any], Picture]]:
    """Yield synthetic plates; the last fifth is held out."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        row = {"path": f"synthetic/{index}", "held_out": index >= count * 4 // 5}
        yield row, render_plate(rng).image


def pack(folder: Path, name: str, pictures: Iterable[tuple[dict[str, Any], Picture]]) -> int:
    """Write pictures into `folder/name.u8` with an index beside it; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    offset = count = 0
    with (folder / f"{name}.u8").open("wb") as blob, (folder / f"{name}.jsonl").open("w") as index:
        for row, picture in pictures:
            height, width = picture.shape[:2]
            entry = {
                "path": row["path"],
                "source": row.get("source", name),
                "offset": offset,
                "height": height,
                "width": width,
                "boxes": row.get("boxes", []),
                "held_out": row["held_out"],
            }
            index.write(json.dumps(entry) + "\n")
            blob.write(picture.tobytes())
            offset += picture.nbytes
            count += 1
    return count


class Sampler:
    """Draws augmented samples of a fixed size; equal seeds draw equal samples."""

    def __init__(
        self,
        scenes: Pack,
        plates: Sequence[Pack],
        size: tuple[int, int],
        *,
        seed: int,
        composites: float = 0.4,
        held_out: bool = False,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._scenes = scenes
        self._size, self._composites = size, composites
        self._entries = [entry for entry in scenes.part(held_out=held_out) if len(entry.boxes)]
        weights = np.array([SOURCE_WEIGHT.get(entry.source, 1.0) for entry in self._entries])
        self._chances = np.cumsum(weights / weights.sum())
        self._plates = [(pack, pack.part(held_out=held_out)) for pack in plates]
        self._noise = self._rng.normal(0, 1, (size[1] * 2, size[0] * 2, 3)).astype(np.float32)

    def draw(self) -> tuple[Picture, list[Plate]]:
        """A picture [H, W, 3] and its plates, in pixels of it."""
        rng, (width, height) = self._rng, self._size
        canvas = np.full((height, width, 3), PAD if rng.random() < 0.6 else rng.integers(0, 256), np.uint8)
        plates: list[Plate] = []
        for cell in _cells(rng, width, height):
            plates += self._fill(canvas, cell)
        if rng.random() < self._composites:
            plates = [self._covered(canvas, plate) if rng.random() < 0.7 else plate for plate in plates]
        if rng.random() < self._composites * 0.5:
            plates += self._added(canvas, plates)
        if rng.random() < 0.3:
            canvas, plates = _mirrored(canvas, plates)
        return _coloured(rng, canvas, self._noise), plates

    def _fill(self, canvas: Picture, cell: tuple[int, int, int, int]) -> list[Plate]:
        rng = self._rng
        entry = self._entries[min(int(np.searchsorted(self._chances, rng.random())), len(self._entries) - 1)]
        picture, boxes = self._scenes.picture(entry), entry.boxes
        left, top, right, bottom = cell
        matrix, shrink = _placement(rng, entry, (right - left, bottom - top))
        if shrink < 1:
            shape = (max(8, round(entry.width * shrink)), max(8, round(entry.height * shrink)))
            picture = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
        fill = int(canvas[0, 0, 0])
        inner = matrix / np.array([shrink, shrink, 1.0])
        canvas[top:bottom, left:right] = cv2.warpAffine(
            picture, inner, (right - left, bottom - top), borderValue=(fill, fill, fill)
        )
        moved = [(box, _moved(box, matrix, cell)) for box in boxes]
        return [replace(plate, trust=trust_of(entry.source, box)) for box, plate in moved if plate is not None]

    def _plate(self) -> tuple[Picture, float, float]:
        """A picture of a plate, its aspect in the world (real crops were squeezed), and how much of it is plate."""
        pack, entries = self._plates[int(self._rng.integers(len(self._plates)))]
        entry = entries[int(self._rng.integers(len(entries)))]
        aspect, border = entry.width / entry.height, 1.0
        if entry.source != RENDERED:
            aspect, border = self._rng.uniform(1.65, 2.3), CROP_BORDER
        return pack.picture(entry), aspect * math.exp(self._rng.normal(0, 0.05)), border

    def _covered(self, canvas: Picture, plate: Plate) -> Plate:
        """The plate with another one pasted over it."""
        left, top, right, bottom = plate.box
        if plate.ignored or right - left < 14:
            return plate
        crop, aspect, border = self._plate()
        wide = float(right - left) * self._rng.uniform(1.0, 1.1)
        quad = _quad(self._rng, wide, aspect, (float(left + right) / 2, float(top + bottom) / 2))
        return self._pasted(canvas, crop, quad, border) or plate

    def _added(self, canvas: Picture, plates: Sequence[Plate]) -> list[Plate]:
        """A plate pasted where there is none, if there is room."""
        rng, (width, height) = self._rng, self._size
        wide = math.exp(rng.normal(math.log(38), 0.5))
        centre = (rng.uniform(wide, max(wide + 1, width - wide)), rng.uniform(wide, max(wide + 1, height - wide)))
        crop, aspect, border = self._plate()
        quad = _quad(rng, wide, aspect, centre)
        low, high = quad.min(0) - 4, quad.max(0) + 4
        for plate in plates:
            if (plate.box[:2] < high).all() and (plate.box[2:] > low).all():
                return []
        made = self._pasted(canvas, crop, quad, border)
        return [made] if made else []

    def _pasted(self, canvas: Picture, crop: Picture, quad: Floats, border: float) -> Plate | None:
        height, width = canvas.shape[:2]
        low, high = np.floor(quad.min(0)).astype(int) - 1, np.ceil(quad.max(0)).astype(int) + 2
        if (low < 0).any() or high[0] > width or high[1] > height:
            return None
        region = canvas[low[1] : high[1], low[0] : high[0]]
        wide = max(16, round(float(np.ptp(quad[:, 0])) * 1.3))
        if wide < crop.shape[1]:
            crop = cv2.resize(
                crop, (wide, max(8, round(float(np.ptp(quad[:, 1])) * 1.3))), interpolation=cv2.INTER_AREA
            )
        ends = np.array([[0, 0], [crop.shape[1], 0], [crop.shape[1], crop.shape[0]], [0, crop.shape[0]]], np.float32)
        matrix = cv2.getPerspectiveTransform(ends - 0.5, (quad - low - 0.5).astype(np.float32))
        shape = (region.shape[1], region.shape[0])
        mask = cv2.warpPerspective(np.full(crop.shape[:2], 255, np.uint8), matrix, shape)[..., None] / np.float32(255)
        gain = float(np.clip((region.mean() + 8) / (crop.mean() + 8), 0.3, 1.3)) ** self._rng.uniform(0.3, 1.0)
        laid = cv2.warpPerspective(crop, matrix, shape, borderMode=cv2.BORDER_REPLICATE) * np.float32(gain)
        region[:] = np.clip(region * (1 - mask) + laid * mask, 0, 255).astype(np.uint8)
        quad = quad.mean(0) + (quad - quad.mean(0)) * np.float32(border)
        box = np.concatenate((quad.min(0), quad.max(0))).astype(np.float32)
        return Plate(box=box, corners=quad.astype(np.float32), ignored=bool(np.ptp(quad[:, 0]) < LEAST_WIDTH))


def _cells(rng: np.random.Generator, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Cut the canvas into one cell, two side by side, or four."""
    chance = rng.random()
    x = int(width * rng.uniform(0.35, 0.65))
    y = int(height * rng.uniform(0.35, 0.65))
    if chance < 0.25:
        return [(0, 0, width, height)]
    if chance < 0.6:
        return [(0, 0, x, height), (x, 0, width, height)]
    return [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]


def _placement(rng: np.random.Generator, entry: Entry, cell: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
    """The affine map of a picture into a cell, and how far to shrink the picture before (against aliasing)."""
    box = entry.boxes[int(rng.integers(len(entry.boxes)))]
    wanted = math.exp(np.clip(rng.normal(math.log(36), 0.6), math.log(11), math.log(220)))
    stretch = rng.uniform(1.15, 1.7) if entry.source in SQUARED else 1.0
    stretch *= math.exp(rng.normal(0, 0.08))
    across = wanted / max(4.0, float(box[2] - box[0]))
    least = 0.65 * max(cell[0] / (entry.width), cell[1] / (entry.height * 1.2)) if rng.random() < 0.85 else 0.0
    across = float(np.clip(across, least, 2.5))
    scale = np.array([across, across / stretch])
    angle = math.radians(float(np.clip(rng.normal(0, 2.0), -6, 6)))
    shear = float(np.clip(rng.normal(0, 0.03), -0.08, 0.08))
    turn = np.array([[math.cos(angle), -math.sin(angle) + shear], [math.sin(angle), math.cos(angle)]])
    linear = turn * scale[None, :]
    middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    if rng.random() < 0.06:
        middle = np.array([rng.uniform(0, entry.width), rng.uniform(0, entry.height)])
    goal = np.array(cell) * rng.uniform(0.06, 0.94, 2)
    shift = goal - linear @ middle
    for axis, extent in enumerate((entry.width * scale[0], entry.height * scale[1])):
        low, high = sorted((0.0, cell[axis] - extent))
        shift[axis] = np.clip(shift[axis], low, high)
    shrink = 1.0 if across > 0.7 or rng.random() < 0.15 else min(1.0, across * 1.25)
    return np.column_stack((linear, shift)), shrink


def trust_of(source: str, box: Floats) -> float:
    """How far a label's box is believed, 0..1."""
    return float(np.clip((box[3] - box[1]) / TRUSTED_HEIGHT, 0.2, 1.0)) * (0.2 if source == "chirag" else 1.0)


def _moved(box: Floats, matrix: NDArray[np.float64], cell: tuple[int, int, int, int]) -> Plate | None:
    """The plate in the canvas; ignored where it is cut off or too small, None where it is out of the cell."""
    left, top, right, bottom = cell
    ends = np.array([[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]], np.float64)
    moved = ends @ matrix[:, :2].T + matrix[:, 2] + (left, top)
    low, high = moved.min(0), moved.max(0)
    seen = np.concatenate((np.maximum(low, (left, top)), np.minimum(high, (right, bottom))))
    size = seen[2:] - seen[:2]
    if (size <= 0).any():
        return None
    visible = float(size.prod() / max(1e-6, (high - low).prod()))
    small = size[0] < LEAST_WIDTH or size[1] < LEAST_HEIGHT
    return Plate(box=seen.astype(np.float32), ignored=bool(visible < 0.7 or small))


def _quad(rng: np.random.Generator, width: float, aspect: float, centre: tuple[float, float]) -> Floats:
    """Corners [4, 2] of a plate seen from a little (one in five: from far) aside, clockwise from the top left."""
    far = 2.0 if rng.random() < 0.2 else 1.0
    quad = np.array([[-1, -1 / aspect], [1, -1 / aspect], [1, 1 / aspect], [-1, 1 / aspect]])
    angle = rng.normal(0, math.radians(5 * far))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    lean = np.array([[1.0, rng.normal(0, 0.1)], [rng.normal(0, 0.07 * far), 1.0]])
    quad = quad @ (turn @ lean).T
    near = float(np.clip(rng.normal(0, 0.05 * far), -0.3, 0.3))
    quad[:, 1] *= 1 + near * np.sign(quad[:, 0])
    quad += rng.normal(0, 0.012, (4, 2))
    quad *= width / np.ptp(quad[:, 0])
    quad += np.array(centre) - (quad.min(0) + quad.max(0)) / 2
    return quad.astype(np.float32)


def _mirrored(canvas: Picture, plates: Sequence[Plate]) -> tuple[Picture, list[Plate]]:
    width = canvas.shape[1]
    turned = []
    for plate in plates:
        left, top, right, bottom = plate.box
        corners = plate.corners
        if corners is not None:
            corners = (corners * (-1, 1) + (width, 0))[[1, 0, 3, 2]].astype(np.float32)
        box = np.array([width - right, top, width - left, bottom], np.float32)
        turned.append(replace(plate, box=box, corners=corners))
    return canvas[:, ::-1], turned


def _coloured(rng: np.random.Generator, canvas: Picture, noise: Floats) -> Picture:
    """Light, colour, blur, noise and compression as cameras have them, by day and by night."""
    picture = np.ascontiguousarray(canvas)
    if rng.random() < 0.15:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    picture = _lit(rng, picture)
    chance = rng.random()
    if chance < 0.12:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.3))
    elif chance < 0.2:
        length = int(rng.integers(2, 5))
        picture = cv2.blur(picture, (length, 1) if rng.random() < 0.7 else (1, length))
    if rng.random() < 0.25:
        height, width = picture.shape[:2]
        y, x = int(rng.integers(height)), int(rng.integers(width))
        grain = noise[y : y + height, x : x + width] * np.float32(rng.uniform(2, 14))
        picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = int(rng.integers(25, 80))
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return picture


def _lit(rng: np.random.Generator, picture: Picture) -> Picture:
    """A tone curve a channel: gamma, contrast, brightness, white balance; one in ten as by night."""
    night = rng.random() < 0.1
    gamma = math.exp(rng.normal(0, 0.25)) * (rng.uniform(1.3, 2.2) if night else 1.0)
    contrast, light = math.exp(rng.normal(0, 0.2)), rng.normal(0, 0.08) - (0.08 if night else 0.0)
    ramp = np.linspace(0, 1, 256) ** gamma
    tint = np.exp(rng.normal(0, 0.08, 3))
    curves = ((ramp[:, None] - 0.5) * contrast + 0.5 + light) * tint * 255
    table = np.clip(curves, 0, 255).astype(np.uint8)[None]
    return cv2.LUT(picture, table)


def targets(plates: Sequence[Plate], size: tuple[int, int]) -> dict[str, Floats]:
    """What each cell of the stride-8 grid has to say; see `detector_net.loss_of` for the arrays."""
    columns, rows = size[0] // STRIDE, size[1] // STRIDE
    out = {
        "heat": np.zeros((rows, columns), np.float32),
        "near": np.zeros((rows, columns), np.float32),
        "weight": np.zeros((rows, columns), np.float32),
        "box": np.zeros((4, rows, columns), np.float32),
        "corners": np.zeros((8, rows, columns), np.float32),
        "corner_weight": np.zeros((rows, columns), np.float32),
    }
    for plate in plates:
        if plate.ignored:
            left, top, right, bottom = (plate.box / STRIDE).astype(int)
            region = out["heat"][top : bottom + 1, left : right + 1]
            region[region < 1] = -1
    for plate in plates:
        if not plate.ignored:
            _mark(out, plate, columns, rows)
    return out


def _mark(out: dict[str, Floats], plate: Plate, columns: int, rows: int) -> None:
    low, high = plate.box[:2], plate.box[2:]
    middle, size = (low + high) / 2, high - low
    spread = np.maximum(size / STRIDE * 0.17, 0.45)
    x = (np.arange(columns) + 0.5 - middle[0] / STRIDE) / spread[0]
    y = (np.arange(rows) + 0.5 - middle[1] / STRIDE) / spread[1]
    bell = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2)).astype(np.float32)
    column, row = np.minimum((middle / STRIDE).astype(int), (columns - 1, rows - 1))
    bell[row, column] = 1.0
    out["heat"] = np.where((out["heat"] < 0) & (bell < 0.2), out["heat"], np.maximum(out["heat"], bell))
    near = (bell > 0.25) & (bell > out["near"])
    out["near"][near] = bell[near]
    out["weight"][near] = bell[near] * plate.trust
    out["box"][:, near] = plate.box[:, None]
    known = 0.0
    if plate.corners is not None:
        fractions = (plate.corners - low) / size
        out["corners"][:, near] = fractions.reshape(8, 1)
        known = 1.0
    out["corner_weight"][near] = bell[near] * known
