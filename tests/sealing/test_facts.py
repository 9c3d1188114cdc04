"""Facts and crops: one size, one encoding, and no plate in a repr or a message."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Direction, Passage
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.domain.record import DAY_SECONDS, Disposition, HitKind, Part, RecordId, StorageClass
from homeplate.errors import SealingError
from homeplate.sealing.envelope import encode_header
from homeplate.sealing.errors import ContentsError, CropError
from homeplate.sealing.facts import (
    FACTS_BYTES,
    MAX_CROP_BYTES,
    CropReference,
    check_crop,
    check_header,
    decode_facts,
    encode_facts,
    facts_of,
    pad,
    pad_crop,
    unpad,
    unpad_crop,
)
from tests.sealing.opener import read_facts
from tests.sealing.samples import PLATE, make_facts, make_header

counts = st.integers(0, (1 << 63) - 1)
variable_fields = st.fixed_dictionaries(
    {
        "plate": st.text(ALPHABET, min_size=1, max_size=10),
        "raw": st.text(ALPHABET, min_size=1, max_size=10),
        "seen": counts,
        "confidence": st.integers(0, 10_000).map(lambda parts: parts / 10_000),
        "hit": st.sampled_from(HitKind),
        "camera": st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        "direction": st.sampled_from(Direction),
        "box": st.tuples(*[st.integers(-(1 << 31), (1 << 31) - 1)] * 4),
    }
)


@given(variable_fields)
def test_facts_come_back_as_they_were_and_take_one_size(fields):
    facts = make_facts(**fields, ambiguity=tuple(fields["plate"]))
    padded = encode_facts(facts)
    assert len(padded) == FACTS_BYTES
    assert decode_facts(padded) == facts
    header = encode_header(make_header(keep_until_day=facts.keep_until_s // DAY_SECONDS))
    assert read_facts(padded, header) == json.loads(msgspec.json.encode(facts)), "an opener of another make agrees"


def test_the_longest_ordinary_facts_fit():
    facts = make_facts(
        plate="W" * 10,
        raw="W" * 10,
        ambiguity=(ALPHABET,) * 10,
        camera="c" * 64,
        jurisdiction="j" * 64,
        rule="r" * 64,
        recipient="x" * 64,
        purpose="p" * 200,
        seen=(1 << 63) - 1,
        crop=CropReference.of(RecordId(bytes(16)), b"x"),
    )
    assert decode_facts(encode_facts(facts)) == facts


def test_facts_that_do_not_fit_are_refused_without_quoting_them():
    with pytest.raises(SealingError) as caught:
        encode_facts(make_facts(purpose="\0" * 200, camera="\0" * 64, rule="\0" * 64))
    assert PLATE not in str(caught.value)


@given(st.binary(max_size=FACTS_BYTES - 4).map(lambda content: pad(content, FACTS_BYTES)) | st.binary(max_size=3000))
def test_any_bytes_are_facts_or_a_contents_error(plaintext):
    with pytest.raises(ContentsError):
        decode_facts(plaintext)


@pytest.mark.parametrize(
    "changes",
    [
        {"plate": "lower"},
        {"plate": "ABCDEFGHIJK"},
        {"plate": ""},
        {"plate": None},
        {"ambiguity": ["A"]},
        {"ambiguity": ["", "4", "N", "A", "R", "Y", "7"]},
        {"confidence": 1.5},
        {"confidence": 1},
        {"confidence": 0.91234},
        {"confidence": True},
        {"seen": -1},
        {"seen": 1 << 64},
        {"sequence": 0},
        {"hit": PLATE},
        {"direction": PLATE},
        {"first_captured_ns": 1_799_990_001_000_000_001},
        {"box": [1, 2, 3]},
        {"crop": {"record": "00", "sha256": "00"}},
        {"extra": PLATE},
        {PLATE: 1},
        {"camera": ""},
    ],
    ids=str,
)
def test_facts_that_the_format_does_not_have_are_refused_without_quoting_them(changes):
    fields = json.loads(unpad(encode_facts(make_facts()))) | changes
    encoded = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(ContentsError) as caught:
        decode_facts(pad(encoded, FACTS_BYTES))
    assert PLATE not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize("change", [(" ", ""), ('"agreeing":3', '"agreeing":3.0'), ('"seen":3', '"seen":3,"seen":3')])
def test_there_is_one_accepted_encoding_of_facts(change):
    encoded = unpad(encode_facts(make_facts())).decode()
    old, new = change
    other = encoded + " " if old == " " else encoded.replace(old, new)
    assert other != encoded
    with pytest.raises(ContentsError):
        decode_facts(pad(other.encode(), FACTS_BYTES))


def test_padding_that_is_not_zeros_is_refused():
    padded = encode_facts(make_facts())
    for position in (len(unpad(padded)) + 4, FACTS_BYTES - 1):
        with pytest.raises(ContentsError):
            decode_facts(padded[:position] + b"\1" + padded[position + 1 :])


def test_facts_say_what_the_passage_and_the_disposition_say():
    passage = Passage(
        source="gate",
        first_frame=3,
        last_frame=9,
        first_captured_ns=10,
        last_captured_ns=20,
        text=PlateText(PLATE),
        raw_text=PlateText("CANARY7"),
        confidence=0.912345,
        ambiguity=("C", "4A", "N", "A", "R", "Y", "7"),
        jurisdiction="US-NV",
        seen=5,
        agreeing=4,
        direction=Direction.LEFT,
        box=Box(left=1.4, top=1.6, right=9, bottom=8),
    )
    disposition = Disposition(
        rule="hits",
        recipient="example-pd",
        parts=frozenset({Part.FACTS}),
        storage=StorageClass.OUTGOING,
        keep_until_s=99,
        retention_s=60,
        hit=HitKind.EXACT,
        purpose="find",
    )
    crop = CropReference.of(RecordId(bytes(16)), b"jpeg")
    facts = facts_of(passage, disposition, sequence=7, crop=crop)
    assert facts == make_facts(
        first_captured_ns=10,
        last_captured_ns=20,
        raw="CANARY7",
        confidence=0.9123,
        ambiguity=("C", "4A", "N", "A", "R", "Y", "7"),
        jurisdiction="US-NV",
        seen=5,
        agreeing=4,
        direction=Direction.LEFT,
        box=(1, 2, 9, 8),
        purpose="find",
        hit=HitKind.EXACT,
        keep_until_s=99,
        sequence=7,
        crop=crop,
    )
    assert decode_facts(encode_facts(facts)) == facts
    assert facts.text.reveal() == PLATE


def test_the_repr_of_facts_is_masked():
    assert PLATE not in f"{make_facts()} {make_facts()!r} {make_facts().text}"


def test_the_day_in_the_header_is_the_day_of_the_date_inside():
    facts = make_facts()
    day = facts.keep_until_s // DAY_SECONDS
    check_header(facts, make_header(keep_until_day=day))
    for other in (day - 1, day + 1):
        with pytest.raises(ContentsError, match="day"):
            check_header(facts, make_header(keep_until_day=other))


def test_a_crop_belongs_to_the_facts_that_name_its_record_and_hash():
    crop_id, other_id = RecordId(b"c" * 16), RecordId(b"d" * 16)
    facts = make_facts(crop=CropReference.of(crop_id, b"jpeg"))
    check_crop(facts, crop_id, b"jpeg")
    for record_id, jpeg in ((crop_id, b"another"), (other_id, b"jpeg")):
        with pytest.raises(CropError):
            check_crop(facts, record_id, jpeg)
    with pytest.raises(CropError):
        check_crop(make_facts(crop=None), crop_id, b"jpeg")


@given(st.binary(min_size=1, max_size=20_000))
def test_a_crop_comes_back_as_it_was(jpeg):
    assert unpad_crop(pad_crop(jpeg)) == jpeg


@given(st.binary(max_size=300) | st.sampled_from([bytes(4096), pad(b"x", 8192), pad(b"x", 100)]))
def test_any_bytes_are_a_crop_or_a_contents_error(plaintext):
    with pytest.raises(ContentsError):
        unpad_crop(plaintext)


def test_the_longest_crop_fits_and_one_byte_more_does_not():
    assert unpad_crop(pad_crop(b"x" * MAX_CROP_BYTES)) == b"x" * MAX_CROP_BYTES
    for jpeg in (b"", b"x" * (MAX_CROP_BYTES + 1)):
        with pytest.raises(SealingError):
            pad_crop(jpeg)
