"""Writes models/manifest.json: `python -m tools.train.manifest detector|reader FACTS.json [--models FOLDER]`.

What can be read off the model's file (hash, size, inputs, outputs) is read off it; the facts file gives the rest:
thresholds, alphabet, jurisdictions, training data and licences. Once both parts are there the whole is checked with the
node's own loader, so that a manifest which the node would refuse is never left behind unnoticed.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import onnxruntime

from homeplate.vision.model import ANY, MANIFEST, MANIFEST_VERSION, DetectorEntry, Model, ReaderEntry, load_manifest

PARTS = ("detector", "reader")


def _tensor(tensor: Any) -> dict[str, Any]:
    shape = [length if isinstance(length, int) else ANY for length in tensor.shape]
    return {"name": tensor.name, "shape": shape, "type": tensor.type}


def entry_of(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return a model's entry: what its file says, and the facts."""
    content = path.read_bytes()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (only_input,) = session.get_inputs()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "input": _tensor(only_input),
        "outputs": [_tensor(output) for output in session.get_outputs()],
        **facts,
    }


def record(models: Path, part: str, facts: dict[str, Any]) -> None:
    """Write one part's entry into the manifest of a folder and check the whole once both parts are in it.

    A part's fp32 graph is of the model before: `tools.train.float_models` writes a new one.

    Args:
        models: folder with `detector.onnx`, `reader.onnx` and the manifest.
        part: "detector" or "reader".
        facts: the entry's keys that the file does not tell; see `homeplate.vision.model`.

    Raises:
        ModelError: the node would refuse the result.
    """
    path = models / MANIFEST
    manifest = json.loads(path.read_text()) if path.exists() else {}
    manifest = {"version": MANIFEST_VERSION, **{key: manifest[key] for key in PARTS if key in manifest}}
    manifest[part] = entry_of(models / f"{part}.onnx", facts)
    _replace(path, manifest)
    if all(key in manifest for key in PARTS):
        checked = load_manifest(models)
        for entry in (checked.detector, checked.reader):
            Model(models, entry, threads=1)


def record_fp32(models: Path, part: str, graph: Path) -> None:
    """Name a part's fp32 graph in the manifest, and run it once as the node would.

    Args:
        models: folder with the manifest, in which both parts are, and the graph.
        part: "detector" or "reader".
        graph: the file; it has the inputs and outputs of the part's int8 model.

    Raises:
        ModelError: the node would refuse the result.
    """
    path = models / MANIFEST
    manifest = json.loads(path.read_text())
    content = graph.read_bytes()
    manifest[part]["fp32"] = {
        "file": graph.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    _replace(path, manifest)
    entry: DetectorEntry | ReaderEntry = getattr(load_manifest(models), part)
    Model(models, entry.as_fp32(), threads=1)


def _replace(path: Path, manifest: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    fresh.replace(path)


def main() -> None:
    """Parse the arguments and write the entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--models", type=Path, default=Path("models"))
    arguments = parser.parse_args()
    record(arguments.models, arguments.part, json.loads(arguments.facts.read_text()))


if __name__ == "__main__":
    main()
