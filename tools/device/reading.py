"""Reads a folder's pictures and says everything that was read, one line of JSON each: `python reading.py FOLDER`.

What is in `crops/` is read as a plate, what is in `scenes/` is searched for plates. It needs the installed package and
nothing of the project beside it, so that what it says is the package's own doing.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from homeplate.domain.passage import Image
from homeplate.domain.plate import PlateReading
from homeplate.vision import open_models
from homeplate.vision.image import plate_crop
from homeplate.vision.model import default_model_dir


def told(reading: PlateReading) -> dict[str, object]:
    """Return a reading for a program: its text, and the numbers to eight places."""
    return {
        "text": reading.text.reveal() if reading.text else "",
        "confidence": round(reading.confidence, 8),
        "jurisdiction": reading.jurisdiction,
    }


def picture(path: Path) -> Image:
    """Return a picture, BGR."""
    return np.asarray(cv2.imread(str(path)), np.uint8)


def main() -> None:
    """Read every picture in turn."""
    cv2.setNumThreads(1)
    folder = Path(sys.argv[1])
    detector, reader = open_models(default_model_dir(), threads=1)
    for path in sorted((folder / "crops").iterdir()):
        [reading] = reader.read([picture(path)])
        print(json.dumps({"picture": path.name, "plates": [told(reading)]}))
    for path in sorted((folder / "scenes").iterdir()):
        image = picture(path)
        found = detector.detect(image)
        readings = reader.read([plate_crop(image, detection).image for detection in found])
        boxes = [[round(side, 3) for side in (d.box.left, d.box.top, d.box.right, d.box.bottom)] for d in found]
        plates = [{**told(reading), "box": box} for reading, box in zip(readings, boxes, strict=True)]
        print(json.dumps({"picture": path.name, "plates": plates}))


if __name__ == "__main__":
    main()
