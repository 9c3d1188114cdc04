"""The hot list holds plates and their ends; what else people wrote into such lists cannot be in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hotlist import HotListEntry
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.errors import TrustError
from homeplate.trust.hotlist import MAX_AGE_S, encode_hot_list, parse_hot_list
from tests.trust.forge import NOW_S, hot_list

ENTRIES = st.lists(
    st.builds(
        HotListEntry,
        text=st.text(ALPHABET, min_size=1, max_size=10).map(PlateText),
        expires_s=st.integers(0, 2 * NOW_S),
    ),
    unique_by=lambda entry: entry.text,
)


@given(ENTRIES)
def test_what_was_written_is_read_except_what_is_over(entries: list[HotListEntry]):
    read = parse_hot_list(encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 1), NOW_S)
    assert dict(read.entries) == {entry.text: entry for entry in entries if entry.expires_s > NOW_S}


def written(**changed: Any) -> bytes:
    entry = {"plate": "7ABC123", "expires_s": NOW_S + 5} | changed.pop("entry", {})
    file = {"format": 1, "issued_s": NOW_S, "expires_s": NOW_S + 10, "entries": [entry]} | changed
    return json.dumps(file).encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"entry": {"name": "John Doe"}},
        {"entry": {"birth_date": "1970-01-01"}},
        {"entry": {"charge": "theft"}},
        {"entry": {"plate": "JOHN DOE"}},
        {"entry": {"plate": "7abc123"}},
        {"entry": {"plate": ""}},
        {"entry": {"plate": "7ABC1234567"}},
        {"entry": {"plate": "7ABC123\n"}},
        {"entry": {"expires_s": None}},
        {"entry": {"expires_s": "never"}},
        {"entry": {"expires_s": 2**70}},
        {"note": "7ABC123"},
        {"format": 2},
        {"entries": {"7ABC123": NOW_S}},
        {"expires_s": None},
    ],
)
def test_anything_but_plates_and_ends_is_refused_without_quoting_it(changed: dict[str, Any]):
    with pytest.raises(TrustError, match="not what it should be") as caught:
        parse_hot_list(written(**changed), NOW_S)
    assert "7ABC123" not in str(caught.value)
    assert "JOHN" not in str(caught.value).upper()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_entry_without_an_end_is_refused():
    with pytest.raises(TrustError, match="not what it should be"):
        parse_hot_list(b'{"format":1,"issued_s":1,"expires_s":2,"entries":[{"plate":"7ABC123"}]}', 0)


def test_a_list_that_is_over_is_refused():
    assert parse_hot_list(written(), NOW_S + 4).entries
    assert parse_hot_list(written(), NOW_S + 5).entries == {}
    with pytest.raises(TrustError, match="is over"):
        parse_hot_list(written(), NOW_S + 10)


@pytest.mark.parametrize("age_s", [0, -1, MAX_AGE_S + 1])
def test_a_list_that_would_stand_too_long_is_neither_written_nor_read(age_s: int):
    with pytest.raises(TrustError, match="stands for"):
        encode_hot_list(hot_list("7ABC123"), issued_s=NOW_S, expires_s=NOW_S + age_s)
    with pytest.raises(TrustError, match="stands for"):
        parse_hot_list(written(expires_s=NOW_S + age_s), NOW_S)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_a_reason(data: bytes):
    with pytest.raises(TrustError):
        parse_hot_list(data, NOW_S)


def test_the_list_shows_no_plate():
    read = parse_hot_list(written(), NOW_S)
    assert "7ABC123" not in repr(read) + repr(read.entries)
