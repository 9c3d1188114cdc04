"""To a broker a hit and a non-hit look the same; the experiment that says so can also say the opposite."""

import numpy as np
import pytest

from tests.adversarial import net, observer, suite


def test_what_a_broker_sees_of_a_passage_is_constant_but_for_pictures_and_time():
    if why := net.why_not():
        pytest.skip(why)
    with suite.sited() as site:
        found = observer.experiment(site, passages=20)
    told = set(observer.FEATURES) - set(found["constant"])
    assert told <= {"largest", "total", "delay_s", "spread_s", "since_last_s"}


def table(draw, count, shift):
    hits = np.arange(count) % 2 == 0
    rows = draw.normal(size=(count, len(observer.FEATURES)))
    rows[:, 3] += shift * hits
    return rows, hits


def test_classifiers_find_a_planted_difference_and_none_where_there_is_none():
    draw = np.random.default_rng(3)
    planted = observer._judged(*table(draw, 400, 3.0), draw)
    assert planted["tells_apart"]
    assert min(planted["accuracy"].values()) > 0.7
    nothing = observer._judged(*table(draw, 400, 0.0), draw)
    assert not nothing["tells_apart"]


def test_the_interval_holds_the_share_and_narrows_with_the_number():
    for right, of in ((50, 100), (500, 1000), (90, 100), (100, 100)):
        low, high = observer.interval(right, of, 3)
        assert 0 <= low <= right / of <= high + 1e-9 <= 1 + 1e-9
    assert observer.interval(500, 1000, 3)[0] > observer.interval(50, 100, 3)[0]
    assert observer.interval(50, 100, 1)[0] == pytest.approx(0.4038, abs=1e-3), "Wilson, 95 %"
