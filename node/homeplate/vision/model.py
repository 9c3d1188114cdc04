"""Opens the models that the manifest names, and no others: hash, inputs, outputs and thresholds are the manifest's.

It does not look for a model anywhere but in the given folder, and never fetches one. What goes in and what comes out is
prepared and read by `detector` and `reader`; sessions are opened by `providers`.
"""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.provider import Provider
from homeplate.errors import ModelError
from homeplate.vision.providers import RUNTIME_ERRORS, build_engine, load_engine, open_session, require_there

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
ANY = -1
"""A dimension of a manifest's shape that may be of any length."""

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]
FileName = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]+\\.onnx$")]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's input or output; `shape` has -1 for any length, `type` is onnxruntime's, as "tensor(uint8)"."""

    name: str
    shape: tuple[int, ...]
    type: str


class PictureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's input: pictures of [batch, height, width, 3] bytes, BGR; batch may be -1."""

    name: str
    shape: tuple[int, Side, Side, Literal[3]]
    type: Literal["tensor(uint8)"]


class TrainingData(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A set that the model was trained on, and the licence that its source states."""

    name: str
    source: str
    pictures: int
    licence: str


class DetectorThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Least score of a plate; overlap (IoU) above which two are one; most disagreement of corners, in plate heights.

    `across` and `down` are the share of a claimed box's width and height that is plate.
    """

    score: Probability
    overlap: Probability
    corners: Probability
    across: Probability
    down: Probability


class ReaderThresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Least probability of a jurisdiction that is named; least probability of an alternative that is passed on."""

    jurisdiction: Probability
    alternative: Probability


class GraphFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fp32 graph of a model: the same inputs and outputs; what a GPU's engine is built from."""

    file: FileName
    sha256: Sha256
    bytes: int


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the manifest says of any model; `outputs` differ by model.

    `seed` is of the last training run, `data_sha256` of what it learned from (`tools/train/split.py`).
    """

    file: FileName
    sha256: Sha256
    bytes: int
    input: PictureSpec
    seed: int
    data_sha256: Sha256
    training: tuple[TrainingData, ...]
    fp32: GraphFile | None = None

    def as_fp32(self) -> Self:
        """Return the entry of the fp32 graph.

        Raises:
            ModelError: the manifest names none.
        """
        if self.fp32 is None:
            raise ModelError(
                f"{self.file}: {MANIFEST} names no fp32 graph for it, which every provider but cpu needs; "
                'install a release that has one, or set models.provider = "cpu"'
            )
        graph = self.fp32
        return msgspec.structs.replace(self, file=graph.file, sha256=graph.sha256, bytes=graph.bytes, fp32=None)


class DetectorEntry(ModelEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The detector's entry; its output is the raw heads."""

    outputs: tuple[TensorSpec]
    thresholds: DetectorThresholds


class ReaderEntry(ModelEntry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reader's entry: probabilities of characters and of jurisdictions, and where in its crop the plate is.

    `alphabet` names the classes of a position, its last one is padding.
    """

    outputs: tuple[TensorSpec, TensorSpec, TensorSpec]
    alphabet: str
    jurisdictions: tuple[str, ...]
    thresholds: ReaderThresholds


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """models/manifest.json."""

    version: int
    detector: DetectorEntry
    reader: ReaderEntry


def default_model_dir() -> Path:
    """Return the folder of the models: the installed package's, else (an editable install) the project's."""
    packaged = Path(str(resources.files("homeplate"))) / "models"
    return packaged if (packaged / MANIFEST).is_file() else Path(__file__).parents[3] / "models"


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder of models; see `read_manifest`."""
    return read_manifest(folder)[0]


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Return the manifest of a folder of models, and the SHA-256 of the very bytes that it was read from.

    Raises:
        ModelError: it is missing, has an unknown key, a value of the wrong kind, or another version.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
        manifest = msgspec.json.decode(data, type=Manifest)
    except OSError as error:
        raise ModelError(
            f"{path}: {error.strerror}; install the package again, or name the folder of models"
        ) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: {error}; install the package again") from error
    if manifest.version != MANIFEST_VERSION:
        raise ModelError(
            f"{path}: version {manifest.version}, this node reads version {MANIFEST_VERSION}; "
            "install models and node of the same release"
        )
    characters, jurisdictions, extent = manifest.reader.outputs
    named = len(manifest.reader.alphabet), len(manifest.reader.jurisdictions)
    if (characters.shape[-1:], jurisdictions.shape[-1:], extent.shape[-1:]) != ((named[0],), (named[1],), (4,)):
        raise ModelError(
            f"{path}: names {named[0]} characters, {named[1]} jurisdictions and 4 edges, but the reader's outputs are "
            f"{characters.shape}, {jurisdictions.shape} and {extent.shape}; install the package again"
        )
    return manifest, hashlib.sha256(data).digest()


class Model:
    """A model that was checked against its entry of the manifest and has run once.

    Attributes:
        sha256: of the file that the manifest names and that runs, as it is or as an engine.
    """

    def __init__(
        self,
        folder: Path,
        entry: DetectorEntry | ReaderEntry,
        *,
        threads: int,
        provider: Provider = Provider.CPU,
        engines: Path | None = None,
    ) -> None:
        """Open the file that `entry` names, or the engine of its fp32 graph.

        Args:
            folder: where it lies.
            entry: its entry of the manifest.
            threads: threads of one run, at least 1.
            provider: what runs it.
            engines: folder of the engines, for a provider that needs them.

        Raises:
            ModelError: the file or engine is missing, altered, not a model, or of other inputs or outputs than the
                manifest's; or the provider is not there.
        """
        if threads < 1:
            raise ModelError(f"{folder / entry.file}: cannot run on {threads} threads; give at least 1")
        if provider is Provider.CPU:
            self._path = folder / entry.file
            content = _checked_bytes(self._path, entry)
        else:
            assert engines is not None, "a provider with engines is given their folder"
            entry = entry.as_fp32()
            require_there(provider, entry.file)
            self._path, content = load_engine(engines, entry.file, entry.sha256)
        self.sha256 = entry.sha256
        self._session = open_session(self._path, content, provider, threads=threads)
        given = TensorSpec(name=entry.input.name, shape=entry.input.shape, type=entry.input.type)
        _check_tensors(self._path, "inputs", self._session.get_inputs(), (given,))
        _check_tensors(self._path, "outputs", self._session.get_outputs(), entry.outputs)
        self._input = entry.input.name
        self._outputs = [output.name for output in entry.outputs]
        self.run(np.zeros([1 if length == ANY else length for length in entry.input.shape], np.uint8))

    def run(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Run the model once.

        Args:
            batch: of the manifest's input shape, uint8.

        Returns:
            The outputs in the manifest's order, float32.

        Raises:
            ModelError: the runtime refuses the batch.
        """
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {self._input: batch})
        except RUNTIME_ERRORS as error:
            raise ModelError(f"{self._path}: cannot run on an input of shape {batch.shape}: {error}") from error
        return outputs


def build(folder: Path, entry: DetectorEntry | ReaderEntry, engines: Path) -> Path:
    """Build the engine of a model's fp32 graph for this machine's GPU; it takes minutes.

    Where the model takes any number of pictures the engine takes one: the node looks at one plate at a time.

    Args:
        folder: where the graph lies.
        entry: the model's entry of the manifest.
        engines: folder of the engines.

    Raises:
        ModelError: there is no graph, or it is altered, or it cannot be built here.
    """
    graph = entry.as_fp32()
    path = folder / graph.file
    shape = "x".join(str(1 if length == ANY else length) for length in graph.input.shape)
    return build_engine(engines, path, _checked_bytes(path, graph), f"{graph.input.name}:{shape}")


def _checked_bytes(path: Path, entry: ModelEntry) -> bytes:
    """Read the file once: what is hashed is what is run, whatever happens to the file in between."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; install the package again") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ModelError(f"{path}: not the model that {MANIFEST} names (SHA-256 differs); install the package again")
    return content


def _check_tensors(path: Path, kind: str, found: list[Any], wanted: tuple[TensorSpec, ...]) -> None:
    """Compare names, types and shapes; a symbolic dimension counts as any length."""
    described = tuple(
        TensorSpec(
            name=tensor.name,
            shape=tuple(length if isinstance(length, int) else ANY for length in tensor.shape),
            type=tensor.type,
        )
        for tensor in found
    )
    if described != wanted:
        raise ModelError(f"{path}: its {kind} are {described}, {MANIFEST} says {wanted}; install the package again")
