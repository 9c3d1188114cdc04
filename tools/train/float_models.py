"""Writes the fp32 graphs that a GPU provider is built from: `python -m tools.train.float_models [--models FOLDER]`.

Reads `training/detector.npz` and `training/reader.npz`, the weights that were kept when the int8 models were exported,
and writes `detector_fp32.onnx` and `reader_fp32.onnx` beside those, with their hashes in the manifest. It needs no data
and some seconds. Run it after every export: an export drops the old graph from the manifest.

A graph takes the bytes that its int8 model takes and gives the same outputs, so the node treats both alike. The bytes
go into a Cast first, since TensorRT takes them into nothing else.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from homeplate.vision.model import MANIFEST, ModelEntry, load_manifest
from tools.train import detector, detector_export, reader_export, reader_train
from tools.train.detector_net import PlateNet
from tools.train.manifest import record_fp32
from tools.train.quantising import PIXELS
from tools.train.reader_data import JURISDICTIONS
from tools.train.reader_net import Reader

LIKE = 0.01
"""The kept weights are half precision: as a share of the largest, they differ by less from what was exported."""


def detector_graph(models: Path, path: Path) -> None:
    """Write the detector's float network, as the int8 model's twin."""
    entry = load_manifest(models).detector
    net = PlateNet()
    net.load_state_dict(detector.weights_of(models / "training" / "detector.npz"))
    exported = _constants(models / entry.file)["output.bias"]
    _require_like(net.output.bias.detach().numpy(), exported, entry)
    _, height, width, _ = entry.input.shape
    detector_export.export_float(net, (width, height), path)


def reader_graph(models: Path, path: Path) -> None:
    """Write the reader's float network with the temperature that its int8 model was given.

    The weights are kept without the temperature, which is chosen at the export. The bias of the last layer stays float
    in the int8 model, so that the temperature can be read off it.
    """
    entry = load_manifest(models).reader
    reader = Reader(len(JURISDICTIONS))
    reader.load_state_dict(reader_train.weights_of(models / "training" / "reader.npz"))
    kept, exported = reader.characters.bias.detach().numpy(), _constants(models / entry.file)["reader.characters.bias"]
    temperature = float(kept @ kept / (kept @ exported))
    _require_like(kept, exported * temperature, entry)
    reader_export.temper(reader, temperature)
    reader_export.export_float(reader, path)


def _constants(path: Path) -> dict[str, NDArray[np.float32]]:
    return {constant.name: numpy_helper.to_array(constant) for constant in onnx.load(path).graph.initializer}


def _require_like(kept: NDArray[np.float32], exported: NDArray[np.float32], entry: ModelEntry) -> None:
    """Refuse weights of another training than the int8 model's: the two would read differently."""
    gap = float(np.abs(kept - exported).max() / np.abs(exported).max())
    if gap > LIKE:
        raise SystemExit(f"the kept weights are not those of {entry.file} (they differ by {gap:.0%}): keep them again")


def take_bytes(model: onnx.ModelProto, entry: ModelEntry, *, zero_point: float, scale: float) -> None:
    """Put the manifest's byte input before the float input: (byte - zero point) * scale, channels first."""
    graph = model.graph
    constants = {"pixels_zero_point": zero_point, "pixels_scale": scale}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items())
    before = [
        helper.make_node("Cast", [entry.input.name], ["bytes_as_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["bytes_as_float", "pixels_zero_point"], ["bytes_centred"]),
        helper.make_node("Mul", ["bytes_centred", "pixels_scale"], ["bytes_scaled"]),
        helper.make_node("Transpose", ["bytes_scaled"], [PIXELS], perm=[0, 3, 1, 2]),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    shape = [entry.input.name if length < 0 else length for length in entry.input.shape]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(entry.input.name, TensorProto.UINT8, shape))


def write(models: Path, part: str, graph: Callable[[Path, Path], None], *, zero_point: float, scale: float) -> None:
    """Write one part's graph and its entry."""
    entry: ModelEntry = getattr(load_manifest(models), part)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        graph(models, plain)
        model = onnx.load(plain)
    take_bytes(model, entry, zero_point=zero_point, scale=scale)
    model.producer_name = "homeplate"
    onnx.checker.check_model(model, full_check=True)
    path = models / f"{part}_fp32.onnx"
    onnx.save(model, path)
    record_fp32(models, part, path)
    print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    """Write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"), help=f"folder with {MANIFEST} and training/")
    models = parser.parse_args().models
    write(models, "detector", detector_graph, zero_point=detector_export.ZERO_POINT, scale=detector_export.SCALE)
    write(models, "reader", reader_graph, zero_point=reader_export.ZERO_POINT, scale=reader_export.SCALE)


if __name__ == "__main__":
    main()
