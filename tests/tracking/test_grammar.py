"""The grammar re-ranks and never rewrites."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.plate import ALPHABET, CharReading, PlateReading
from homeplate.tracking.grammar import rerank
from homeplate.tracking.voting import vote
from tests.sightings import reading


def voted(*positions: str):
    """A vote from positions such as "1I": likeliest first, near to each other."""
    chances = {1: (0.95,), 2: (0.6, 0.35), 3: (0.5, 0.3, 0.18)}
    return vote(
        [PlateReading(characters=tuple(
            CharReading(alternatives=tuple(zip(p, chances[len(p)], strict=True))) for p in positions
        ))]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("positions", "text"),
    [
        (("7", "A", "8B", "C", "1", "2", "3"), "7ABC123"),
        (("I1", "A", "B", "C", "1", "2", "3"), "1ABC123"),
        (("7", "A", "B", "C", "1", "2", "O0"), "7ABC120"),
    ],
)
def test_a_candidate_that_fits_the_jurisdiction_goes_before_one_that_does_not(positions, text):
    assert rerank(voted(*positions), "US-CA").reveal() == text


def test_a_plate_that_the_reader_is_sure_of_is_never_rewritten():
    """openalpr #307: 1291164 became 1Z91164."""
    for text in ("1291164", "7A8C1Z3", "SURFBUM", "I10VEU"):
        assert rerank(vote([reading(text, 0.99)] * 3), "US-CA").reveal() == text


def test_a_text_that_fits_is_left_alone_though_another_form_would_fit_too():
    assert rerank(voted("7", "A", "BS", "C", "1", "2", "3"), "US-CA").reveal() == "7ABC123"


def test_a_jurisdiction_without_forms_changes_nothing():
    assert rerank(voted("7", "A", "8B", "C", "1", "2", "3"), "unknown").reveal() == "7A8C123"


def test_a_plate_of_an_unknown_state_is_taken_for_one_of_the_nodes_own():
    positions = ("5", "A", "0O", "G", "2", "0", "0")
    assert rerank(voted(*positions), "unknown", home="US-CA").reveal() == "5AOG200"
    assert rerank(voted(*positions), "US-NV", home="US-CA").reveal() == "5A0G200"
    assert rerank(voted(*positions), "unknown").reveal() == "5A0G200"


@given(st.lists(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=3, unique=True), min_size=7, max_size=7))
def test_every_character_comes_from_the_ambiguity_set(positions):
    decided = voted(*("".join(p) for p in positions))
    text = rerank(decided, "US-CA").reveal()
    assert all(character in among for character, among in zip(text, decided.ambiguity, strict=True))
