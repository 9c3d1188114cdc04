"""What a witness says of a log: C2SP tlog-cosignature (Ed25519, v1) on a checkpoint, and what it is asked with.

A cosignature states that at its time this was the largest tree of the log that the witness had seen, and that it
continues every one seen before. A request is C2SP tlog-witness's `add-checkpoint` body, carried in a file instead of
by HTTP: a node has no connection but to its recipients. Who is a witness is the bundle's affair.
Sources: https://c2sp.org/tlog-cosignature, https://c2sp.org/tlog-witness, https://c2sp.org/signed-note.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from homeplate.domain.witness import Witness
from homeplate.errors import LedgerError
from homeplate.store.checkpoints import MAXIMUM_NOTE_BYTES, SIGNATURE_MARK, parse, parse_signatures
from homeplate.store.merkle import HASH_BYTES

MAXIMUM_FILE_BYTES = 1024 * 1024
MAXIMUM_PROOF = 63  # tlog-witness
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}\Z"
_COSIGNATURE = b"\x04"  # signature type of a timestamped Ed25519 cosignature
_ID_BYTES, _TIME_BYTES, _SIGNATURE_BYTES = 4, 8, 64
_OLD = re.compile(r"old (0|[1-9][0-9]{0,17})")
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A witness's word: its name, and when it said it, in seconds since 1970."""

    name: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a witness is asked: the size it saw last, the proof from there, and the node's signed checkpoint."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> str:
        """Return the `add-checkpoint` body."""
        hashes = [base64.b64encode(part).decode("ascii") for part in self.proof]
        return "\n".join([f"old {self.old_size}", *hashes, "", self.note.decode()])


class RequestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One request in a file: to which witness, and the body."""

    witness: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    body: Annotated[str, msgspec.Meta(max_length=MAXIMUM_NOTE_BYTES)]


class RequestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node hands out for its witnesses: signed checkpoints and proofs, never a row."""

    format: Literal["homeplate/v1/witness-requests"] = msgspec.field(default="homeplate/v1/witness-requests")
    requests: Annotated[list[RequestEntry], msgspec.Meta(max_length=256)]


class CosignedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a witness hands back: the checkpoints with its signature below the node's."""

    format: Literal["homeplate/v1/cosigned"] = msgspec.field(default="homeplate/v1/cosigned")
    notes: Annotated[list[Annotated[str, msgspec.Meta(max_length=MAXIMUM_NOTE_BYTES)]], msgspec.Meta(max_length=256)]


def verifier_key(witness: Witness) -> str:
    """Return a witness's key as signed-note writes it: name, key id and key with its type, joined by `+`."""
    public = base64.b64encode(_COSIGNATURE + witness.public).decode("ascii")
    return f"{witness.name}+{_key_id(witness).hex()}+{public}"


def read_verifier_key(text: str) -> Witness:
    """Return the witness that `verifier_key` wrote down.

    Raises:
        LedgerError: where it is none, of another kind, or mistyped.
    """
    try:
        name, _, encoded = text.strip().split("+", 2)
        raw = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise LedgerError(
            "that is no witness key: NAME+ID+KEY, as `homeplate-custodian witness init` prints"
        ) from error
    witness = Witness(name=name, public=raw[1:])
    if raw[:1] != _COSIGNATURE or len(witness.public) != HASH_BYTES or not _NAME.match(name):
        raise LedgerError("that is no key of an Ed25519 witness (C2SP tlog-cosignature); ask the witness for that one")
    if verifier_key(witness) != text.strip():
        raise LedgerError("the witness key is mistyped: its id is not the key's; copy it anew")
    return witness


def cosign(note: bytes, name: str, key: Ed25519PrivateKey, now_s: int) -> bytes:
    """Return a checkpoint's note with a cosignature below its other signatures. It judges nothing: the witness does.

    Args:
        note: the node's signed checkpoint.
        name: the witness's.
        key: the witness's.
        now_s: seconds since 1970.

    Raises:
        LedgerError: where it is no checkpoint.
    """
    signature = key.sign(_message(parse(note).body, now_s))
    witness = Witness(name=name, public=key.public_key().public_bytes_raw())
    raw = _key_id(witness) + now_s.to_bytes(_TIME_BYTES, "big") + signature
    return note + f"{SIGNATURE_MARK}{name} {base64.b64encode(raw).decode('ascii')}\n".encode()


