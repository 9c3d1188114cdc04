"""Recognises pictures with fast-alpr for a measurement (`tools.serving`), one thread.

It runs in the peer's own environment. Detector, reader and what is between them are set up as fast-alpr does, from the
weights in the folder given.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from fast_plate_ocr import LicensePlateRecognizer  # type: ignore[import-not-found]
from open_image_models.detection.core.yolo_v9.inference import YoloV9Detector  # type: ignore[import-not-found]

from tools.serving import Row, pin, serve

SCORE = 0.4
"""fast-alpr's default threshold of the detector."""


def engines(detector: Path, reader: Path, config: Path) -> tuple[Any, Any]:
    """Open the peer's detector and reader on one thread of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    finder = YoloV9Detector(
        str(detector), ("License Plate",), conf_thresh=SCORE, providers=["CPUExecutionProvider"], sess_options=options
    )
    ocr = LicensePlateRecognizer(onnx_model_path=reader, plate_config_path=config, device="cpu", sess_options=options)
    return finder, ocr


def read(ocr: Any, crop: Any, box: list[int]) -> Row:
    answer = ocr.run(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), return_confidence=True)[0]
    return {"text": answer.plate, "confidence": float(np.mean(answer.char_probs)), "box": box}


def scene(finder: Any, ocr: Any, picture: Any) -> list[Row]:
    plates = []
    for found in finder.predict(picture):
        at = found.bounding_box
        left, top, right, bottom = (max(0, int(v)) for v in (at.x1, at.y1, at.x2, at.y2))
        crop = picture[top:bottom, left:right]
        if crop.size:
            plates.append(read(ocr, crop, [left, top, right, bottom]))
    return plates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--reader", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--core", type=int, default=None)
    given = parser.parse_args()
    pin(given.core)
    cv2.setNumThreads(1)
    finder, ocr = engines(given.detector, given.reader, given.config)

    def recognise(kind: str, path: Path) -> Row:
        picture = cv2.imread(str(path))
        if picture is None:
            raise ValueError(f"{path}: missing or no picture")
        begun = time.perf_counter_ns()
        if kind == "crops":
            plates = [read(ocr, picture, [0, 0, picture.shape[1], picture.shape[0]])]
        else:
            plates = scene(finder, ocr, picture)
        return {"plates": plates, "milliseconds": (time.perf_counter_ns() - begun) / 1e6}

    serve(recognise)


if __name__ == "__main__":
    main()
