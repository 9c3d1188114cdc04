"""Teach the reader where a plate is in its crop: `python -m tools.train.reader_extent --run RUN [--start WEIGHTS]`.

The head alone is trained, on the frozen backbone's maps, so reading stays as it is. Crops are those that the node
would cut (`plate_crop`) around labelled boxes, moved and stretched as a detector's boxes of small plates are; the
pictures are the detector's (`detector prepare`), each shrunk to a width that a camera would show. The weights go back
into RUN/last.pt, where the reader's export finds them; how near the boxes come on the held-out pictures goes to
RUN/extent.json.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection
from homeplate.vision.image import plate_crop, resized
from tools.render.wear import degrade
from tools.train.detector import RUNS
from tools.train.detector_data import SQUARED, Entry, Pack, trust_of
from tools.train.detector_measure import LOOSE, MATCH
from tools.train.reader_data import HEIGHT, JURISDICTIONS, WIDTH, Image
from tools.train.reader_net import MIDDLE, Extent, Reader
from tools.train.reader_train import network_input, weights_of

Random = np.random.Generator

WIDTHS = (36.0, 280.0)
"""Widths of a plate in a camera's frame, in pixels; narrower ones cannot be read."""
FURTHEST = 0.45
"""Crops whose edges are further from the plate's than this share of their sides are not drawn: nobody cuts so."""
LEAST_LABEL = (24.0, 8.0)
"""Smaller plates than this in the labelled picture show nothing to learn from."""
WORN, MIRRORED = 0.6, 0.3
EPOCHS, BATCH, RATE, DECAY = 14, 256, 2e-3, 0.02
EXACT = 0.03
"""Distance of an edge, in the plate's sides, from which the loss grows no faster than the distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Crops [N, 64, 128, 3], where the plate is in each, [N, 4] as shares of its sides, and the label's trust [N]."""

    pictures: Image
    extents: NDArray[np.float32]
    trust: NDArray[np.float32]


def claimed(random: Random, box: Box) -> Box:
    """Return what a detector could have claimed of a plate: seven in ten a little off, the others more."""
    rough = random.random() >= 0.7
    across, down = (0.25, 0.35) if rough else (0.12, 0.2)
    off = (0.12, 0.18) if rough else (0.05, 0.08)
    grown = box.scaled(math.exp(random.normal(0.02, across)), math.exp(random.normal(0.06, down)))
    return grown.moved(random.normal(0, off[0]) * box.width, random.normal(0, off[1]) * box.height)


