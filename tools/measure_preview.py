"""Measures what of plates is left in the preview of `homeplate aim`: legible at their true place, and not black.

  python -m tools.measure_preview [--repeats 2] [--clips FOLDER --labels FILE]

Rendered cars drive past (`tools.driveby`) at 10 to 100 km/h and 15 and 5 frames a second, through the same black as a
preview. At each place where a plate is in a served picture, the picture is cut there and read; for comparison the same
place in the small picture before it was made black. With `--clips` real clips are served too, and every plate that
detector or reader still sees in a served picture is compared with the clip's. Ends with one JSON line.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from homeplate.aiming.blackout import LEAST_SCORE, Blackout, Shot
from homeplate.aiming.running import shot_of
from homeplate.domain.geometry import Quad
from homeplate.domain.passage import Detection, Frame, Image
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.vision import Models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir
from tools.driveby import SCENES, SHUTTER, hides, plate_box, whole, window
from tools.render import clip
from tools.render.clip import Car

SETTINGS = SourceSettings(name="lane-1", kind=SourceKind.VIDEO, path=Path("none"))
SPEEDS_KMH, RATES = (10, 50, 100), (15, 5)
LEAST_PX = 8.0
"""Narrower plates, in the preview's pixels, are nobody's to read."""
ALIKE = 2
"""A reading with at most so many characters wrong counts as legible, as one that is right does."""


class Served:
    """One stream's pictures on their way to a viewer."""

    def __init__(self, models: Models) -> None:
        self._low = models.detector.asked_for(LEAST_SCORE)
        self._believed = models.detector.least_score
        self._blackout = Blackout()
        self.raw: dict[int, Image] = {}

    def put(self, picture: Image, at_ns: int) -> list[Shot]:
        """Take a frame; return what is served now."""
        frame = Frame(source="lane-1", index=0, stream_ns=at_ns, captured_ns=at_ns, image=picture)
        shot = shot_of(frame, self._low.detect(picture), self._believed, SETTINGS)
        self.raw[at_ns] = shot.image.copy()
        return self._blackout.put(shot)


def read(models: Models, picture: Image, detection: Detection) -> str:
    [reading] = models.reader.read([plate_crop(picture, detection).image])
    return "".join(character.character for character in reading.characters)


def wrong(text: str, truth: str) -> int:
    """Return the edit distance of two texts."""
    row = list(range(len(truth) + 1))
    for i, one in enumerate(text, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(truth, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]


def at_plate(car: Car, time_s: float, scale: float) -> Detection | None:
    """Return where a car's plate truly is in a preview's picture; None where it is not whole in it."""
    box, corners = plate_box(car, time_s, SHUTTER.readout_s), car.plate_corners(time_s, SHUTTER.readout_s)
    if box is None or corners is None or not whole(box):
        return None
    first, second, third, fourth = ((float(x) * scale, float(y) * scale) for x, y in corners.tolist())
    quad = Quad(corners=(first, second, third, fourth))
    return Detection(box=box.stretched(scale, scale), score=1.0, quad=quad)


def black_share(picture: Image, quad: Quad) -> float:
    """Return the share of a plate's pixels that are black."""
    cover = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillConvexPoly(cover, np.rint(np.array(quad.corners)).astype(np.int32), 1)
    inside = cover.astype(bool)
    return float((picture[inside] == 0).all(axis=1).mean()) if inside.any() else 1.0


def drive(models: Models, name: str, kmh: float, rate: int, seed: tuple[int, ...], count: Counter[str]) -> list[float]:
    """Serve a drive past and count what is legible; return the black share of each served picture."""
    rng = np.random.default_rng(seed)
    scene = SCENES[name](rng, kmh / 3.6)
    begin, end = window(scene)
    times = np.arange(begin, end, 1 / rate).tolist()
    served, shares = Served(models), []
    for time_s, picture in zip(
        times, clip.pictures(rng, scene.cars, times, shutter=SHUTTER, posts=scene.posts), strict=True
    ):
        for shot in served.put(picture, round((time_s - begin) * 1e9)):
            at_s = begin + shot.at_ns / 1e9
            shares.append(float((shot.image == 0).all(axis=2).mean()))
            count["pictures"] += 1
            for car in scene.cars:
                plate = at_plate(car, at_s, shot.image.shape[1] / clip.WIDTH)
                if plate is None or plate.box.width < LEAST_PX or hides(plate.box, car, scene, at_s):
                    continue
                judge(models, served.raw[shot.at_ns], shot.image, plate, car.plate.text, count)
    return shares


def judge(models: Models, raw: Image, shown: Image, plate: Detection, truth: str, count: Counter[str]) -> None:
    """Count a plate at its true place, before and after it was made black."""
    assert plate.quad is not None
    count["plates"] += 1
    before, after = (wrong(read(models, picture, plate), truth) for picture in (raw, shown))
    count["legible_before"] += before <= ALIKE
    count["exact_before"] += before == 0
    count["legible"] += after <= ALIKE
    count["exact"] += after == 0
    share = black_share(shown, plate.quad)
    count["not_all_black"] += share < 1
    count["less_than_half_black"] += share < 0.5


def real(models: Models, path: Path, truth: Sequence[str], count: Counter[str]) -> list[float]:
    """Serve a real clip; count its plates that detector and reader still see in a served picture."""
    capture, served, shares, number = cv2.VideoCapture(str(path)), Served(models), [], 0
    low = models.detector.asked_for(LEAST_SCORE)
    rate = capture.get(cv2.CAP_PROP_FPS)
    while (given := capture.read())[0]:
        for shot in served.put(np.asarray(given[1], np.uint8), round(number * 1e9 / rate)):
            shares.append(float((shot.image == 0).all(axis=2).mean()))
            count["pictures"] += 1
            texts = (
                [read(models, picture, one) for one in low.detect(picture)]
                for picture in (served.raw[shot.at_ns], shot.image)
            )
            before, after = (any(wrong(text, plate) <= ALIKE for text in found for plate in truth) for found in texts)
            count["legible_before"] += before
            count["legible"] += after
        number += 1
    return shares


def drives(models: Models, repeats: int, count: Counter[str]) -> Iterator[list[float]]:
    cells = [(name, kmh, rate, n) for name in SCENES for kmh in SPEEDS_KMH for rate in RATES for n in range(repeats)]
    for number, (name, kmh, rate, _) in enumerate(track(cells, console=Console(stderr=True), transient=True)):
        one = Counter[str]()
        yield drive(models, name, kmh, rate, (3, number), one)
        if one["legible"]:
            print(f"{name}, {kmh} km/h, {rate} a second: {dict(one)}")
        count.update(one)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--clips", type=Path, help="folder that the labels' paths are of")
    parser.add_argument("--labels", type=Path, help="a line of JSON a clip: path, passages")
    given = parser.parse_args()
    models, count = Models.open(default_model_dir(), threads=1), Counter[str]()
    shares = [share for one in drives(models, given.repeats, count) for share in one]
    figures: dict[str, object] = {"rendered": dict(count), "black_median": round(statistics.median(shares), 3)}
    figures["black_most"] = round(max(shares), 3)
    if given.clips and given.labels:
        counted, black = Counter[str](), []
        for label in map(json.loads, given.labels.read_text("utf-8").splitlines()):
            black += real(models, given.clips / label["path"], label["passages"], counted)
        figures |= {"real": dict(counted), "real_black_median": round(statistics.median(black), 3)}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
