"""Turn the reader's weights into the node's model: `python -m tools.train.reader_export --data DATA --run RUN`.

The graph takes a crop's bytes (`plates`, uint8 [1, 64, 128, 3] BGR): they are the quantised input, so nothing is
converted. It gives probabilities: `characters`, float32 [1, 10, 37], calibrated with a temperature that is chosen on
the held-out plates and folded into the weights, `jurisdiction`, float32 [1, J], and `extent`, float32 [1, 4], where the
plate is in the crop (`reader_extent`). Float and int8 graph are measured on the held-out plates; the facts that the
manifest needs go to RUN/reader.json, the figures to RUN/export.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from tools.train import reader_data, reader_train
from tools.train.detector_export import session_heads
from tools.train.quantising import PIXELS, Bytes, quantised
from tools.train.reader_data import ALPHABET, HEIGHT, IGNORED, JURISDICTIONS, SLOTS, WIDTH, Image, Sample
from tools.train.reader_net import Reader

OPSET = 17
ZERO_POINT, SCALE = 128, 1 / 64
"""A crop's bytes as a quantised tensor: (byte - 128) / 64, which is how the network is trained."""
CALIBRATION_PLATES = 512
LEAST_ALTERNATIVE = 0.02
"""A character less probable than this is no alternative worth publishing."""
JURISDICTION_PRECISION = 0.95
"""A jurisdiction is named where, on held-out plates, this share of such names was right."""
TRAINING = (
    ("read", "Xander-Barron/AMS595-Final-Project", "stated CC0, not verified"),
    ("openimages", "unknowncz/LP_recognition", "CC BY 4.0"),
    ("faisalthaheem", "faisalthaheem/open-lpr-dataset-plate-detection", "Apache-2.0"),
    ("robertlucian", "robertlucian/license-plate-dataset", "MIT"),
    ("kaggle433", "Car License Plate Detection", "stated CC0, not verified"),
    ("rhit", "rhit/License-Plate-Detection", "CC BY 4.0"),
    ("chirag", "chirag/ANPR", "MIT"),
    ("synthetic", "tools/render/plates.py", "Apache-2.0"),
)
"""Sets, where they come from and the licence stated there."""

Floats = NDArray[np.float32]


