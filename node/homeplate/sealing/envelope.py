"""A sealed record as bytes, and back. There is one accepted encoding; whatever differs from it is refused by name.

This module judges form alone. `seal` makes and checks the signature and the seal; the caller decides about dates.
"""

import re
import struct

from homeplate.domain.record import RecordHeader, RecordId, SealedRecord
from homeplate.errors import SealingError
from homeplate.sealing.errors import MalformedError, VersionError

VERSION_LINE = b"homeplate/v1\n"
SIGNATURE_LABEL = b"homeplate/v1/signature\n"
MAX_RECORD_BYTES = 1 << 20
SIGNATURE_BYTES = 64
PSEUDONYM_BYTES = 16
KEY_ID_BYTES = 16
PUBLIC_KEY_BYTES = 32

# After the version line: record id, node pseudonym, recipient key id, keep-until day; then the ciphertext's length.
_FIELDS = struct.Struct(">16s16s16sI")
_LENGTH = struct.Struct(">I")
_ANY_VERSION_LINE = re.compile(rb"homeplate/v[0-9]{1,8}\n")
HEADER_BYTES = len(VERSION_LINE) + _FIELDS.size
_FRAME_BYTES = HEADER_BYTES + _LENGTH.size + SIGNATURE_BYTES
MAX_CIPHERTEXT_BYTES = MAX_RECORD_BYTES - _FRAME_BYTES


def encode_header(header: RecordHeader) -> bytes:
    """Return the header as it stands in front of a record (65 bytes): what the seal and the signature are bound to.

    Raises:
        SealingError: where a field does not fit the format.
    """
    if len(header.node) != PSEUDONYM_BYTES or len(header.recipient_key) != KEY_ID_BYTES:
        raise SealingError("a record header needs a node pseudonym and a recipient key id of 16 bytes each")
    if not 0 <= header.keep_until_day < 1 << 32:
        raise SealingError(f"the day {header.keep_until_day} does not fit a record header")
    fields = _FIELDS.pack(header.record_id.value, header.node, header.recipient_key, header.keep_until_day)
    return VERSION_LINE + fields


def encode(record: SealedRecord) -> bytes:
    """Return the record's bytes, at most `MAX_RECORD_BYTES`.

    Raises:
        SealingError: where a field does not fit the format.
    """
    if not 0 < len(record.ciphertext) <= MAX_CIPHERTEXT_BYTES:
        raise SealingError(f"a ciphertext of {len(record.ciphertext)} bytes does not fit a sealed record")
    if len(record.signature) != SIGNATURE_BYTES:
        raise SealingError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(record.signature)}")
    return encode_header(record.header) + _LENGTH.pack(len(record.ciphertext)) + record.ciphertext + record.signature


def decode(data: bytes) -> SealedRecord:
    """Return the record that `data` is, whole: nothing may be missing and nothing may follow.

    Raises:
        MalformedError: where it is too long, too short, or of another form.
        VersionError: where it names another version.
    """
    if len(data) > MAX_RECORD_BYTES:
        raise MalformedError(f"{len(data)} bytes are more than a sealed record may have ({MAX_RECORD_BYTES})")
    if not data.startswith(VERSION_LINE):
        if _ANY_VERSION_LINE.match(data):
            raise VersionError("the record is of a version that this program does not know; update the receiver")
        raise MalformedError("the bytes do not begin as a sealed record does")
    if len(data) <= _FRAME_BYTES:
        raise MalformedError(f"a sealed record of {len(data)} bytes is truncated")
    record_id, node, recipient_key, day = _FIELDS.unpack_from(data, len(VERSION_LINE))
    (length,) = _LENGTH.unpack_from(data, HEADER_BYTES)
    if length != len(data) - _FRAME_BYTES:
        raise MalformedError(f"a sealed record of {len(data)} bytes cannot hold the {length} bytes that it names")
    start = HEADER_BYTES + _LENGTH.size
    header = RecordHeader(record_id=RecordId(record_id), node=node, recipient_key=recipient_key, keep_until_day=day)
    return SealedRecord(header=header, ciphertext=data[start : start + length], signature=data[start + length :])


def signed_bytes(header: RecordHeader, ciphertext: bytes, node_public: bytes) -> bytes:
    """Return what the node signs: label, then node key, header and ciphertext, each behind its length (8 bytes).

    The lengths make the encoding unambiguous (pre-authentication encoding), the label keeps the signature from
    counting anywhere else, and the node key keeps it from counting for another key with the same pseudonym.

    Args:
        header: names the node and the recipient's key.
        ciphertext: encapsulated key first.
        node_public: raw Ed25519 public key of the signer, 32 bytes.

    Raises:
        SealingError: where a field does not fit the format.
    """
    if len(node_public) != PUBLIC_KEY_BYTES:
        raise SealingError(f"a node's public key has {PUBLIC_KEY_BYTES} bytes, not {len(node_public)}")
    fields = (node_public, encode_header(header), ciphertext)
    return SIGNATURE_LABEL + b"".join(len(field).to_bytes(8, "big") + field for field in fields)
