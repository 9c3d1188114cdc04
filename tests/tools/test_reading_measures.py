"""The statistics of the reading report: calibration, risk and coverage, alignment, intervals."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.tracking.tracker import edit_distance
from tools.reading import measures
from tools.reading.measures import BARS, accepted_at, aligned, calibration_error, least_bar, mistakes, reliability

JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)
TEXTS = st.text("A0O1IB8", max_size=10)


def parted(judged):
    return [sure for sure, _ in judged], [right for _, right in judged]


def test_bins_say_how_many_how_sure_and_how_many_right():
    bins = reliability([0.05, 0.92, 0.94, 0.94, 1.0], [False, True, True, False, True], (0.0, 0.5, 0.9, 1.0))
    assert [(one.count, one.right) for one in bins] == [(1, 0.0), (0, 0.0), (4, 0.75)]
    assert bins[2].confidence == pytest.approx(0.95)
    assert calibration_error(bins) == pytest.approx((0.05 + 4 * 0.2) / 5)


@given(JUDGED)
def test_every_reading_is_in_one_bin_and_their_order_does_not_matter(judged):
    bins = reliability(*parted(judged))
    assert sum(one.count for one in bins) == len(judged)
    for one in bins:
        assert one.count == 0 or one.low - 1e-12 <= one.confidence <= one.high + 1e-12
    assert calibration_error(bins) == pytest.approx(calibration_error(reliability(*parted(judged[::-1]))))


@given(JUDGED)
def test_the_calibration_error_lies_between_the_whole_gap_and_one(judged):
    sure, right = parted(judged)
    gap = abs(sum(sure) - sum(right)) / max(1, len(judged))
    assert gap - 1e-9 <= calibration_error(reliability(sure, right)) <= 1


@given(st.integers(1, 40), st.integers(0, 40))
def test_who_is_right_as_often_as_said_has_no_calibration_error(right, wrong):
    share = right / (right + wrong)
    bins = reliability([share] * (right + wrong), [True] * right + [False] * wrong)
    assert calibration_error(bins) == pytest.approx(0)


def test_confidences_that_are_none_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([1.2], [True])
    with pytest.raises(ValueError, match="one verdict"):
        reliability([0.5], [])
    with pytest.raises(ValueError, match="read once"):
        accepted_at([0.5, 0.6], [True, True], 0.1, total=1)


@given(JUDGED, st.integers(0, 5))
def test_a_higher_bar_accepts_less_and_no_bar_everything(judged, unread):
    total = len(judged) + unread
    points = [accepted_at(*parted(judged), bar, total) for bar in BARS]
    assert points[0].accepted == len(judged)
    assert points[0].wrong == sum(not right for _, right in judged)
    for lower, higher in pairwise(points):
        assert lower.coverage >= higher.coverage
        assert lower.wrong >= higher.wrong


@given(JUDGED, st.sampled_from([0.0, 0.02, 0.1, 0.5]))
def test_the_least_bar_keeps_the_risk_and_no_lower_one_does(judged, most):
    found = least_bar(*parted(judged), most)
    for bar in BARS:
        point = accepted_at(*parted(judged), bar)
        good = point.accepted > 0 and point.risk <= most
        if found is not None and bar == found.bar:
            assert good
            break
        assert not good


@given(JUDGED, st.integers(0, 5))
def test_the_curve_ends_at_all_readings_and_passes_every_bar(judged, unread):
    total = len(judged) + unread
    coverage, risk = measures.risk_curve(*parted(judged), total)
    assert (coverage[1:] > coverage[:-1]).all()
    points = {round(x * total): y for x, y in zip(coverage.tolist(), risk.tolist(), strict=True)}
    for bar in BARS[::10]:
        one = accepted_at(*parted(judged), bar, total)
        if one.accepted:
            assert points[one.accepted] == pytest.approx(one.risk)


@given(TEXTS, TEXTS)
def test_an_alignment_takes_every_place_in_order_and_costs_the_edit_distance(truth, read):
    pairs = aligned(truth, read)
    assert [i for i, _ in pairs if i is not None] == list(range(len(truth)))
    assert [j for _, j in pairs if j is not None] == list(range(len(read)))
    cost = sum(i is None or j is None or truth[i] != read[j] for i, j in pairs)
    assert cost == edit_distance(truth, read)


def test_mistakes_are_counted_by_what_was_there_and_what_was_said():
    counted = mistakes([("8ABC123", "BABC123"), ("O0", "00"), ("7XYZ", "7XY")])
    assert counted.read_as == {("8", "B"): 1, ("O", "0"): 1, ("Z", ""): 1}
    assert counted.there["A"] == 1
    assert counted.there["0"] == 1
    assert counted.left_out() == 1


def test_the_interval_is_wilsons():
    low, high = measures.wilson(95, 104)
    assert low == pytest.approx(0.844, abs=5e-4)
    assert high == pytest.approx(0.954, abs=5e-4)


@given(st.integers(0, 300), st.integers(0, 300))
def test_an_interval_holds_its_share(hits, misses):
    low, high = measures.wilson(hits, hits + misses)
    assert 0 <= low <= high <= 1
    if hits + misses:
        assert low <= hits / (hits + misses) <= high
