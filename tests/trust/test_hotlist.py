"""The hot list holds plates and what entries may say; what else people wrote into such lists cannot be in it."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind, code_of, folded_code_of
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.errors import TrustError
from homeplate.trust import hotlist
from homeplate.trust.hotlist import (
    MAX_AGE_S,
    MAX_LISTS,
    HotListFile,
    HotListGroup,
    encode_hot_list,
    hot_list_expires_s,
    parse_hot_list,
)
from tests.trust.forge import NOW_S, hot_list, hot_list_terms
from tests.trust.saying import says

TERMS = st.builds(
    HotListTerms,
    list_name=st.sampled_from(["stolen", "alerts"]),
    purpose=st.sampled_from(HotListPurpose),
    state=st.sampled_from(["US-CA", "US-NV", "CA-BC"]),
    kind=st.sampled_from(PlateKind),
    expires_s=st.integers(0, 2 * NOW_S),
)
ENTRIES = st.lists(st.builds(HotListEntry, text=st.text(ALPHABET, min_size=1, max_size=10).map(PlateText), terms=TERMS))
PLATE = "7ABC123"


@given(ENTRIES)
def test_what_was_written_is_read_once_each(entries: list[HotListEntry]):
    read = parse_hot_list(encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 1), NOW_S)
    found = sorted((int(code), read.terms[owner]) for code, owner in zip(read.codes, read.owners, strict=True))
    assert found == sorted({(code_of(entry.text), entry.terms) for entry in entries})
    assert list(read.codes) == sorted(read.codes)
    assert list(read.folded) == sorted(read.folded)
    assert sorted(read.folded_places) == list(range(len(read)))


@given(ENTRIES, st.randoms())
def test_the_same_entries_have_one_encoding(entries: list[HotListEntry], random: Any):
    shuffled = random.sample(entries, len(entries))
    one, other = (encode_hot_list(some, issued_s=NOW_S, expires_s=NOW_S + 1) for some in (entries, shuffled))
    assert one == other


def written(*, codes: tuple[int, ...] = (code_of(PlateText(PLATE)),), header: bytes | None = None, **changed: Any):
    group = {
        "count": len(codes),
        "expires_s": NOW_S + 5,
        "kind": "passenger",
        "list": "stolen",
        "purpose": "stolen-vehicle",
        "state": "US-CA",
    } | changed.pop("entry", {})
    file = {"expires_s": NOW_S + 10, "format": 2, "groups": [group], "issued_s": NOW_S} | changed
    text = json.dumps(file, sort_keys=True, separators=(",", ":")).encode() if header is None else header
    return len(text).to_bytes(4, "big") + text + struct.pack(f">{len(codes)}Q", *codes)


def refused(data: bytes) -> None:
    with pytest.raises(TrustError, match="not what it should be") as caught:
        parse_hot_list(data, NOW_S)
    assert PLATE not in str(caught.value)
    assert "JOHN" not in str(caught.value).upper()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_the_form_that_these_tests_change_is_good():
    assert len(parse_hot_list(written(), NOW_S)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"entry": {"name": "John Doe"}},
        {"entry": {"birth_date": "1970-01-01"}},
        {"entry": {"charge": "theft"}},
        {"entry": {"note": "john doe"}},
        {"entry": {"list": "John Doe 1970-01-01"}},
        {"entry": {"list": ""}},
        {"entry": {"purpose": "immigration"}},
        {"entry": {"purpose": "civil-immigration-enforcement"}},
        {"entry": {"purpose": "reproductive-care"}},
        {"entry": {"purpose": "gender-affirming-care"}},
        {"entry": {"purpose": "john doe, theft"}},
        {"entry": {"purpose": None}},
        {"entry": {"state": "California"}},
        {"entry": {"state": "US-CA\n"}},
        {"entry": {"state": "JOHN DOE"}},
        {"entry": {"kind": "driven by John Doe"}},
        {"entry": {"kind": None}},
        {"entry": {"count": 0}},
        {"entry": {"count": 2}},
        {"entry": {"count": 10**7}},
        {"entry": {"expires_s": None}},
        {"entry": {"expires_s": "never"}},
        {"entry": {"expires_s": 2**70}},
        {"note": PLATE},
        {"format": 1},
        {"groups": {PLATE: NOW_S}},
        {"groups": []},
        {"expires_s": None},
    ],
)
def test_anything_but_what_an_entry_may_say_is_refused_without_quoting_it(changed: dict[str, Any]):
    refused(written(**changed))


def test_the_schema_has_no_place_for_names_births_and_charges():
    assert set(HotListGroup.__struct_fields__) == {"list", "purpose", "state", "kind", "expires_s", "count"}
    assert set(HotListFile.__struct_fields__) == {"format", "issued_s", "expires_s", "groups"}
    assert HotListGroup.__struct_config__.forbid_unknown_fields
    assert HotListFile.__struct_config__.forbid_unknown_fields


@given(st.text(max_size=40).filter(lambda text: text not in HotListGroup.__struct_fields__), st.text(max_size=40))
def test_no_field_more_can_be_written(name: str, value: str):
    refused(written(entry={name: value}))


@pytest.mark.parametrize("field", ["count", "expires_s", "kind", "list", "purpose", "state"])
def test_a_field_that_is_missing_is_refused(field: str):
    text = written()[4:-8].decode()
    group = json.loads(text)
    del group["groups"][0][field]
    refused(written(header=json.dumps(group, sort_keys=True, separators=(",", ":")).encode()))


CODE = code_of(PlateText(PLATE))


@pytest.mark.parametrize(
    "codes",
    [
        (0,),
        (2**64 - 1,),
        (CODE | 1 << 60,),
        (37 << 54,),
        (CODE & ~(63 << 48),),
        (CODE & ~(63 << 54),),
        (CODE, CODE),
        (CODE + (1 << 54), CODE),
    ],
    ids=["none", "all ones", "too high", "no character", "a gap", "begins late", "twice", "out of order"],
)
def test_what_is_no_plate_or_out_of_order_is_refused(codes: tuple[int, ...]):
    refused(written(codes=codes))


def test_what_a_schema_takes_but_no_writer_writes_is_refused():
    text = written()[4:-8]
    for header in (text + b" ", text.replace(b":", b": ", 1), text[:1] + b'"format":2,' + text[1:], b"", text[:-1]):
        refused(written(header=header))
    group = json.loads(text)["groups"][0]
    refused(written(codes=(CODE, CODE), groups=[group, group]))


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_list_that_was_cut_or_lengthened_is_refused(cut: int):
    refused(written()[:-cut])
    refused(written() + bytes(cut))
    refused(written()[:cut])


def test_a_list_that_is_over_is_refused():
    assert len(parse_hot_list(written(), NOW_S + 9)) == 1
    with pytest.raises(TrustError, match="is over"):
        parse_hot_list(written(), NOW_S + 10)


@pytest.mark.parametrize("age_s", [0, -1, MAX_AGE_S + 1])
def test_a_list_that_would_stand_too_long_is_neither_written_nor_read(age_s: int):
    with pytest.raises(TrustError, match="stands for"):
        encode_hot_list(hot_list(PLATE), issued_s=NOW_S, expires_s=NOW_S + age_s)
    with pytest.raises(TrustError, match="stands for"):
        parse_hot_list(written(expires_s=NOW_S + age_s), NOW_S)


@pytest.mark.parametrize("bound", ["MAX_ENTRIES", "MAX_GROUPS"])
def test_a_list_that_is_too_long_is_not_written(monkeypatch: pytest.MonkeyPatch, bound: str):
    entries = hot_list("A", expires_s=1) + hot_list("B", expires_s=2)
    monkeypatch.setattr(hotlist, bound, 2)
    assert encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 1)
    monkeypatch.setattr(hotlist, bound, 1)
    with pytest.raises(TrustError, match="2 entries that say 2 different things"):
        encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 1)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_a_reason(data: bytes):
    with pytest.raises(TrustError):
        parse_hot_list(data, NOW_S)


def test_the_list_shows_no_plate_and_holds_it_as_numbers_alone():
    read = parse_hot_list(written(), NOW_S)
    assert PLATE not in repr(read)
    assert all(column.dtype.kind == "u" for column in (read.codes, read.owners, read.folded, read.folded_places))
    assert read.codes.dtype == np.uint64


def test_a_list_that_is_over_or_stands_too_long_says_so_and_when_it_ends_is_read_from_its_header(
    monkeypatch: pytest.MonkeyPatch,
):
    assert hot_list_expires_s(written()) == NOW_S + 10
    with says("the hot list is over; install a bundle with a newer one"):
        parse_hot_list(written(), NOW_S + 10)
    for age_s in (0, MAX_AGE_S + 1):
        with says(f"the hot list stands for {age_s} s; it is signed anew after {MAX_AGE_S} s at most"):
            parse_hot_list(written(expires_s=NOW_S + age_s), NOW_S - 1)
    for age_s in (1, MAX_AGE_S):
        assert len(parse_hot_list(written(expires_s=NOW_S + age_s), NOW_S)) == 1
    monkeypatch.setattr(hotlist, "MAX_ENTRIES", 1)
    message = "the hot list has 2 entries that say 2 different things beside their plates; at most 1 and 1536 fit"
    with says(message):
        encode_hot_list(hot_list("A", expires_s=1) + hot_list("B", expires_s=2), issued_s=NOW_S, expires_s=NOW_S + 1)
    two = encode_hot_list(hot_list("A"), issued_s=NOW_S, expires_s=NOW_S + 1)
    assert len(parse_hot_list(two, NOW_S)) == 1
    refused(written(codes=(CODE, CODE + (1 << 54))))  # more than may be


def test_a_list_says_of_each_plate_what_its_entry_says():
    entries = hot_list("7ABC123", "B8", expires_s=NOW_S + 3) + hot_list("ZZZ", expires_s=NOW_S + 2)
    read = parse_hot_list(encode_hot_list(entries, issued_s=NOW_S - 5, expires_s=NOW_S + 9), NOW_S)
    assert (read.issued_s, read.expires_s, len(read)) == (NOW_S - 5, NOW_S + 9, 3)
    assert [terms.expires_s for terms in read.terms] == [NOW_S + 2, NOW_S + 3]
    first = read.terms[0]
    places = {int(code): int(owner) for code, owner in zip(read.codes, read.owners, strict=True)}
    assert (first.list_name, first.purpose, first.state, first.kind) == (
        "stolen", HotListPurpose.STOLEN_VEHICLE, "US-CA", PlateKind.PASSENGER,
    )  # fmt: skip
    assert places == {code_of(PlateText("7ABC123")): 1, code_of(PlateText("B8")): 1, code_of(PlateText("ZZZ")): 0}
    assert (read.owners.dtype, read.folded_places.dtype) == (np.uint16, np.uint32)


def test_the_longest_plate_of_the_last_characters_is_one():
    longest = PlateText("9" * 10)
    read = parse_hot_list(written(codes=(code_of(longest),)), NOW_S)
    assert [int(code) for code in read.codes] == [code_of(longest)]


def test_a_header_is_bounded_and_its_last_byte_is_read():
    header = json.dumps({"x": "y" * (368 * 1024 - 8)}, separators=(",", ":")).encode()
    assert len(header) == 368 * 1024
    refused(written(header=header))
    refused(written(header=header + b" "))


@given(ENTRIES)
def test_each_plate_stands_by_what_it_looks_like_too(entries: list[HotListEntry]):
    read = parse_hot_list(encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 1), NOW_S)
    texts = {code_of(entry.text): entry.text for entry in entries}
    looks = [folded_code_of(texts[int(read.codes[place])]) for place in read.folded_places]
    assert [int(code) for code in read.folded] == looks == sorted(looks)


LETTERS = "abcdefghijklmnopqrstuvwxyz"


def lists(count: int) -> list[HotListEntry]:
    """Return one plate, on so many lists."""
    named = [hot_list_terms(list_name=f"list-{LETTERS[i]}") for i in range(count)]
    return [HotListEntry(text=PlateText(PLATE), terms=terms) for terms in named]


@pytest.mark.parametrize("codes", [(CODE, CODE, CODE), (CODE, CODE + (1 << 54), CODE)], ids=["twice", "out of order"])
def test_plates_of_a_later_group_are_in_order_and_once_each_too(codes: tuple[int, ...]):
    group = json.loads(written()[4:-8])["groups"][0]
    groups = [group, group | {"count": 2, "list": "wanted"}]
    good = (CODE, CODE, CODE + (1 << 54))
    assert len(parse_hot_list(written(codes=good, groups=groups), NOW_S)) == 3
    refused(written(codes=codes, groups=groups))


def test_a_hot_list_names_sixteen_lists_at_most(monkeypatch: pytest.MonkeyPatch):
    good = encode_hot_list(lists(MAX_LISTS), issued_s=NOW_S, expires_s=NOW_S + 10)
    assert len(parse_hot_list(good, NOW_S)) == MAX_LISTS
    message = f"the hot list names more than {MAX_LISTS} lists; a list's name says who keeps it, no more"
    with says(message):
        encode_hot_list(lists(MAX_LISTS + 1), issued_s=NOW_S, expires_s=NOW_S + 10)
    monkeypatch.setattr(hotlist, "MAX_LISTS", MAX_LISTS + 1)
    many = encode_hot_list(lists(MAX_LISTS + 1), issued_s=NOW_S, expires_s=NOW_S + 10)
    monkeypatch.undo()
    with says(message):
        parse_hot_list(many, NOW_S)


@pytest.mark.parametrize("state", ["US-CA", "US-DC", "US-AS", "US-GU", "US-MP", "US-PR", "US-VI", "CA-BC", "MX-BCN"])
def test_a_plate_may_be_of_a_state_a_territory_or_another_country(state: str):
    good = written(entry={"state": state})
    assert parse_hot_list(good, NOW_S).terms[0].state == state
    entry = HotListEntry(text=PlateText(PLATE), terms=hot_list_terms(state=state, expires_s=NOW_S + 5))
    assert encode_hot_list([entry], issued_s=NOW_S, expires_s=NOW_S + 10) == good


@pytest.mark.parametrize("state", ["US-XX", "US-123", "US-C"])
def test_a_state_that_the_united_states_have_not_is_neither_written_nor_read(state: str):
    message = f"the hot list names {state}, which is no state; write a state as US-CA"
    with says(message):
        parse_hot_list(written(entry={"state": state}), NOW_S)
    entry = HotListEntry(text=PlateText(PLATE), terms=hot_list_terms(state=state))
    with says(message):
        encode_hot_list([entry], issued_s=NOW_S, expires_s=NOW_S + 10)
