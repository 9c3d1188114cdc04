"""A plate font of our own: strokes with parameters, so that one table of letters gives many faces.

A letter is one or more strokes through points of a box of width and height 1; a point's mark says how far its corner is
rounded. A `Face` adds aspect, weight, roundness and which variant of a letter is taken (open or closed 4, serifs on I).
The table follows what dies for plates have in common; it was drawn for Homeplate and copies no font.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.float32]

STROKES: dict[str, tuple[str, ...]] = {
    "A": ("0,1 .5,0 1,1|.18,.68 .82,.68", "0,1 .42,0 .58,0 1,1|.18,.7 .82,.7", "0,1 0,0o 1,0o 1,1|0,.55 1,.55"),
    "B": ("0,0 .92,0o .92,.47o 0,.47|0,.47 1,.47o 1,1o 0,1 z|0,0 0,.5",),
    "C": ("1,.27 1,0o 0,0o 0,1o 1,1o 1,.73",),
    "D": ("0,0 1,0o 1,1o 0,1 z",),
    "E": ("1,0 0,0 0,1 1,1|0,.48 .8,.48", "1,0 0,0 0,1 1,1|0,.48 .65,.48"),
    "F": ("1,0 0,0 0,1|0,.48 .8,.48", "1,0 0,0 0,1|0,.45 .6,.45"),
    "G": ("1,.27 1,0o 0,0o 0,1o 1,1o 1,.55 .58,.55", "1,.27 1,0o 0,0o 0,1o 1,1o 1,.52 .5,.52|1,.52 1,1"),
    "H": ("0,0 0,1|1,0 1,1|0,.49 1,.49",),
    "I": (".5,0 .5,1|.08,0 .92,0|.08,1 .92,1", ".5,0 .5,1"),
    "J": ("1,0 1,1o 0,1o 0,.74", "1,0 1,1o 0,1o 0,.66|.5,0 1,0"),
    "K": ("0,0 0,1|1,0 .02,.6|.32,.42 1,1", "0,0 0,1|1,0 .05,.5|.05,.5 1,1"),
    "L": ("0,0 0,1 1,1",),
    "M": ("0,1 0,0 .5,.66 1,0 1,1", "0,1 0,0 .5,.45 1,0 1,1", "0,1 0,0 .5,.95 1,0 1,1"),
    "N": ("0,1 0,0 1,1 1,0",),
    "O": ("0,0s 1,0s 1,1s 0,1s z", "0,0o 1,0o 1,1o 0,1o z"),
    "P": ("0,1 0,0 1,0o 1,.53o 0,.53",),
    "Q": (
        "0,0o 1,0o 1,1o 0,1o z|.58,.7 1.02,1.06",
        "0,0s 1,0s 1,1s 0,1s z|.55,.72 1.05,1.05",
        "0,0o 1,0o 1,1o 0,1o z|.6,.72 .62,.95 .95,1.08",
    ),
    "R": ("0,1 0,0 1,0o 1,.52o 0,.52|.48,.52 1,1", "0,1 0,0 1,0o 1,.5o 0,.5|.3,.5 1,1"),
    "S": ("1,.25 1,0o 0,0o 0,.47o 1,.53o 1,1o 0,1o 0,.75", "1,.22 1,0o .05,0o .05,.35 1,.66 1,1o 0,1o 0,.78"),
    "T": ("0,0 1,0|.5,0 .5,1",),
    "U": ("0,0 0,1o 1,1o 1,0",),
    "V": ("0,0 .5,1 1,0", "0,0 .42,1 .58,1 1,0"),
    "W": ("0,0 .24,1 .5,.3 .76,1 1,0", "0,0 0,1 .5,.4 1,1 1,0", "0,0 .27,1 .5,0 .73,1 1,0"),
    "X": ("0,0 1,1|1,0 0,1",),
    "Y": ("0,0 .5,.5 1,0|.5,.5 .5,1", "0,0 .5,.42 1,0|.5,.42 .5,1"),
    "Z": ("0,0 1,0 0,1 1,1",),
    "0": ("0,0o 1,0o 1,1o 0,1o z", "0,0o 1,0o 1,1o 0,1o z", "0,0o 1,0o 1,1o 0,1o z|.85,.15 .15,.85"),
    "1": (".12,.16 .55,0 .55,1|.1,1 1,1", ".12,.2 .6,0 .6,1", ".5,0 .5,1"),
    "2": ("0,.27 0,0o 1,0o 1,.42s 0,1 1,1", "0,.27 0,0o 1,0o 1,.5o 0,.62o 0,1 1,1"),
    "3": ("0,.25 0,0o 1,0o 1,.47o .42,.47|.42,.47 1,.47o 1,1o 0,1o 0,.75", "0,0 1,0 .42,.4 1,.4o 1,1o 0,1o 0,.78"),
    "4": (".55,0 0,.78 1,.78|.72,.52 .72,1", ".76,1 .76,0 0,.7 1,.7", "0,0 0,.6 1,.6|.8,.35 .8,1"),
    "5": (".95,0 .05,0 .03,.42 1,.36o 1,1o 0,1o 0,.78", ".95,0 0,0 0,.42 1,.42o 1,1o 0,1o 0,.78"),
    "6": (".75,0 0,.62s 0,1o 1,1o 1,.47o .02,.47o", "1,.24 1,0o 0,0o 0,1o 1,1o 1,.45o 0,.45o 0,.7"),
    "7": ("0,0 1,0 .35,1", "0,.15 0,0 1,0 .4,.55o .35,1", "0,0 1,0 1,.2 .4,.6 .4,1"),
    "8": ("0.05,0o .95,0o .95,.47o .05,.47o z|0,.47o 1,.47o 1,1o 0,1o z",),
    "9": (".25,1 1,.38s 1,0o 0,0o 0,.53o .98,.53o", "0,.76 0,1o 1,1o 1,0o 0,0o 0,.55o 1,.55o 1,.3"),
    "-": ("0,.5 1,.5",),
    ".": (".4,1 .6,1",),
    "&": ("1,1 .15,.3 .15,0o .8,0o .8,.3 0,.65 0,1o .6,1o 1,.6",),
}
"""Variants of each letter: strokes parted by `|`, points by blanks; `o` a round corner, `s` a soft one, `z` closed."""

NARROW: Mapping[str, float] = {"I": 0.75, "1": 0.8, "-": 0.6, ".": 0.25, "M": 1.15, "W": 1.2}
"""Width of some letters as a share of the face's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Face:
    """How the table's letters are drawn.

    Attributes:
        aspect: width of a letter's skeleton over its height.
        weight: thickness of a stroke over the height.
        roundness: 0 (soft corners sharp, round ones tight) to 1.
        square: strokes end flat, as if cut, rather than round.
        even: every letter gets the same width.
        variants: which variant of a letter is taken, where not the first.
        pictures: coverage [H, W] of letters that are taken from pictures and not from the table.
    """

    aspect: float = 0.42
    weight: float = 0.11
    roundness: float = 1.0
    square: bool = False
    even: bool = False
    variants: Mapping[str, int] = field(default_factory=dict)
    pictures: Mapping[str, Mask] = field(default_factory=dict)


