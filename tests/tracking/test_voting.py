"""The vote over many readings of one plate."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.plate import ALPHABET, CharReading, PlateReading
from homeplate.tracking.voting import vote
from tests.sightings import reading


@st.composite
def positions(draw):
    """A reader's output at one position: some characters with falling probabilities that sum to at most one."""
    letters = draw(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=5, unique=True))
    shares = sorted(draw(st.lists(st.floats(0.01, 1.0), min_size=len(letters), max_size=len(letters))), reverse=True)
    scale = draw(st.floats(0.3, 1.0)) / sum(shares)
    return CharReading(alternatives=tuple((c, s * scale) for c, s in zip(letters, shares, strict=True)))


readings = st.lists(
    st.lists(positions(), min_size=1, max_size=8).map(lambda cs: PlateReading(characters=tuple(cs))),
    min_size=1,
    max_size=6,
)


@given(readings, st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(many, rng: random.Random):
    shuffled = list(many)
    rng.shuffle(shuffled)
    assert vote(many) == vote(shuffled)


@given(readings)
def test_every_voted_character_was_listed_by_a_reading_of_the_voted_length(many):
    decided = vote(many)
    text = decided.text.reveal()
    same = [r for r in many if len(r.characters) == len(text)]
    assert decided.counted == len(same) > 0
    for place, character in enumerate(text):
        assert any(character == c for r in same for c, _ in r.characters[place].alternatives)


@given(readings)
def test_probabilities_are_probabilities_and_the_ambiguity_begins_with_the_text(many):
    decided = vote(many)
    assert 0 < decided.confidence <= 1
    assert "".join(among[0] for among in decided.ambiguity) == decided.text.reveal()
    assert decided.support({decided.text: 3}) == 3
    for position in decided.characters:
        chances = [p for _, p in position.alternatives]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1 + 1e-9


@given(st.text(ALPHABET, min_size=1, max_size=10), st.floats(0.3, 0.99), st.integers(1, 20))
def test_readings_that_all_agree_win_and_more_of_them_are_never_less_sure(text, confidence, count):
    one, many = vote([reading(text, confidence)]), vote([reading(text, confidence)] * count)
    assert many.text.reveal() == text
    assert many.confidence >= one.confidence - 1e-9


def test_one_sure_and_wrong_reading_does_not_outvote_three_right_ones():
    assert vote([reading("7ABC123", 0.8)] * 3 + [reading("7A8C123", 0.9999)]).text.reveal() == "7ABC123"


def test_one_sure_reading_outvotes_two_guesses():
    assert vote([reading("7ABC128", 0.31)] * 2 + [reading("7ABC123", 0.97)]).text.reveal() == "7ABC123"


def test_errors_at_different_positions_are_voted_away_though_no_reading_is_right():
    wrong = [reading("XABC123"), reading("7XBC123"), reading("7AXC123"), reading("7ABX123")]
    decided = vote(wrong)
    assert decided.text.reveal() == "7ABC123"
    assert decided.support({r.text: 1 for r in wrong}) == 3


def test_readings_that_differ_do_not_support_each_other_unless_the_pair_is_confusable():
    for other, support in (("7ABD123", 1), ("7A8C123", 2)):
        both = [reading("7ABC123", 0.7), reading(other, 0.7)]
        assert vote(both).support({r.text: 1 for r in both}) == support


def test_the_length_is_chosen_by_weight_and_other_lengths_do_not_vote():
    decided = vote([reading("ABC123", 0.5)] * 3 + [reading("7ABC123", 0.95)] * 2)
    assert (decided.text.reveal(), decided.counted) == ("7ABC123", 2)


def test_a_confusable_pair_is_published_at_a_lower_share_than_any_other_pair():
    def doubtful(other):
        return PlateReading(characters=(CharReading(alternatives=(("0", 0.94), (other, 0.05))),) * 2)

    assert vote([doubtful("O")]).ambiguity == ("0O", "0O")
    assert vote([doubtful("X")]).ambiguity == ("0", "0")


def test_a_close_alternative_is_published():
    two = PlateReading(characters=(CharReading(alternatives=(("M", 0.6), ("W", 0.35))),))
    assert vote([two]).ambiguity == ("MW",)


@pytest.mark.parametrize("nothing", [[], [PlateReading(characters=())]])
def test_a_vote_of_nothing_is_refused(nothing):
    with pytest.raises(ValueError, match="at least one reading"):
        vote(nothing)
