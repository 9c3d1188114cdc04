"""Drives rendered cars past the pipeline at 10-100 km/h and 5-30 frames a second, and counts what becomes of them.

  python -m tools.driveby [--repeats 3] [--out models/driveby.md] [--plot models/driveby.png]

Scenes: approach, crossing, two lanes at once, a post that hides the plate half-way, stop and go, two like plates in a
row. Each is rendered once at the highest rate with a rolling shutter and the exposure's blur; the lower rates see every
n-th of its frames, each with a pipeline of its own. Truth comes from the renderer: a car counts as sightable where its
plate is whole, unhidden and wide enough in two frames or more; less than that is the camera's limit, not the reader's.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.progress import track

mpl.use("Agg")
from matplotlib import pyplot as plt

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection, Frame, Image, Passage, Sighting
from homeplate.domain.source import MINIMUM_PLATE_WIDTH, SourceKind, SourceSettings
from homeplate.pipeline import Pipeline
from homeplate.ports import PlateDetector, PlateReader
from homeplate.tracking.tracker import Track
from homeplate.vision import open_models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir
from homeplate.vision.motion import MotionGate
from tools.comparing import weights_of
from tools.render import clip
from tools.render.clip import Car, Post, Shutter
from tools.render.plates import PlateImage, render_plate

Floats = clip.Floats
Random = np.random.Generator
SPEEDS_KMH: Final = (10, 30, 50, 70, 100)
RATES: Final = (30, 15, 10, 5)
"""Frames a second; the first is rendered, the others are whole parts of it."""
SHUTTER: Final = Shutter(exposure_s=1 / 1000, steps=1, readout_s=0.015)
"""A plate camera by day: a short exposure, and a rolling shutter that takes half a frame at 30 a second."""
EXPOSURES_S: Final = (1 / 2000, 1 / 1000, 1 / 500, 1 / 250, 1 / 125)
EXPOSURE_KMH, EXPOSURE_RATE = 50, 15
"""Speed and rate at which the exposure is varied."""
BLUR_STEP_PX, MOST_STEPS = 1.5, 16
"""A smear longer than this is drawn in so many steps."""
SEEN_FROM_M, BEFORE_S, AFTER_S = 17.0, 0.2, 0.15
"""Distance from which a scene is rendered (a plate is 41 px wide there), and time before and after it."""
GAP_M, HALT_S = 5.0, 2.0
SIGHTINGS = 2
"""Sightable frames from which a passage is expected: two have to agree."""
NEAR_PX = 0.6
"""Plate widths between a detection's middle and a true plate's within which it is that plate."""

console = Console(stderr=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Cars on their ways, and what hides them."""

    cars: tuple[Car, ...]
    posts: tuple[Post, ...] = ()


# --- scenes --------------------------------------------------------------------------------------------------------


def _car(rng: Random, way: str, speed: float, *, late_s: float = 0.0, text: str | None = None) -> Car:
    """Return a car at `speed` metres a second that comes down the left lane, goes up the right one, or crosses."""
    shift = float(rng.uniform(-0.1, 0.1))
    x, heading = {
        "down": (-clip.LANE + shift, (0.0, -1.0)),
        "up": (clip.LANE + shift, (0.0, 1.0)),
        "cross": (shift, (math.sin(clip.CROSS_ANGLE), -math.cos(clip.CROSS_ANGLE))),
    }[way]
    return Car(
        plate=_plate(rng, text),
        paint=clip.PAINTS[int(rng.integers(len(clip.PAINTS)))],
        meets_s=late_s,
        at=(x, clip.MEET),
        way=(heading[0] * speed, heading[1] * speed),
        rear=way == "up",
    )


def _plate(rng: Random, text: str | None) -> PlateImage:
    return render_plate(rng, design="california", text=text)


def approach(rng: Random, speed: float) -> Scene:
    """One car comes nearer in its lane."""
    return Scene(cars=(_car(rng, "down", speed),))


def crossing(rng: Random, speed: float) -> Scene:
    """One car crosses the view."""
    return Scene(cars=(_car(rng, "cross", speed),))


