"""A hit is an exact match of an entry that has not ended."""

from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hotlist import HotListEntry
from homeplate.domain.plate import ALPHABET, PlateText
from homeplate.domain.record import HitKind
from homeplate.policy.hotlist import match
from tests.policy.values import NOW_S

PLATES = st.text(ALPHABET, min_size=1, max_size=10).map(PlateText)


def entries(*plates: PlateText, expires_s: int = NOW_S + 1) -> dict:
    return {text: HotListEntry(text=text, expires_s=expires_s) for text in plates}


@given(PLATES, st.lists(PLATES))
def test_exactly_the_listed_texts_are_hits(text: PlateText, listed: list[PlateText]):
    hit = match(text, entries(*listed), NOW_S)
    assert (hit is not None) == (text in listed)
    if hit is not None:
        assert hit.kind is HitKind.EXACT


def test_an_entry_ends_in_the_second_in_which_it_expires():
    text = PlateText("7ABC123")
    assert match(text, entries(text, expires_s=NOW_S + 1), NOW_S) is not None
    assert match(text, entries(text, expires_s=NOW_S), NOW_S) is None


def test_characters_that_look_alike_make_no_hit():
    assert match(PlateText("7ABC1O3"), entries(PlateText("7ABC103")), NOW_S) is None


def test_neither_entry_nor_hit_shows_the_plate():
    text = PlateText("7ABC123")
    assert "7ABC123" not in repr(entries(text)) + repr(match(text, entries(text), NOW_S))
