"""Makes sealed records and opens them: HPKE base mode (RFC 9180), single-shot, signed by the node with Ed25519.

The KEM follows from the type of the recipient's key and is never read from the record. The HPKE info holds the part's
label, the node's key and the header, so a ciphertext opens under no other header, node or purpose. Opening verifies
the signature first. What is inside is `facts`'s; dates are the caller's.
"""

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from homeplate.domain.agency import KemKind, SealingKey
from homeplate.domain.record import DAY_SECONDS, Part, RecordHeader, RecordId, SealedRecord
from homeplate.errors import SealingError
from homeplate.sealing.envelope import PUBLIC_KEY_BYTES, encode_header, signed_bytes
from homeplate.sealing.errors import ContentsError, RecipientError, SignatureError, UnopenedError, VersionError
from homeplate.sealing.facts import PLAINTEXT_SIZES, pad, unpad
from homeplate.sealing.keys import PUBLIC_BYTES, SealingPrivateKey, check_sealing_key, hybrid_parts

HOT_LIST_LABEL = b"homeplate/v1/hot-list\n"
ACCESS_LABEL = b"homeplate/v1/access\n"
ACCESS_BYTES = 2048
RECOVERY_LABEL = b"homeplate/v1/recovery\n"
_RECOVERY_BYTES = 512
MAX_HOT_LIST_BYTES = 1 << 24
_MIN_HOT_LIST_BYTES = 1 << 12

_SUITES = {
    KemKind.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    KemKind.MLKEM768_X25519: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}


def info_bytes(part: Part, header: RecordHeader, node_public: bytes) -> bytes:
    """Return the HPKE info of a record: `homeplate/v1/PART`, a newline, the node's public key (32 bytes), the header.

    Raises:
        SealingError: where a field does not fit the format.
    """
    if len(node_public) != PUBLIC_KEY_BYTES:
        raise SealingError(f"a node's public key has {PUBLIC_KEY_BYTES} bytes, not {len(node_public)}")
    return f"homeplate/v1/{part}\n".encode() + node_public + encode_header(header)


def seal(
    *,
    part: Part,
    plaintext: bytes,
    record_id: RecordId,
    node: bytes,
    recipient: SealingKey,
    keep_until_s: int,
    signing_key: Ed25519PrivateKey,
) -> SealedRecord:
    """Seal one part of a passage to one recipient and sign it.

    Args:
        part: what `plaintext` is.
        plaintext: what `encode_facts` or `pad_crop` returned; only their sizes are accepted, so no length leaks.
        record_id: new and random.
        node: the node's pseudonym, 16 bytes.
        recipient: the recipient's key; its dates are the caller's to judge.
        keep_until_s: seconds since 1970; the header shows the day of it.
        signing_key: the node's record key.

    Raises:
        RecipientError: where the recipient's key is not what its id names, or no valid public key.
        SealingError: where the plaintext is not padded or a field does not fit the format.
    """
    if len(plaintext) not in PLAINTEXT_SIZES[part]:
        raise SealingError(f"a plaintext of {len(plaintext)} bytes is not a padded {part}")
    check_sealing_key(recipient)
    header = RecordHeader(
        record_id=record_id,
        node=node,
        recipient_key=recipient.key_id,
        keep_until_day=keep_until_s // DAY_SECONDS,
    )
    node_public = signing_key.public_key().public_bytes_raw()
    ciphertext = _encrypt(recipient.kem, recipient.public, plaintext, info_bytes(part, header, node_public))
    signature = signing_key.sign(signed_bytes(header, ciphertext, node_public))
    return SealedRecord(header=header, ciphertext=ciphertext, signature=signature)


def verify(record: SealedRecord, node_public: bytes) -> None:
    """Check that the node whose record key this is signed the record.

    Raises:
        SignatureError: where it did not, or the key is none.
    """
    try:
        key = Ed25519PublicKey.from_public_bytes(node_public)
        key.verify(record.signature, signed_bytes(record.header, record.ciphertext, node_public))
    except (InvalidSignature, ValueError):
        raise SignatureError(f"record {record.header.record_id} is not signed by the node that it names") from None


def open_sealed(record: SealedRecord, private: SealingPrivateKey, node_public: bytes) -> tuple[Part, bytes]:
    """Verify and open a record; return its part and the padded plaintext.

    The part is not in clear: every label is tried, always all of them.

    Args:
        record: what `envelope.decode` returned.
        private: the recipient's private key; its type alone decides the KEM.
        node_public: the record key (32 bytes) that the bundle has for the node in the header.

    Raises:
        SignatureError: where the node did not sign it.
        RecipientError: where it is sealed to another key.
        UnopenedError: where the seal does not open.
        ContentsError: where the plaintext has no size that its part may have.
    """
    verify(record, node_public)
    header = record.header
    if header.recipient_key != private.key_id:
        raise RecipientError(
            f"record {header.record_id} is sealed to the key {header.recipient_key.hex()}, not this one"
        )
    tried = [(part, _decrypt(private, record.ciphertext, info_bytes(part, header, node_public))) for part in Part]
    opened = [(part, plaintext) for part, plaintext in tried if plaintext is not None]
    if len(opened) != 1:
        raise UnopenedError(f"record {header.record_id} does not open with the key that it names: it was altered")
    part, plaintext = opened[0]
    if len(plaintext) not in PLAINTEXT_SIZES[part]:
        raise ContentsError(f"record {header.record_id} has {len(plaintext)} bytes inside: no padded {part}")
    return part, plaintext


