"""Day and night by two bars and a time, whatever the light does in between."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from homeplate.camera.daynight import DWELL_NS, HOLD_NS, DayNight, Light, judged
from homeplate.domain.source import NightSettings

SECOND = 10**9
BARS = NightSettings(below_lux=10, above_lux=40)


def run(*lights, step_ns=SECOND, state=None):
    """Return (time, light) of each change for (lux, seconds) in turn."""
    state, now, came = state or DayNight(), 0, []
    for lux, seconds in lights:
        for _ in range(seconds):
            before, state = state, judged(state, BARS, lux, now)
            if state.light is not before.light:
                came.append((now // SECOND, state.light))
            now += step_ns
    return came


def test_night_begins_once_the_light_stayed_below_the_bar():
    assert run((100, 5), (3, 60)) == [(5 + HOLD_NS // SECOND, Light.NIGHT)]


def test_a_cars_headlights_and_a_cloud_change_nothing():
    assert run((100, 5), *[(3, 9), (15, 1)] * 20) == []
    night = [(3, 200), *[(5000, 9), (20, 1)] * 20]
    assert run(*night) == [(10, Light.NIGHT)]


def test_between_the_bars_it_stays_as_it_is():
    assert run((25, 1000)) == []
    assert run((3, 200), (25, 1000)) == [(10, Light.NIGHT)]


def test_day_begins_above_the_upper_bar_and_not_before_the_dwell_is_over():
    assert run((3, 11), (100, 300)) == [(10, Light.NIGHT), (10 + DWELL_NS // SECOND, Light.DAY)]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(1, 40)), max_size=60))
def test_whatever_the_light_does_two_changes_are_a_dwell_apart(lights):
    came = run(*lights)
    assert all(later - earlier >= DWELL_NS // SECOND for (earlier, _), (later, _) in pairwise(came))
    assert all(one is not other for (_, one), (_, other) in pairwise(came))
