"""Two readers over the same pictures: their processes, what each got right a picture, and a paired test.

What counts as right is the scorer's to say; it is loaded from its file and asked picture by picture. The statistics
are pure functions.
"""

import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
MEASURES = {"scenes": ("found_iou50", "exact", "exact_folded"), "crops": ("exact", "exact_folded")}
DETECTORS = {"fp32": "yolo-v9-t-416-deq-fp32.onnx", "int8": "yolo-v9-t-416-license-plates-end2end1.onnx"}
READER, CONFIG = "cct_xs_v2_global.onnx", "cct_xs_v2_global_plate_config.yaml"
PACKAGES = ("fast-alpr[onnx]==0.4.0", "opencv-python-headless")


class EngineError(Exception):
    """A reader's process cannot be had, or ended while it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A paired comparison of two readers on one measure.

    Attributes:
        only_ours, only_peer: pictures that one alone got right.
        p: probability of a split at least so uneven if neither were better (two-sided exact McNemar test).
    """

    only_ours: int
    only_peer: int
    p: float


def mcnemar(ours: Sequence[bool], peer: Sequence[bool]) -> Paired:
    """Compare two readers picture by picture (McNemar 1947, the exact binomial form).

    Raises:
        ValueError: the sequences are of different lengths.
    """
    only_ours = sum(a and not b for a, b in zip(ours, peer, strict=True))
    only_peer = sum(b and not a for a, b in zip(ours, peer, strict=True))
    n, least = only_ours + only_peer, min(only_ours, only_peer)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    return Paired(only_ours=only_ours, only_peer=only_peer, p=min(1.0, 2 * tail))


def verdicts(scorer: ModuleType, kind: str, labels: Sequence[Row], reads: Sequence[Row]) -> dict[str, list[bool]]:
    """Return by measure whether each labelled picture counts as right, as the scorer judges it alone."""
    scored = [getattr(scorer, kind)([label], [read]) for label, read in zip(labels, reads, strict=True)]
    return {measure: [bool(one[measure]["value"]) for one in scored] for measure in MEASURES[kind]}


def typical(times: Mapping[str, Sequence[float]]) -> float:
    """Return the median over pictures of the median over their repeats, in the unit given."""
    return statistics.median(statistics.median(repeats) for repeats in times.values())


def load_scorer(path: Path) -> ModuleType:
    """Load the scorer from its file.

    Raises:
        EngineError: it is missing.
    """
    spec = importlib.util.spec_from_file_location("scorer", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise EngineError(f"{path}: no scorer there; name it with --scorer")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights_of(models: Path) -> str:
    """Return which weights are measured, by the beginnings of their hashes."""
    manifest = json.loads((models / "manifest.json").read_text(encoding="utf-8"))
    return ", ".join(f"{part} {manifest[part]['sha256'][:12]}" for part in ("detector", "reader"))


class Engine:
    """One reader's process. It answers in turns; both ends are lines of JSON."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        """Start it.

        Raises:
            EngineError: its interpreter is missing.
        """
        self.name, self.peak_mb = name, 0.0
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={**os.environ, **threads, "PYTHONPATH": str(ROOT)},
            )
        except OSError as error:
            raise EngineError(f"{name}: {command[0]} cannot be started: {error}") from error

    def ask(self, kind: str, path: Path) -> Row:
        """Return what it reads in a picture ("scenes") or on a plate ("crops").

        Raises:
            EngineError: it ended; its own words are on the standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"kind": kind, "path": str(path.resolve())}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise EngineError(f"{self.name} ended at {path}") from error
        if not line:
            raise EngineError(f"{self.name} ended at {path}")
        row: Row = json.loads(line)
        self.peak_mb = row["peak_mb"] or 0.0
        return row

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def our_engine(models: Path | None, core: int | None) -> Engine:
    """Start the project's own reader."""
    chosen = ["--models", str(models.resolve())] if models else []
    return Engine("homeplate", [sys.executable, "-m", "tools.serve_homeplate", *chosen, *_on(core)])


def peer_engine(python: Path, folder: Path, detector: str, core: int | None) -> Engine:
    """Start fast-alpr in its own environment.

    Raises:
        EngineError: the environment or the weights are missing.
    """
    files = peer_files(folder, detector)
    words = [f"--{name}={file.resolve()}" for name, file in zip(("detector", "reader", "config"), files, strict=True)]
    # Not resolved: the environment's interpreter is a link, and what it links to knows no environment.
    return Engine("fast-alpr", [str(python.absolute()), "-m", "tools.serve_fast_alpr", *words, *_on(core)])


def _on(core: int | None) -> list[str]:
    return [] if core is None else ["--core", str(core)]


def peer_files(folder: Path, detector: str) -> list[Path]:
    """Return the peer's detector, reader and the reader's configuration.

    Raises:
        EngineError: one is missing.
    """
    files = [folder / name for name in (DETECTORS[detector], READER, CONFIG)]
    for file in files:
        if not file.is_file():
            raise EngineError(f"{file} is missing; name the folder of the peer's weights with --peer")
    return files


def peer_python(given: Path | None, cache: Path, *, setup: bool) -> Path:
    """Return the interpreter of the peer's environment, which is made in `cache` where that is asked.

    Raises:
        EngineError: there is none, or it cannot be made.
    """
    python = given or cache / "fast-alpr-env" / "bin" / "python"
    if python.exists() and _has_peer(python):
        return python
    if given is not None or not setup:
        raise EngineError(f"{python} has no fast-alpr; --setup makes an environment under {cache}")
    venv.create(python.parent.parent, with_pip=True, clear=True)
    done = subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=False)
    if done.returncode:
        raise EngineError(f"{', '.join(PACKAGES)}: cannot be installed into {python.parent.parent}")
    return python


def _has_peer(python: Path) -> bool:
    wanted = "import fast_plate_ocr, open_image_models"
    return subprocess.run([str(python), "-c", wanted], check=False, capture_output=True).returncode == 0