def two_lanes(rng: Random, speed: float) -> Scene:
    """One comes, one goes, and both are in view at once."""
    return Scene(cars=(_car(rng, "down", speed), _car(rng, "up", speed, late_s=float(rng.uniform(-0.1, 0.1)))))


def hidden(rng: Random, speed: float) -> Scene:
    """One comes nearer behind a post that hides its plate half-way."""
    return Scene(cars=(_car(rng, "down", speed),), posts=(Post(at=(-0.85, 4.0), width=0.16),))


def stop_and_go(rng: Random, speed: float) -> Scene:
    """One brakes, stands in view and drives on."""
    car = _car(rng, "down", speed)
    halted = Car(
        plate=car.plate,
        paint=car.paint,
        meets_s=car.meets_s,
        at=car.at,
        way=car.way,
        rear=car.rear,
        halt_s=HALT_S,
    )
    return Scene(cars=(halted,))


def like_plates(rng: Random, speed: float) -> Scene:
    """Two in a row whose plates differ in one character."""
    first = _car(rng, "down", speed)
    place = len(first.plate.text) - 1 - int(rng.integers(3))
    others = [digit for digit in "123456789" if digit != first.plate.text[place]]
    text = first.plate.text[:place] + str(rng.choice(others)) + first.plate.text[place + 1 :]
    return Scene(cars=(first, _car(rng, "down", speed, late_s=(clip.LENGTH + GAP_M) / speed, text=text)))


SCENES: Final[dict[str, Callable[[Random, float], Scene]]] = {
    "approach": approach,
    "crossing": crossing,
    "two lanes": two_lanes,
    "hidden half-way": hidden,
    "stop and go": stop_and_go,
    "two like plates": like_plates,
}


# --- truth ---------------------------------------------------------------------------------------------------------


def plate_box(car: Car, time_s: float, readout_s: float) -> Box | None:
    """Return where a car's plate is, in the picture or beside it; None where it is not before the camera."""
    corners = car.plate_corners(time_s, readout_s)
    if corners is None:
        return None
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Box(left=left, top=top, right=right, bottom=bottom)


def whole(box: Box | None) -> bool:
    """Tell whether all of a plate is in the picture."""
    return box is not None and min(box.left, box.top) >= 0 and box.right <= clip.WIDTH and box.bottom <= clip.HEIGHT


def hides(box: Box, car: Car, scene: Scene, time_s: float) -> bool:
    """Tell whether a post or another car stands before a car's plate."""
    x, z = car.place(time_s)
    for post in scene.posts:
        middle = clip.WIDTH / 2 + clip.FOCAL * post.at[0] / post.at[1]
        half = clip.FOCAL * post.width / 2 / post.at[1]
        if post.at[1] < z and box.left < middle + half and box.right > middle - half:
            return True
    sight = np.linspace(0.05, 0.97, 60)[:, None]
    for other in scene.cars:
        across, back = other.axes
        for side in (-clip.PLATE[0] / 2, clip.PLATE[0] / 2):
            offset = sight * np.array([x + side, z]) - np.array(other.place(time_s))
            along, beside = offset @ back, np.abs(offset @ across)
            if other is not car and bool(np.any((along > 0) & (along < clip.LENGTH) & (beside < clip.HALF))):
                return True
    return False


def window(scene: Scene) -> tuple[float, float]:
    """Return from when to when any car's plate is in view and near enough."""
    times = np.arange(-15.0, 20.0, 1 / 60)
    seen = [
        time
        for time in times.tolist()
        for car in scene.cars
        if car.place(time)[1] < SEEN_FROM_M and whole(plate_box(car, time, 0.0))
    ]
    return min(seen) - BEFORE_S, max(seen) + AFTER_S


def steps_for(scene: Scene, shutter: Shutter) -> int:
    """Return how many pictures an exposure takes so that the longest smear is drawn smoothly."""
    longest = 0.0
    start, end = window(scene)
    for begins in np.arange(start, end, 1 / 30).tolist():
        for car in scene.cars:
            one, other = (car.plate_corners(t) for t in (begins, begins + shutter.exposure_s))
            if one is not None and other is not None and whole(plate_box(car, begins, 0.0)):
                longest = max(longest, float(np.abs(other - one).max()))
    return min(MOST_STEPS, 1 + int(longest / BLUR_STEP_PX))


