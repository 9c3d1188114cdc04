"""Train, measure and quantise the plate detector.

`python -m tools.train.detector prepare|train|validate|keep|quantise`, as in models/MODEL_CARD.md.

Each verb is one command and picks up where it was stopped. Thresholds, stops and choices come from the held-out fifth
of the training pictures (`tools.train.split`); the evaluation sets are only ever reported on, by `tools.evaluate`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from homeplate.vision.detector import Limits
from homeplate.vision.image import letterbox
from tools.train.detector_data import RENDERED, Pack, Sampler, decoded, pack, rendered, targets
from tools.train.detector_export import quantise, session_heads
from tools.train.detector_measure import LEAST_SCORE, camera_report, corner_errors, report
from tools.train.detector_net import PlateNet, loss_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from tools.train.detector_measure import Heads

RUNS = Path("tools/train/runs")
BATCH = 24
CALIBRATION = 100
"""Pictures to calibrate on, of each kind."""
PLATES = 6000
"""Synthetic plates to render."""
INPUT = (512, 288)
"""Width and height of the node's input; `validate` shows why (`cameras`)."""
WARM_UP = 200
"""Steps."""
LOG_EVERY, SAVE_EVERY = 50, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training run: pictures' size (width, height), time to spend, peak learning rate.

    The schedule follows the time, not the steps: the machine is shared, and nobody knows how many steps fit.
    """

    size: tuple[int, int]
    seconds: float
    rate: float


def prepare(arguments: argparse.Namespace) -> None:
    """Decode the scenes and the plate crops once, and render synthetic plates."""
    data: Path = arguments.data
    for name in ("detect", "read"):
        lines = (data / name / "labels.jsonl").read_text().splitlines()
        count = pack(arguments.cache, name, decoded(data, map(json.loads, lines)))
        print(f"{name}: {count} pictures packed in {arguments.cache}")
    print(f"synthetic: {pack(arguments.cache, RENDERED, rendered(PLATES, seed=0))} plates rendered")


def _packs(cache: Path) -> tuple[Pack, list[Pack]]:
    """Scenes, and the plates that are pasted into them."""
    return Pack(cache, "detect"), [Pack(cache, "read"), Pack(cache, RENDERED)]


class _Stream(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
    """Batches without end, made in a worker process."""

    def __init__(self, cache: Path, size: tuple[int, int], seed: int, teacher: Path | None) -> None:
        self._cache, self._size, self._seed, self._teacher = cache, size, seed, teacher

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        torch.set_num_threads(1)
        scenes, plates = _packs(self._cache)
        sampler = Sampler(scenes, plates, self._size, seed=self._seed)
        taught = _exported(self._teacher) if self._teacher else None
        while True:
            pictures, marks = [], []
            for _ in range(BATCH):
                picture, shown = sampler.draw()
                pictures.append(picture)
                marks.append(targets(shown, self._size))
            batch = {key: torch.from_numpy(np.stack([mark[key] for mark in marks])) for key in marks[0]}
            batch["picture"] = torch.from_numpy(np.stack(pictures))
            if taught is not None:
                batch["taught"] = torch.from_numpy(np.concatenate([taught(picture[None]) for picture in pictures]))
            yield batch


def as_input(pictures: torch.Tensor) -> torch.Tensor:
    """uint8 [N, H, W, 3] to the network's [N, 3, H, W] in -1..1, channels last in memory."""
    return (pictures.permute(0, 3, 1, 2).float() - 128) / 128


def _rate(step: int, spent: float, plan: Plan) -> float:
    """Warm-up over the first steps, then a cosine over the time down to a hundredth."""
    turn = min(1.0, spent / plan.seconds)
    rate = plan.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * turn)))
    return rate * min(1.0, (step + 1) / WARM_UP)


