"""Signed statements of a log's size and root: C2SP tlog-checkpoint in the form of a C2SP signed note, with Ed25519.

The signer has no network and holds the ledger key. It signs nothing that contradicts what it signed before. Whose key
counts, and what a bad checkpoint means, is the verifier's affair (`homeplate_custodian.verify`).
Sources: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note, RFC 8032.
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from homeplate.errors import LedgerError, StoreError
from homeplate.store.merkle import HASH_BYTES
from homeplate.store.reading import scan

SUFFIX = ".note"
MAXIMUM_NOTE_BYTES = 65_536
MAXIMUM_ORIGIN = 200
_ED25519 = b"\x01"  # signature type of signed-note
_ID_BYTES = 4
_NO_CHECKPOINT = "the file is no checkpoint (C2SP tlog-checkpoint with a signature)"
SIGNATURE_MARK = "\N{EM DASH} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What is signed: the log's name, how many rows, and their Merkle root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"


def origin_of(pseudonym: bytes, log: str) -> str:
    """Return a log's origin: `homeplate/<node's pseudonym, hexadecimal>/<log>`. The key bears the same name."""
    return f"homeplate/{pseudonym.hex()}/{log}"


def key_id(name: str, public: bytes) -> bytes:
    """Return the 4-byte key id of signed-note: SHA-256(name, newline, type, public key), cut."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]


def sign_note(name: str, text: str, key: Ed25519PrivateKey) -> bytes:
    """Return `text` (it ends in a newline) as a note signed in `name`."""
    signature = key_id(name, key.public_key().public_bytes_raw()) + key.sign(text.encode())
    return f"{text}\n{SIGNATURE_MARK}{name} {base64.b64encode(signature).decode('ascii')}\n".encode()


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Return the signed note of a checkpoint."""
    return sign_note(checkpoint.origin, checkpoint.body, key)


def parse(note: bytes) -> Checkpoint:
    """Return what a note claims, unverified (to learn whose key to ask for). Extension lines are refused.

    Raises:
        LedgerError: where it is no checkpoint.
    """
    checkpoint, _ = parse_signatures(note)
    return checkpoint


def verify(note: bytes, public: bytes) -> Checkpoint:
    """Return what a note says, once the log's key (raw Ed25519, 32 bytes) is shown to have signed it.

    Signatures of other keys (witnesses) are ignored, as signed-note demands.

    Raises:
        LedgerError: where it is no checkpoint, or that key's signature is missing or wrong.
    """
    checkpoint, signatures = parse_signatures(note)
    wanted = key_id(checkpoint.origin, public)
    own = [signature for name, signature in signatures if name == checkpoint.origin and signature[:_ID_BYTES] == wanted]
    if not own:
        raise LedgerError("the checkpoint bears no signature of the node's ledger key")
    try:
        for signature in own:
            Ed25519PublicKey.from_public_bytes(public).verify(signature[_ID_BYTES:], checkpoint.body.encode())
    except (InvalidSignature, ValueError) as error:
        raise LedgerError("the checkpoint's signature by the node's ledger key is wrong") from error
    return checkpoint


def parse_signatures(note: bytes) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """Return what a note claims, and each signature's name and bytes (key id first); nothing of it is verified.

    Raises:
        LedgerError: where it is no checkpoint.
    """
    try:
        body, signatures = note.decode("utf-8").rsplit("\n\n", 1)
        origin, size, root = body.split("\n")
        checkpoint = Checkpoint(origin=origin, size=int(size), root=base64.b64decode(root, validate=True))
        found = [_signature(line) for line in signatures.removesuffix("\n").split("\n")]
    except ValueError as error:
        raise LedgerError(_NO_CHECKPOINT) from error
    # One accepted form: what is signed is what was parsed, byte for byte.
    if len(note) > MAXIMUM_NOTE_BYTES or len(checkpoint.root) != HASH_BYTES or checkpoint.body != f"{body}\n":
        raise LedgerError(_NO_CHECKPOINT)
    if not 0 < len(origin) <= MAXIMUM_ORIGIN or not origin.isprintable() or " " in origin or "+" in origin:
        raise LedgerError(_NO_CHECKPOINT)
    return checkpoint, found


def _signature(line: str) -> tuple[str, bytes]:
    if not line.startswith(SIGNATURE_MARK):
        raise ValueError("no signature line")
    name, encoded = line.removeprefix(SIGNATURE_MARK).split(" ")
    return name, base64.b64decode(encoded, validate=True)


def checkpoint_files(folder: Path, log: str) -> list[Path]:
    """Return a log's checkpoints in `folder`, smallest tree first: `capture-000000000042.note` and the like."""
    return sorted(path for path in folder.glob(f"{log}-*{SUFFIX}") if path.stem.removeprefix(f"{log}-").isdigit())


def sign_checkpoints(
    logs: Mapping[str, Path], *, key: Ed25519PrivateKey, pseudonym: bytes, folder: Path
) -> dict[str, Checkpoint]:
    """Sign each log's size and root into `folder`; a log that has not grown keeps its last checkpoint.

    Args:
        logs: path of each log by its name (`capture`); one that does not exist yet is passed over.
        key: the node's ledger key.
        pseudonym: the node's pseudonym, 16 bytes.
        folder: where the notes are kept.

    Returns:
        Each log's newest checkpoint.

    Raises:
        LedgerError: where a log does not verify or contradicts its last checkpoint; nothing is signed for it, and the
            message names the row. Logs before it in order are signed.
        StoreError: where a note cannot be read or written.
    """
    signed: dict[str, Checkpoint] = {}
    for name, path in sorted(logs.items()):
        if path.exists():
            signed[name] = _sign_log(name, path, key, pseudonym, folder)
    return signed


def _sign_log(name: str, path: Path, key: Ed25519PrivateKey, pseudonym: bytes, folder: Path) -> Checkpoint:
    last = _last(name, key, folder)
    state = scan(path, sizes={last.size} if last else (), synced=True, after=last.size if last else 0)
    if state.bad:
        raise LedgerError(f"ledger {path.name}, row {state.bad.number}: {state.bad.reason}; nothing was signed")
    if last and state.points.get(last.size, (b"", 0))[0] != last.root:
        raise LedgerError(
            f"ledger {path.name} contradicts its checkpoint of {last.size} rows: rows were cut off or rewritten;"
            " keep the ledger folder for the auditor; nothing was signed"
        )
    if last and last.size == state.frontier.size:
        return last
    checkpoint = Checkpoint(origin=origin_of(pseudonym, name), size=state.frontier.size, root=state.frontier.root())
    write_durably(folder / f"{name}-{checkpoint.size:012}{SUFFIX}", sign(checkpoint, key))
    return checkpoint


def _last(name: str, key: Ed25519PrivateKey, folder: Path) -> Checkpoint | None:
    files = checkpoint_files(folder, name)
    return verify(read_note(files[-1]), key.public_key().public_bytes_raw()) if files else None


def read_note(path: Path) -> bytes:
    """Return a note's bytes, at most one over the bound (so that `parse` refuses it).

    Raises:
        StoreError: where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(MAXIMUM_NOTE_BYTES + 1)
    except OSError as error:
        raise StoreError(f"the checkpoint {path} cannot be read: {error.strerror}") from error


def write_durably(path: Path, note: bytes) -> None:
    """Write a small file so that it is there whole or not at all: temporary, fsync, rename, fsync of the folder.

    Raises:
        StoreError: where it cannot be written.
    """
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path} cannot be written: {error.strerror}; free its disk") from error