# --- what the pipeline makes of it ---------------------------------------------------------------------------------


class Remembering:
    """A detector that looks at a picture once, however many pipelines ask."""

    def __init__(self, detector: PlateDetector) -> None:
        self._detector = detector
        self._image: Image | None = None
        self._found: list[Detection] = []

    def detect(self, image: Image) -> list[Detection]:
        """Return the plates in a BGR picture, best first."""
        if image is not self._image:
            self._image, self._found = image, self._detector.detect(image)
        return self._found


class Watched(Pipeline):
    """A pipeline that tells what became of its tracks."""

    ended: list[tuple[Track, Passage | None]]

    def _conclude(self, track: Track) -> Passage | None:
        passage = super()._conclude(track)
        self.ended.append((track, passage))
        return passage


@dataclass(slots=True)
class Tally:
    """What became of cars.

    Attributes:
        cars: that passed.
        sightable: of them those whose plate could be seen in enough frames.
        reported: of the sightable ones those with a passage.
        read: of the sightable ones those with a passage whose text is right.
        doubles: passages beyond a car's first.
        merges: tracks that hold sightings of two cars.
        false: passages of no car.
    """

    cars: int = 0
    sightable: int = 0
    reported: int = 0
    read: int = 0
    doubles: int = 0
    merges: int = 0
    false: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(slots=True, kw_only=True)
class Truth:
    """Where the plates were: by frame and car, and whether they could be seen."""

    scene: Scene
    boxes: list[list[Box | None]] = field(default_factory=list)
    clear: list[list[bool]] = field(default_factory=list)

    def note(self, time_s: float, readout_s: float) -> None:
        """Take the next frame."""
        boxes = [plate_box(car, time_s, readout_s) for car in self.scene.cars]
        self.boxes.append(boxes)
        self.clear.append(
            [
                box is not None
                and whole(box)
                and box.width >= MINIMUM_PLATE_WIDTH
                and not hides(box, car, self.scene, time_s)
                for box, car in zip(boxes, self.scene.cars, strict=True)
            ]
        )

    def car_of(self, sighting: Sighting) -> int | None:
        """Return which car a sighting is of."""
        x, y = sighting.detection.box.centre
        for number, box in enumerate(self.boxes[sighting.frame_index]):
            if box is not None:
                reach = NEAR_PX * box.width
                if abs(x - box.centre[0]) < reach and abs(y - box.centre[1]) < reach:
                    return number
        return None

    def sightable(self, every: int) -> set[int]:
        """Return the cars that could be seen in enough of every n-th frame."""
        looked = self.clear[::every]
        return {n for n in range(len(self.scene.cars)) if sum(frame[n] for frame in looked) >= SIGHTINGS}


def tally(truth: Truth, ended: Sequence[tuple[Track, Passage | None]], every: int) -> Tally:
    """Count what became of the cars at one rate."""
    sightable = truth.sightable(every)
    counts = Tally(cars=len(truth.scene.cars), sightable=len(sightable))
    reported: dict[int, list[str]] = {}
    for tracked, passage in ended:
        cars = {truth.car_of(one) for one in (tracked.first, tracked.best or tracked.last, tracked.last)} - {None}
        counts.merges += len(cars) > 1
        if passage is None:
            continue
        car = truth.car_of(tracked.best or tracked.last)
        if car is None:
            counts.false += 1
        else:
            reported.setdefault(car, []).append(passage.text.reveal())
    counts.doubles = sum(len(texts) - 1 for texts in reported.values())
    counts.reported = len(sightable & reported.keys())
    counts.read = sum(truth.scene.cars[n].plate.text in reported.get(n, []) for n in sightable)
    return counts


def watched(detector: PlateDetector, reader: PlateReader) -> Watched:
    settings = SourceSettings(name="lane", kind=SourceKind.VIDEO, path=Path("lane"))
    pipeline = Watched(
        settings=settings,
        detector=detector,
        reader=reader,
        gate=MotionGate(),
        crop=plate_crop,
        perf_ns=time.perf_counter_ns,
    )
    pipeline.ended = []
    return pipeline