def seal_hot_list(plaintext: bytes, public: bytes) -> bytes:
    """Seal a hot list to a node's hot-list key (X25519, 32 raw bytes), padded so that its length tells little.

    Raises:
        SealingError: where it is longer than 16 MiB.
        RecipientError: where the key is none.
    """
    size = _MIN_HOT_LIST_BYTES
    while size < len(plaintext) + 4:
        size *= 2
    if size > MAX_HOT_LIST_BYTES:
        raise SealingError(f"a hot list of {len(plaintext)} bytes is too long to seal")
    return HOT_LIST_LABEL + _encrypt(KemKind.X25519, public, pad(plaintext, size), HOT_LIST_LABEL)


def open_hot_list(blob: bytes, private: SealingPrivateKey) -> bytes:
    """Return a sealed hot list's plaintext.

    Raises:
        VersionError: where the blob is not a sealed hot list of this version.
        RecipientError: where `private` is no X25519 key.
        UnopenedError: where it is sealed to another key, altered or too long.
        ContentsError: where its padding is wrong.
    """
    if not blob.startswith(HOT_LIST_LABEL):
        raise VersionError("the hot list is of a version that this program does not know; update the node")
    if private.kem is not KemKind.X25519:
        raise RecipientError("a hot list opens with an X25519 key only")
    too_long = len(blob) > MAX_HOT_LIST_BYTES + 4096
    plaintext = None if too_long else _decrypt(private, blob[len(HOT_LIST_LABEL) :], HOT_LIST_LABEL)
    if plaintext is None:
        raise UnopenedError("the hot list does not open with this node's key; ask for a bundle made for this node")
    return unpad(plaintext)


def seal_access(content: bytes, public: bytes, context: bytes) -> bytes:
    """Seal what an access record says of plates to the reviewer's key (X25519, 32 raw bytes), padded to 2048 bytes.

    Args:
        content: the plates, at most 2044 bytes.
        public: the reviewer's key.
        context: the row that it stands in: moved to another row it does not open.

    Raises:
        SealingError: where it is too long.
        RecipientError: where the key is none.
    """
    if len(content) > ACCESS_BYTES - 4:
        raise SealingError(f"an access record seals {ACCESS_BYTES - 4} bytes at most, not {len(content)}")
    return _encrypt(KemKind.X25519, public, pad(content, ACCESS_BYTES), ACCESS_LABEL + context)


def open_access(sealed: bytes, private: SealingPrivateKey, context: bytes) -> bytes:
    """Return what `seal_access` sealed.

    Raises:
        RecipientError: where `private` is no X25519 key.
        UnopenedError: where it is sealed to another key, altered, or of another row.
        ContentsError: where its padding is wrong.
    """
    if private.kem is not KemKind.X25519:
        raise RecipientError("what an access record seals opens with an X25519 key only")
    plaintext = _decrypt(private, sealed, ACCESS_LABEL + context)
    if plaintext is None:
        raise UnopenedError("the access record's seal does not open with this key, or is not of this row")
    return unpad(plaintext)


def seal_recovery(key_file: bytes, recipient: SealingKey) -> bytes:
    """Seal a private key's file to the recovery recipient: label, its key's id, HPKE ciphertext.

    Raises:
        SealingError: where it is too long.
        RecipientError: where the recipient's key is not what its id names.
    """
    if len(key_file) > _RECOVERY_BYTES - 4:
        raise SealingError("that is too long for a sealing key's file")
    check_sealing_key(recipient)
    label = RECOVERY_LABEL + recipient.key_id
    return label + _encrypt(recipient.kem, recipient.public, pad(key_file, _RECOVERY_BYTES), label)


def open_recovery(blob: bytes, private: SealingPrivateKey) -> bytes:
    """Return the key file that `seal_recovery` sealed.

    Raises:
        VersionError: where the blob is none of this version.
        RecipientError: where it is sealed to another key.
        UnopenedError: where it was altered.
    """
    if not blob.startswith(RECOVERY_LABEL):
        raise VersionError("that is no recovery copy of a key of a version that this program knows")
    label = blob[: len(RECOVERY_LABEL) + len(private.key_id)]
    if label != RECOVERY_LABEL + private.key_id:
        raise RecipientError(
            f"the recovery copy is sealed to the key {label[len(RECOVERY_LABEL) :].hex()}, not this one"
        )
    plaintext = _decrypt(private, blob[len(label) :], label)
    if plaintext is None:
        raise UnopenedError("the recovery copy does not open with the key that it names: it was altered")
    return unpad(plaintext)


def _encrypt(kem: KemKind, public: bytes, plaintext: bytes, info: bytes) -> bytes:
    if len(public) != PUBLIC_BYTES[kem]:
        raise RecipientError(f"a {kem} public key has {PUBLIC_BYTES[kem]} bytes, not {len(public)}")
    try:
        return _SUITES[kem].encrypt(plaintext, _public_key(kem, public), info)
    except ValueError:  # a point of small order: every sender would share the same secret
        raise RecipientError(f"the {kem} public key of a recipient is not usable") from None


def _public_key(kem: KemKind, public: bytes) -> X25519PublicKey | MLKEM768X25519PublicKey:
    x25519_key = X25519PublicKey.from_public_bytes(public[-32:])
    if kem is KemKind.X25519:
        return x25519_key
    return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(public[:-32]), x25519_key)


def _decrypt(private: SealingPrivateKey, ciphertext: bytes, info: bytes) -> bytes | None:
    key: X25519PrivateKey | MLKEM768X25519PrivateKey
    if private.kem is KemKind.X25519:
        key = X25519PrivateKey.from_private_bytes(private.private_bytes)
    else:
        key = MLKEM768X25519PrivateKey(*hybrid_parts(private.private_bytes))
    try:
        return _SUITES[private.kem].decrypt(ciphertext, key, info)
    except InvalidTag:
        return None
