"""Measures on held-out pictures how well plates are boxed: by the detector alone, and as the reader then sees them.

  python -m tools.measure_boxes --data DATA [--across SHARE --down SHARE] [--models DIR] [--cache PACK]

Each picture is shrunk until its widest plate is as wide as a camera would show it in a frame of 1280x720; smaller
plates than that are left out. Prints one JSON line a width and one of them all: plates, the share that was not found at
all, found at IoU 0.5 by the detector's box and by the reader's, at IoU 0.7 by the reader's, and read exactly where two
public models agree on the text. How far boxes are drawn in (`across`, `down` of the manifest) was chosen on it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
from rich.console import Console
from rich.progress import track

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Image, located
from homeplate.vision import detector_of, reader_of
from homeplate.vision.detector import Detector
from homeplate.vision.image import plate_crop
from homeplate.vision.model import Model, default_model_dir, load_manifest
from homeplate.vision.reader import Reader
from tools.train.detector import RUNS
from tools.train.detector_data import SQUARED, Pack
from tools.train.detector_measure import LEAST_SHRINKING, LOOSE, MATCH, as_camera_sees
from tools.train.reader_data import readings

FRAME = (1280, 720)
WIDTHS = (60, 75, 95, 130, 180)
CLOSE = 0.7
TOUCHES = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What became of one plate: IoU of the detector's best box and of the reader's; `read` None where nobody knows."""

    claimed: float
    seen: float
    read: bool | None


def texts_of(data: Path) -> dict[tuple[str, int], str]:
    """Return the agreed texts by picture and number of the plate in it."""
    rows = map(json.loads, (data / "detect/machine_read.jsonl").read_text().splitlines())
    return {(row["path"], row["box"]): text for row in rows for text in readings(row, agreed=True)}


def plates(pack: Pack, width: int) -> Iterator[tuple[str, int, Image, Box]]:
    """Yield each held-out picture's path, the number of its widest plate, and a frame with that plate's box."""
    for entry in pack.part(held_out=True):
        if entry.source in LOOSE | SQUARED or not len(entry.boxes):
            continue
        boxes = [Box(left=b[0], top=b[1], right=b[2], bottom=b[3]) for b in entry.boxes.tolist()]
        widest = max(range(len(boxes)), key=lambda index: boxes[index].width)
        if width <= LEAST_SHRINKING * boxes[widest].width:
            frame, box = as_camera_sees(pack.picture(entry), boxes[widest], FRAME, width)
            yield entry.path, widest, frame, box


def look(detector: Detector, reader: Reader, frame: Image, plate: Box, text: str | None) -> Found:
    """Find and read one plate of a frame as the node would."""
    near = [detection for detection in detector.detect(frame) if detection.box.iou(plate) > TOUCHES]
    crops = [plate_crop(frame, detection) for detection in near]
    read = reader.read([crop.image for crop in crops])
    seen = [located(*way).box for way in zip(near, crops, read, strict=True)]
    texts = [reading.text.reveal() for reading in read if reading.text]
    return Found(
        claimed=max((detection.box.iou(plate) for detection in near), default=0.0),
        seen=max((box.iou(plate) for box in seen), default=0.0),
        read=None if text is None else text in texts,
    )


def figures(found: Sequence[Found]) -> dict[str, float]:
    """Return the shares."""
    known = [one.read for one in found if one.read is not None]
    shares = {
        "missed": sum(one.claimed == 0 for one in found) / len(found),
        "found_by_the_detector": sum(one.claimed >= MATCH for one in found) / len(found),
        "found": sum(one.seen >= MATCH for one in found) / len(found),
        "closely": sum(one.seen >= CLOSE for one in found) / len(found),
        "read": sum(known) / max(1, len(known)),
    }
    return {"plates": len(found), "texts": len(known), **{name: round(share, 4) for name, share in shares.items()}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=default_model_dir())
    parser.add_argument("--cache", type=Path, default=RUNS / "cache", help="folder of the detector's packed pictures")
    parser.add_argument("--across", type=float, help="instead of the manifest's")
    parser.add_argument("--down", type=float, help="instead of the manifest's")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    manifest = load_manifest(given.models)
    drawn = {name: value for name in ("across", "down") if (value := getattr(given, name)) is not None}
    limits = msgspec.structs.replace(manifest.detector.thresholds, **drawn)
    manifest = msgspec.structs.replace(manifest, detector=msgspec.structs.replace(manifest.detector, thresholds=limits))
    detector = detector_of(manifest, Model(given.models, manifest.detector, threads=1))
    reader = reader_of(manifest, Model(given.models, manifest.reader, threads=1))
    pack, texts, every = Pack(given.cache, "detect"), texts_of(given.data), list[Found]()
    for width in track(WIDTHS, description="widths", console=Console(stderr=True), transient=True):
        found = [
            look(detector, reader, frame, box, texts.get((path, number)))
            for path, number, frame, box in plates(pack, width)
        ]
        every += found
        print(json.dumps({"width": width, **figures(found)}))
    print(json.dumps({"width": "all", **figures(every)}))


if __name__ == "__main__":
    main()
