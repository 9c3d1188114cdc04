"""Samples from the node's own shell are understood, and bounds that are broken are named with their numbers."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.hil.settings import Soak
from tools.hil.soak import SCRIPT, Sample, faults, growth, parsed

UNIT = "homeplate-capture.service"
SAID = f"""\
uptime 812.33
load 0.42
available_kb 204800
temperature 51200
temperature 61000
frequency_khz 1500000
throttled throttled=0x50000
rss:{UNIT} 112640
pss:{UNIT} 102400
"""


def samples(*mb, **changes):
    return [
        Sample(
            **(
                {"at_s": 10.0 * n, "uptime_s": 100.0 + n, "share_mb": ((UNIT, each),), "rss_mb": ((UNIT, each),)}
                | changes
            )
        )
        for n, each in enumerate(mb)
    ]


def test_a_sample_has_what_the_node_said():
    one = parsed(SAID, 5.0)
    assert one == Sample(
        at_s=5.0,
        uptime_s=812.33,
        load=0.42,
        available_mb=200.0,
        celsius=61.0,
        frequency_mhz=1500.0,
        throttled=False,
        rss_mb=((UNIT, 110.0),),
        share_mb=((UNIT, 100.0),),
    )
    assert parsed("throttled throttled=0x50005", 0).throttled is True, (
        "what was the case earlier does not count, what is now does"
    )
    assert parsed("", 0) == Sample(at_s=0)


@given(st.text(max_size=300))
def test_whatever_a_node_says_is_a_sample(text):
    parsed(text, 0.0)
    parsed("\n".join(f"temperature {word}" for word in text.split()), 0.0)


def test_the_script_runs_in_a_shell_of_this_machine():
    done = subprocess.run(
        ["sh", "-c", SCRIPT, "sh", "no-such.service"], capture_output=True, text=True, check=True, timeout=30
    )
    one = parsed(done.stdout, 0.0)
    assert one.uptime_s > 0
    assert one.available_mb > 10
    assert one.rss_mb == ()


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ([], "did not answer once"),
        (samples(100, 100, celsius=85.5), "85.5 degrees are more than 80"),
        (samples(100, 100, throttled=True), "at 2 of 2 looks"),
        (samples(100, 170), "takes 170 MB, more than 160"),
        (samples(*range(100, 148, 2)), "grew by 36.0 MB"),
        ([*samples(100, 100), Sample(at_s=30, uptime_s=200)], "did not run at 1 of 3 looks"),
        ([*samples(100), *samples(100, uptime_s=3.0)], "booted meanwhile"),
    ],
)
def test_a_bound_that_is_broken_is_named_with_its_number(given_, words):
    [text] = faults(given_, Soak(), [UNIT])
    assert words in text


def test_a_node_within_its_bounds_has_no_fault():
    assert list(faults(samples(*[100 + n % 5 for n in range(40)], celsius=60.0, throttled=False), Soak(), [UNIT])) == []


def test_a_share_that_changes_as_others_come_and_go_is_no_growth():
    shared = samples(*[90 if n < 20 else 130 for n in range(40)], rss_mb=((UNIT, 150.0),))
    assert list(faults(shared, Soak(), [UNIT])) == []


def test_growth_is_between_the_quarters_and_not_one_spike():
    assert growth([100, 100, 180, 100, 100, 100, 100, 100, 101, 100, 100, 100]) == 0
    assert growth([1, 2, 3]) is None