def _average(mean: PlateNet, net: PlateNet, step: int) -> None:
    """Exponential moving average of the weights; statistics of batch norm are copied with the same decay."""
    decay = min(0.998, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, new in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def train(arguments: argparse.Namespace) -> None:
    """Train on augmented samples; `last.pt` resumes, the log has one JSON line every fifty steps."""
    torch.set_num_threads(1)
    folder = RUNS / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(size=arguments.size, seconds=60.0 * arguments.minutes, rate=arguments.rate)
    run = Run(folder / "last.pt", plan, arguments.start)
    stream = _Stream(arguments.cache, plan.size, seed=arguments.seed + run.step, teacher=arguments.teacher)
    loader = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=6))
    sums: dict[str, float] = {}
    since = time.perf_counter()
    while run.spent < plan.seconds:
        for key, value in run.advance(next(loader)).items():
            sums[key] = sums.get(key, 0.0) + value / LOG_EVERY
        if run.step % LOG_EVERY == 0:
            speed = LOG_EVERY * BATCH / (time.perf_counter() - since)
            _log(folder, {"step": run.step, "minutes": run.spent / 60, "pictures_s": speed, **sums})
            sums, since = {}, time.perf_counter()
        if run.step % SAVE_EVERY == 0:
            run.save()
    run.save()


