"""Turns trained weights into the node's model: int8 with real calibration pictures, normalisation in the graph.

The exported graph takes the letterboxed picture as it is (`image`, uint8 [1, H, W, 3] BGR): its bytes are the quantised
input, so nothing is converted. It gives the raw heads (`heads`, float32 [1, 13, H / 8, W / 8]).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization.shape_inference import quant_pre_process

from tools.train.detector_net import PlateNet
from tools.train.quantising import PIXELS, Bytes, quantised

OPSET = 17
ZERO_POINT, SCALE = 128, 1 / 128
"""The picture's bytes as a quantised tensor: (byte - 128) / 128, which is how the network was trained."""


def export_float(net: PlateNet, size: tuple[int, int], path: Path) -> None:
    """Write the float network, batch norm folded, for pictures of (width, height)."""
    net.eval()
    example = torch.zeros(1, 3, size[1], size[0])
    torch.onnx.export(
        net, (example,), str(path), input_names=[PIXELS], output_names=["heads"], opset_version=OPSET, dynamo=False
    )


def quantise(
    net: PlateNet,
    size: tuple[int, int],
    pictures: Sequence[NDArray[np.uint8]],
    path: Path,
    *,
    everything: bool = False,
) -> None:
    """Write the int8 model.

    Args:
        net: trained weights.
        size: width and height of the input.
        pictures: letterboxed pictures [H, W, 3] to calibrate on.
        path: the file to write.
        everything: quantise the last layer too, to measure what it is kept float for.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain, ready = Path(folder) / "plain.onnx", Path(folder) / "ready.onnx"
        export_float(net, size, plain)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        kept = [] if everything else [_last_convolution(ready)]
        meaning = Bytes(name="image", height=size[1], width=size[0], zero_point=ZERO_POINT, scale=SCALE)
        onnx.save(quantised(ready, pictures, meaning, kept_float=kept), path)


def _last_convolution(path: Path) -> str:
    """The 1x1 convolution that makes the heads stays float: its outputs range too widely for eight bits."""
    nodes = onnx.load(path).graph.node
    return str([node.name for node in nodes if node.op_type == "Conv"][-1])


def session_heads(path: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an exported model as the node does, to measure it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
