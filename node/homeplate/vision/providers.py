"""Opens models on the execution provider that was asked for, and on no other; keeps the engines of TensorRT.

The only module that imports onnxruntime. By itself onnxruntime takes the CPU where a provider's libraries do not load,
where a node of the graph does not fit the provider, and where the provider fails in a run; it says so in a log line at
most. Each of the three is a `ModelError` here.

An engine is an ONNX file with one node that holds TensorRT's compiled plan. Building one takes minutes, so that is done
at install; a start only opens one, which it finds by the SHA-256 of the graph that it was built from.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import onnxruntime

from homeplate.domain.provider import Provider
from homeplate.errors import ModelError

EXECUTION = {Provider.CPU: "CPUExecutionProvider", Provider.TENSORRT: "TensorrtExecutionProvider"}
"""onnxruntime's names."""
PRECISION = {Provider.CPU: "int8", Provider.TENSORRT: "fp16"}

_STATE = onnxruntime.capi.onnxruntime_pybind11_state
# onnxruntime's errors share no base but Exception. ValueError: an input of a wrong name; RuntimeError: options.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    _STATE.EPFail,
    _STATE.Fail,
    _STATE.InvalidArgument,
    _STATE.InvalidGraph,
    _STATE.InvalidProtobuf,
    _STATE.NotImplemented,
    _STATE.RuntimeException,
    RuntimeError,
    ValueError,
)
_NO_OPTIONS: Mapping[str, str] = MappingProxyType({})
_BUILD = "build it with `homeplate models build` (once after each install; it takes minutes)"
_USE_CPU = 'or set models.provider = "cpu"'


class EngineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lies beside an engine: SHA-256 of the graph that it was built from and of its own file, and what built it."""

    graph: str
    engine: str
    onnxruntime: str


def require_there(provider: Provider, name: str) -> None:
    """Refuse a provider that this onnxruntime was not built with.

    Args:
        provider: what was asked for.
        name: the model's, for the message.

    Raises:
        ModelError: it is not there; the message says what is.
    """
    wanted, available = EXECUTION[provider], onnxruntime.get_available_providers()
    if wanted not in available:
        raise ModelError(
            f"{name}: provider {provider} was asked for, but this onnxruntime has only {', '.join(available)}: "
            f"install the build that has {wanted}, {_USE_CPU}"
        )


def open_session(
    path: Path, content: bytes, provider: Provider, *, threads: int, building: Mapping[str, str] = _NO_OPTIONS
) -> Any:
    """Open a model.

    Args:
        path: what messages call it.
        content: the model, or an engine.
        provider: what has to run all of it.
        threads: CPU threads of one run, at least 1.
        building: the provider's options for building an engine; none where a model is opened to run.

    Raises:
        ModelError: the provider is not there, does not take the whole model, or the model is none.
    """
    require_there(provider, str(path))
    wanted = EXECUTION[provider]
    onnxruntime.disable_telemetry_events()
    try:
        session = onnxruntime.InferenceSession(
            content, _session_options(provider, threads), providers=[(wanted, dict(building))], enable_fallback=False
        )
    except RUNTIME_ERRORS as error:
        told = " ".join(str(error).split())  # onnxruntime's messages have several lines
        mend = "use onnxruntime 1.22 or later" if provider is Provider.CPU else f"{_BUILD}, {_USE_CPU}"
        if building:
            mend = f"mend that, {_USE_CPU}"
        raise ModelError(f"{path}: onnxruntime cannot open it on {provider}: {told}; {mend}") from error
    running = session.get_providers()[0]
    if running != wanted:
        raise ModelError(
            f"{path}: provider {provider} was asked for, but onnxruntime fell back to {running}: mend what it says "
            f"above of {wanted} (mostly a library that does not load), {_USE_CPU}"
        )
    return session


def _session_options(provider: Provider, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads burn the power budget between frames. The runtime's arena stays on: with inputs of one size it
    # stops growing, and without it the C library keeps more in pieces (docs/arm64.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider is not Provider.CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # TensorRT optimises by itself, and takes bytes into a Cast only: no transposition may be moved before it.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def load_engine(folder: Path, graph: str, sha256: str) -> tuple[Path, bytes]:
    """Return the engine of a graph: its path and its bytes, as they were built.

    Args:
        folder: of the engines.
        graph: the graph's file name.
        sha256: the graph's, from the manifest.

    Raises:
        ModelError: there is none, it was built from another graph or by another onnxruntime, or it was altered since.
    """
    path = _engine_path(folder, graph, sha256)
    try:
        record = msgspec.json.decode(path.with_suffix(".json").read_bytes(), type=EngineRecord)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError(f"{path}: there is no engine for this model yet: {_BUILD}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; let the capture user read it, or {_BUILD}") from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path.with_suffix('.json')}: is damaged; {_BUILD}") from error
    if record.graph != sha256 or record.engine != hashlib.sha256(content).hexdigest():
        raise ModelError(f"{path}: is not the engine that was built for this model (SHA-256 differs); {_BUILD}")
    if record.onnxruntime != onnxruntime.__version__:
        raise ModelError(
            f"{path}: was built by onnxruntime {record.onnxruntime}, this is {onnxruntime.__version__}; {_BUILD}"
        )
    return path, content


def build_engine(folder: Path, graph: Path, content: bytes, shape: str) -> Path:
    """Compile a graph for this machine's GPU, in fp16, and keep the engine in place of the graph's older ones.

    Args:
        folder: of the engines; made where it is missing.
        graph: the fp32 graph's file, for its name.
        content: the graph.
        shape: the only one that the engine has to take, as "plates:1x64x128x3".

    Returns:
        The engine's file.

    Raises:
        ModelError: TensorRT is not there, does not take the whole graph, or leaves no engine.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    path = _engine_path(folder, graph.name, sha256)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        made = Path(fresh) / path.name
        session = open_session(graph, content, Provider.TENSORRT, threads=1, building=_build_options(made, shape))
        del session  # the file is whole once the provider is gone
        if not made.is_file():
            raise ModelError(f"{graph}: TensorRT left no engine; use onnxruntime 1.22 or later, {_USE_CPU}")
        record = EngineRecord(
            graph=sha256,
            engine=hashlib.sha256(made.read_bytes()).hexdigest(),
            onnxruntime=onnxruntime.__version__,
        )
        made.with_suffix(".json").write_bytes(msgspec.json.encode(record))
        # A crash between the two leaves a pair that does not fit, which no start takes.
        made.replace(path)
        made.with_suffix(".json").replace(path.with_suffix(".json"))
    for old in folder.glob(f"{graph.stem}-*"):
        if old.stem != path.stem:
            old.unlink()
    return path


def _engine_path(folder: Path, graph: str, sha256: str) -> Path:
    return folder / f"{Path(graph).stem}-{sha256[:16]}.onnx"


def _build_options(made: Path, shape: str) -> dict[str, str]:
    """Return TensorRT's options (onnxruntime's documentation, TensorRT Execution Provider and EPContext)."""
    return {
        "trt_fp16_enable": "1",
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_file_path": str(made),
        "trt_ep_context_embed_mode": "1",
        **{f"trt_profile_{which}_shapes": shape for which in ("min", "opt", "max")},
    }