def surroundings(random: Random, picture: Image, box: Box, stretch: float) -> tuple[Image, Box]:
    """Return a plate and as much again on each side as a camera would show it, and the plate's box in that."""
    left, top = int(max(0, box.left - box.width)), int(max(0, box.top - box.height))
    right, bottom = int(box.right + box.width), int(box.bottom + box.height)
    piece = picture[top:bottom, left:right]
    shrunk = min(1.0, math.exp(random.uniform(*np.log(WIDTHS))) / box.width)
    columns, rows = max(8, round(piece.shape[1] * shrunk)), max(6, round(piece.shape[0] * shrunk / stretch))
    x, y = columns / piece.shape[1], rows / piece.shape[0]
    moved = box.moved(-left, -top)
    seen = Box(left=moved.left * x, top=moved.top * y, right=moved.right * x, bottom=moved.bottom * y)
    piece = np.asarray(cv2.resize(piece, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    if random.random() >= MIRRORED:
        return piece, seen
    turned = Box(left=columns - seen.right, top=seen.top, right=columns - seen.left, bottom=seen.bottom)
    return np.ascontiguousarray(piece[:, ::-1]), turned


def look(random: Random, picture: Image, entry: Entry) -> tuple[Image, list[float], float] | None:
    """Return a crop, where the plate is in it, and the label's trust; None where this draw shows none."""
    label = entry.boxes[int(random.integers(len(entry.boxes)))]
    left, top, right, bottom = (float(v) for v in label)
    box = Box(left=left, top=top, right=right, bottom=bottom)
    if box.width < LEAST_LABEL[0] or box.height < LEAST_LABEL[1]:
        return None
    stretch = random.uniform(1.15, 1.7) if entry.source in SQUARED else 1.0
    piece, seen = surroundings(random, picture, box, stretch)
    crop = plate_crop(piece, Detection(box=claimed(random, seen), score=1.0))
    height, width = crop.image.shape[:2]
    if width < 4 or height < 3:
        return None
    left, top = crop.into_frame[:2, 2]
    inside = seen.moved(-left, -top)
    extent = [inside.left / width, inside.top / height, inside.right / width, inside.bottom / height]
    if np.abs(np.array(extent) - (0, 0, 1, 1)).max() > FURTHEST:
        return None
    return resized(crop.image, width=WIDTH, height=HEIGHT), extent, trust_of(entry.source, label)


def looks(scenes: Pack, count: int, *, held_out: bool, seed: int) -> Looks:
    """Return `count` crops of one side of the split; those to learn from are worn down."""
    random = np.random.default_rng(seed)
    drawn = _drawn(random, scenes, held_out=held_out)
    pictures, extents, trust = zip(*(next(drawn) for _ in range(count)), strict=True)
    return Looks(pictures=np.stack(pictures), extents=np.array(extents, np.float32), trust=np.array(trust, np.float32))


def _drawn(random: Random, scenes: Pack, *, held_out: bool) -> Iterator[tuple[Image, list[float], float]]:
    entries = [e for e in scenes.part(held_out=held_out) if e.source not in LOOSE and len(e.boxes)]
    while True:
        entry = entries[int(random.integers(len(entries)))]
        drawn = look(random, scenes.picture(entry), entry)
        if drawn is None:
            continue
        picture, extent, trust = drawn
        yield degrade(random, picture) if not held_out and random.random() < WORN else picture, extent, trust


def overlap(extents: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU of boxes [N, 4] with others, [N]."""
    low, high = torch.maximum(extents[:, :2], truth[:, :2]), torch.minimum(extents[:, 2:], truth[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) for boxes in (extents, truth)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-6)


def loss_of(extents: Tensor, truth: Tensor) -> Tensor:
    """Return the loss of each box, [N]: what the two do not share, and how far off the edges are, in its sides."""
    sides = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
    gaps = (extents - truth) / sides
    edges = functional.smooth_l1_loss(gaps, torch.zeros_like(gaps), reduction="none", beta=EXACT).sum(1)
    return edges + 1 - overlap(extents, truth)


def maps_of(reader: Reader, pictures: Image) -> Tensor:
    """Return the backbone's maps of crops, half precision."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            part = reader.backbone(network_input(torch.from_numpy(pictures[start : start + BATCH])))
        parts.append(part.contiguous().half())
    return torch.cat(parts)


def learn(head: Extent, maps: Tensor, seen: Looks) -> None:
    """Train the head."""
    truth, trust = torch.from_numpy(seen.extents), torch.from_numpy(seen.trust)
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    steps = math.ceil(len(maps) / BATCH)
    for step in range(EPOCHS * steps):
        if step % steps == 0:
            order = torch.randperm(len(maps))
        share = step / (EPOCHS * steps)
        rate = RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))) * min(1.0, (step + 1) / 40)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = order[step % steps * BATCH :][:BATCH]
        loss = (loss_of(head(maps[chosen].float()), truth[chosen]) * trust[chosen]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def figures(head: Extent, maps: Tensor, seen: Looks) -> dict[str, float]:
    """Return how near boxes come to the labelled ones, in the median and as shares, with the crop's own."""
    with torch.no_grad():
        found = torch.cat([head(part.float()) for part in maps.split(BATCH)])
    truth = torch.from_numpy(seen.extents)
    middle = torch.tensor(MIDDLE).repeat(len(truth), 1)
    rows = {"claimed": overlap(middle, truth), "seen": overlap(found, truth)}
    return {
        f"{name}_{what}": round(float(value), 4)
        for name, ious in rows.items()
        for what, value in (
            ("median", ious.median()),
            ("match", (ious >= MATCH).float().mean()),
            ("close", (ious >= 0.7).float().mean()),
        )
    }


def main() -> None:
    """Train the head and put it into the run's weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights where the run has none yet: a kept .npz")
    parser.add_argument("--cache", type=Path, default=RUNS / "cache", help="folder of the detector's packed pictures")
    parser.add_argument("--looks", type=int, default=60000)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    last = options.run / "last.pt"
    options.run.mkdir(parents=True, exist_ok=True)
    if not last.exists() and options.start is None:
        parser.error(f"there is no {last}: name weights with --start")
    state = torch.load(last, weights_only=True) if last.exists() else {"average": weights_of(options.start), "step": 0}
    reader = Reader(len(JURISDICTIONS))
    fresh = {f"extent.{name}": value for name, value in reader.extent.state_dict().items()}
    reader.load_state_dict(state["average"] | fresh)  # anew each time: the map may have changed under it
    reader.eval()
    scenes = Pack(options.cache, "detect")
    seen = looks(scenes, options.looks, held_out=False, seed=options.seed)
    learn(reader.extent, maps_of(reader, seen.pictures), seen)
    judged = looks(scenes, options.looks // 15, held_out=True, seed=options.seed)
    rows = figures(reader.extent, maps_of(reader, judged.pictures), judged)
    state["average"] = reader.state_dict()
    torch.save(state, last.with_suffix(".part"))
    last.with_suffix(".part").replace(last)
    (options.run / "extent.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
