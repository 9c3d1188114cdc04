"""Static quantisation of a float graph that takes pixels, into an int8 one that takes a picture's bytes.

Activations u8, weights s8 per channel, of which seven bits are used: on x86 without VNNI sums of two products of whole
bytes saturate. The bytes are the quantised input, so the int8 graph converts nothing: its input has the scale and the
zero point with which the network was trained.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

PIXELS = "pixels"
"""Name of a float graph's input, [1, 3, H, W]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bytes:
    """What a picture's bytes mean to a network: pixel = (byte - zero_point) * scale.

    Attributes:
        name: of the int8 graph's input, uint8 [1, height, width, 3].
    """

    name: str
    height: int
    width: int
    scale: float
    zero_point: int


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands pictures to the calibration, one at a time."""

    def __init__(self, pictures: Iterable[NDArray[np.uint8]], meaning: Bytes) -> None:
        self._left: Iterator[NDArray[np.uint8]] = iter(pictures)
        self._meaning = meaning

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next picture, as the float network takes it."""
        picture = next(self._left, None)
        if picture is None:
            return None
        values = (picture.astype(np.float32) - self._meaning.zero_point) * np.float32(self._meaning.scale)
        return {PIXELS: np.ascontiguousarray(values.transpose(2, 0, 1)[None])}


def quantised(
    ready: Path,
    pictures: Iterable[NDArray[np.uint8]],
    meaning: Bytes,
    *,
    kept_float: list[str],
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> onnx.ModelProto:
    """Quantise a preprocessed float graph.

    Args:
        ready: the graph, after `quant_pre_process`; its input is `PIXELS`.
        pictures: [H, W, 3] BGR to calibrate on.
        meaning: of their bytes.
        kept_float: names of the nodes that stay float.
        method: of calibration.
    """
    int8 = ready.with_name("int8.onnx")
    exact = {"scale": np.array(meaning.scale, np.float32), "zero_point": np.array(meaning.zero_point, np.uint8)}
    quantize_static(
        str(ready),
        str(int8),
        _Pictures(pictures, meaning),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        calibrate_method=method,
        nodes_to_exclude=kept_float,
        extra_options={
            "CalibMovingAverage": method is CalibrationMethod.MinMax,
            "TensorQuantOverrides": {PIXELS: [exact]},
        },
    )
    model = onnx.load(int8)
    _take_bytes(model, meaning)
    model.producer_name = "homeplate"
    onnx.checker.check_model(model)
    return model


def _take_bytes(model: onnx.ModelProto, meaning: Bytes) -> None:
    """Replace the float input and its quantisation by a picture's bytes."""
    graph = model.graph
    quantiser = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == PIXELS)
    turned = helper.make_node("Transpose", [meaning.name], [quantiser.output[0]], perm=[0, 3, 1, 2])
    place = list(graph.node).index(quantiser)
    graph.node.remove(quantiser)
    graph.node.insert(place, turned)
    used = {name for node in graph.node for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.input[:]
    shape = [1, meaning.height, meaning.width, 3]
    graph.input.append(helper.make_tensor_value_info(meaning.name, TensorProto.UINT8, shape))
