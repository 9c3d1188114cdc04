"""Recognises pictures with the project's models for a measurement (`tools.serving`), one thread."""

import argparse
from pathlib import Path

import cv2

from homeplate.vision import open_models
from homeplate.vision.model import default_model_dir
from tools.evaluate import work_of
from tools.serving import Row, pin, serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=None)
    parser.add_argument("--core", type=int, default=None)
    given = parser.parse_args()
    pin(given.core)
    cv2.setNumThreads(1)
    models = open_models(given.models or default_model_dir(), threads=1)

    def recognise(kind: str, path: Path) -> Row:
        return work_of(kind, *models)(path)

    serve(recognise)


if __name__ == "__main__":
    main()
