"""Reads pictures, plate crops or clips with the project's models and writes what a scorer takes, one JSON line each.

  python tools/evaluate.py scenes INPUT... --out READS.jsonl     {"image", "plates": [{"text", "confidence", "box"}]}
  python tools/evaluate.py crops  INPUT... --out READS.jsonl     the same; the whole picture is the plate
  python tools/evaluate.py clips  INPUT... --out PASSAGES.jsonl  {"clip", "passages": [{"text", ...}]}

An INPUT is a file, a folder (all files in it, by name) or a list of files as JSON lines with a "path", relative to the
list's folder. `milliseconds` is recognition without decoding. Its output holds plates: it is for evaluation sets, off
the node. It decides nothing: thresholds are the manifest's.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from homeplate.camera import VideoFileSource
from homeplate.domain.passage import Image, Passage, located
from homeplate.domain.plate import PlateReading
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import HomeplateError
from homeplate.pipeline import Pipeline
from homeplate.ports import PlateDetector
from homeplate.tracking.grammar import rerank
from homeplate.tracking.voting import vote
from homeplate.vision import Detector, Reader, open_models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir
from homeplate.vision.motion import MotionGate
from homeplate.vision.tiling import PatientDetector

Row = dict[str, Any]
Work = Callable[[Path], Row]
HOME: Final = "US-CA"
"""Where the node stands that is evaluated; its state's forms count for plates of a state that is not told."""
UNREADABLE: Final = 2
"""Exit status where an input could not be read; the others are written all the same."""


def paths_of(given: Path) -> Iterator[Path]:
    """Yield the files that an argument names.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if given.suffix == ".jsonl":
        for line in given.read_text(encoding="utf-8").splitlines():
            yield given.parent / json.loads(line)["path"]
    elif given.is_dir():
        yield from sorted(path for path in given.rglob("*") if path.is_file())
    elif given.is_file():
        yield given
    else:
        raise FileNotFoundError(f"{given}: no such file or folder")


def picture_of(path: Path) -> Image:
    """Decode a picture, [H, W, 3] BGR.

    Raises:
        ValueError: it is missing or no picture.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise ValueError(f"{path}: missing or no picture")
    return np.asarray(picture, np.uint8)


def _read(reading: PlateReading, home: str | None = None) -> Row:
    """Return a reading; with `home` its text is what a node there reports of a still."""
    text = reading.text
    if home is not None and reading.characters:
        text = rerank(vote([reading]), reading.jurisdiction, home=home)
    return {
        "text": text.reveal() if text else "",
        "confidence": round(reading.confidence, 4),
        "jurisdiction": reading.jurisdiction,
    }


def read_scene(path: Path, detector: PlateDetector, reader: Reader, home: str) -> Row:
    """Find and read the plates of a picture, as a node of the jurisdiction `home` does before its bars."""
    picture = picture_of(path)
    begun = time.perf_counter_ns()
    found = detector.detect(picture)
    crops = [plate_crop(picture, detection) for detection in found]
    readings = reader.read([crop.image for crop in crops])
    found = [located(*way) for way in zip(found, crops, readings, strict=True)]
    spent = time.perf_counter_ns() - begun
    plates = [
        {
            **_read(reading, home),
            "score": round(detection.score, 4),
            "box": [round(v, 1) for v in (box.left, box.top, box.right, box.bottom)],
            "corners": [[round(x, 1), round(y, 1)] for x, y in detection.quad.corners] if detection.quad else None,
        }
        for detection, reading in zip(found, readings, strict=True)
        for box in (detection.box,)
    ]
    return {"image": str(path), "plates": plates, "milliseconds": spent / 1e6}


def read_crop(path: Path, reader: Reader) -> Row:
    """Read a picture that is one plate, with the reader alone: no state's forms are asked."""
    picture = picture_of(path)
    begun = time.perf_counter_ns()
    (reading,) = reader.read([picture])
    spent = time.perf_counter_ns() - begun
    whole = [0, 0, picture.shape[1], picture.shape[0]]
    return {"image": str(path), "plates": [{**_read(reading), "box": whole}], "milliseconds": spent / 1e6}


def read_clip(path: Path, detector: Detector, reader: Reader, home: str) -> Row:
    """Let the node's pipeline report the passages of a clip; `milliseconds` is of a frame, decoding left out.

    Raises:
        CameraError: the clip is missing or cannot be decoded to its end.
    """
    settings = SourceSettings(name="clip", kind=SourceKind.VIDEO, path=path)
    pipeline = Pipeline(
        settings=settings,
        detector=detector,
        reader=reader,
        gate=MotionGate(),
        crop=plate_crop,
        perf_ns=time.perf_counter_ns,
        home=home,
    )
    passages: list[Passage] = []
    for frame in VideoFileSource(settings, 0).frames():
        passages += pipeline.process(frame)
    passages += pipeline.flush()
    counters = pipeline.counters
    return {
        "clip": str(path),
        "passages": [
            {"text": p.text.reveal(), "confidence": round(p.confidence, 4), "first": p.first_frame, "seen": p.seen}
            for p in passages
        ],
        "frames": counters.frames,
        "dropped": dict(counters.dropped),
        "milliseconds": counters.stage_ns.total() / 1e6 / max(1, counters.frames),
    }


def work_of(kind: str, detector: Detector, reader: Reader, home: str = HOME) -> Work:
    """Return what is done with each file."""
    if kind == "scenes":
        patient = PatientDetector(detector)  # as the node looks at stills
        return lambda path: read_scene(path, patient, reader, home)
    if kind == "clips":
        return lambda path: read_clip(path, detector, reader, home)
    return lambda path: read_crop(path, reader)


def main() -> int:
    """Evaluate every input; an unreadable one is named and skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("scenes", "crops", "clips"))
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=Path, default=None, help="folder of the models; the project's by default")
    parser.add_argument("--home", default=HOME, help="the node's jurisdiction; \"unknown\" asks no state's forms")
    given = parser.parse_args()
    console = Console(stderr=True)
    cv2.setNumThreads(given.threads)
    try:
        paths = [path for argument in given.inputs for path in paths_of(argument)]
        work = work_of(given.kind, *open_models(given.models or default_model_dir(), threads=given.threads), given.home)
    except (HomeplateError, OSError, ValueError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        return 1
    status = 0
    with given.out.open("w", encoding="utf-8") as out:
        for path in track(paths, description=given.kind, console=console, transient=True):
            try:
                out.write(json.dumps(work(path)) + "\n")
            except (HomeplateError, ValueError) as error:
                console.print(str(error), style="red", markup=False, soft_wrap=True)
                status = UNREADABLE
    return status


if __name__ == "__main__":
    raise SystemExit(main())
