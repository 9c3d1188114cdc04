"""Values that the sealing tests share."""

import os

from homeplate.domain.agency import KemKind
from homeplate.domain.passage import Direction
from homeplate.domain.record import HitKind, Part, RecordHeader, RecordId, SealedRecord
from homeplate.sealing.facts import Facts, encode_facts
from homeplate.sealing.keys import SealingPrivateKey, generate_sealing_key, generate_signing_key
from homeplate.sealing.seal import seal

PLATE = "C4NARY7"
KEEP_UNTIL_S = 1_800_000_000
NODE = bytes(range(16))
NODE_KEY = generate_signing_key()
NODE_PUBLIC = NODE_KEY.public_key().public_bytes_raw()
KEYS = {kem: generate_sealing_key(kem) for kem in KemKind}
X25519 = KEYS[KemKind.X25519]


def make_facts(**changes: object) -> Facts:
    fields = {
        "first_captured_ns": 1_799_990_000_000_000_000,
        "last_captured_ns": 1_799_990_001_000_000_000,
        "camera": "gate",
        "plate": PLATE,
        "raw": PLATE,
        "ambiguity": tuple(PLATE),
        "confidence": 0.9,
        "jurisdiction": "US-CA",
        "seen": 3,
        "agreeing": 3,
        "direction": Direction.RECEDING,
        "box": (1, 2, 3, 4),
        "rule": "hits",
        "purpose": "recover stolen vehicles",
        "hit": HitKind.NONE,
        "recipient": "example-pd",
        "keep_until_s": KEEP_UNTIL_S,
        "sequence": 1,
        "crop": None,
    }
    return Facts(**(fields | changes))


def make_record(plaintext: bytes | None = None, *, to: SealingPrivateKey = X25519, **changes: object) -> SealedRecord:
    arguments = {
        "part": Part.FACTS,
        "plaintext": encode_facts(make_facts()) if plaintext is None else plaintext,
        "record_id": RecordId(os.urandom(16)),
        "node": NODE,
        "recipient": to.sealing_key(not_before_s=0, not_after_s=KEEP_UNTIL_S),
        "keep_until_s": KEEP_UNTIL_S,
        "signing_key": NODE_KEY,
    }
    return seal(**(arguments | changes))


def make_header(**changes: object) -> RecordHeader:
    fields = {"record_id": RecordId(bytes(16)), "node": NODE, "recipient_key": bytes(16), "keep_until_day": 20_000}
    return RecordHeader(**(fields | changes))
