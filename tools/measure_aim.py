"""Measures what `homeplate aim` calls enough: what is read of rendered plates by width, sharpness, light and tilt.

  python -m tools.measure_aim [--plates 120]

Each rendered car stands in front of the camera with its plate 125 pixels wide; the picture is spoiled one condition
at a time (`tools.conditions`, and too much light) and goes past the detector and the reader. Prints, by condition, the
share of plates read exactly and the figures that aim shows of them, and ends with one JSON line.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection
from homeplate.vision import Models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir
from homeplate.vision.quality import PlateLook, light_of, plate_look
from tools import conditions
from tools.conditions import Apply, Image, Random
from tools.render.clip import FOCAL, PAINTS, PLATE, Car, pictures
from tools.render.plates import render_plate

WIDE = 125
"""Pixels of the plate before it is spoiled."""
DESIGNS = ("california", "california", "california", "california-legacy")


def more_light(picture: Image, box: conditions.Box, level: float, _: Random) -> tuple[Image, conditions.Box]:
    """`level` times the light on a linear sensor, cut at white."""
    linear = (np.arange(256) / 255.0) ** conditions.GAMMA * level
    return (np.minimum(linear, 1.0) ** (1 / conditions.GAMMA) * 255).astype(np.uint8)[picture], box


def wide(level: float, then: Apply | None = None, amount: float = 0.0) -> Apply:
    """Return a condition: the plate `level` pixels wide, then another one."""

    def apply(picture: Image, box: conditions.Box, _: float, random: Random) -> tuple[Image, conditions.Box]:
        picture, box = conditions.plate_width(picture, box, level, random)
        return then(picture, box, amount, random) if then else (picture, box)

    return apply


@dataclass(slots=True)
class Case:
    """A condition at a level, and what came of it."""

    name: str
    level: float
    apply: Apply
    right: int = 0
    found: int = 0
    looks: list[PlateLook] = field(default_factory=list)
    means: list[float] = field(default_factory=list)


def cases() -> list[Case]:
    made = [Case("plate width", level, wide(level)) for level in (150, 125, 100, 90, 80, 70, 60, 50, 40, 30)]
    for base in (120, 90):
        made += [
            Case(f"blur at {base} px", level, wide(base, conditions.blur, level))
            for level in (0.5, 1, 1.5, 2, 2.5, 3, 4)
        ]
    made += [Case("tilt", level, wide(120, conditions.tilt, level)) for level in (-20, -10, 5, 10, 15, 20, 25, 30)]
    made += [Case("light", 1 / level, wide(120, conditions.low_light, 1 / level)) for level in (4, 16, 64, 128, 256)]
    made += [Case("light", level, wide(120, more_light, level)) for level in (2, 4, 8, 16, 32, 64)]
    return made


def standing(random: Random) -> tuple[Image, conditions.Box, str]:
    """Return a picture of a car whose plate is `WIDE` pixels wide, the plate's box, and its text."""
    plate = render_plate(random, design=str(random.choice(DESIGNS)))
    away, paint = FOCAL * PLATE[0] / WIDE, PAINTS[int(random.integers(len(PAINTS)))]
    car = Car(
        plate=plate, paint=paint, meets_s=0.0, at=(float(random.uniform(-0.3, 0.3)), away), way=(0.0, -1.0), rear=False
    )
    corners = car.plate_corners(0.0)
    assert corners is not None
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return next(iter(pictures(random, [car], [0.0]))), (left, top, right, bottom), plate.text


def judge(models: Models, case: Case, picture: Image, box: conditions.Box, text: str) -> None:
    """Count whether the plate is found at its place and read exactly."""
    case.means.append(light_of(picture).mean)
    wanted = Box(left=box[0], top=box[1], right=box[2], bottom=box[3])
    hits = [one for one in models.detector.detect(picture) if one.box.iou(wanted) >= 0.3]
    if not hits:
        return
    case.found += 1
    look = plate_look(picture, hits[0])
    assert look is not None
    case.looks.append(look)
    case.right += read(models, picture, hits[0]) == text


def read(models: Models, picture: Image, detection: Detection) -> str:
    [reading] = models.reader.read([plate_crop(picture, detection).image])
    return "".join(character.alternatives[0][0] for character in reading.characters)


def rows(made: list[Case], plates: int) -> Iterator[dict[str, object]]:
    for case in made:
        row: dict[str, object] = {"case": case.name, "level": case.level, "read": round(case.right / plates, 3)}
        row["found"] = round(case.found / plates, 3)
        for name in ("width_px", "sharpness", "contrast", "white"):
            row[name] = median([getattr(look, name) for look in case.looks])
        row["tilt_deg"] = median([look.tilt_deg for look in case.looks if look.tilt_deg is not None])
        row["corners"] = sum(look.tilt_deg is not None for look in case.looks)
        row["mean"] = median(case.means)
        yield row


def median(values: list[float]) -> float | None:
    return round(statistics.median(values), 3) if values else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=120)
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    models, made = Models.open(default_model_dir(), threads=1), cases()
    for number in track(range(given.plates), console=Console(stderr=True), transient=True):
        random = np.random.default_rng((given.seed, number))
        picture, box, text = standing(random)
        for case in made:
            judge(models, case, *case.apply(picture, box, case.level, random), text)
    table = list(rows(made, given.plates))
    for row in table:
        print(" ".join(f"{name}={value}" for name, value in row.items()))
    shares = {f"{row['case']} {row['level']:g}": row["read"] for row in table}
    print(json.dumps({"plates": given.plates, "seed": given.seed, "read": shares}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
