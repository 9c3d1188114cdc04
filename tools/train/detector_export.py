"""Turns trained weights into the node's model: int8 with real calibration pictures, normalisation in the graph.

The exported graph takes the letterboxed picture as it is (`image`, uint8 [1, H, W, 3] BGR): its bytes are the quantised
input, so nothing is converted. It gives the raw heads (`heads`, float32 [1, 13, H / 8, W / 8]).
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.train.detector_net import PlateNet

OPSET = 17
ZERO_POINT, SCALE = 128, 1 / 128
"""The picture's bytes as a quantised tensor: (byte - 128) / 128, which is how the network was trained."""


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands letterboxed pictures to the calibration."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._left: Iterator[NDArray[np.uint8]] = iter(pictures)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next picture, as the float network takes it."""
        picture = next(self._left, None)
        if picture is None:
            return None
        values = (picture.astype(np.float32) - ZERO_POINT) * np.float32(SCALE)
        return {"pixels": np.ascontiguousarray(values.transpose(2, 0, 1)[None])}


def export_float(net: PlateNet, size: tuple[int, int], path: Path) -> None:
    """Write the float network, batch norm folded, for pictures of (width, height)."""
    net.eval()
    example = torch.zeros(1, 3, size[1], size[0])
    torch.onnx.export(
        net, (example,), str(path), input_names=["pixels"], output_names=["heads"], opset_version=OPSET, dynamo=False
    )


def quantise(net: PlateNet, size: tuple[int, int], pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Write the int8 model.

    Args:
        net: trained weights.
        size: width and height of the input.
        pictures: letterboxed pictures [H, W, 3] to calibrate on.
        path: the file to write.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, int8 = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "int8.onnx"))
        export_float(net, size, plain)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(int8),
            _Pictures(pictures),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=[_last_convolution(ready)],
            extra_options={"CalibMovingAverage": True},
        )
        model = onnx.load(int8)
    _take_bytes(model, size)
    model.producer_name = "homeplate"
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _last_convolution(path: Path) -> str:
    """The 1x1 convolution that makes the heads stays float: its outputs range too widely for eight bits."""
    nodes = onnx.load(path).graph.node
    return str([node.name for node in nodes if node.op_type == "Conv"][-1])


def _take_bytes(model: onnx.ModelProto, size: tuple[int, int]) -> None:
    """Replace the float input and its quantisation by the picture's bytes, [1, H, W, 3] uint8."""
    graph = model.graph
    quantiser = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "pixels")
    constants = {"pixels_byte_scale": np.array(SCALE, np.float32), "pixels_byte_zero": np.array(ZERO_POINT, np.uint8)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == quantiser.output[0]:
            node.input[1], node.input[2] = constants
    turned = helper.make_node("Transpose", ["image"], [quantiser.output[0]], perm=[0, 3, 1, 2])
    place = list(graph.node).index(quantiser)
    graph.node.remove(quantiser)
    graph.node.insert(place, turned)
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, [1, size[1], size[0], 3]))


def session_heads(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an exported model as the node does, to measure it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
