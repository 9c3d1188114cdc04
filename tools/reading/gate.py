"""What the motion gate costs and saves: the same frames past two pipelines, one of which looks at every frame.

The detector looks at a frame once for both. The gated pipeline's time is that of the gate and of the looks that it
let through, as they were timed in the other one, so that nothing but the gate differs.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from homeplate.camera import VideoFileSource
from homeplate.domain.passage import Frame, Image
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.pipeline import Stage
from homeplate.ports import PlateDetector, PlateReader
from homeplate.vision.motion import MotionGate
from tools import driveby
from tools.bench_peer import TOLL_LANE
from tools.driveby import SCENES, SHUTTER, Remembering, Scene, Truth, Watched
from tools.render import clip
from tools.render.clip import Shutter

Models = tuple[PlateDetector, PlateReader]
Random = np.random.Generator
RATE: Final = 10
SPEEDS_KMH: Final = (10, 30, 50, 70, 100)
LIGHTS: Final = (1.0, 1 / 32)
"""Shares of the light, without gain: day, and night without infrared."""
GAMMA, GRAIN = 2.2, 3.0
"""Curve that pictures are stored with, and the noise of a dim picture in grey levels."""
IDLE_S: Final = 1.0
"""Time before and after a drive."""
EMPTY_S: Final = 20.0
EMPTY = "empty road"
SEED: Final = 20_260_801


@dataclass(slots=True)
class Gated:
    """What a gate let through, and what came of it beside a gate that is always open.

    Attributes:
        cars: whose plate could be seen often enough (of clips: labelled passages).
        reported, reported_open: of them those with a passage, with the gate and without.
        passages, passages_open: all of them.
        frames, looked: all frames, and those that the gate let through.
        clear, clear_looked: frames in which a plate could be read, and of them those let through.
        time_ns, time_open_ns: what the pipelines took.
    """

    cars: int = 0
    reported: int = 0
    reported_open: int = 0
    passages: int = 0
    passages_open: int = 0
    frames: int = 0
    looked: int = 0
    clear: int = 0
    clear_looked: int = 0
    time_ns: int = 0
    time_open_ns: int = 0

    def __add__(self, other: "Gated") -> "Gated":
        return Gated(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def saved(self) -> float:
        """Share of the time that the gate saves; negative where it costs more than it saves."""
        return 1 - self.time_ns / self.time_open_ns if self.time_open_ns else 0.0


class Recording:
    """A motion gate, or one that is always open, and what it said last."""

    def __init__(self, gate: MotionGate | None) -> None:
        self._gate, self.last = gate, True

    def open(self, image: Image, stream_ns: int) -> bool:
        """Tell whether to look at a frame."""
        self.last = self._gate is None or self._gate.open(image, stream_ns)
        return self.last


class Pair:
    """Two pipelines over the same frames, without a gate and with one."""

    def __init__(self, models: Models) -> None:
        seeing = Remembering(models[0])
        self._gates = Recording(None), Recording(MotionGate())
        self.open, self.gated = (self._pipeline(seeing, models[1], gate) for gate in self._gates)
        self.counts = Gated()

    @staticmethod
    def _pipeline(detector: PlateDetector, reader: PlateReader, gate: Recording) -> Watched:
        pipeline = driveby.watched(detector, reader)
        pipeline._gate = gate
        return pipeline

    def process(self, frame: Frame, *, clear: bool) -> None:
        """Take the next frame; `clear` says whether a plate in it could be read."""
        before = self.open.counters.stage_ns.total()
        self.open.process(frame)
        spent = self.open.counters.stage_ns.total() - before
        motion = self.gated.counters.stage_ns[Stage.MOTION]
        self.gated.process(frame)
        looked = self._gates[1].last
        gate_ns = self.gated.counters.stage_ns[Stage.MOTION] - motion
        self.counts += Gated(
            frames=1,
            looked=looked,
            clear=clear,
            clear_looked=clear and looked,
            time_ns=gate_ns + looked * spent,
            time_open_ns=spent,
        )

    def close(self) -> None:
        """End both, and count their passages."""
        self.open.flush()
        self.gated.flush()
        for name, pipeline in (("passages", self.gated), ("passages_open", self.open)):
            setattr(self.counts, name, len(texts_of(pipeline)))


def texts_of(pipeline: Watched) -> list[str]:
    """Return the texts of the passages that a pipeline reported."""
    return [passage.text.reveal() for _, passage in pipeline.ended if passage is not None]


def dimmed(picture: Image, share: float, grain: Image) -> Image:
    """Return a picture taken with a share of the light, with a dim sensor's noise (`grain`: 128 is none)."""
    if share >= 1:
        return picture
    table = np.rint(((np.arange(256) / 255.0) ** GAMMA * share) ** (1 / GAMMA) * 255).astype(np.uint8)
    return np.asarray(cv2.addWeighted(cv2.LUT(picture, table), 1.0, grain, 1.0, -128.0), np.uint8)


