"""What a laboratory gets out of a raw disk image with the recipient's private key, by docs/record-format.md alone.

Every 32 bytes of the image are tried as a slot key, wherever they lie: in a slot file, in a free block, in the journal.
Stored records are found by their first line. Nothing here imports `homeplate`.
"""

import hmac
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.sealing.opener import RefusedError, Vector, open_record

STORED = b"homeplate/v1/slot\n"
SEALED = b"homeplate/v1\n"
_KEY_BYTES = 32


@dataclass(frozen=True)
class Stored:
    """A stored record that was found in an image: its slot, its id, and what follows."""

    slot: bytes
    record_id: bytes
    nonce: bytes
    rest: bytes


def stored_records(raw: bytes) -> list[Stored]:
    """Return every stored record in an image, of files that are there and of files that are not."""
    found = {}
    for match in re.finditer(re.escape(STORED), raw):
        body = raw[match.end() : match.end() + 44 + 72_000]
        record = Stored(body[:16], body[16:32], body[32:44], body[44:])
        found.setdefault((record.slot, record.record_id, record.nonce), record)
    return list(found.values())


def windows(raw: bytes) -> set[bytes]:
    """Return every 32 bytes of an image that could be a random key: few zeros, not text."""
    data = np.frombuffer(raw, np.uint8)
    could = np.ones(len(data) - _KEY_BYTES + 1, bool)
    for unlikely, most in ((data == 0, 4), ((data >= 32) & (data < 127), 26)):
        sums = np.concatenate([[0], np.cumsum(unlikely, dtype=np.int32)])
        could &= sums[_KEY_BYTES:] - sums[:-_KEY_BYTES] <= most
    return {raw[at : at + _KEY_BYTES] for at in np.flatnonzero(could)}


def record_key(slot_key: bytes, record_id: bytes) -> bytes:
    return hmac.digest(hmac.digest(record_id, slot_key, "sha256"), b"homeplate/v1/slot\x01", "sha256")


def slot_keys(raw: bytes) -> dict[bytes, bytes]:
    """Return the slot keys that lie anywhere in an image, by slot: each window is tried on one record a slot."""
    tried = windows(raw)
    one_each = {record.slot: record for record in stored_records(raw)}
    found = {slot: [window for window in tried if _begins(record, window)] for slot, record in one_each.items()}
    return {slot: keys[0] for slot, keys in found.items() if keys}


def _begins(record: Stored, slot_key: bytes) -> bool:
    """Tell whether a key opens a record's first bytes."""
    return _stream(record, slot_key).update(record.rest[: len(SEALED)]) == SEALED


def _stream(record: Stored, slot_key: bytes) -> CipherContext:
    """Return GCM's stream without its tag, which lies at an end that is not known yet: AES-CTR from block 2."""
    key = record_key(slot_key, record.record_id)
    return Cipher(algorithms.AES(key), modes.CTR(record.nonce + b"\0\0\0\2")).decryptor()


def opened(raw: bytes, vectors: Mapping[str, Vector]) -> Iterator[tuple[str, str, bytes]]:
    """Yield whose, which part and the plaintext of every record that opens with what the image and the keys hold."""
    keys = slot_keys(raw)
    for record in stored_records(raw):
        sealed = _unwrapped(record, keys[record.slot]) if record.slot in keys else None
        if sealed is not None:
            yield from _inner(sealed, vectors)
    for match in re.finditer(re.escape(SEALED), raw):  # a sealed record that was never wrapped, or left in clear
        yield from _inner(_cut(raw[match.start() : match.start() + 72_000]), vectors)


def _unwrapped(record: Stored, slot_key: bytes) -> bytes | None:
    key, prefix = record_key(slot_key, record.record_id), STORED + record.slot + record.record_id
    size = len(_cut(_stream(record, slot_key).update(record.rest)))
    try:
        return AESGCM(key).decrypt(record.nonce, record.rest[: size + 16], prefix)
    except InvalidTag:
        return None


def _cut(data: bytes) -> bytes:
    """Return a sealed record without what follows it."""
    (length,) = struct.unpack_from(">I", data.ljust(69, b"\0"), 65)
    return data[: 65 + 4 + length + 64]


def _inner(sealed: bytes, vectors: Mapping[str, Vector]) -> Iterator[tuple[str, str, bytes]]:
    for whose, vector in vectors.items():
        try:
            part, plaintext, _ = open_record(sealed, vector)
        except RefusedError:
            continue
        yield whose, part, plaintext
