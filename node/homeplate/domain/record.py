"""Sealed records as values. Their bytes are `homeplate.sealing.envelope`'s; their law is ARCHITECTURE 2.4 to 2.6."""

from dataclasses import dataclass, field
from enum import StrEnum

NANOSECONDS = 1_000_000_000
DAY_SECONDS = 86_400
RECORD_ID_BYTES = 16


@dataclass(frozen=True, slots=True, order=True)
class RecordId:
    """128 random bits. Shown as 32 hexadecimal digits.

    Raises:
        ValueError: where there are not exactly 16 bytes.
    """

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != RECORD_ID_BYTES:
            raise ValueError(f"a record id has {RECORD_ID_BYTES} bytes, not {len(self.value)}")

    def __str__(self) -> str:
        return self.value.hex()


class Part(StrEnum):
    """What a record holds. The value ends the HPKE info label: `homeplate/v1/facts`, `homeplate/v1/crop`."""

    FACTS = "facts"
    CROP = "crop"


class StorageClass(StrEnum):
    """Who on the node can unwrap a record, decided at sealing: local (capture alone) or outgoing (uplink too)."""

    LOCAL = "local"
    OUTGOING = "outgoing"


class HitKind(StrEnum):
    """Whether the passage matched a hot list, exactly or nearly. Sealed inside; never told to a broker."""

    NONE = "none"
    EXACT = "exact"
    NEAR = "near"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """What the signed rules say of one passage for one recipient (`policy.disclosure`).

    Attributes:
        rule: the rule's name in the bundle.
        recipient: the agency's identifier in the registry.
        parts: what is sealed.
        storage: local or outgoing.
        keep_until_s: node time, seconds since 1970, at which nothing may open it any more.
        retention_s: the rule's retention, seconds (the slot's length follows from it).
        hit: whether a hot list named the plate.
        purpose: the rule's purpose, sealed inside.
    """

    rule: str
    recipient: str
    parts: frozenset[Part]
    storage: StorageClass
    keep_until_s: int
    retention_s: int
    hit: HitKind
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """All that a sealed record shows in clear.

    Attributes:
        record_id: random, 128 bits.
        node: the node's pseudonym, 16 bytes (see `nodes` in the bundle).
        recipient_key: id of the recipient's sealing key, 16 bytes.
        keep_until_day: days since 1970-01-01; the record is past its date once that day is over. It tells no time of
            day; the exact second is inside.
    """

    record_id: RecordId
    node: bytes
    recipient_key: bytes
    keep_until_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRecord:
    """Header, HPKE ciphertext (encapsulated key first) and the node's signature over both."""

    header: RecordHeader
    ciphertext: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotId:
    """A retention slot's name: 16 random bytes that say nothing of class, rule or expiry."""

    value: bytes

    def __str__(self) -> str:
        return self.value.hex()
