"""The eyes: models, detector, reader, crops and the motion gate. Nothing here opens a file but a model's."""

from pathlib import Path

from homeplate.vision.detector import Detector, Limits
from homeplate.vision.model import Model, load_manifest
from homeplate.vision.reader import Classes, Reader

__all__ = ["Detector", "Reader", "open_models"]


def open_models(folder: Path, *, threads: int) -> tuple[Detector, Reader]:
    """Open the detector and the reader of a folder of models and run each once.

    Args:
        folder: with manifest.json; see `model.default_model_dir`.
        threads: threads of one inference, at least 1.

    Raises:
        ModelError: the manifest or a model is missing or altered, or does not fit this node.
    """
    manifest = load_manifest(folder)
    found, read = manifest.detector, manifest.reader
    limits = Limits(score=found.thresholds.score, overlap=found.thresholds.overlap, corners=found.thresholds.corners)
    classes = Classes(
        alphabet=read.alphabet,
        jurisdictions=read.jurisdictions,
        least_jurisdiction=read.thresholds.jurisdiction,
        least_alternative=read.thresholds.alternative,
    )
    _, height, width, _ = found.input.shape
    detector = Detector(Model(folder, found, threads=threads), width=width, height=height, limits=limits)
    _, height, width, _ = read.input.shape
    return detector, Reader(Model(folder, read, threads=threads), width=width, height=height, classes=classes)
