"""Train the reader beside a wider one that it learns from: `python -m tools.train.reader_distil --data DATA --run RUN`.

Both see the same looks. The wide one (four times the multiplications) learns from the labels alone; the reader, which
begins with kept weights, learns from the labels and, more and more, from what the running average of the wide one
makes of the same look (Hinton 2015): on a plate that is hardly legible that says more than a label does. Made for one
GPU with many processor cores, which only wear the plates down; the node's network and its cost stay as they are.

RUN/last.pt holds the reader's averaged weights, for `reader_extent` and `reader_export`; RUN/wide.npz the wide
one's; RUN/log.jsonl the held-out figures of both. Nothing is resumed: a run is minutes.
"""

import argparse
import copy
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from tools.train import reader_data, reader_train
from tools.train.reader_data import JURISDICTIONS, Image
from tools.train.reader_net import Reader
from tools.train.reader_train import Looks, network_input, weights_of

WIDE_WIDTH, WIDE_MIXERS, WIDE_RATE = 256, 2, 2e-3
SOFTENED = 1.5
"""Temperature at which the two are compared."""
LISTENS_FROM, LISTENS_FULLY = 0.15, 0.35
"""Shares of the time between which the reader turns to the wide one, which has learned something by then."""
LABELS_KEEP = 0.4
"""What is left of the labels' weight then."""
WARM_UP_STEPS, LONGEST_AVERAGE = 200, 0.9995


