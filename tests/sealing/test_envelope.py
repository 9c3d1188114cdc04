"""A sealed record's bytes: one accepted encoding, and nothing but a SealingError for any other bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.record import RecordHeader, RecordId, SealedRecord
from homeplate.errors import SealingError
from homeplate.sealing.envelope import (
    HEADER_BYTES,
    MAX_CIPHERTEXT_BYTES,
    MAX_RECORD_BYTES,
    decode,
    encode,
    encode_header,
    signed_bytes,
)
from homeplate.sealing.errors import MalformedError, VersionError
from tests.sealing.samples import make_header

sixteen = st.binary(min_size=16, max_size=16)
headers = st.builds(
    RecordHeader,
    record_id=st.builds(RecordId, sixteen),
    node=sixteen,
    recipient_key=sixteen,
    keep_until_day=st.integers(0, (1 << 32) - 1),
)
records = st.builds(
    SealedRecord,
    header=headers,
    ciphertext=st.binary(min_size=1, max_size=300),
    signature=st.binary(min_size=64, max_size=64),
)


@given(records)
def test_a_record_comes_back_as_it_was(record):
    assert decode(encode(record)) == record


@given(st.binary(max_size=400) | st.binary(max_size=300).map(lambda tail: b"homeplate/v1\n" + tail))
def test_any_bytes_are_a_record_in_its_own_encoding_or_a_sealing_error(data):
    try:
        record = decode(data)
    except SealingError:
        return
    assert encode(record) == data


@given(records, st.data())
def test_a_record_cut_short_anywhere_is_malformed(record, data):
    encoded = encode(record)
    with pytest.raises(MalformedError):
        decode(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(records, st.binary(min_size=1, max_size=40))
def test_whatever_follows_a_record_makes_it_malformed(record, tail):
    with pytest.raises(MalformedError):
        decode(encode(record) + tail)


@given(st.integers(2, 99_999))
def test_another_version_is_named_as_such(number):
    with pytest.raises(VersionError, match="version"):
        decode(f"homeplate/v{number}\n".encode() + bytes(200))


def test_the_longest_record_is_a_mebibyte():
    record = SealedRecord(header=make_header(), ciphertext=bytes(MAX_CIPHERTEXT_BYTES), signature=bytes(64))
    assert len(encode(record)) == MAX_RECORD_BYTES
    assert decode(encode(record)) == record
    too_long = SealedRecord(header=make_header(), ciphertext=bytes(MAX_CIPHERTEXT_BYTES + 1), signature=bytes(64))
    with pytest.raises(SealingError):
        encode(too_long)


@pytest.mark.parametrize(
    "changes", [{"node": b"short"}, {"recipient_key": bytes(17)}, {"keep_until_day": -1}, {"keep_until_day": 1 << 32}]
)
def test_a_header_that_does_not_fit_is_refused(changes):
    with pytest.raises(SealingError):
        encode_header(make_header(**changes))


@pytest.mark.parametrize(("ciphertext", "signature"), [(b"", bytes(64)), (b"x", bytes(63))])
def test_an_empty_ciphertext_or_a_short_signature_is_not_encoded(ciphertext, signature):
    with pytest.raises(SealingError):
        encode(SealedRecord(header=make_header(), ciphertext=ciphertext, signature=signature))


def test_a_header_shows_nothing_but_ids_and_a_day():
    header = make_header(record_id=RecordId(b"r" * 16), node=b"n" * 16, recipient_key=b"k" * 16, keep_until_day=258)
    assert encode_header(header) == b"homeplate/v1\n" + b"r" * 16 + b"n" * 16 + b"k" * 16 + b"\0\0\1\2"
    assert len(encode_header(header)) == HEADER_BYTES


@given(
    st.tuples(headers, st.binary(min_size=1, max_size=40), st.binary(min_size=32, max_size=32)),
    st.tuples(headers, st.binary(min_size=1, max_size=40), st.binary(min_size=32, max_size=32)),
)
def test_two_different_records_never_have_the_same_signed_bytes(one, other):
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)