def cosignatures(note: bytes, witnesses: Collection[Witness]) -> list[Cosignature]:
    """Return what known witnesses say in a note; signatures of others are ignored, as signed-note demands.

    Raises:
        LedgerError: where it is no checkpoint, or a signature in a known witness's name and key is wrong.
    """
    checkpoint, signatures = parse_signatures(note)
    by_name = {(witness.name, _key_id(witness)): witness for witness in witnesses}
    found = []
    for name, raw in signatures:
        witness = by_name.get((name, raw[:_ID_BYTES]))
        if witness is None:
            continue
        time_s = int.from_bytes(raw[_ID_BYTES:-_SIGNATURE_BYTES], "big")
        try:
            Ed25519PublicKey.from_public_bytes(witness.public).verify(
                raw[-_SIGNATURE_BYTES:], _message(checkpoint.body, time_s)
            )
        except (InvalidSignature, ValueError) as error:
            raise LedgerError(f"the cosignature of the witness {name} is wrong") from error
        if len(raw) != _ID_BYTES + _TIME_BYTES + _SIGNATURE_BYTES:
            raise LedgerError(f"the cosignature of the witness {name} has another length")
        found.append(Cosignature(name=name, time_s=time_s))
    return found


def read_request(body: str) -> Request:
    """Return the request in an `add-checkpoint` body.

    Raises:
        LedgerError: where it is none.
    """
    head, gap, note = body.partition("\n\n")
    first, *hashes = head.split("\n")
    size = _OLD.fullmatch(first)
    try:
        proof = tuple(base64.b64decode(text, validate=True) for text in hashes)
    except ValueError as error:
        raise LedgerError("the request's proof is not in base64; have the node write it anew") from error
    if size is None or not gap or len(proof) > MAXIMUM_PROOF or any(len(part) != HASH_BYTES for part in proof):
        raise LedgerError("that is no request to a witness (C2SP tlog-witness, add-checkpoint); have it written anew")
    request = Request(old_size=int(size[1]), proof=proof, note=note.encode())
    if request.encode() != body:
        raise LedgerError("the request to the witness is not in its one accepted form; have the node write it anew")
    return request


def encode_requests(requests: Sequence[tuple[str, Request]]) -> bytes:
    """Return a file of requests, each with the name of the witness that it is for."""
    entries = [RequestEntry(witness=name, body=request.encode()) for name, request in requests]
    return _encode(RequestFile(requests=entries))


def decode_requests(data: bytes, witness: str) -> list[Request]:
    """Return a file's requests to `witness`.

    Raises:
        LedgerError: where it is no such file.
    """
    try:
        file = msgspec.json.decode(data, type=RequestFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LedgerError("the file holds no requests to witnesses: `ledger request` writes them") from error
    return [read_request(entry.body) for entry in file.requests if entry.witness == witness]


def encode_cosigned(notes: Sequence[bytes]) -> bytes:
    """Return a file of cosigned checkpoints."""
    return _encode(CosignedFile(notes=[note.decode() for note in notes]))


def decode_cosigned(data: bytes) -> list[bytes]:
    """Return a file's cosigned checkpoints.

    Raises:
        LedgerError: where it is no such file.
    """
    try:
        file = msgspec.json.decode(data, type=CosignedFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LedgerError("the file holds no cosigned checkpoints: `witness cosign` writes them") from error
    return [note.encode() for note in file.notes]


def _encode(file: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file, order="sorted"), indent=1) + b"\n"


def _message(body: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{body}".encode()


def _key_id(witness: Witness) -> bytes:
    return hashlib.sha256(witness.name.encode() + b"\n" + _COSIGNATURE + witness.public).digest()[:_ID_BYTES]
