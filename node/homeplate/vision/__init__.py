"""The eyes: models, detector, reader, crops and the motion gate. Nothing here opens a file but a model's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from homeplate.domain.provider import Provider
from homeplate.vision.detector import Detector, Limits
from homeplate.vision.model import Manifest, Model, build, load_manifest, read_manifest
from homeplate.vision.providers import PRECISION
from homeplate.vision.reader import Classes, Reader

__all__ = ["Detector", "Models", "Reader", "Running", "build_engines", "open_models"]
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What runs the models, for the health output.

    Attributes:
        provider: as it was asked for; the models did not open on any other.
        precision: of the weights: int8, fp16.
        detector: first digits of the SHA-256 by which the manifest names the detector's file.
        reader: the reader's.
    """

    provider: str
    precision: str
    detector: str
    reader: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Both models, opened, what runs them, and the SHA-256 of the manifest that names them."""

    detector: Detector
    reader: Reader
    running: Running
    manifest_sha256: bytes

    @classmethod
    def open(
        cls, folder: Path, *, threads: int, provider: Provider = Provider.CPU, engines: Path | None = None
    ) -> "Models":
        """Open the detector and the reader of a folder of models and run each once.

        Args:
            folder: with manifest.json; see `model.default_model_dir`.
            threads: CPU threads of one inference, at least 1.
            provider: what has to run them.
            engines: folder of the engines that `build_engines` built, for a provider that needs them.

        Raises:
            ModelError: the manifest or a model is missing or altered, or does not fit this node, or the provider is
                not there.
        """
        manifest, sha256 = read_manifest(folder)
        find = Model(folder, manifest.detector, threads=threads, provider=provider, engines=engines)
        read = Model(folder, manifest.reader, threads=threads, provider=provider, engines=engines)
        running = Running(
            provider=provider.value,
            precision=PRECISION[provider],
            detector=find.sha256[:_SHORT],
            reader=read.sha256[:_SHORT],
        )
        return cls(
            detector=detector_of(manifest, find),
            reader=reader_of(manifest, read),
            running=running,
            manifest_sha256=sha256,
        )


def open_models(folder: Path, *, threads: int) -> tuple[Detector, Reader]:
    """Open the detector and the reader on the CPU; see `Models.open`."""
    models = Models.open(folder, threads=threads)
    return models.detector, models.reader


def detector_of(manifest: Manifest, model: Model) -> Detector:
    """Return the detector that a model runs, with the manifest's thresholds."""
    limits = manifest.detector.thresholds
    _, height, width, _ = manifest.detector.input.shape
    return Detector(
        model,
        width=width,
        height=height,
        limits=Limits(**msgspec.structs.asdict(limits)),
    )


def reader_of(manifest: Manifest, model: Model) -> Reader:
    """Return the reader that a model runs, with the manifest's classes and thresholds."""
    entry = manifest.reader
    classes = Classes(
        alphabet=entry.alphabet,
        jurisdictions=entry.jurisdictions,
        least_jurisdiction=entry.thresholds.jurisdiction,
        least_alternative=entry.thresholds.alternative,
    )
    _, height, width, _ = entry.input.shape
    return Reader(model, width=width, height=height, classes=classes)


def build_engines(folder: Path, engines: Path) -> Iterator[Path]:
    """Build both models' engines for this machine's GPU and yield each once it is there; it takes minutes.

    Args:
        folder: of the models.
        engines: where engines are kept; it is made where it is missing.

    Raises:
        ModelError: TensorRT is not there, or the manifest names no graph to build from, or it cannot be built.
    """
    manifest = load_manifest(folder)
    for entry in (manifest.detector, manifest.reader):
        yield build(folder, entry, engines)