def drive(rng: Random, scene: Scene, times: list[float], models: Models) -> dict[float, Gated]:
    """Let a scene pass in every light, and count what came of it."""
    pairs = {share: Pair(models) for share in LIGHTS}
    truth = Truth(scene=scene)
    steps = driveby.steps_for(scene, SHUTTER) if scene.cars else 1
    shutter = Shutter(exposure_s=SHUTTER.exposure_s, steps=steps, readout_s=SHUTTER.readout_s)
    grain = np.clip(rng.normal(128, GRAIN, (clip.HEIGHT, clip.WIDTH, 3)), 0, 255).astype(np.uint8)
    shown = clip.pictures(rng, scene.cars, times, shutter=shutter, posts=scene.posts)
    for index, (time_s, picture) in enumerate(zip(times, shown, strict=True)):
        truth.note(time_s + SHUTTER.exposure_s / 2, SHUTTER.readout_s)
        for share, pair in pairs.items():
            seen = dimmed(picture, share, np.roll(grain, int(rng.integers(clip.HEIGHT)), axis=0))
            stream_ns = round(index * 1e9 / RATE)
            frame = Frame(source="lane", index=index, stream_ns=stream_ns, captured_ns=stream_ns, image=seen)
            pair.process(frame, clear=any(truth.clear[-1]))
    for pair in pairs.values():
        pair.close()
        gated, without = (driveby.tally(truth, one.ended, 1) for one in (pair.gated, pair.open))
        pair.counts += Gated(cars=without.sightable, reported=gated.reported, reported_open=without.reported)
    return {share: pair.counts for share, pair in pairs.items()}


def drives(
    models: Models, shown: Callable[[list[tuple[str, int]], str], Iterable[tuple[str, int]]]
) -> dict[tuple[str, float], Gated]:
    """Drive every scene at every speed, and leave the road empty for a while; by scene and share of the light."""
    counted: dict[tuple[str, float], Gated] = {}
    for name, kmh in shown([*((name, kmh) for name in SCENES for kmh in SPEEDS_KMH), (EMPTY, 0)], "motion gate"):
        rng = np.random.default_rng([SEED, [*SCENES, EMPTY].index(name), kmh])
        scene = SCENES[name](rng, kmh / 3.6) if name in SCENES else Scene(cars=())
        start, end = driveby.window(scene) if scene.cars else (0.0, EMPTY_S)
        wait = IDLE_S if scene.cars else 0.0
        times = np.arange(start - wait - rng.uniform(0, 1 / RATE), end + wait, 1 / RATE).tolist()
        for share, counts in drive(rng, scene, times, models).items():
            counted[name, share] = counted.get((name, share), Gated()) + counts
    return counted


def clips(data: Path, models: Models, shown: Callable[[list[Path], str], Iterable[Path]]) -> dict[str, Gated]:
    """Play the real clips to both pipelines; of the labelled ones, count the labelled passages. To report only."""
    labels = labels_of(data / "eval_clips.jsonl")
    by_eye = labels_of(TOLL_LANE)
    counted: dict[str, Gated] = {}
    for path in shown(sorted((data / "eval/clips").iterdir()), "clips"):
        pair = Pair(models)
        for frame in VideoFileSource(SourceSettings(name="lane", kind=SourceKind.VIDEO, path=path), 0).frames():
            pair.process(frame, clear=False)
        pair.close()
        truth = {**by_eye, **labels}.get(path.name, set())
        gated, without = ({_folded(text) for text in texts_of(one)} for one in (pair.gated, pair.open))
        pair.counts += Gated(cars=len(truth), reported=len(truth & gated), reported_open=len(truth & without))
        name = f"{len(labels)} labelled clips" if path.name in labels else path.name
        counted[name] = counted.get(name, Gated()) + pair.counts
    return counted


def labels_of(path: Path) -> dict[str, set[str]]:
    """Return the texts of the passages of labelled clips, by the clip's name; O counts as 0 and I as 1."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {Path(row["path"]).name: {_folded(text) for text in row["passages"]} for row in rows}


def _folded(text: str) -> str:
    return text.replace("O", "0").replace("I", "1")
