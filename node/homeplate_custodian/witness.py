"""A witness: it remembers the largest tree of each log that it has seen, and cosigns only what continues it.

It sees checkpoints, never rows. What it refuses to cosign is kept: two checkpoints that a node's key signed and that
contradict each other prove a fork, or a log that was set back. The new tree is on disk before the cosignature leaves
(C2SP tlog-witness). A witness that lost its folder is retired, not restarted: it would cosign a second history.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.domain.node import NodeEntry
from homeplate.domain.witness import Witness
from homeplate.errors import ConfigError, LedgerError, StoreError
from homeplate.sealing.keys import generate_signing_key, load_signing_key, save_signing_key
from homeplate.store.checkpoints import Checkpoint, checkpoint_files, origin_of, parse, read_note, verify, write_durably
from homeplate.store.cosignatures import Request, cosign, read_verifier_key, verifier_key
from homeplate.store.merkle import EMPTY_ROOT, is_consistent

KEY_FILE, PUBLIC_FILE = "key.pem", "key.vkey"
_ORIGIN_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the witness says to one request: the note with its cosignature, or why there is none."""

    origin: str
    size: int
    note: bytes | None
    refused: str | None


def make_witness(folder: Path, name: str) -> str:
    """Make a witness's key and folder; return its key as the registry names it.

    Raises:
        ConfigError: where the folder is a witness already, or cannot be made.
        LedgerError: where the name is none.
    """
    if (folder / PUBLIC_FILE).exists():
        raise ConfigError(f"{folder} is a witness already; its key is not replaced. Choose another folder")
    key = generate_signing_key()
    text = verifier_key(Witness(name=name, public=key.public_key().public_bytes_raw()))
    read_verifier_key(text)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    save_signing_key(key, folder / KEY_FILE)
    write_durably(folder / PUBLIC_FILE, f"{text}\n".encode())
    return text


def load_witness(folder: Path) -> tuple[Witness, Ed25519PrivateKey]:
    """Return a witness and its key.

    Raises:
        ConfigError: where the folder holds none, or its files do not belong together.
        SealingError: where the key cannot be read.
    """
    if not (folder / PUBLIC_FILE).exists():
        raise ConfigError(f"{folder} holds no witness: make one with `homeplate-custodian witness init`")
    key = load_signing_key(folder / KEY_FILE)
    witness = read_verifier_key(read_note(folder / PUBLIC_FILE).decode("ascii", "replace"))
    if witness.public != key.public_key().public_bytes_raw():
        raise ConfigError(f"{folder}: {KEY_FILE} and {PUBLIC_FILE} are not of one key; restore both from a copy")
    return witness, key


def answer(folder: Path, requests: Iterable[Request], nodes: Iterable[NodeEntry], now_s: int) -> list[Answer]:
    """Judge each request and cosign what continues the log as this witness knows it.

    Args:
        folder: the witness's.
        requests: what a node asks.
        nodes: the bundle's; their keys alone sign checkpoints.
        now_s: seconds since 1970.

    Raises:
        ConfigError, SealingError: where the folder holds no witness.
        StoreError: where what it knows cannot be read or written; nothing is cosigned then.
    """
    witness, key = load_witness(folder)
    by_pseudonym = {node.pseudonym.hex(): node for node in nodes}
    with _alone(folder):
        return [_answer(folder, request, by_pseudonym, (witness, key), now_s) for request in requests]


def _answer(
    folder: Path, request: Request, nodes: dict[str, NodeEntry], signer: tuple[Witness, Ed25519PrivateKey], now_s: int
) -> Answer:
    point, (witness, key) = parse(request.note), signer
    try:
        log = _known_log(point, request.note, nodes, now_s)
        _judge(folder, log, request, point)
    except LedgerError as error:
        return Answer(origin=point.origin, size=point.size, note=None, refused=str(error))
    note = cosign(_own_signature(request.note, point), witness.name, key, now_s)
    _remember(folder, log, point, note)
    return Answer(origin=point.origin, size=point.size, note=note, refused=None)


def _known_log(point: Checkpoint, note: bytes, nodes: dict[str, NodeEntry], now_s: int) -> Path:
    """Return where the log's state is kept, below the witness's folder, once its node has shown to have signed."""
    parts = point.origin.split("/")
    node = nodes.get(parts[1]) if len(parts) == _ORIGIN_PARTS else None
    if node is None:
        raise LedgerError(f"the bundle names no node that has the log {point.origin}")
    if node.revoked or not node.not_before_s <= now_s <= node.not_after_s:
        raise LedgerError(f"node {parts[1]} is revoked or past its dates: nothing that it signs counts")
    if not (parts[2].isascii() and parts[2].isalpha() and point.origin == origin_of(node.pseudonym, parts[2])):
        raise LedgerError(f"{point.origin} is no log of a node")
    verify(note, node.ledger_public)
    return Path(parts[1]) / parts[2]


def _judge(folder: Path, log: Path, request: Request, point: Checkpoint) -> None:
    """Refuse what does not continue the largest tree seen; keep what proves that the log has two histories."""
    seen = last_seen(folder, log)
    size, root = (seen.size, seen.root) if seen else (0, EMPTY_ROOT)
    if point.size < size:
        _keep(folder, log, request.note)
        raise LedgerError(
            f"set-back: the log had {size} rows when it was seen last and has {point.size} now; the checkpoint is kept"
            " as evidence. A request that lay about is no proof yet: have a new one written"
        )
    if point.size == size and point.root != root:
        _keep(folder, log, request.note)
        raise LedgerError(f"fork: of its {size} rows another root was signed before; both checkpoints are kept")
    if request.old_size != size:
        raise LedgerError(
            f"another-size: this witness has seen {size} rows last, the request continues {request.old_size};"
            f" have it written anew with --since {log.name}={size}"
        )
    if not is_consistent(size, root, point.size, point.root, request.proof):
        _keep(folder, log, request.note)
        raise LedgerError(f"fork: its first {size} rows are not those that were seen; the checkpoint is kept")


def last_seen(folder: Path, log: Path) -> Checkpoint | None:
    """Return the largest checkpoint that the witness in `folder` has cosigned of a log (`PSEUDONYM/NAME`).

    Raises:
        LedgerError: where the file is damaged.
        StoreError: where it cannot be read.
    """
    files = checkpoint_files(folder / "logs" / log.parent, log.name)
    return parse(read_note(files[-1])) if files else None


def _own_signature(note: bytes, point: Checkpoint) -> bytes:
    """Return the note with the node's signature alone: a witness passes on no word that it has not checked."""
    head, _, signatures = note.decode().rpartition("\n\n")
    own = [line for line in signatures.splitlines() if line.split(" ")[1:2] == [point.origin]]
    return f"{head}\n\n{own[0]}\n".encode()


def _remember(folder: Path, log: Path, point: Checkpoint, note: bytes) -> None:
    where = folder / "logs" / log.parent
    path = where / f"{log.name}-{point.size:012}.note"
    write_durably(path, note)
    for older in checkpoint_files(where, log.name):
        if older != path:
            older.unlink()


def _keep(folder: Path, log: Path, note: bytes) -> None:
    digest = hashlib.sha256(note).hexdigest()[:16]
    write_durably(folder / "evidence" / log.parent / f"{log.name}-{digest}.note", note)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the witness's folder alone: two answers at once could each cosign another history."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"{folder} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
