"""Writes the test vectors of the record format: `python tools/make_vectors.py [FOLDER]` (default tests/vectors).

Encapsulation is random, so every run writes other records with the same meaning; the committed files change only with
the format. The keys are derived from their names here, in public: they are for these files and nothing else.
"""

import base64
import hashlib
import struct
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.domain.agency import KemKind
from homeplate.domain.passage import Direction
from homeplate.domain.record import DAY_SECONDS, HitKind, Part, RecordHeader, RecordId, SealedRecord
from homeplate.sealing import seal as sealing
from homeplate.sealing.envelope import HEADER_BYTES, MAX_RECORD_BYTES, encode, encode_header, signed_bytes
from homeplate.sealing.facts import CropReference, Facts, encode_facts, pad, pad_crop
from homeplate.sealing.keys import SealingPrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, it sees its own folder alone
from tools.format_vectors import all_vectors

WARNING = "THROW-AWAY TEST KEYS: published with this file, never to be used"


def derived(name: str) -> bytes:
    return hashlib.sha256(b"homeplate test vector " + name.encode()).digest()


def sealing_private(name: str, kem: KemKind) -> SealingPrivateKey:
    return SealingPrivateKey(kem=kem, private_bytes=derived(name))


NODE_KEY, OTHER_NODE_KEY = (Ed25519PrivateKey.from_private_bytes(derived(name)) for name in ("node", "other node"))
NODE, OTHER_NODE = derived("pseudonym")[:16], derived("other pseudonym")[:16]
X25519 = sealing_private("recipient x25519", KemKind.X25519)
OTHER_X25519 = sealing_private("other recipient x25519", KemKind.X25519)
HYBRID = sealing_private("recipient hybrid", KemKind.MLKEM768_X25519)
KEEP_UNTIL_S = 1_800_000_000
FACTS_ID, CROP_ID = RecordId(derived("facts id")[:16]), RecordId(derived("crop id")[:16])
# Any bytes do for a crop: the format does not look into the JPEG.
CROP, OTHER_CROP = (b"\xff\xd8\xff\xe0 not a real picture: " + name + b"\xff\xd9" for name in (b"one", b"two"))


def facts(*, crop: CropReference | None = None, keep_until_s: int = KEEP_UNTIL_S) -> Facts:
    return Facts(
        first_captured_ns=1_799_990_000_123_456_789,
        last_captured_ns=1_799_990_001_500_000_000,
        camera="gate-north",
        plate="V3CT0R1",
        raw="V3CTOR1",
        ambiguity=("V", "3", "C", "T", "0OD", "R", "1I"),
        confidence=0.9731,
        jurisdiction="US-CA",
        seen=7,
        agreeing=6,
        direction=Direction.APPROACHING,
        box=(412, 233, 561, 301),
        rule="stolen-vehicles",
        purpose="recover stolen vehicles",
        hit=HitKind.EXACT,
        recipient="example-pd",
        keep_until_s=keep_until_s,
        sequence=42,
        crop=crop,
    )


def sealed(plaintext: bytes, part: Part = Part.FACTS, to: SealingPrivateKey = X25519, **changes) -> SealedRecord:
    key = to.sealing_key(not_before_s=0, not_after_s=KEEP_UNTIL_S)
    arguments = {"record_id": FACTS_ID, "node": NODE, "keep_until_s": KEEP_UNTIL_S, "signing_key": NODE_KEY}
    return sealing.seal(part=part, plaintext=plaintext, recipient=key, **(arguments | changes))


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def signed(header: RecordHeader, ciphertext: bytes, key: Ed25519PrivateKey = NODE_KEY) -> SealedRecord:
    """Sign whatever is given, as a careless or malicious node would."""
    signature = key.sign(signed_bytes(header, ciphertext, public(key)))
    return SealedRecord(header=header, ciphertext=ciphertext, signature=signature)


def forged(plaintext: bytes, info: bytes, header: RecordHeader, to: SealingPrivateKey = X25519) -> SealedRecord:
    """Seal under any info and sign it: past the checks of `seal`."""
    return signed(header, sealing._encrypt(to.kem, to.public_bytes, plaintext, info))


