"""Train the reader: `python -m tools.train.reader_train --data DATA --run RUN --minutes N`.

The schedule follows the time spent training, not the steps, since the machine is shared. Everything to go on with is in
RUN/last.pt (written every `--every` seconds, resumed when it exists); RUN/log.jsonl has a line for each check and
RUN/counts.json says how many pictures of each source were learned from, RUN/origin.json with which seed and data.
Weights are judged on the held-out split only: plain looks, looks worn down with a fixed seed, and synthetic
Californian plates.
"""

import argparse
import copy
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tools.train import reader_data, synthetic
from tools.train.reader_data import ALPHABET, HEIGHT, JURISDICTIONS, WIDTH, Image, Sample
from tools.train.reader_net import Reader
from tools.train.split import data_sha256, held_out_paths

CHECK_MARGIN = 0.07
"""Margin of the plain looks at the held-out plates."""
WORN_AFTER = 150_000
"""Looks after which nearly all are worn down; the first are mostly clean, so that reading order is learned first."""
BACKGROUND_PIECES, BACKGROUND_SHARE = 2000, 0.03
"""Pieces of scenes without a plate, and how often one comes up: a detector's false alarm should read as nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Samples that are drawn from with one probability."""

    name: str
    share: float
    samples: Sequence[Sample]
    weights: np.ndarray


def pool(name: str, share: float, samples: Sequence[Sample]) -> Pool:
    """Return a pool in which seven-character texts (California's passenger form) come up more often."""
    weights = np.array([2.0 if len(sample.text) == 7 else 1.0 for sample in samples])
    return Pool(name=name, share=share, samples=samples, weights=np.cumsum(weights / weights.sum()))


class Looks(IterableDataset):
    """An endless stream of worn-down looks, each (picture, ten classes, jurisdiction)."""

    def __init__(self, pools: Sequence[Pool], seed: int, start: int) -> None:
        """Take what to draw from, the seed of the stream and how many looks were taken before."""
        self.pools, self.seed, self.start = pools, seed, start

    def __iter__(self) -> Iterator[tuple[Image, np.ndarray, int]]:
        """Yield looks forever; each worker process has a stream of its own."""
        worker = get_worker_info()
        random = np.random.default_rng(self.seed + 7919 * (worker.id if worker else 0))
        shares = np.cumsum([pool.share for pool in self.pools])
        shares /= shares[-1]
        backdrop = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        for count in itertools.count(self.start):
            chosen = self.pools[int(np.searchsorted(shares, random.random()))]
            index = min(int(np.searchsorted(chosen.weights, random.random())), len(chosen.samples) - 1)
            sample = chosen.samples[index]
            image = reader_data.look(random, sample, backdrop, min(0.9, 0.2 + count / WORN_AFTER))
            backdrop = _next_backdrop(random, sample)
            yield image, reader_data.encode(sample.text), sample.jurisdiction


def _next_backdrop(random: np.random.Generator, sample: Sample) -> Image:
    """Return what surrounds the next plate: a strongly blown-up corner of this sample's picture, or a flat colour."""
    if random.random() < 0.4:
        return np.full((HEIGHT, WIDTH, 3), random.integers(0, 256, 3), np.uint8)
    return reader_data.stretched(random, sample.image)


def network_input(pictures: Tensor) -> Tensor:
    """Map pictures [N, H, W, 3] uint8 to the network's input, [N, 3, H, W] of about zero mean and unit deviation."""
    return ((pictures.permute(0, 3, 1, 2).float() - 128) / 64).contiguous(memory_format=torch.channels_last)


def loss_of(model: Reader, batch: Sequence[Tensor]) -> Tensor:
    """Return the training loss of a batch: cross entropy a slot, and a little of the jurisdiction's."""
    pictures, texts, places = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        characters, jurisdiction, _ = model(network_input(pictures))
    loss = functional.cross_entropy(characters.float().flatten(0, 1), texts.flatten(), label_smoothing=0.02)
    if (places != reader_data.IGNORED).any():
        loss = loss + 0.1 * functional.cross_entropy(jurisdiction.float(), places, ignore_index=reader_data.IGNORED)
    return loss