class _Probabilities(nn.Module):
    """The reader with softmax outputs."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, plates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        characters, jurisdiction, extent = self.reader(plates)
        return characters.softmax(-1), jurisdiction.softmax(-1), extent


def keep(reader: Reader, path: Path) -> None:
    """Write the weights in half precision, small enough to lie beside the model for the next run."""
    halves = {name: value.half() if value.is_floating_point() else value for name, value in reader.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: value.numpy() for name, value in halves.items()})


def temper(reader: Reader, temperature: float) -> None:
    """Fold a temperature into the last layer of the characters."""
    with torch.no_grad():
        reader.characters.weight /= temperature
        reader.characters.bias /= temperature


def best_temperature(reader: Reader, pictures: Image, texts: Sequence[str]) -> float:
    """Return the temperature with the least cross entropy on held-out pictures [N, H, W, 3]."""
    with torch.no_grad():
        parts = [
            reader(reader_train.network_input(torch.from_numpy(pictures[i : i + 64])))[0]
            for i in range(0, len(texts), 64)
        ]
    logits = torch.cat(parts).flatten(0, 1)
    truth = torch.from_numpy(np.concatenate([reader_data.encode(text) for text in texts]))
    candidates = [0.4 + 0.05 * step for step in range(40)]
    return min(candidates, key=lambda t: nn.functional.cross_entropy(logits / t, truth).item())


def export_float(reader: Reader, path: Path) -> None:
    """Write the float network, batch norm folded, for one plate: several at once are no faster and take more memory."""
    torch.onnx.export(
        _Probabilities(reader).eval(),
        (torch.zeros(1, 3, HEIGHT, WIDTH),),
        str(path),
        input_names=[PIXELS],
        output_names=["characters", "jurisdiction", "extent"],
        opset_version=OPSET,
        dynamo=False,
    )


def quantise(
    reader: Reader,
    pictures: Image,
    path: Path,
    method: CalibrationMethod = CalibrationMethod.MinMax,
    *,
    everything: bool = False,
) -> None:
    """Write the int8 model, calibrated on pictures [N, H, W, 3]; `everything` measures what is kept float for what."""
    with tempfile.TemporaryDirectory() as folder:
        plain, ready = Path(folder) / "plain.onnx", Path(folder) / "ready.onnx"
        export_float(reader, plain)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        kept = [] if everything else _kept_float(ready)
        meaning = Bytes(name="plates", height=HEIGHT, width=WIDTH, zero_point=ZERO_POINT, scale=SCALE)
        onnx.save(quantised(ready, pictures, meaning, kept_float=kept, method=method), path)


def _kept_float(path: Path) -> list[str]:
    """Return the nodes that stay float: all but convolutions, their sums, and products with a weight.

    Attention's products of two activations, the norms and the two last layers range too widely for eight bits, and cost
    little.
    """
    graph = onnx.load(path).graph
    weights = {constant.name for constant in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    heads = {name for output in graph.output for name in _feeding(producers, output.name)}
    kept = []
    for node in graph.node:
        product = node.op_type in {"MatMul", "Gemm"} and any(name in weights for name in node.input)
        summed = node.op_type == "Add" and all(
            producers.get(name) is not None and producers[name].op_type in {"Conv", "Relu"} for name in node.input
        )
        # A ReLU goes with what it follows, whose eight bits then cover what is left of the values by it.
        clipped = node.op_type == "Relu" and producers[node.input[0]].name not in kept
        if not (node.op_type == "Conv" or summed or clipped or (product and node.name not in heads)):
            kept.append(node.name)
    return kept


def _feeding(producers: dict[str, onnx.NodeProto], name: str) -> list[str]:
    """Return the names of the nodes from an output back to the product with a weight that it comes from."""
    names: list[str] = []
    while True:
        node = producers[name]
        names.append(node.name)
        if node.op_type in {"MatMul", "Gemm"}:
            return names
        name = next(candidate for candidate in node.input if candidate in producers)


def exact(run: Callable[[Image], Floats], pictures: Image, texts: Sequence[str]) -> float:
    """Return the share of pictures [N, H, W, 3] that `run`, given one at a time, reads without a fault."""
    right = 0
    for picture, text in zip(pictures, texts, strict=True):
        classes = run(picture[None])[0].argmax(-1).tolist()
        right += "".join(ALPHABET[index] for index in classes).rstrip("_") == text
    return round(right / len(texts), 4)


def milliseconds_a_plate(session: InferenceSession) -> float:
    """Return the median time to read one plate, in milliseconds."""
    plate = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), dtype=np.uint8)
    times = []
    for _ in range(60):
        began = time.perf_counter()
        session.run(None, {"plates": plate})
        times.append(time.perf_counter() - began)
    return round(float(np.median(times)) * 1e3, 3)


def least_jurisdiction(session: InferenceSession, samples: Sequence[Sample]) -> float:
    """Return the least probability above which JURISDICTION_PRECISION of the named jurisdictions are right."""
    known = [sample for sample in samples if sample.jurisdiction != IGNORED]
    pictures = np.stack([reader_data.upright(sample, reader_train.CHECK_MARGIN) for sample in known])
    probabilities = np.concatenate([session.run(None, {"plates": picture[None]})[1] for picture in pictures])
    right = probabilities.argmax(1) == [sample.jurisdiction for sample in known]
    order = np.argsort(-probabilities.max(1))
    precise = np.flatnonzero(np.cumsum(right[order]) / np.arange(1, len(order) + 1) >= JURISDICTION_PRECISION)
    return round(float(probabilities.max(1)[order][precise[-1]]), 3) if len(precise) else 1.0


def facts(counts: Mapping[str, int], origin: Mapping[str, object], least: float) -> dict[str, object]:
    """Return what the manifest says of the reader and its file does not; `origin` is of `reader_train`."""
    training = [
        {"name": name, "source": source, "licence": licence, "pictures": counts[name]}
        for name, source, licence in TRAINING
        if counts.get(name)
    ]
    thresholds = {"jurisdiction": least, "alternative": LEAST_ALTERNATIVE}
    return {
        "alphabet": ALPHABET,
        "jurisdictions": list(JURISDICTIONS),
        "thresholds": thresholds,
        **origin,
        "training": training,
    }


def main() -> None:
    """Export the averaged weights of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("models/reader.onnx"))
    parser.add_argument("--keep", type=Path, help="write the float weights there too, models/training/reader.npz")
    parser.add_argument("--synthetic", type=int, default=300, help="synthetic plates to calibrate on, beside real ones")
    parser.add_argument("--synthetic-share", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--teacher", type=Path, help="as in the training, for plates to calibrate on")
    parser.add_argument("--method", choices=[m.name for m in CalibrationMethod], default="Percentile")
    parser.add_argument("--everything", action="store_true", help="the layers kept float too, to measure their worth")
    export(parser.parse_args())


def export(options: argparse.Namespace) -> None:
    """Quantise, measure and write model, facts and figures."""
    torch.set_num_threads(1)
    state = torch.load(options.run / "last.pt", weights_only=False)
    pools, held_out, california = reader_train.load(options)
    sets = reader_train.checks(held_out, california)
    reader = Reader(len(JURISDICTIONS))
    reader.load_state_dict(state["average"])
    if options.keep:
        keep(reader, options.keep)
    reader.eval()
    plain = (np.concatenate([sets["read"][0], sets["detect"][0]]), sets["read"][1] + sets["detect"][1])
    temperature = best_temperature(reader, *plain)
    temper(reader, temperature)
    looks = iter(reader_train.Looks(pools, 5, reader_train.WORN_AFTER // 4))
    pictures = np.stack([next(looks)[0] for _ in range(CALIBRATION_PLATES)])
    method = CalibrationMethod[options.method]
    quantise(reader, pictures, options.out, method, everything=options.everything)
    session = session_heads(options.out)

    def plainly(part: Image) -> Floats:
        with torch.no_grad():
            return np.asarray(reader(reader_train.network_input(torch.from_numpy(part)))[0], np.float32)

    def in_int8(part: Image) -> Floats:
        return np.asarray(session.run(None, {"plates": part})[0], np.float32)

    counts = json.loads((options.run / "counts.json").read_text())
    origin = json.loads((options.run / "origin.json").read_text())
    least = least_jurisdiction(session, held_out)
    figures = {
        "shape": {"plates": [1, HEIGHT, WIDTH, 3], "characters": [1, SLOTS, len(ALPHABET)]},
        "step": state["step"],
        "temperature": round(temperature, 3),
        "parameters": sum(p.numel() for p in reader.parameters()),
        "float": {name: exact(plainly, *pictures) for name, pictures in sets.items()},
        "int8": {name: exact(in_int8, *pictures) for name, pictures in sets.items()},
        "held_out": {name: len(texts) for name, (_, texts) in sets.items()},
        "ms_a_plate": milliseconds_a_plate(session),
        "bytes": options.out.stat().st_size,
    }
    (options.run / "reader.json").write_text(json.dumps(facts(counts, origin, least), indent=1) + "\n")
    (options.run / "export.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