class Run:
    """Weights, their moving average and the optimiser, from where they were left."""

    def __init__(self, path: Path, plan: Plan, start: Path | None) -> None:
        self._path, self._plan = path, plan
        self._net, self._mean = PlateNet().to(memory_format=torch.channels_last), PlateNet()
        if start:
            self._net.load_state_dict(weights_of(start))
        self._mean.load_state_dict(self._net.state_dict())
        self._optimiser = torch.optim.AdamW(self._net.parameters(), lr=plan.rate, weight_decay=0.02)
        self.step, self.spent = 0, 0.0
        if path.exists():
            state = torch.load(path)
            self._net.load_state_dict(state["net"])
            self._mean.load_state_dict(state["mean"])
            self._optimiser.load_state_dict(state["optimiser"])
            self.step, self.spent = state["step"], state["spent"]
        self._since = time.perf_counter()

    def advance(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Learn from one batch; the terms of the loss."""
        losses = _step(self._net, self._optimiser, batch, _rate(self.step, self.spent, self._plan))
        self.step += 1
        _average(self._mean, self._net, self.step)
        now = time.perf_counter()
        self.spent += now - self._since
        self._since = now
        return losses

    def save(self) -> None:
        """Write everything that is needed to go on, whole or not at all."""
        fresh = self._path.with_suffix(".new")
        state = {
            "net": self._net.state_dict(),
            "mean": self._mean.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
            "spent": self.spent,
        }
        torch.save(state, fresh)
        fresh.replace(self._path)


def _step(net: PlateNet, optimiser: torch.optim.AdamW, batch: dict[str, torch.Tensor], rate: float) -> dict[str, float]:
    for group in optimiser.param_groups:
        group["lr"] = rate
    net.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = net(as_input(batch["picture"]))
    losses = loss_of(raw, batch)
    optimiser.zero_grad()
    losses["total"].backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimiser.step()
    return {key: float(value.detach()) for key, value in losses.items()}


def _log(folder: Path, row: dict[str, Any]) -> None:
    line = json.dumps({key: round(value, 5) for key, value in row.items()})
    with (folder / "log.jsonl").open("a") as log:
        log.write(line + "\n")
    print(line, flush=True)


def validate(arguments: argparse.Namespace) -> None:
    """Print figures of the held-out pictures for a checkpoint (in float) or an exported model (as it will run)."""
    torch.set_num_threads(1)
    drawn_in = {"across": arguments.across, "down": arguments.down}
    limits = Limits(score=LEAST_SCORE, overlap=arguments.overlap, corners=arguments.corners, **drawn_in)
    scenes, plates = _packs(arguments.cache)
    heads = _exported(arguments.model) if arguments.model.suffix == ".onnx" else _trained(arguments.model)
    figures = report(heads, scenes, arguments.size, limits)
    sampler = Sampler(scenes, plates, arguments.size, seed=1, composites=1.0, held_out=True)
    judged = Limits(score=arguments.score, overlap=arguments.overlap, corners=arguments.corners, **drawn_in)
    figures["corners"] = corner_errors(heads, sampler, judged, 300)
    figures["cameras"] = camera_report(heads, scenes, arguments.size, judged)
    for key, value in figures.items():
        for row in value if isinstance(value, list) else [value]:
            print(key, row)


def _trained(path: Path) -> Heads:
    net = PlateNet()
    net.load_state_dict(weights_of(path))
    net.eval().to(memory_format=torch.channels_last)

    def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            return np.asarray(net(as_input(torch.from_numpy(batch))).float().numpy())

    return run


def _exported(path: Path) -> Heads:
    session = session_heads(path)
    return lambda batch: np.asarray(session.run(None, {"image": batch})[0])


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The averaged weights of a run's last.pt, or of an .npz that `keep` wrote."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name], np.float32)) for name in arrays.files}
    weights: dict[str, torch.Tensor] = torch.load(path)["mean"]
    return weights


def keep(arguments: argparse.Namespace) -> None:
    """Write the averaged weights in half precision, small enough to be kept beside the model for the next run."""
    weights = weights_of(arguments.weights)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    halves = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    np.savez_compressed(arguments.out, **{name: value.numpy() for name, value in halves.items()})
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


def export(arguments: argparse.Namespace) -> None:
    """Quantise a checkpoint with pictures of the training part: as they are, letterboxed, and augmented."""
    net = PlateNet()
    net.load_state_dict(weights_of(arguments.weights))
    scenes, plates = _packs(arguments.cache)
    chosen = np.random.default_rng(0).permutation(np.array(scenes.part(held_out=False), object))[:CALIBRATION]
    width, height = arguments.size
    pictures = [letterbox(scenes.picture(entry), width=width, height=height)[0] for entry in chosen]
    sampler = Sampler(scenes, plates, arguments.size, seed=2)
    pictures += [sampler.draw()[0] for _ in range(CALIBRATION)]
    quantise(net, arguments.size, pictures, arguments.out, everything=arguments.everything)
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    if width % 32 or height % 32:
        message = f"{text}: width and height are multiples of 32"
        raise argparse.ArgumentTypeError(message)
    return width, height


def main() -> None:
    """Parse the verb and run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=RUNS / "cache", help="folder of the packed pictures")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("prepare", help="decode the pictures once")
    verb.add_argument("--data", type=Path, required=True)
    verb.set_defaults(run=prepare)
    verb = verbs.add_parser("train", help="train or resume a run")
    verb.add_argument("--name", default="detector")
    verb.add_argument("--size", type=_size, default=INPUT)
    verb.add_argument("--minutes", type=float, default=60, help="to spend in all, over all resumptions")
    verb.add_argument("--rate", type=float, default=2e-3)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--start", type=Path, help="weights to start from, a last.pt of another run or a kept .npz")
    verb.add_argument("--teacher", type=Path, help="an exported .onnx of the same --size to learn from as well")
    verb.set_defaults(run=train)
    verb = verbs.add_parser("validate", help="measure on the held-out pictures")
    verb.add_argument("model", type=Path, help="a last.pt, or an exported .onnx")
    verb.add_argument("--size", type=_size, default=INPUT)
    verb.add_argument("--score", type=float, default=0.35)
    verb.add_argument("--overlap", type=float, default=0.4)
    verb.add_argument("--corners", type=float, default=0.2)
    verb.add_argument("--across", type=float, default=1.0, help="as in the manifest's thresholds")
    verb.add_argument("--down", type=float, default=1.0)
    verb.set_defaults(run=validate)
    verb = verbs.add_parser("keep", help="write the weights from which a later run can start")
    verb.add_argument("weights", type=Path, help="a last.pt")
    verb.add_argument("--out", type=Path, default=Path("models/training/detector.npz"))
    verb.set_defaults(run=keep)
    verb = verbs.add_parser("quantise", help="make the node's int8 model")
    verb.add_argument("weights", type=Path, help="a last.pt")
    verb.add_argument("--size", type=_size, default=INPUT)
    verb.add_argument("--out", type=Path, default=Path("models/detector.onnx"))
    verb.add_argument("--everything", action="store_true", help="the last layer too, to measure what it is worth")
    verb.set_defaults(run=export)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