def drive(
    rng: Random, scene: Scene, shutter: Shutter, rates: Sequence[int], models: tuple[PlateDetector, PlateReader]
) -> dict[int, Tally]:
    """Let a scene pass and return what each rate made of it."""
    start, end = window(scene)
    begin, top = start - float(rng.uniform(0, 1 / min(RATES))), RATES[0]
    times = np.arange(begin, end, 1 / top).tolist()
    taken = Shutter(exposure_s=shutter.exposure_s, steps=steps_for(scene, shutter), readout_s=shutter.readout_s)
    seeing, truth = Remembering(models[0]), Truth(scene=scene)
    pipelines = {rate: watched(seeing, models[1]) for rate in rates}
    wanted = _only(times, top, rates)
    shown = clip.pictures(rng, scene.cars, [times[i] for i in wanted], shutter=taken, posts=scene.posts)
    pictures = dict.fromkeys(wanted)
    for index, time_s in enumerate(times):
        truth.note(time_s + shutter.exposure_s / 2, shutter.readout_s)
        if index in pictures:
            _show(pipelines, next(shown), index, top)
    for pipeline in pipelines.values():
        pipeline.flush()
    return {rate: tally(truth, pipeline.ended, top // rate) for rate, pipeline in pipelines.items()}


def _only(times: Sequence[float], top: int, rates: Sequence[int]) -> list[int]:
    """Return the frames that any rate sees."""
    return [index for index in range(len(times)) if any(index % (top // rate) == 0 for rate in rates)]


def _show(pipelines: dict[int, Watched], picture: Image, index: int, top: int) -> None:
    stream_ns = round(index * 1e9 / top)
    frame = Frame(source="lane", index=index, stream_ns=stream_ns, captured_ns=stream_ns, image=picture)
    for rate, pipeline in pipelines.items():
        if index % (top // rate) == 0:
            pipeline.process(frame)


# --- the report ----------------------------------------------------------------------------------------------------


Cell = tuple[str, int, int]
"""Scene, km/h, frames a second."""


def suite(models: tuple[PlateDetector, PlateReader], repeats: int, seed: int) -> dict[Cell, Tally]:
    """Drive every scene at every speed past every rate."""
    counted: dict[Cell, Tally] = {}
    jobs = [(name, kmh, again) for name in SCENES for kmh in SPEEDS_KMH for again in range(repeats)]
    for name, kmh, again in track(jobs, description="drive-by", console=console, transient=True):
        rng = np.random.default_rng([seed, list(SCENES).index(name), kmh, again])
        scene = SCENES[name](rng, kmh / 3.6)
        for rate, counts in drive(rng, scene, SHUTTER, RATES, models).items():
            counted[name, kmh, rate] = counted.get((name, kmh, rate), Tally()) + counts
    return counted


def exposures(models: tuple[PlateDetector, PlateReader], repeats: int, seed: int) -> dict[tuple[str, float], Tally]:
    """Vary the exposure at one speed and rate."""
    counted: dict[tuple[str, float], Tally] = {}
    jobs = [(name, one, n) for name in ("approach", "crossing") for one in EXPOSURES_S for n in range(repeats)]
    for name, exposure_s, again in track(jobs, description="exposure", console=console, transient=True):
        rng = np.random.default_rng([seed, list(SCENES).index(name), again])
        shutter = Shutter(exposure_s=exposure_s, readout_s=SHUTTER.readout_s)
        scene = SCENES[name](rng, EXPOSURE_KMH / 3.6)
        [counts] = drive(rng, scene, shutter, (EXPOSURE_RATE,), models).values()
        counted[name, exposure_s] = counted.get((name, exposure_s), Tally()) + counts
    return counted


def total(
    counted: dict[Cell, Tally], *, scene: str | None = None, kmh: int | None = None, rate: int | None = None
) -> Tally:
    """Add up the cells of a scene, a speed, a rate, or any of them where None."""
    wanted = (scene, kmh, rate)
    cells = (one for cell, one in counted.items() if all(w in {None, c} for w, c in zip(wanted, cell, strict=True)))
    return sum(cells, Tally())


def _words(one: Tally) -> str:
    return f"{one.cars} | {one.sightable} | {one.reported} | {one.read} | {one.doubles} | {one.merges} | {one.false}"


HEAD = "cars | sightable | reported | read | doubles | merges | false |\n" + "|---" * 8 + "|"


def tables(counted: dict[Cell, Tally], blurred: dict[tuple[str, float], Tally]) -> Iterator[str]:
    """Yield the report's tables in Markdown."""
    yield "\n".join([f"| scene | {HEAD}", *(f"| {s} | {_words(total(counted, scene=s))} |" for s in SCENES)])
    rows = [
        f"| {kmh} km/h, {rate} a second | {_words(total(counted, kmh=kmh, rate=rate))} |"
        for kmh in SPEEDS_KMH
        for rate in RATES
    ]
    yield "\n".join([f"| speed and rate | {HEAD}", *rows])
    smears = [f"| {name}, 1/{round(1 / e)} s | {_words(one)} |" for (name, e), one in blurred.items()]
    yield "\n".join([f"| exposure at {EXPOSURE_KMH} km/h, {EXPOSURE_RATE} a second | {HEAD}", *smears])


def page(counted: dict[Cell, Tally], blurred: dict[tuple[str, float], Tally], plot: str, weights: str) -> str:
    """Return the report."""
    body = "\n\n".join(tables(counted, blurred))
    return (
        "# Drive-by\n\nRendered cars past the whole pipeline, by `python -m tools.driveby`. 1280 x 720, a rolling "
        f"shutter of {SHUTTER.readout_s * 1000:.0f} ms,\nan exposure of 1/{round(1 / SHUTTER.exposure_s)} s where "
        "nothing else is said. Sightable: the plate was whole, unhidden and at least\n"
        f"{MINIMUM_PLATE_WIDTH:.0f} px wide in {SIGHTINGS} frames or more; reported and read are of these. "
        "Doubles: passages beyond a car's first.\nMerges: tracks of two cars. False: passages of no car.\n"
        f"Weights: {weights}.\n\n"
        f"![reported and read by speed and rate]({plot})\n\n{body}\n"
    )


def draw(counted: dict[Cell, Tally], path: Path) -> None:
    """Plot the shares reported and read, and doubles and merges, by speed and rate."""
    figure, panels = plt.subplots(1, 3, figsize=(14, 4))
    shares: tuple[tuple[str, Callable[[Tally], float]], ...] = (
        ("cars sightable", lambda one: one.sightable / max(1, one.cars)),
        ("sightable cars reported (line) and read (dots)", lambda one: one.reported / max(1, one.sightable)),
        ("doubles (line) and merges (dots) a car", lambda one: one.doubles / max(1, one.cars)),
    )
    dots: tuple[Callable[[Tally], float] | None, ...] = (
        None,
        lambda one: one.read / max(1, one.sightable),
        lambda one: one.merges / max(1, one.cars),
    )
    for panel, (title, line), dot in zip(panels, shares, dots, strict=True):
        for rate in RATES:
            cells = [total(counted, kmh=kmh, rate=rate) for kmh in SPEEDS_KMH]
            [drawn] = panel.plot(SPEEDS_KMH, [line(one) for one in cells], label=f"{rate} frames a second")
            if dot is not None:
                panel.plot(SPEEDS_KMH, [dot(one) for one in cells], "o", color=drawn.get_color(), alpha=0.7)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("km/h")
        panel.set_ylim(-0.03, 1.03)
        panel.grid(visible=True, alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=default_model_dir())
    parser.add_argument("--repeats", type=int, default=3, help="of each scene and speed, with other cars and phases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("models/driveby.md"))
    parser.add_argument("--plot", type=Path, default=Path("models/driveby.png"))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    models = open_models(given.models, threads=1)
    counted = suite(models, given.repeats, given.seed)
    blurred = exposures(models, given.repeats, given.seed)
    draw(counted, given.plot)
    given.out.write_text(page(counted, blurred, given.plot.name, weights_of(given.models)), encoding="utf-8")
    whole = total(counted)
    print("\n\n".join(tables(counted, blurred)))
    print(json.dumps({name: getattr(whole, name) for name in Tally.__slots__}))


if __name__ == "__main__":
    main()
