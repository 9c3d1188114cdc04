"""A node and an agency of our own making, and real sealed records from one to the other."""

import os
from dataclasses import dataclass, field
from itertools import count

from homeplate.domain.agency import KemKind
from homeplate.domain.node import NodeEntry
from homeplate.domain.passage import Direction
from homeplate.domain.record import DAY_SECONDS, HitKind, Part, RecordId
from homeplate.sealing.envelope import encode
from homeplate.sealing.facts import CropReference, Facts, encode_facts, pad_crop
from homeplate.sealing.keys import SealingPrivateKey, generate_sealing_key, generate_signing_key
from homeplate.sealing.seal import seal

NOW_S = 1_790_000_000
PLATE = "7ABC123"
JPEG = b"\xff\xd8 a picture \xff\xd9"


@dataclass
class Node:
    pseudonym: bytes = field(default_factory=lambda: os.urandom(16))
    signing: object = field(default_factory=generate_signing_key)
    sequence: count = field(default_factory=lambda: count(1))

    @property
    def topic(self) -> str:
        return f"homeplate/{self.pseudonym.hex()}/records"

    def entry(self, **changes) -> NodeEntry:
        values = {
            "pseudonym": self.pseudonym,
            "record_public": self.signing.public_key().public_bytes_raw(),
            "ledger_public": bytes(32),
            "hot_list_public": bytes(32),
            "cameras": ("gate",),
            "not_before_s": NOW_S - DAY_SECONDS,
            "not_after_s": NOW_S + DAY_SECONDS,
            "revoked": False,
        }
        return NodeEntry(**(values | changes))

    def seal(self, part: Part, plaintext: bytes, key: SealingPrivateKey, **changes) -> tuple[RecordId, bytes]:
        record_id = changes.pop("record_id", None) or RecordId(os.urandom(16))
        recipient = key.sealing_key(not_before_s=0, not_after_s=NOW_S + DAY_SECONDS)
        values = {"keep_until_s": NOW_S + 60} | changes
        record = seal(
            part=part,
            plaintext=plaintext,
            record_id=record_id,
            node=self.pseudonym,
            recipient=recipient,
            signing_key=self.signing,
            **values,
        )
        return record_id, encode(record)

    def facts(self, key, *, crop=None, keep_until_s=NOW_S + 60, plate=PLATE, record_id=None, hit=HitKind.NONE):
        """Return id and bytes of a sealed facts record."""
        facts = Facts(
            first_captured_ns=NOW_S * 10**9,
            last_captured_ns=NOW_S * 10**9,
            camera="gate",
            plate=plate,
            raw=plate,
            ambiguity=tuple(plate),
            confidence=0.98,
            jurisdiction="US-CA",
            seen=5,
            agreeing=4,
            direction=next(iter(Direction)),
            box=(1, 2, 3, 4),
            rule="all",
            purpose="stolen-vehicle",
            hit=hit,
            recipient="us-ca-city",
            keep_until_s=keep_until_s,
            sequence=next(self.sequence),
            crop=crop,
        )
        return self.seal(Part.FACTS, encode_facts(facts), key, keep_until_s=keep_until_s, record_id=record_id)

    def passage(self, key, *, jpeg=JPEG, **changes):
        """Return (id, bytes) of a crop record and of the facts record that names it."""
        changes_of_crop = {"keep_until_s": changes["keep_until_s"]} if "keep_until_s" in changes else {}
        crop_id, crop = self.seal(Part.CROP, pad_crop(jpeg), key, **changes_of_crop)
        facts_id, facts = self.facts(key, crop=CropReference.of(crop_id, jpeg), **changes)
        return (crop_id, crop), (facts_id, facts)


def new_key() -> SealingPrivateKey:
    return generate_sealing_key(KemKind.X25519)
