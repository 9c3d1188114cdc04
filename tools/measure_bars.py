"""Measures on held-out pictures what the pipeline's bars cost: how sure right and wrong readings and false alarms are.

  python tools/measure_bars.py DATA [--models DIR] [--cache SPLIT.json] [--most N]

DATA has `detect/` and `read/`. Right and wrong are judged against readings on which two other models agree; a false
alarm is a detection that touches no labelled box. Prints one JSON line a bar; the numbers in `homeplate.pipeline` were
chosen on it.
"""

import argparse
import json
from pathlib import Path

import cv2

from homeplate.camera.replay import Unusable, load_picture
from homeplate.domain.geometry import Box
from homeplate.domain.passage import Image
from homeplate.domain.plate import PlateReading
from homeplate.vision import Detector, Reader, open_models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir
from tools.train.split import held_out_paths

BARS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
LEAST_WIDTH = 60
TOUCHES = 0.05


def picture(path: Path) -> Image:
    loaded = load_picture(path)
    if isinstance(loaded, Unusable):
        raise SystemExit(f"{path}: {loaded.what}")
    return loaded


def crops(data: Path, held_out: frozenset[str], reader: Reader, most: int) -> tuple[list[float], list[float]]:
    """Return the confidences of right and of wrong readings of held-out plate crops."""
    right, wrong = list[float](), list[float]()
    rows = [json.loads(line) for line in (data / "read/labels.jsonl").read_text().splitlines()]
    agreed = [row for row in rows if row["path"] in held_out and row["machine_read"]["agree"]]
    for row in agreed[:: max(1, len(agreed) // most)]:
        [reading] = reader.read([picture(data / row["path"])])
        if reading.text is not None:
            (right if reading.text.reveal() == row["machine_read"]["a"] else wrong).append(reading.confidence)
    return right, wrong


def alarms(data: Path, held_out: frozenset[str], detector: Detector, reader: Reader, most: int) -> list[PlateReading]:
    """Return the readings of false alarms in held-out scenes, wide enough to be read on the road."""
    found = list[PlateReading]()
    rows = [json.loads(line) for line in (data / "detect/labels.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["path"] in held_out]
    for row in kept[:: max(1, len(kept) // most)]:
        image = picture(data / row["path"])
        # Scenes are small here; a road camera's frame has plates of the widths that count.
        scale = 2.0
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR).astype("uint8")
        boxes = [Box(left=a * scale, top=b * scale, right=c * scale, bottom=d * scale) for a, b, c, d in row["boxes"]]
        for detection in detector.detect(image):
            if detection.box.width >= LEAST_WIDTH and all(detection.box.iou(box) < TOUCHES for box in boxes):
                found += reader.read([plate_crop(image, detection).image])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", type=Path, default=default_model_dir())
    parser.add_argument("--cache", type=Path, default=Path("tools/train/runs/split.json"))
    parser.add_argument("--most", type=int, default=1000, help="pictures of a kind, spread evenly")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    detector, reader = open_models(given.models, threads=1)
    held_out = held_out_paths(given.data, given.cache)
    right, wrong = crops(given.data, held_out, reader, given.most)
    false = [reading.confidence for reading in alarms(given.data, held_out, detector, reader, given.most)]
    for bar in BARS:
        counts = [sum(confidence >= bar for confidence in group) for group in (right, wrong, false)]
        shares = {
            "right_kept": round(counts[0] / max(1, len(right)), 4),
            "wrong_among_kept": round(counts[1] / max(1, counts[0] + counts[1]), 4),
            "false_alarms_kept": counts[2],
            "false_alarms": len(false),
        }
        print(json.dumps({"bar": bar, **shares}))


if __name__ == "__main__":
    main()
