"""Readings whose truth is known: held-out plates and rendered ones, plain and worn.

Plain is the crop that the node would cut; worn is one look of the kind that the reader is trained on, with every one of
them worn down.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from homeplate.domain.plate import PlateReading
from homeplate.ports import PlateReader
from tools.render.plates import DESIGNS, render_plate
from tools.train.reader_data import (
    CALIFORNIA,
    FOREIGN,
    HEIGHT,
    IGNORED,
    JURISDICTIONS,
    STATES,
    UNKNOWN,
    WIDTH,
    Image,
    Random,
    Sample,
    box_corners,
    cut,
    look,
    picture,
    readings,
    stretched,
    upright,
)

SEED: Final = 20_260_731
MARGIN: Final = 0.07
"""What the node adds around a plate, about: `vision.image` adds less across than down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One reading of a known plate.

    Attributes:
        truth: its text; empty where it is not known.
        jurisdiction: `US-CA` and the like, `unknown`, or None where nobody said.
    """

    truth: str = field(repr=False)
    jurisdiction: str | None
    reading: PlateReading

    @property
    def text(self) -> str:
        """What was read; empty for nothing."""
        return self.reading.text.reveal() if self.reading.text else ""


def held_out_samples(data: Path, held_out: frozenset[str]) -> list[Sample]:
    """Return the held-out plates: all of read/ (text "" where no two readings agree), the agreed ones of detect/."""
    samples = []
    for row in map(json.loads, (data / "read/labels.jsonl").read_text().splitlines()):
        if row["path"] in held_out:
            image = picture(data / row["path"])
            samples.append(
                Sample(
                    image=image,
                    corners=box_corners(0, 0, image.shape[1], image.shape[0]),
                    text=next(iter(readings(row, agreed=True)), ""),
                    jurisdiction=JURISDICTIONS.index(STATES[row["state"]]),
                    boxed=False,
                    source="read",
                )
            )
    return samples + _held_out_scenes(data, held_out)


def _held_out_scenes(data: Path, held_out: frozenset[str]) -> list[Sample]:
    labels = map(json.loads, (data / "detect/labels.jsonl").read_text().splitlines())
    boxes = {row["path"]: row["boxes"] for row in labels}
    samples = []
    for row in map(json.loads, (data / "detect/machine_read.jsonl").read_text().splitlines()):
        texts = readings(row, agreed=True)
        if row["path"] in held_out and texts:
            source = row["path"].split("/")[1]
            image, corners = cut(picture(data / row["path"]), boxes[row["path"]][row["box"]])
            place = JURISDICTIONS.index(UNKNOWN) if source in FOREIGN else IGNORED
            samples.append(
                Sample(image=image, corners=corners, text=texts[0], jurisdiction=place, boxed=True, source=source)
            )
    return samples


def californian_crops(data: Path) -> list[Sample]:
    """Return the real Californian crops of eval/, without their texts: they are asked for their jurisdiction alone."""
    samples = []
    for row in map(json.loads, (data / "eval_california_crops.jsonl").read_text().splitlines()):
        image = picture(data / row["path"])
        samples.append(
            Sample(
                image=image,
                corners=box_corners(0, 0, image.shape[1], image.shape[0]),
                text="",
                jurisdiction=JURISDICTIONS.index(CALIFORNIA),
                boxed=False,
                source="eval",
            )
        )
    return samples


def rendered_samples(design: str, count: int) -> list[Sample]:
    """Render plates of a design; they are not those of the training, which draws from other seeds."""
    rng = np.random.default_rng([SEED, list(DESIGNS).index(design)])
    samples = []
    for _ in range(count):
        plate = render_plate(rng, design=design)
        height, width = plate.image.shape[:2]
        # Of a "us" plate's made-up state nobody can say whether it is one of the real ones.
        place = IGNORED if design.startswith("us") else JURISDICTIONS.index(plate.jurisdiction)
        samples.append(
            Sample(
                image=plate.image,
                corners=box_corners(0, 0, width, height),
                text=plate.text,
                jurisdiction=place,
                boxed=False,
                source=design,
            )
        )
    return samples


def read(reader: PlateReader, samples: Sequence[Sample], pictures: Sequence[Image]) -> list[Look]:
    """Read one picture a sample."""
    return [
        Look(
            truth=sample.text,
            jurisdiction=None if sample.jurisdiction == IGNORED else JURISDICTIONS[sample.jurisdiction],
            reading=reading,
        )
        for sample, reading in zip(samples, reader.read(pictures), strict=True)
    ]


def plain(reader: PlateReader, samples: Sequence[Sample]) -> list[Look]:
    """Read the crops that the node would cut."""
    return read(reader, samples, [upright(sample, MARGIN) for sample in samples])


def worn(reader: PlateReader, samples: Sequence[Sample], seed: int) -> list[Look]:
    """Read one worn look at each plate."""
    rng = np.random.default_rng([SEED, seed])
    return read(reader, samples, [look(rng, sample, backdrop(rng, samples), 1.0) for sample in samples])


def backdrop(rng: Random, samples: Sequence[Sample]) -> Image:
    """Return what lies around a plate: a piece of another picture, or a flat colour."""
    if rng.random() < 0.4:
        return np.full((HEIGHT, WIDTH, 3), rng.integers(0, 256, 3), np.uint8)
    return stretched(rng, samples[int(rng.integers(len(samples)))].image)