def texts_of(model: Reader, pictures: Image) -> list[str]:
    """Return what the model reads in pictures [N, H, W, 3]."""
    model.eval()
    texts: list[str] = []
    for start in range(0, len(pictures), 128):
        part = torch.from_numpy(pictures[start : start + 128]).to(model.places.device)
        with torch.no_grad(), torch.autocast(part.device.type, dtype=torch.bfloat16):
            classes = model(network_input(part))[0].argmax(-1)
        texts += ["".join(ALPHABET[index] for index in row).rstrip("_") for row in classes.tolist()]
    return texts


def exact(model: Reader, pictures: Image, texts: Sequence[str]) -> float:
    """Return the share of pictures [N, H, W, 3] whose ten slots are all right."""
    right = [read == text for read, text in zip(texts_of(model, pictures), texts, strict=True)]
    return sum(right) / len(right)


def checks(held_out: Sequence[Sample], california: Sequence[Sample]) -> dict[str, tuple[Image, list[str]]]:
    """Return the held-out sets by name: pictures and texts."""
    random = np.random.default_rng(7)
    backdrop = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    plain = {
        "read": [sample for sample in held_out if sample.source == "read"],
        "detect": [sample for sample in held_out if sample.source != "read"],
    }
    sets = {
        name: (np.stack([reader_data.upright(sample, CHECK_MARGIN) for sample in samples]), [s.text for s in samples])
        for name, samples in plain.items()
    }
    for name, samples in (("worn", held_out), ("california", california)):
        pictures = np.stack([reader_data.look(random, sample, backdrop) for sample in samples])
        sets[name] = (pictures, [sample.text for sample in samples])
    return sets


class Course:
    """Weights, their running average, the optimizer, and how far the training is."""

    def __init__(self, rate: float, minutes: float) -> None:
        """Take the highest learning rate and how long the training lasts, all resumptions together."""
        self.rate, self.minutes = rate, minutes
        self.model = Reader(len(JURISDICTIONS)).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.02)
        self.step, self.spent, self.loss = 0, 0.0, 0.0

    @property
    def progress(self) -> float:
        """How much of the time is used up, from 0 to 1."""
        return self.spent / (60 * self.minutes)

    def learn(self, batch: Sequence[Tensor], seconds: float) -> None:
        """Take one step; `seconds` have passed since the last."""
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / 300) * decay
        loss = loss_of(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 2.0)
        self.optimizer.step()
        self.step, self.spent = self.step + 1, self.spent + seconds
        self.loss += (loss.item() - self.loss) * (0.02 if self.loss else 1)
        self._average()

    def _average(self) -> None:
        keep = min(0.9985, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, its in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(its, 1 - keep)
                else:
                    mine.copy_(its)

    def save(self, path: Path) -> None:
        """Write a checkpoint that replaces the last one whole."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        torch.save(parts | {"step": self.step, "spent": self.spent}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def resume(self, path: Path) -> None:
        """Go on where a checkpoint was written."""
        state = torch.load(path, weights_only=True)
        for name in ("model", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.spent = state["step"], state["spent"]

    def begin_with(self, path: Path) -> None:
        """Take the averaged weights of another training."""
        weights = weights_of(path)
        self.model.load_state_dict(weights)
        self.average.load_state_dict(weights)


def weights_of(path: Path) -> dict[str, Tensor]:
    """Return the averaged weights of a checkpoint, or of an .npz that the export keeps beside the model."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name], np.float32)) for name in arrays.files}
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)["average"]
    return weights


