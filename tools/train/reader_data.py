"""What the reader trains on: plate crops with their texts, and how they are worn down before each look.

A `Sample` is a picture with the plate's four corners in it, so that one perspective warp makes the crop that the node
would cut (the bounding box of a tilted plate and some margin, stretched to the network's input). Real crops come from
pictures whose two public machine readings agree; synthetic ones from `tools.render.plates`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.render.wear import degrade

Image = NDArray[np.uint8]
Random = np.random.Generator

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
"""Classes of a slot, in order; the last is padding."""
SLOTS = 10
HEIGHT, WIDTH = 64, 128
"""Input size in pixels."""
IGNORED = -100
"""Jurisdiction target of a plate that may or may not be a US one; the loss skips it."""
UNKNOWN = "unknown"
FOREIGN = ("faisalthaheem", "robertlucian", "chirag")
"""Sources of detect/ whose plates are not US ones: their jurisdiction is `unknown`."""
STATES = {
    "Alabama": "US-AL", "Alaska": "US-AK", "American Samoa": "US-AS", "Arizona": "US-AZ", "Arkansas": "US-AR",
    "Cnmi": "US-MP", "Colorado": "US-CO", "Connecticut": "US-CT", "Delaware": "US-DE", "Florida": "US-FL",
    "Georgia": "US-GA", "Guam": "US-GU", "Hawai": "US-HI", "Idaho": "US-ID", "Illinois": "US-IL", "Indiana": "US-IN",
    "Iowa": "US-IA", "Kansas": "US-KS", "Kentucky": "US-KY", "Louisiana": "US-LA", "Maine": "US-ME",
    "Maryland": "US-MD", "Massachusetts": "US-MA", "Michigan": "US-MI", "Minnesota": "US-MN", "Missippi": "US-MS",
    "Missouri": "US-MO", "Montana": "US-MT", "Nebraska": "US-NE", "Nevada": "US-NV", "New Hampshire": "US-NH",
    "New Jersey": "US-NJ", "New Mexico": "US-NM", "New York": "US-NY", "North Carolina": "US-NC",
    "North Dakota": "US-ND", "Ohio": "US-OH", "Oklahoma": "US-OK", "Oregon": "US-OR", "Pennsylvania": "US-PA",
    "Puerto Rico": "US-PR", "Rhode Island": "US-RI", "South Carolina": "US-SC", "South Dakota": "US-SD",
    "Tennessee": "US-TN", "Texas": "US-TX", "U S Virgin Islands": "US-VI", "Utah": "US-UT", "Vermont": "US-VT",
    "Virginia": "US-VA", "Washington": "US-WA", "Washington Dc": "US-DC", "West Virginia": "US-WV",
    "Wisconsin": "US-WI", "Wyoming": "US-WY",
}  # fmt: skip
"""ISO 3166-2 codes of the labels in read/, spelled as there."""
CALIFORNIA = "US-CA"
JURISDICTIONS = (*STATES.values(), CALIFORNIA, UNKNOWN)
"""Classes of the jurisdiction, in the order of the network's output."""
KEPT_WIDTH = 208
"""A plate is kept at no more than this width in pixels; the network looks at 128."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A plate in a picture.

    Attributes:
        image: BGR, [H, W, 3].
        corners: top left, top right, bottom right, bottom left in pixels, [4, 2].
        text: what the plate reads; only the reader's characters.
        jurisdiction: index into the list of jurisdictions, or IGNORED.
        boxed: the corners are those of an upright box around the plate, not the plate's own.
        source: which set it is from.
    """

    image: Image
    corners: NDArray[np.float32]
    text: str
    jurisdiction: int
    boxed: bool
    source: str


def picture(path: Path) -> Image:
    """Return a picture, BGR.

    Raises:
        OSError: it cannot be read.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise OSError(f"{path}: not a picture; fetch the training data again")
    return np.asarray(image, np.uint8)


def encode(text: str) -> NDArray[np.int64]:
    """Return the class of each of the ten slots for a text."""
    return np.array([ALPHABET.index(letter) for letter in text.ljust(SLOTS, "_")], dtype=np.int64)


def box_corners(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    """Return the corners of an upright box in the order of `Sample.corners`."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)


