"""What is inside a record: the facts of a passage, or its plate crop, padded to fixed sizes.

This is the one place on the node where a plate's characters leave `PlateText`, on their way into the seal. A message
never quotes what was inside, and no parser's message is passed on, because it could.
"""

import hashlib
from typing import Annotated, Self

import msgspec
from msgspec import Meta, Struct

from homeplate.domain.passage import Direction, Passage
from homeplate.domain.plate import ALPHABET, MAX_CHARACTERS, PlateText
from homeplate.domain.record import DAY_SECONDS, Disposition, HitKind, Part, RecordHeader, RecordId
from homeplate.errors import SealingError
from homeplate.sealing.errors import ContentsError, CropError

FACTS_BYTES = 2048
CONFIDENCE_DECIMALS = 4
CROP_BYTES = tuple(kib * 1024 for kib in (4, 8, 16, 32, 64))
PLAINTEXT_SIZES = {Part.FACTS: (FACTS_BYTES,), Part.CROP: CROP_BYTES}
MAX_CROP_BYTES = CROP_BYTES[-1] - 4
"""The longest JPEG that `pad_crop` takes; make a smaller one (lower quality, then fewer pixels) before."""

_Plate = Annotated[str, Meta(pattern=f"^[{ALPHABET}]{{1,{MAX_CHARACTERS}}}$")]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Alternatives = Annotated[str, Meta(pattern=f"^[{ALPHABET}]{{1,{len(ALPHABET)}}}$")]
_Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Pixel = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
_RecordHex = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_HashHex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class CropReference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which crop belongs to the facts: its record's id and the SHA-256 of its JPEG, both in hexadecimal."""

    record: _RecordHex
    sha256: _HashHex

    @classmethod
    def of(cls, record_id: RecordId, jpeg: bytes) -> Self:
        """Return the reference to a crop (the JPEG before padding)."""
        return cls(record=str(record_id), sha256=hashlib.sha256(jpeg).hexdigest())


