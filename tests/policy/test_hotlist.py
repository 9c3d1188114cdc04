"""A hit is the same text on a plate that is not another state's; what only looks like it is near, and says so."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hotlist import HotList, HotListEntry, HotListPurpose, code_of
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.domain.record import HitKind
from homeplate.policy.hotlist import match
from homeplate.trust.hotlist import encode_hot_list, parse_hot_list
from tests.policy.values import NOW_S
from tests.trust.forge import hot_list_terms

PLATES = st.text(ALPHABET, min_size=1, max_size=10).map(PlateText)
ALIKE = ["O0QD", "I1", "B8", "S5", "Z2"]


def listed(*plates: PlateText, **terms) -> HotList:
    wanted = hot_list_terms(**{"expires_s": NOW_S + 1} | terms)
    entries = [HotListEntry(text=text, terms=wanted) for text in plates]
    return parse_hot_list(encode_hot_list(entries, issued_s=NOW_S - 10, expires_s=NOW_S + 10), NOW_S - 10)


def kind(text: str, *plates: str, state: str = "unknown", now_s: int = NOW_S, **terms) -> HitKind | None:
    hit = match(PlateText(text), state, listed(*map(PlateText, plates), **terms), now_s)
    return None if hit is None else hit.kind


def looks(text: PlateText) -> str:
    """Return what a text looks like, by another way than the code's."""
    shown = text.reveal()
    for group in ALIKE:
        shown = re.sub(f"[{group}]", group[0], shown)
    return shown


@given(PLATES, st.lists(PLATES))
def test_exactly_the_listed_texts_are_exact_and_exactly_those_that_look_like_them_are_near(text, plates):
    hit = match(text, "unknown", listed(*plates), NOW_S)
    wanted = None
    if text in plates:
        wanted = HitKind.EXACT
    elif looks(text) in map(looks, plates):
        wanted = HitKind.NEAR
    assert (None if hit is None else hit.kind) is wanted


@given(PLATES, st.data())
def test_a_text_with_characters_for_their_like_is_near_and_never_exact(text, data):
    choices = [next((group for group in ALIKE if character in group), character) for character in text.reveal()]
    other = PlateText("".join(data.draw(st.sampled_from(group)) for group in choices))
    hit = match(other, "unknown", listed(text), NOW_S)
    assert hit is not None
    assert hit.kind is (HitKind.EXACT if other == text else HitKind.NEAR)


@pytest.mark.parametrize(
    ("read", "wanted"), [("7ABC1O3", "7ABC103"), ("7A8C123", "7ABC123"), ("D123", "O123"), ("Q1", "0I")]
)
def test_characters_that_look_alike_are_a_near_hit(read, wanted):
    assert kind(read, wanted) is HitKind.NEAR
    assert kind(wanted, read) is HitKind.NEAR


@pytest.mark.parametrize(("read", "wanted"), [("7ABC12", "7ABC123"), ("7ABC123", "7ABC12"), ("7XBC123", "7ABC123")])
def test_another_length_or_another_character_is_no_hit(read, wanted):
    assert kind(read, wanted) is None


def test_the_same_text_on_another_states_plate_is_near_only():
    assert kind("7ABC123", "7ABC123", state="US-CA") is HitKind.EXACT
    assert kind("7ABC123", "7ABC123", state="unknown") is HitKind.EXACT
    assert kind("7ABC123", "7ABC123", state="US-NV") is HitKind.NEAR


def test_auditor_34_and_57_an_entry_and_a_list_end_in_the_second_in_which_they_expire():
    assert kind("7ABC123", "7ABC123", now_s=NOW_S) is HitKind.EXACT
    assert kind("7ABC123", "7ABC123", now_s=NOW_S + 1) is None
    assert kind("7A8C123", "7ABC123", now_s=NOW_S + 1) is None
    assert kind("7ABC123", "7ABC123", expires_s=NOW_S + 99, now_s=NOW_S + 9) is HitKind.EXACT
    assert kind("7ABC123", "7ABC123", expires_s=NOW_S + 99, now_s=NOW_S + 10) is None


def test_a_plate_on_two_lists_matches_while_one_of_them_counts():
    text = PlateText("7ABC123")
    short = hot_list_terms(list_name="a", expires_s=NOW_S + 1)
    long = hot_list_terms(list_name="b", purpose=HotListPurpose.MISSING_PERSON, expires_s=NOW_S + 5)
    data = encode_hot_list(
        [HotListEntry(text=text, terms=terms) for terms in (long, short)], issued_s=NOW_S, expires_s=NOW_S + 9
    )
    both = parse_hot_list(data, NOW_S)
    assert match(text, "unknown", both, NOW_S).terms == short
    assert match(text, "unknown", both, NOW_S + 1).terms == long
    assert match(text, "unknown", both, NOW_S + 5) is None


def test_a_near_hit_says_what_the_first_of_the_entries_says_that_it_may_be():
    one, other = hot_list_terms(list_name="a", expires_s=NOW_S + 1), hot_list_terms(list_name="b", expires_s=NOW_S + 1)
    entries = [
        HotListEntry(text=PlateText(plate), terms=terms) for plate, terms in (("7ABC1O3", other), ("7ABC1D3", one))
    ]
    both = parse_hot_list(encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 9), NOW_S)
    near = match(PlateText("7ABC103"), "unknown", both, NOW_S)
    assert (near.kind, near.terms) == (HitKind.NEAR, one)
    same = match(PlateText("7ABC1O3"), "US-NV", both, NOW_S)
    assert (same.kind, same.terms) == (HitKind.NEAR, other)


def test_an_empty_list_names_nothing():
    assert kind("7ABC123") is None


@given(PLATES, PLATES)
def test_two_plates_have_one_code_only_where_they_are_one(one, other):
    assert (code_of(one) == code_of(other)) == (one == other)
    assert 0 < code_of(one) < 2**60


def test_neither_list_nor_entry_nor_hit_shows_the_plate():
    text = PlateText("7ABC123")
    shown = repr(listed(text)) + repr(match(text, "unknown", listed(text), NOW_S))
    assert "7ABC123" not in shown
    assert str(code_of(text)) not in shown


def test_no_purpose_of_an_entry_is_immigration_or_reproductive_or_gender_affirming_care():
    forbidden = re.compile("immig|citizen|border|deport|abort|reproduct|pregnan|gender|transg", re.IGNORECASE)
    assert len(HotListPurpose) >= 4
    assert not [purpose for purpose in HotListPurpose if forbidden.search(purpose.value + purpose.name)]