def readings(row: Mapping[str, Any], *, agreed: bool) -> list[str]:
    """Return the readings to learn a row from: the agreed one, or, of rows without one, both public models'."""
    reading = row["machine_read"]
    if reading["agree"] != agreed:
        return []
    texts = [reading["a"]] if agreed else [reading["a"], reading["b"]]
    return [text for text in texts if 2 <= len(text) <= SLOTS and set(text) <= set(ALPHABET[:-1])]


def read_samples(data: Path, *, agreed: bool = True) -> list[tuple[str, Sample]]:
    """Return the plate crops of read/, each with its path: one for each of a row's `readings`."""
    samples = []
    for row in map(json.loads, (data / "read/labels.jsonl").read_text().splitlines()):
        for text in readings(row, agreed=agreed):
            image = picture(data / row["path"])
            height, width = image.shape[:2]
            sample = Sample(
                image=image,
                corners=box_corners(0, 0, width, height),
                text=text,
                jurisdiction=JURISDICTIONS.index(STATES[row["state"]]),
                boxed=False,
                source="read",
            )
            samples.append((row["path"], sample))
    return samples


def detect_samples(data: Path, *, agreed: bool = True) -> list[tuple[str, Sample]]:
    """Return the plates in detect/, cut with surroundings, each with its path: one for each of a row's `readings`."""
    boxes = {
        row["path"]: row["boxes"] for row in map(json.loads, (data / "detect/labels.jsonl").read_text().splitlines())
    }
    samples = []
    for row in map(json.loads, (data / "detect/machine_read.jsonl").read_text().splitlines()):
        for text in readings(row, agreed=agreed):
            source = row["path"].split("/")[1]
            image, corners = cut(picture(data / row["path"]), boxes[row["path"]][row["box"]])
            sample = Sample(
                image=image,
                corners=corners,
                text=text,
                jurisdiction=JURISDICTIONS.index(UNKNOWN) if source in FOREIGN else IGNORED,
                boxed=True,
                source=source,
            )
            samples.append((row["path"], sample))
    return samples


def background_samples(random: Random, data: Path, count: int) -> list[tuple[str, Sample]]:
    """Return pieces of scenes without a plate in them, each with its path; they read as nothing.

    Args:
        random: source of every choice.
        data: folder of the training data.
        count: of pieces; boxes that fall on a plate (grown by half) or off the scene are left out of it.
    """
    rows = [json.loads(line) for line in (data / "detect/labels.jsonl").read_text().splitlines()]
    samples = []
    for index in random.integers(len(rows), size=count):
        row = rows[int(index)]
        width = float(np.exp(random.uniform(np.log(40), np.log(300))))
        height = width / random.uniform(1.2, 5)
        left, top = random.uniform((0, 0), (row["width"], row["height"]))
        box = (left, top, left + width, top + height)
        if box[2] > row["width"] or box[3] > row["height"] or any(_touch(box, plate) for plate in row["boxes"]):
            continue
        image, corners = cut(picture(data / row["path"]), box)
        sample = Sample(image=image, corners=corners, text="", jurisdiction=IGNORED, boxed=True, source="background")
        samples.append((row["path"], sample))
    return samples


def _touch(box: Sequence[float], plate: Sequence[float]) -> bool:
    """Return whether a box lies on a plate's box that was grown by half on each side."""
    across, down = (plate[2] - plate[0]) / 2, (plate[3] - plate[1]) / 2
    return (
        box[0] < plate[2] + across
        and box[2] > plate[0] - across
        and box[1] < plate[3] + down
        and box[3] > plate[1] - down
    )


