"""The rendered clip: its truth, its determinism, and that its plates are there to be read."""

import itertools

import cv2
import numpy as np
import pytest

from tools.render import clip


def rendered(path, seed=3, **given):
    return clip.render_clip(path, np.random.default_rng(seed), **given), path.read_bytes()


def test_equal_seeds_give_equal_clips_and_others_do_not(tmp_path):
    one = rendered(tmp_path / "one.avi", seconds=1.7, plates=1)
    assert one == rendered(tmp_path / "two.avi", seconds=1.7, plates=1)
    other = rendered(tmp_path / "three.avi", seed=4, seconds=1.7, plates=1)
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_a_clip_has_the_frames_that_its_length_says(tmp_path):
    [text], _ = rendered(tmp_path / "clip.avi", seconds=2, plates=1)
    assert 2 <= len(text) <= 8
    capture = cv2.VideoCapture(str(tmp_path / "clip.avi"))
    count = 0
    while capture.read()[0]:
        count += 1
    assert (count, capture.get(cv2.CAP_PROP_FPS)) == (30, 15.0)


@pytest.mark.parametrize("plates", range(1, 9))
def test_every_plate_is_in_full_view_and_wide_enough_to_be_read_for_a_while(plates):
    cars = clip.plan(np.random.default_rng(plates), 1.7 * plates + 1, plates)
    assert len({car.plate.text for car in cars}) == plates
    for car in cars:
        widths = []
        for number in range(round((1.7 * plates + 1) * clip.FPS)):
            corners = np.array([(-0.17, 0.47, 0.0), (0.17, 0.47, 0.0)])
            world = car.world(corners, number / clip.FPS)
            if world[:, 2].min() > clip.NEAR:
                left, right = sorted(clip.project(world)[:, 0])
                if left >= 0 and right <= clip.WIDTH and right - left >= 80:
                    widths.append(right - left)
        assert len(widths) >= 3, (car.at, car.way)


def test_cars_of_one_lane_keep_their_distance():
    cars = clip.plan(np.random.default_rng(1), 16, 8)
    for x in (-clip.LANE, clip.LANE):
        lane = [car for car in cars if abs(car.at[0] - x) < 0.2]
        places = [sorted(car.place(time)[1] for car in lane) for time in np.linspace(0, 16, 60)]
        assert all(b - a > clip.LENGTH for row in places for a, b in itertools.pairwise(row))


def test_more_cars_than_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"need at least 6\.4 s"):
        clip.render_clip(tmp_path / "clip.avi", np.random.default_rng(1), seconds=2, plates=6)
    with pytest.raises(ValueError, match="cannot be written"):
        clip.render_clip(tmp_path / "no" / "clip.avi", np.random.default_rng(1), seconds=2, plates=1)