CALIFORNIAN = Face(aspect=0.36, weight=0.105, roundness=1.0, variants={})
"""Close to the dies of Californian plates: a squarish O, a round 0, serifs on I and 1, an open 4."""


def random_face(random: np.random.Generator) -> Face:
    """Return a face with random parameters, from narrow and light to wide and heavy."""
    variants = {letter: int(random.integers(len(forms))) for letter, forms in STROKES.items()}
    if random.random() < 0.75:
        variants["0"] = 0
    return Face(
        aspect=float(random.uniform(0.27, 0.62)),
        weight=float(random.uniform(0.07, 0.19)),
        roundness=float(random.uniform(0.35, 1.0)),
        square=bool(random.random() < 0.4),
        even=bool(random.random() < 0.4),
        variants=variants,
    )


def advance(face: Face, letter: str) -> float:
    """Return the width of a letter, strokes included, as a share of its height."""
    if letter in face.pictures:
        tall, wide = face.pictures[letter].shape
        return float(wide / tall * face.aspect / CALIFORNIAN.aspect)
    share = 1.0 if face.even and letter.isalnum() else NARROW.get(letter, 1.0)
    return face.aspect * share + face.weight


def draw(face: Face, letter: str, height: int) -> Mask:
    """Draw one letter.

    Args:
        face: how to draw it.
        letter: one of STROKES; anything else raises KeyError.
        height: of the letter in pixels, strokes included.

    Returns:
        Coverage, [height, width] from 0 to 1.
    """
    if letter in face.pictures:
        size = (max(1, round(advance(face, letter) * height)), height)
        return np.asarray(cv2.resize(face.pictures[letter], size, interpolation=cv2.INTER_AREA), np.float32)
    scale = 2 if height < 96 else 1  # supersampling is for the small ones
    tall = height * scale
    thick = max(1, round(face.weight * tall))
    wide = max(thick, round(advance(face, letter) * tall))
    canvas = np.zeros((tall, wide), np.uint8)
    forms = STROKES[letter]
    box = np.array([wide - thick, tall - thick], dtype=np.float64)
    lines = [_path(stroke, box, face.roundness) + thick / 2 for stroke in forms[_variant(face, letter)].split("|")]
    points = [np.round(line * 8).astype(np.int32) for line in lines]
    if face.square:
        cv2.polylines(canvas, points, isClosed=False, color=255, thickness=1, lineType=cv2.LINE_8, shift=3)
        canvas = np.asarray(cv2.dilate(canvas, np.ones((thick, thick), np.uint8)), np.uint8)
    else:
        cv2.polylines(canvas, points, isClosed=False, color=255, thickness=thick, lineType=cv2.LINE_AA, shift=3)
    small = cv2.resize(canvas, (max(1, round(wide / scale)), height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def _variant(face: Face, letter: str) -> int:
    return min(face.variants.get(letter, 0), len(STROKES[letter]) - 1)


def _path(stroke: str, box: NDArray[np.float64], roundness: float) -> NDArray[np.float64]:
    """Return the points of a stroke in pixels, corners rounded."""
    words = stroke.split()
    closed = words[-1] == "z"
    words = words[:-1] if closed else words
    corners = np.array([[float(part) for part in word.rstrip("os").split(",")] for word in words]) * box
    radius = {"o": 0.5 * box[0] * (0.4 + 0.6 * roundness), "s": 0.26 * box[0] * roundness}
    count, points = len(words), list[NDArray[np.float64]]()
    for index, word in enumerate(words):
        inner = closed or 0 < index < count - 1
        if not inner or word[-1] not in radius:
            points.append(corners[index])
            continue
        before, after = corners[index - 1], corners[(index + 1) % count]
        points.extend(_corner((before, corners[index], after), radius[word[-1]]))
    return np.array([*points, points[0]] if closed else points)


def _corner(
    ends: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], radius: float
) -> list[NDArray[np.float64]]:
    """Return points of the curve that replaces the middle one of three points (a cubic that is nearly a circle)."""
    before, corner, after = ends
    to, on = before - corner, after - corner
    reach_to, reach_on = np.hypot(*to), np.hypot(*on)
    reach = min(radius, reach_to * 0.5, reach_on * 0.5)
    start, end = corner + to / reach_to * reach, corner + on / reach_on * reach
    one, two = start + 0.5523 * (corner - start), end + 0.5523 * (corner - end)
    steps = np.linspace(0, 1, 7)
    return [(1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * one + 3 * t * t * (1 - t) * two + t**3 * end for t in steps]