def cut(scene: Image, box: Sequence[float]) -> tuple[Image, NDArray[np.float32]]:
    """Cut a boxed plate from a scene with a third of its size around it.

    Args:
        scene: BGR, [H, W, 3].
        box: left, top, right, bottom in pixels.

    Returns:
        The cut-out, scaled down where the plate is wider than KEPT_WIDTH, and the box's corners in it.
    """
    left, top, right, bottom = box
    around_x, around_y = (right - left) / 3, (bottom - top) / 3
    x0, y0 = max(0, int(left - around_x)), max(0, int(top - around_y))
    piece = scene[y0 : int(bottom + around_y) + 1, x0 : int(right + around_x) + 1]
    corners = box_corners(left - x0, top - y0, right - x0, bottom - y0)
    scale = min(1.0, KEPT_WIDTH / (right - left))
    return shrunk(np.ascontiguousarray(piece), scale), corners * np.float32(scale)


def shrunk(image: Image, scale: float) -> Image:
    """Return the picture scaled down, or as it is where the scale is 1 or more."""
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)


def upright(sample: Sample, margin: float) -> Image:
    """Return the crop that the node would cut: the plate's bounding box and a margin, [HEIGHT, WIDTH, 3].

    Args:
        sample: the plate.
        margin: added on every side, as a share of the box's width and height.
    """
    low, high = sample.corners.min(axis=0), sample.corners.max(axis=0)
    low, high = low - (high - low) * margin, high + (high - low) * margin
    return _warp(sample.image, box_corners(*low, *high), cv2.BORDER_REPLICATE)


def _warp(image: Image, corners: NDArray[np.float32], border: int) -> Image:
    target = box_corners(0, 0, WIDTH, HEIGHT)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), target)
    return cv2.warpPerspective(image, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=border).astype(
        np.uint8
    )


def look(random: Random, sample: Sample, backdrop: Image, worn: float = 0.9) -> Image:
    """Return one worn-down look at a plate, as a detector's imperfect box would cut it.

    Args:
        random: source of every choice.
        sample: the plate.
        backdrop: fills what lies outside the sample's picture, [HEIGHT, WIDTH, 3].
        worn: probability that the look is worn down at all.

    Returns:
        BGR, [HEIGHT, WIDTH, 3].
    """
    source = sample.corners.astype(np.float64)
    size = source.max(axis=0) - source.min(axis=0)
    plate = source.copy()
    tilt = 0.25 if sample.boxed else 1.0
    if random.random() < 0.7:
        plate = _tilted(random, plate, size, tilt)
    low, high = plate.min(axis=0), plate.max(axis=0)
    grow = random.uniform(-0.04, 0.17, (2, 2)) if random.random() < 0.85 else random.uniform(-0.02, 0.35, (2, 2))
    low, high = low - grow[0] * (high - low), high + grow[1] * (high - low)
    scale = np.array([WIDTH, HEIGHT]) / (high - low)
    target = ((plate - low) * scale).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target)
    canvas = backdrop.copy()
    mode = cv2.BORDER_REPLICATE if random.random() < 0.3 else cv2.BORDER_TRANSPARENT
    cv2.warpPerspective(sample.image, matrix, (WIDTH, HEIGHT), dst=canvas, flags=cv2.INTER_LINEAR, borderMode=mode)
    return degrade(random, canvas) if random.random() < worn else canvas


def _tilted(random: Random, plate: NDArray[np.float64], size: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """Return the plate's corners, turned, sheared and moved by random amounts of strength `tilt`."""
    angle, shear = random.normal(0, 0.09 * tilt), random.normal(0, 0.12 * tilt)
    centre = plate.mean(axis=0)
    matrix = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    turned = (plate - centre) @ matrix.T * random.uniform((0.8, 1.0), (1.0, 1.05)) + centre
    return np.asarray(turned + random.normal(0, 0.02 * tilt, (4, 2)) * size, np.float64)


def stretched(random: Random, image: Image) -> Image:
    """Return a small random piece of a picture, stretched to the network's input."""
    height, width = image.shape[:2]
    y, x = int(random.integers(0, height * 3 // 4)), int(random.integers(0, width * 3 // 4))
    piece = image[y : y + max(4, height // 4), x : x + max(8, width // 4)]
    return cv2.resize(piece, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