class Learner:
    """A network, its running average and its optimizer."""

    def __init__(self, network: Reader, rate: float, device: str) -> None:
        """Take the network, the highest learning rate and where to compute."""
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).eval()
        self.rate = rate
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=0.02)

    def learn(self, loss: Tensor, step: int, progress: float) -> None:
        """Take one step; `progress` goes from 0 to 1."""
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (step + 1) / WARM_UP_STEPS) * decay
        self.optimizer.zero_grad()
        loss.backward()
        moved = [weight for weight in self.network.parameters() if weight.grad is not None]
        torch.nn.utils.clip_grad_norm_(moved, 2.0)
        self.optimizer.step()
        keep = min(LONGEST_AVERAGE, (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, its in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
                if mine.is_floating_point():
                    mine.lerp_(its, 1 - keep)


def heads(network: Reader, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits of characters and jurisdiction of pictures [N, 3, 64, 128], computed in half precision."""
    with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
        characters, jurisdiction, _ = network(pixels)
    return characters.float(), jurisdiction.float()


def labelled(characters: Tensor, jurisdiction: Tensor, texts: Tensor, places: Tensor) -> Tensor:
    """Return the loss against the labels, as `reader_train.loss_of` has it."""
    loss = functional.cross_entropy(characters.flatten(0, 1), texts.flatten(), label_smoothing=0.02)
    known = (places != reader_data.IGNORED).sum().clamp(min=1)
    named = functional.cross_entropy(jurisdiction, places, ignore_index=reader_data.IGNORED, reduction="sum")
    return loss + 0.1 * named / known


def against(mine: Tensor, its: Tensor) -> Tensor:
    """Return how far the reader's characters [N, 10, 37] are from the wide one's, both softened (Kullback-Leibler)."""
    apart = functional.kl_div(
        (mine / SOFTENED).log_softmax(-1), (its / SOFTENED).log_softmax(-1), log_target=True, reduction="none"
    )
    return SOFTENED**2 * apart.sum(-1).mean()


def _one_thread(_: int) -> None:
    cv2.setNumThreads(0)


def batches(looks: Looks, options: argparse.Namespace) -> Iterator[Sequence[Tensor]]:
    """Return endless batches on the device, worn down by worker processes."""
    loader: Iterable[Sequence[Tensor]] = DataLoader(
        looks,
        batch_size=options.batch,
        num_workers=options.workers,
        prefetch_factor=4 if options.workers else None,
        worker_init_fn=_one_thread,
    )
    for batch in loader:
        yield [part.to(options.device, non_blocking=True) for part in batch]


def step_of(reader: Learner, wide: Learner, batch: Sequence[Tensor], step: int, progress: float) -> None:
    """Let both learn from a batch."""
    pictures, texts, places = batch
    pixels = network_input(pictures)
    wide.learn(labelled(*heads(wide.network, pixels), texts, places), step, progress)
    listens = min(1.0, max(0.0, (progress - LISTENS_FROM) / (LISTENS_FULLY - LISTENS_FROM)))
    characters, jurisdiction = heads(reader.network, pixels)
    loss = labelled(characters, jurisdiction, texts, places) * (1 - (1 - LABELS_KEEP) * listens)
    if listens:
        with torch.no_grad():
            told, _ = heads(wide.average, pixels)
        loss = loss + listens * against(characters, told)
    reader.learn(loss, step, progress)


def report(run: Path, looks: int, learners: dict[str, Learner], sets: dict[str, tuple[Image, list[str]]]) -> None:
    """Append the exact share of both on each held-out set to the run's log."""
    line: dict[str, object] = {"looks": looks}
    for name, learner in learners.items():
        line[name] = {held: round(reader_train.exact(learner.average, *pair), 4) for held, pair in sets.items()}
    print(json.dumps(line), flush=True)
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


def save(run: Path, reader: Learner, wide: Learner, step: int) -> None:
    """Write the averaged weights of both."""
    weights = {name: value.cpu() for name, value in reader.average.state_dict().items()}
    torch.save({"average": weights, "step": step}, run / "last.part")
    (run / "last.part").replace(run / "last.pt")
    halves = {name: value.cpu().half().numpy() for name, value in wide.average.state_dict().items()}
    np.savez_compressed(run / "wide.npz", **halves)


def parsed() -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=Path("models/training/reader.npz"))
    parser.add_argument("--teacher", type=Path, help="weights that choose between the readings that disagree")
    parser.add_argument("--minutes", type=float, default=7.7)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--synthetic", type=int, default=30000)
    parser.add_argument("--synthetic-share", type=float, default=0.42)
    parser.add_argument("--every", type=float, default=60, help="seconds between checks")
    parser.add_argument("--seed", type=int, default=21)
    return parser.parse_args()


def train(options: argparse.Namespace) -> None:
    """Train until the minutes are used up."""
    torch.manual_seed(options.seed)
    options.run.mkdir(parents=True, exist_ok=True)
    pools, held_out, california = reader_train.load(options)
    sets = reader_train.checks(held_out, california)
    counts = Counter(sample.source for pool in pools for sample in pool.samples)
    (options.run / "counts.json").write_text(json.dumps(counts) + "\n")
    (options.run / "origin.json").write_text(json.dumps(reader_train.origin(options.data, options.seed)) + "\n")
    narrow, broad = Reader(len(JURISDICTIONS)), Reader(len(JURISDICTIONS), WIDE_WIDTH, WIDE_MIXERS)
    narrow.load_state_dict(weights_of(options.start))
    reader, wide = (
        Learner(network, rate, options.device) for network, rate in ((narrow, options.rate), (broad, WIDE_RATE))
    )
    both = {"reader": reader, "wide": wide}
    drawn = batches(Looks(pools, options.seed, reader_train.WORN_AFTER), options)
    began = checked = time.monotonic()
    step = 0
    while (progress := (time.monotonic() - began) / (60 * options.minutes)) < 1:
        step_of(reader, wide, next(drawn), step, progress)
        step += 1
        if time.monotonic() - checked > options.every:
            checked = time.monotonic()
            report(options.run, step * options.batch, both, sets)
            save(options.run, reader, wide, step)
    report(options.run, step * options.batch, both, sets)
    save(options.run, reader, wide, step)


if __name__ == "__main__":
    train(parsed())