def parsed() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True, help="of training, all resumptions together")
    parser.add_argument("--start", type=Path, help="weights to begin with: another run's last.pt or a kept .npz")
    parser.add_argument("--teacher", type=Path, help="weights that choose between the readings that disagree")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--synthetic", type=int, default=15000, help="how many synthetic plates to render beforehand")
    parser.add_argument("--synthetic-share", type=float, default=0.4)
    parser.add_argument("--every", type=float, default=300, help="seconds between checks")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def load(options: argparse.Namespace) -> tuple[list[Pool], list[Sample], list[Sample]]:
    """Return the training pools, the held-out samples, and rendered Californian ones."""
    held_out = held_out_paths(options.data, options.run.parent / "split.json")
    read, detect = reader_data.read_samples(options.data), reader_data.detect_samples(options.data)
    kept = [sample for path, sample in (*read, *detect) if path in held_out]
    if options.teacher:
        read += adopted(options.teacher, reader_data.read_samples(options.data, agreed=False))
        detect += adopted(options.teacher, reader_data.detect_samples(options.data, agreed=False))
    taken = synthetic.material(options.data)
    rendered = synthetic.samples(options.seed, options.synthetic, taken)
    random = np.random.default_rng(options.seed)
    empty = reader_data.background_samples(random, options.data, BACKGROUND_PIECES)
    pools = [
        pool("read", 0.55 * (1 - options.synthetic_share), [s for path, s in read if path not in held_out]),
        pool("detect", 0.45 * (1 - options.synthetic_share), [s for path, s in detect if path not in held_out]),
        pool("synthetic", options.synthetic_share, rendered),
        pool("background", BACKGROUND_SHARE, [s for path, s in empty if path not in held_out]),
    ]
    return pools, kept, synthetic.californian(999, 500, taken)


def adopted(teacher: Path, disputed: Sequence[tuple[str, Sample]]) -> list[tuple[str, Sample]]:
    """Return the samples whose text a trained reader reads too; each disputed plate comes once for each reading."""
    model = Reader(len(JURISDICTIONS))
    model.load_state_dict(weights_of(teacher))
    pictures = np.stack([reader_data.upright(sample, CHECK_MARGIN) for _, sample in disputed])
    texts = texts_of(model, pictures)
    return [pair for pair, text in zip(disputed, texts, strict=True) if pair[1].text == text]


def origin(data: Path, seed: int) -> dict[str, object]:
    """Return what a second training needs to be the same: the seed of the last run, and a hash of its data."""
    return {"seed": seed, "data_sha256": data_sha256(data)}


def train(options: argparse.Namespace) -> None:
    """Train until the minutes are used up."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.run.mkdir(parents=True, exist_ok=True)
    pools, held_out, california = load(options)
    sets = checks(held_out, california)
    counts = Counter(sample.source for pool in pools for sample in pool.samples)
    (options.run / "counts.json").write_text(json.dumps(counts) + "\n")
    (options.run / "origin.json").write_text(json.dumps(origin(options.data, options.seed)) + "\n")
    print(json.dumps({p.name: len(p.samples) for p in pools} | {n: len(s[1]) for n, s in sets.items()}), flush=True)
    course, last = Course(options.rate, options.minutes), options.run / "last.pt"
    if last.exists():
        course.resume(last)
    elif options.start:
        course.begin_with(options.start)
    stream = Looks(pools, options.seed + course.step, WORN_AFTER if options.start else course.step * options.batch)
    looks = iter(DataLoader(stream, batch_size=options.batch, num_workers=1, prefetch_factor=8))
    checked = now = time.monotonic()
    while course.progress < 1:
        before, now = now, time.monotonic()
        course.learn(next(looks), now - before)
        if now - checked > options.every or course.progress >= 1:
            report(options.run, course, sets)
            course.save(last)
            checked = now


def report(run: Path, course: Course, sets: dict[str, tuple[Image, list[str]]]) -> None:
    """Append how far the training is and the exact share on each held-out set to the run's log."""
    line = {"step": course.step, "progress": round(course.progress, 4), "loss": round(course.loss, 4)}
    line |= {name: round(exact(course.average, *pictures), 4) for name, pictures in sets.items()}
    print(json.dumps(line), flush=True)
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    train(parsed())