def flipped(data: bytes, position: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def vector(expect: str, about: str, *records: SealedRecord | bytes, to: SealingPrivateKey = X25519, **extra) -> str:
    lines = [
        "homeplate test vector 1",
        f"expect: {expect}",
        f"about: {about}",
        f"warning: {WARNING}",
        f"node-public: {public(NODE_KEY).hex()}",
        f"kem: {to.kem}",
        f"private: {to.private_bytes.hex()}",
        *(f"{key.replace('_', '-')}: {value}" for key, value in extra.items()),
    ]
    for record in records:
        data = record if isinstance(record, bytes) else encode(record)
        body = base64.encodebytes(data).decode().rstrip("\n")
        lines += ["", "-----BEGIN HOMEPLATE RECORD-----", body, "-----END HOMEPLATE RECORD-----"]
    return "\n".join([*lines, ""])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def good_vectors() -> dict[str, str]:
    plain, reference = encode_facts(facts()), CropReference.of(CROP_ID, CROP)
    with_crop = encode_facts(facts(crop=reference))
    crop, large = pad_crop(CROP), pad_crop(CROP + b"\0" * 40_000)
    vectors = {}
    for name, to in (("x25519", X25519), ("hybrid", HYBRID)):
        vectors[f"good-facts-{name}"] = vector(
            "opens", f"facts, sealed with {to.kem}", sealed(plain, to=to), to=to, plaintext_sha256=sha256(plain)
        )
        vectors[f"good-pair-{name}"] = vector(
            "opens",
            "facts and the crop that they name",
            sealed(with_crop, to=to),
            sealed(crop, Part.CROP, to, record_id=CROP_ID),
            to=to,
            plaintext_sha256=f"{sha256(with_crop)} {sha256(crop)}",
        )
    vectors["good-crop-large"] = vector(
        "opens", "a crop padded to 64 KiB", sealed(large, Part.CROP), plaintext_sha256=sha256(large)
    )
    return vectors


def moved_vectors() -> dict[str, str]:
    """Return records that someone took apart and put together anew."""
    plain, reference = encode_facts(facts()), CropReference.of(CROP_ID, CROP)
    record, other_id = sealed(plain), RecordId(derived("other id")[:16])
    header = record.header
    elsewhere = replace(header, node=OTHER_NODE)
    pair = sealed(encode_facts(facts(crop=reference)))
    swapped, wrong_id = pad_crop(OTHER_CROP), pad_crop(CROP)
    x25519_half = SealingPrivateKey(
        kem=KemKind.X25519, private_bytes=hashlib.shake_256(HYBRID.private_bytes).digest(96)[64:]
    )
    to_hybrid = replace(header, recipient_key=HYBRID.key_id)
    info = sealing.info_bytes(Part.FACTS, to_hybrid, public(NODE_KEY))
    return {
        "swapped-crop": vector(
            "crop",
            "both records open, but the crop is another picture than the facts name",
            pair,
            sealed(swapped, Part.CROP, record_id=CROP_ID),
        ),
        "swapped-crop-id": vector(
            "crop", "the right picture under another record id", pair, sealed(wrong_id, Part.CROP, record_id=other_id)
        ),
        "another-nodes-header": vector(
            "signature", "the header of another node in front", replace(record, header=elsewhere)
        ),
        "another-nodes-header-signed": vector(
            "seal",
            "stripped, given another node's header, and signed by that node: its key is the one to check with",
            signed(elsewhere, record.ciphertext, OTHER_NODE_KEY),
        ).replace(public(NODE_KEY).hex(), public(OTHER_NODE_KEY).hex()),
        "same-header-other-key": vector(
            "seal",
            "stripped and signed again by a key that now stands for the same pseudonym",
            signed(header, record.ciphertext, OTHER_NODE_KEY),
        ).replace(public(NODE_KEY).hex(), public(OTHER_NODE_KEY).hex()),
        "another-recipient": vector("recipient", "sealed to another recipient's key", sealed(plain, to=OTHER_X25519)),
        "another-recipient-readdressed": vector(
            "seal",
            "sealed to another recipient, then readdressed and signed by the node",
            signed(header, sealed(plain, to=OTHER_X25519).ciphertext),
        ),
        "downgraded-kem": vector(
            "seal",
            "addressed to a hybrid key, but sealed with X25519 alone to the X25519 half of it",
            forged(plain, info, to_hybrid, x25519_half),
            to=HYBRID,
        ),
        "another-day": vector(
            "seal",
            "the keep-until day moved, and signed again by the node",
            signed(replace(header, keep_until_day=header.keep_until_day + 30), record.ciphertext),
        ),
        "another-label": vector(
            "seal",
            "sealed for another purpose: under the hot list's label",
            forged(plain, sealing.HOT_LIST_LABEL + public(NODE_KEY) + encode_header(header), header),
        ),
    }


def broken_vectors() -> dict[str, str]:
    """Return records of a wrong form, and records with one bit flipped."""
    record = sealed(encode_facts(facts()))
    data = encode(record)
    ciphertext_start = HEADER_BYTES + 4
    oversized = MAX_RECORD_BYTES + 1 - ciphertext_start
    flips = {
        "version": ("malformed", 3),
        "record-id": ("signature", 13),
        "node": ("signature", 13 + 16),
        "recipient": ("signature", 13 + 32),
        "day": ("signature", HEADER_BYTES - 1),
        "length": ("malformed", ciphertext_start - 1),
        "encapsulated-key": ("signature", ciphertext_start),
        "ciphertext": ("signature", ciphertext_start + 1000),
        "tag": ("signature", len(data) - 65),
        "signature": ("signature", len(data) - 1),
    }
    vectors = {
        f"flipped-{name}": vector(expect, f"one bit flipped: {name}", flipped(data, position))
        for name, (expect, position) in flips.items()
    }
    return vectors | {
        "flipped-ciphertext-signed": vector(
            "seal",
            "one bit of the ciphertext flipped before the node signed it",
            signed(record.header, flipped(record.ciphertext, 500)),
        ),
        "truncated": vector("malformed", "the last byte is missing", data[:-1]),
        "truncated-header": vector("malformed", "it ends within the header", data[:40]),
        "empty": vector("malformed", "no bytes at all", b""),
        "trailing-byte": vector("malformed", "one byte follows", data + b"\0"),
        "oversized": vector(
            "malformed",
            "one byte more than 1 MiB; the length field agrees",
            data[:HEADER_BYTES] + struct.pack(">I", oversized - 64),
            append_zeros=oversized,
        ),
        "unknown-version": vector("version", "version 2", data.replace(b"homeplate/v1\n", b"homeplate/v2\n", 1)),
    }


def contents_vectors() -> dict[str, str]:
    """Return records that open, with something inside that the format does not have."""
    good = facts()
    header = RecordHeader(
        record_id=FACTS_ID, node=NODE, recipient_key=X25519.key_id, keep_until_day=KEEP_UNTIL_S // DAY_SECONDS
    )
    encoded = msgspec.json.encode(good, order="sorted")
    unsorted = msgspec.json.encode(dict(reversed(msgspec.json.decode(encoded).items())))
    unknown = msgspec.json.encode(msgspec.json.decode(encoded) | {"driver": "x"}, order="sorted")
    info = sealing.info_bytes(Part.FACTS, header, public(NODE_KEY))
    return {
        "contents-size": vector("contents", "facts padded to another size", forged(pad(encoded, 4096), info, header)),
        "contents-padding": vector("contents", "padding that is not zeros", sealed(pad(encoded, 2048)[:-1] + b"\1")),
        "contents-length": vector("contents", "a length beyond the padding", sealed(b"\xff" + pad(encoded, 2048)[1:])),
        "contents-order": vector("contents", "keys in another order", sealed(pad(unsorted, 2048))),
        "contents-unknown-key": vector("contents", "a key that version 1 does not have", sealed(pad(unknown, 2048))),
        "contents-day": vector(
            "contents",
            "the exact date inside is of another day than the header's",
            sealed(encode_facts(facts(keep_until_s=KEEP_UNTIL_S + 30 * DAY_SECONDS))),
        ),
        "contents-crop-size": vector(
            "contents",
            "a small crop padded to a larger size than it needs",
            sealed(pad(CROP, 8192), Part.CROP),
        ),
    }


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vectors = good_vectors() | moved_vectors() | broken_vectors() | contents_vectors()
    for name, text in vectors.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    formats = all_vectors()
    (folder / "formats").mkdir(exist_ok=True)
    for name, text in formats.items():
        (folder / "formats" / f"{name}.txt").write_text(text, encoding="utf-8")
    print(f"{len(vectors)} + {len(formats)} vectors written to {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests" / "vectors")
