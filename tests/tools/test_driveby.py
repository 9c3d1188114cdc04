"""The drive-by suite: its truth, its counting, and the shutter, posts and halts that it drives by."""

import numpy as np
import pytest

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection, Sighting
from tools import driveby
from tools.driveby import SCENES, Tally, Truth
from tools.render import clip


def scene(name="approach", kmh=36, seed=1):
    return SCENES[name](np.random.default_rng(seed), kmh / 3.6)


def test_a_rolling_shutter_leans_what_crosses_and_leaves_what_stands():
    [car] = scene("crossing").cars
    still, rolled = car.plate_corners(0.0), car.plate_corners(0.0, 0.03)
    moved = (rolled - still)[:, 0]
    assert moved[2:].min() > moved[:2].max() > 1
    [parked] = scene("stop and go").cars
    assert parked.plate_corners(0.5, 0.03) == pytest.approx(parked.plate_corners(0.5))


@pytest.mark.parametrize("kmh", [10, 50, 100])
def test_a_car_that_stops_brakes_evenly_stands_and_drives_on(kmh):
    [car] = scene("stop and go", kmh).cars
    speed = kmh / 3.6
    times = np.arange(-12, 14, 0.01)
    z = car.places(times)[:, 1]
    speeds = -np.diff(z) / 0.01
    assert speeds.min() >= -1e-9
    assert speeds[0] == pytest.approx(speed)
    assert speeds[-1] == pytest.approx(speed)
    assert np.abs(np.diff(speeds) / 0.01).max() <= clip.BRAKES * 1.01
    standing = (times >= 0) & (times <= driveby.HALT_S)
    assert z[standing] == pytest.approx(clip.MEET)


def test_a_post_hides_a_plate_for_a_while_and_not_throughout():
    passing = scene("hidden half-way")
    [car] = passing.cars
    hidden = [
        driveby.hides(box, car, passing, time)
        for time in np.arange(*driveby.window(passing), 0.02).tolist()
        if driveby.whole(box := driveby.plate_box(car, time, 0.0))
    ]
    assert not hidden[0]
    assert not hidden[-1]
    assert 0.1 < sum(hidden) / len(hidden) < 0.7


def test_the_first_of_two_in_a_row_hides_the_second_until_it_is_past():
    passing = scene("two like plates")
    first, second = passing.cars
    assert sum(a != b for a, b in zip(first.plate.text, second.plate.text, strict=True)) == 1
    early = driveby.plate_box(second, 0.0, 0.0)
    assert driveby.hides(early, second, passing, 0.0)
    assert not driveby.hides(early, first, passing, 0.0)
    late = second.meets_s
    assert not driveby.hides(driveby.plate_box(second, late, 0.0), second, passing, late)


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("kmh", [10, 100])
def test_every_car_of_every_scene_is_whole_and_wide_within_its_window(name, kmh):
    passing = scene(name, kmh)
    start, end = driveby.window(passing)
    for car in passing.cars:
        boxes = [driveby.plate_box(car, time, 0.0) for time in np.arange(start, end, 0.01).tolist()]
        assert any(driveby.whole(box) and box.width >= 60 for box in boxes)


def test_a_longer_exposure_and_a_faster_car_are_drawn_in_more_steps():
    steps = [
        driveby.steps_for(scene("crossing", kmh), clip.Shutter(exposure_s=exposure))
        for kmh, exposure in ((10, 1 / 1000), (100, 1 / 1000), (100, 1 / 250))
    ]
    assert steps[0] < steps[1] < steps[2]


def test_a_post_is_drawn_over_the_car_behind_it():
    passing = scene("hidden half-way")
    [bare] = clip.pictures(np.random.default_rng(1), passing.cars, [0.0])
    [posted] = clip.pictures(np.random.default_rng(1), passing.cars, [0.0], posts=passing.posts)
    changed = np.abs(bare.astype(int) - posted).max(axis=(0, 2)) > 8
    middle = clip.WIDTH / 2 + clip.FOCAL * -0.85 / 4.0
    assert changed[round(middle)]
    assert not changed[round(middle) + 100 :].any()


class Tracked:
    """As much of a track as is counted."""

    def __init__(self, *places):
        seen = [
            Sighting(source="lane", frame_index=i, captured_ns=0, detection=Detection(box=box, score=1.0), reading=None)
            for i, box in places
        ]
        self.first, self.best, self.last = seen[0], seen[0], seen[-1]


class Said:
    """As much of a passage as is counted."""

    def __init__(self, text):
        self.text = self
        self.reveal = lambda: text


def box(x):
    return Box(left=x, top=300, right=x + 100, bottom=350)


@pytest.fixture
def truth():
    """Two cars side by side in four frames, the second one wide enough in one of them."""
    known = Truth(scene=scene("two lanes"))
    for index in range(4):
        known.boxes.append([box(100), box(800)])
        known.clear.append([True, index == 0])
    return known


def test_passages_are_counted_by_the_car_they_are_of(truth):
    mine = truth.scene.cars[0].plate.text
    ended = [
        (Tracked((0, box(110)), (1, box(100))), Said(mine)),
        (Tracked((2, box(100))), Said("WRONG")),
        (Tracked((2, box(500))), Said("FALSE")),
        (Tracked((3, box(800))), None),
    ]
    counts = driveby.tally(truth, ended, 1)
    assert counts == Tally(cars=2, sightable=1, reported=1, read=1, doubles=1, merges=0, false=1)


def test_a_track_of_two_cars_is_a_merge_and_a_lone_wrong_text_is_no_read(truth):
    counts = driveby.tally(truth, [(Tracked((0, box(100)), (3, box(800))), Said("WRONG"))], 1)
    assert counts == Tally(cars=2, sightable=1, reported=1, read=0, doubles=0, merges=1, false=0)


def test_a_lower_rate_sees_fewer_frames(truth):
    assert truth.sightable(1) == truth.sightable(2) == {0}
    assert truth.sightable(4) == set()


def test_cells_add_up_by_scene_speed_and_rate():
    counted = {
        ("approach", 10, 5): Tally(cars=1),
        ("approach", 10, 30): Tally(cars=2),
        ("crossing", 50, 5): Tally(cars=4),
    }
    assert driveby.total(counted).cars == 7
    assert driveby.total(counted, scene="approach").cars == 3
    assert driveby.total(counted, rate=5).cars == 5
    assert driveby.total(counted, kmh=10, rate=5).cars == 1


class Blind:
    """A detector that finds nothing and counts how often it looks."""

    looked = 0

    def detect(self, image):
        self.looked += 1
        return []


def test_a_picture_is_looked_at_once_however_many_ask():
    blind = Blind()
    seeing = driveby.Remembering(blind)
    one, other = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    assert [seeing.detect(picture) for picture in (one, one, other)] == [[], [], []]
    assert blind.looked == 2


def test_cars_that_nothing_is_seen_of_are_counted_as_not_reported():
    passing = scene("approach", 100)
    rates = driveby.drive(np.random.default_rng(1), passing, driveby.SHUTTER, (15, 5), (Blind(), None))
    assert set(rates) == {15, 5}
    assert rates[15] == Tally(cars=1, sightable=1)