class Facts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a recipient learns of one passage. Its repr is masked.

    Attributes:
        first_captured_ns, last_captured_ns: node time of the first and last sighting, nanoseconds since 1970.
        camera: the source's name.
        plate: the voted text (A-Z, 0-9).
        raw: the vote before a grammar re-ranked it.
        ambiguity: for each position of `plate` the characters that cannot be told apart, likeliest first.
        confidence: least voted probability of a position, 0..1, to four decimals.
        jurisdiction: what the plate looks like ("US-CA"), or "unknown".
        seen, agreeing: how many sightings had a reading, and how many of them read `plate`.
        direction: of travel across the picture.
        box: left, top, right, bottom in full-frame pixels, of the best sighting.
        rule, purpose, hit: why it was kept: the signed rule, its purpose, and whether a hot list named the plate.
        recipient: the agency's identifier in the registry.
        keep_until_s: node time, seconds since 1970, from which on nothing may open it.
        sequence: number of this record among the facts records to this recipient, from 1; a gap shows suppression.
        crop: the plate crop's record; absent where none was sealed.
    """

    first_captured_ns: _Count
    last_captured_ns: _Count
    camera: _Name
    plate: _Plate
    raw: _Plate
    ambiguity: Annotated[tuple[_Alternatives, ...], Meta(max_length=MAX_CHARACTERS)]
    confidence: Annotated[float, Meta(ge=0, le=1)]
    jurisdiction: _Name
    seen: _Count
    agreeing: _Count
    direction: Direction
    box: tuple[_Pixel, _Pixel, _Pixel, _Pixel]
    rule: _Name
    purpose: Annotated[str, Meta(min_length=1, max_length=200)]
    hit: HitKind
    recipient: _Name
    keep_until_s: _Count
    sequence: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
    crop: CropReference | None

    def __repr__(self) -> str:
        return "Facts(<masked>)"

    @property
    def text(self) -> PlateText:
        """The voted text, masked."""
        return PlateText(self.plate)


def facts_of(passage: Passage, disposition: Disposition, *, sequence: int, crop: CropReference | None) -> Facts:
    """Return the facts of a passage for the disposition's recipient, `sequence` being the record's number to it."""
    box = passage.box
    return Facts(
        first_captured_ns=passage.first_captured_ns,
        last_captured_ns=passage.last_captured_ns,
        camera=passage.source,
        plate=passage.text.reveal(),
        raw=passage.raw_text.reveal(),
        ambiguity=passage.ambiguity,
        confidence=round(float(passage.confidence), CONFIDENCE_DECIMALS),
        jurisdiction=passage.jurisdiction,
        seen=passage.seen,
        agreeing=passage.agreeing,
        direction=passage.direction,
        box=(round(box.left), round(box.top), round(box.right), round(box.bottom)),
        rule=disposition.rule,
        purpose=disposition.purpose,
        hit=disposition.hit,
        recipient=disposition.recipient,
        keep_until_s=disposition.keep_until_s,
        sequence=sequence,
        crop=crop,
    )


def encode_facts(facts: Facts) -> bytes:
    """Return the facts as canonical JSON (keys sorted, no white space), padded to 2048 bytes whatever they say.

    Raises:
        SealingError: where they are too long, or say what `decode_facts` would refuse.
    """
    encoded = msgspec.json.encode(facts, order="sorted")
    if len(encoded) > FACTS_BYTES - 4:
        raise SealingError(f"the facts of a passage take {len(encoded)} bytes, more than a record holds")
    padded = pad(encoded, FACTS_BYTES)
    decode_facts(padded)
    return padded


def decode_facts(plaintext: bytes) -> Facts:
    """Return the facts in an opened record's plaintext.

    Raises:
        ContentsError: where it is not what `encode_facts` writes for some facts, to the byte.
    """
    if len(plaintext) != FACTS_BYTES:
        raise ContentsError(f"facts have {FACTS_BYTES} bytes, not {len(plaintext)}")
    encoded = unpad(plaintext)
    try:
        facts = msgspec.json.decode(encoded, type=Facts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ContentsError("the facts inside the record are not in the form of version 1") from None
    if msgspec.json.encode(facts, order="sorted") != encoded:
        raise ContentsError("the facts inside the record are not in their one accepted encoding")
    if facts.confidence != round(facts.confidence, CONFIDENCE_DECIMALS):
        raise ContentsError("the confidence inside the record has more decimals than version 1 has")
    if facts.first_captured_ns > facts.last_captured_ns or len(facts.ambiguity) != len(facts.plate):
        raise ContentsError("the facts inside the record contradict each other")
    return facts


def check_header(facts: Facts, header: RecordHeader) -> None:
    """Check that the header's day is the day of the exact date inside.

    Raises:
        ContentsError: where it is another day.
    """
    if facts.keep_until_s // DAY_SECONDS != header.keep_until_day:
        raise ContentsError(f"record {header.record_id} shows another keep-until day than the date inside")


def check_crop(facts: Facts, record_id: RecordId, jpeg: bytes) -> None:
    """Check that an opened crop (unpadded) is the one that the facts name.

    Raises:
        CropError: where the facts name another record, another picture or none.
    """
    if facts.crop != CropReference.of(record_id, jpeg):
        raise CropError(f"the crop in record {record_id} is not the one that the facts name")


def pad_crop(jpeg: bytes) -> bytes:
    """Return a JPEG padded to the next of 4, 8, 16, 32 and 64 KiB.

    Raises:
        SealingError: where it is empty or longer than `MAX_CROP_BYTES`.
    """
    if not 0 < len(jpeg) <= MAX_CROP_BYTES:
        raise SealingError(f"a crop has 1 to {MAX_CROP_BYTES} bytes, not {len(jpeg)}; encode it smaller")
    return pad(jpeg, next(size for size in CROP_BYTES if len(jpeg) + 4 <= size))


def unpad_crop(plaintext: bytes) -> bytes:
    """Return the JPEG in an opened crop's plaintext.

    Raises:
        ContentsError: where it is not what `pad_crop` writes for some JPEG, to the byte.
    """
    jpeg = unpad(plaintext)
    if not 0 < len(jpeg) <= MAX_CROP_BYTES or pad_crop(jpeg) != plaintext:
        raise ContentsError("the crop inside the record is not padded as version 1 has it")
    return jpeg


def pad(content: bytes, size: int) -> bytes:
    """Return length (4 bytes, big-endian), content and zeros, `size` bytes in all; the content must fit."""
    return (len(content).to_bytes(4, "big") + content).ljust(size, b"\0")


def unpad(padded: bytes) -> bytes:
    """Return the content of what `pad` made.

    Raises:
        ContentsError: where the length is impossible or the padding is not all zeros.
    """
    length = int.from_bytes(padded[:4], "big")
    content = padded[4 : 4 + length]
    if len(content) != length or pad(content, len(padded)) != padded:
        raise ContentsError("the padding inside the record is not as version 1 has it")
    return content
