"""A second opener, written from docs/record-format.md alone: no import of `homeplate`, no HPKE library.

It shows that the page says enough for a third party, and that the format is RFC 9180 and X-Wing, not one library.
"""

import base64
import hashlib
import hmac
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class RefusedError(Exception):
    """The `expect:` word of what is wrong."""


@dataclass(frozen=True)
class Vector:
    name: str
    fields: dict[str, str]
    records: tuple[bytes, ...]


def read_vector(path: Path) -> Vector:
    head, *blocks = path.read_text(encoding="utf-8").split("\n-----BEGIN HOMEPLATE RECORD-----\n")
    fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
    zeros = bytes(int(fields.get("append-zeros", "0")))
    records = tuple(base64.b64decode(b.split("-----END HOMEPLATE RECORD-----")[0]) + zeros for b in blocks)
    return Vector(path.stem, fields, records)


def refuse_unless(condition: bool, word: str) -> None:
    if not condition:
        raise RefusedError(word)


def parse(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return header, ciphertext and signature."""
    refuse_unless(len(data) <= 1 << 20, "malformed")
    if not data.startswith(b"homeplate/v1\n"):
        refuse_unless(re.match(rb"homeplate/v[0-9]{1,8}\n", data) is None, "version")
        raise RefusedError("malformed")
    refuse_unless(len(data) > 65 + 4 + 64, "malformed")
    (length,) = struct.unpack_from(">I", data, 65)
    refuse_unless(len(data) == 65 + 4 + length + 64, "malformed")
    return data[:65], data[69:-64], data[-64:]


def check_signature(header: bytes, ciphertext: bytes, signature: bytes, node_public: bytes) -> None:
    fields = b"".join(struct.pack(">Q", len(f)) + f for f in (node_public, header, ciphertext))
    try:
        Ed25519PublicKey.from_public_bytes(node_public).verify(signature, b"homeplate/v1/signature\n" + fields)
    except InvalidSignature:
        raise RefusedError("signature") from None


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869) with SHA-256."""
    out = block = b""
    for counter in range(1, 4):
        block = hmac.digest(secret, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


def labelled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def labelled_expand(suite: bytes, secret: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(secret, struct.pack(">H", length) + b"HPKE-v1" + suite + label + info, length)


class X25519:
    """DHKEM(X25519, HKDF-SHA256) of RFC 9180, 4.1."""

    number, enc_bytes = 0x0020, 32

    def __init__(self, private: bytes) -> None:
        self.private = X25519PrivateKey.from_private_bytes(private)
        self.public = self.private.public_key().public_bytes_raw()

    def decapsulate(self, enc: bytes) -> bytes:
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(enc))
        suite = b"KEM" + struct.pack(">H", self.number)
        secret = labelled_extract(suite, b"", b"eae_prk", shared)
        return labelled_expand(suite, secret, b"shared_secret", enc + self.public, 32)


class XWing:
    """X-Wing, draft-connolly-cfrg-xwing-kem."""

    number, enc_bytes = 0x647A, 1120

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        self.mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self.x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self.x25519_public = self.x25519.public_key().public_bytes_raw()
        self.public = self.mlkem.public_key().public_bytes_raw() + self.x25519_public

    def decapsulate(self, enc: bytes) -> bytes:
        shared = self.x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        parts = self.mlkem.decapsulate(enc[:1088]) + shared + enc[1088:] + self.x25519_public
        return hashlib.sha3_256(parts + b"\\.//^\\").digest()


def decrypt(kem: X25519 | XWing, ciphertext: bytes, info: bytes) -> bytes | None:
    """HPKE base mode, HKDF-SHA256 and AES-256-GCM, single-shot with no associated data (RFC 9180, 5 and 6)."""
    if len(ciphertext) < kem.enc_bytes + 16:
        return None
    enc, sealed = ciphertext[: kem.enc_bytes], ciphertext[kem.enc_bytes :]
    shared = kem.decapsulate(enc)
    suite = b"HPKE" + struct.pack(">HHH", kem.number, 1, 2)
    id_hash = labelled_extract(suite, b"", b"psk_id_hash", b"")
    context = b"\0" + id_hash + labelled_extract(suite, b"", b"info_hash", info)
    secret = labelled_extract(suite, shared, b"secret", b"")
    key = labelled_expand(suite, secret, b"key", context, 32)
    nonce = labelled_expand(suite, secret, b"base_nonce", context, 12)
    try:
        return AESGCM(key).decrypt(nonce, sealed, b"")
    except InvalidTag:
        return None


def open_record(data: bytes, vector: Vector) -> tuple[str, bytes, bytes]:
    """Return part, padded plaintext and header of one record."""
    header, ciphertext, signature = parse(data)
    node_public = bytes.fromhex(vector.fields["node-public"])
    check_signature(header, ciphertext, signature, node_public)
    name = vector.fields["kem"]
    kem = {"x25519": X25519, "mlkem768-x25519": XWing}[name](bytes.fromhex(vector.fields["private"]))
    key_id = hashlib.sha256(name.encode() + b"\0" + kem.public).digest()[:16]
    refuse_unless(header[45:61] == key_id, "recipient")
    for part in ("facts", "crop"):
        plaintext = decrypt(kem, ciphertext, f"homeplate/v1/{part}\n".encode() + node_public + header)
        if plaintext is not None:
            return part, plaintext, header
    raise RefusedError("seal")


def content_of(plaintext: bytes) -> bytes:
    (length,) = struct.unpack_from(">I", plaintext)
    content, rest = plaintext[4 : 4 + length], plaintext[4 + length :]
    refuse_unless(len(content) == length and not any(rest), "contents")
    return content


def read_facts(plaintext: bytes, header: bytes) -> dict[str, object]:
    refuse_unless(len(plaintext) == 2048, "contents")
    content = content_of(plaintext)
    facts = json.loads(content)
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    refuse_unless(canonical == content and len(facts) == 19, "contents")
    refuse_unless(facts["keep_until_s"] // 86400 == struct.unpack(">I", header[61:65])[0], "contents")
    return facts


def read_crop(plaintext: bytes) -> bytes:
    jpeg = content_of(plaintext)
    smallest = next(size for size in (4096, 8192, 16384, 32768, 65536) if len(jpeg) + 4 <= size)
    refuse_unless(len(plaintext) == smallest, "contents")
    return jpeg


def open_vector(vector: Vector) -> list[bytes]:
    """Return the padded plaintexts, in order; all checks of the page hold.

    Raises:
        RefusedError: with the `expect:` word.
    """
    facts: dict[str, object] | None = None
    plaintexts = []
    for data in vector.records:
        part, plaintext, header = open_record(data, vector)
        plaintexts.append(plaintext)
        if part == "facts":
            facts = read_facts(plaintext, header)
        else:
            jpeg = read_crop(plaintext)
            reference = {"record": header[13:29].hex(), "sha256": hashlib.sha256(jpeg).hexdigest()}
            refuse_unless(facts is None or facts["crop"] == reference, "crop")
    return plaintexts
