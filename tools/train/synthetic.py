"""Synthetic plates as training samples: `tools.render.plates`, and at times the die pictures of synth/glyphs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tools.render import plates
from tools.render.glyphs import Mask
from tools.train.reader_data import (
    CALIFORNIA,
    JURISDICTIONS,
    KEPT_WIDTH,
    UNKNOWN,
    Sample,
    box_corners,
    shrunk,
)


def vanity_texts(data: Path) -> list[str]:
    """Return the vanity strings that people asked for, as a reader would say them."""
    lines = (data / "synth/california_vanity.txt").read_text(errors="replace").splitlines()
    cleaned = {re.sub("[^A-Z0-9]", "", line.upper()) for line in lines}
    return sorted(text for text in cleaned if 2 <= len(text) <= 7)


def die_pictures(data: Path) -> dict[str, Mask]:
    """Return the coverage of each letter of synth/glyphs, cut from the rows of letters at their white gaps.

    Raises:
        ValueError: a row does not have as many letters as it should.
    """
    found: dict[str, Mask] = {}
    rows = ("letters-1", "ABCDEFGHIJ"), ("letters-2", "KLMNOPQRST"), ("letters-3", "UVWXYZ"), ("numbers", "0123456789")
    for name, letters in rows:
        picture = np.asarray(cv2.imread(str(data / f"synth/glyphs/{name} image.png"), cv2.IMREAD_GRAYSCALE), np.uint8)
        dark = (picture < 128).any(axis=0).astype(np.int8)
        edges = np.flatnonzero(np.diff(dark, prepend=0, append=0)).reshape(-1, 2)
        if len(edges) != len(letters):
            raise ValueError(f"{name}: {len(edges)} letters instead of {len(letters)}; fetch synth/glyphs again")
        for letter, (left, right) in zip(letters, edges, strict=True):
            piece = picture[:, left:right]
            lines = np.flatnonzero((piece < 128).any(axis=1))
            found[letter] = (255 - piece[lines[0] : lines[-1] + 1]).astype(np.float32) / np.float32(255)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What the renderer takes from the training data: vanity texts and die pictures."""

    vanity: Sequence[str]
    dies: Mapping[str, Mask]


def material(data: Path) -> Material:
    """Read vanity texts and die pictures from the training data."""
    return Material(vanity=vanity_texts(data), dies=die_pictures(data))


def samples(seed: int, count: int, taken: Material) -> list[Sample]:
    """Render `count` plates of all designs; texts of vanity designs and some faces come from `taken`."""
    random = np.random.default_rng(seed)
    names = list(plates.DESIGNS)
    weights = np.array([weight for weight, _, _ in plates.DESIGNS.values()])
    drawn = random.choice(len(names), size=count, p=weights / weights.sum())
    return [_sample(random, names[int(index)], taken) for index in drawn]


def californian(seed: int, count: int, taken: Material) -> list[Sample]:
    """Render `count` Californian plates, of all designs alike."""
    random = np.random.default_rng(seed)
    return [_sample(random, plates.CALIFORNIAN[i % len(plates.CALIFORNIAN)], taken) for i in range(count)]


def _sample(random: np.random.Generator, design: str, taken: Material) -> Sample:
    text = (
        str(random.choice(taken.vanity)) if design.endswith(("vanity", "special")) and random.random() < 0.6 else None
    )
    dies = taken.dies if design in plates.CALIFORNIAN and random.random() < 0.35 else None
    plate = plates.render_plate(random, text=text, design=design, pictures=dies)
    # The made-up states are `unknown` and not left out of the loss: else all that is rendered would look Californian.
    jurisdiction = JURISDICTIONS.index(CALIFORNIA if plate.jurisdiction == CALIFORNIA else UNKNOWN)
    image = shrunk(plate.image, KEPT_WIDTH / plate.image.shape[1])
    height, width = image.shape[:2]
    return Sample(
        image=image,
        corners=box_corners(0, 0, width, height),
        text=plate.text,
        jurisdiction=jurisdiction,
        boxed=False,
        source="synthetic",
    )
