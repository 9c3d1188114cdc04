"""The detector's postprocessing on literal arrays."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.geometry import Box
from homeplate.vision.detector import Detector, Limits, cells_of, detections_of, overlaps, quad_of

LIMITS = Limits(score=0.3, overlap=0.4, corners=0.2)
LEVEL = [0, 0, 1, 0, 1, 1, 0, 1]


def empty(rows=4, columns=8):
    heads = np.zeros((13, rows, columns), np.float32)
    heads[0] = -10
    return heads


def put(heads, row, column, box, *, score=0.9, corners=LEVEL):
    """Let a cell claim a plate with this box (pixels of the input)."""
    x, y = (column + 0.5) * 8, (row + 0.5) * 8
    reach = [x - box[0], y - box[1], box[2] - x, box[3] - y]
    heads[0, row, column] = math.log(score / (1 - score))
    heads[1:5, row, column] = [math.log(r / 8) for r in reach]
    heads[5:, row, column] = corners


def test_one_cell_becomes_one_box_in_frame_pixels():
    heads = empty()
    put(heads, 1, 2, (10, 6, 34, 18))
    (found,) = detections_of(heads, 0.5, LIMITS)
    box = found.box
    assert [box.left, box.top, box.right, box.bottom] == pytest.approx([20, 12, 68, 36], rel=1e-5)
    assert found.score == pytest.approx(0.9, rel=1e-5)


def test_an_empty_road_has_no_plate():
    assert detections_of(empty(), 1.0, LIMITS) == []


def test_a_cell_below_the_threshold_is_no_plate():
    heads = empty()
    put(heads, 1, 2, (10, 6, 34, 18), score=0.29)
    assert detections_of(heads, 1.0, LIMITS) == []


def test_cells_that_agree_are_one_plate_and_share_its_box_by_score():
    heads = empty()
    put(heads, 1, 2, (10, 6, 34, 18), score=0.8)
    put(heads, 1, 3, (12, 6, 34, 18), score=0.8)
    (found,) = detections_of(heads, 1.0, LIMITS)
    assert found.box.left == pytest.approx(11, rel=1e-4)


def test_two_plates_stay_two_and_the_better_one_comes_first():
    heads = empty()
    put(heads, 1, 1, (2, 6, 22, 16), score=0.6)
    put(heads, 2, 6, (40, 14, 62, 26), score=0.95)
    found = detections_of(heads, 1.0, LIMITS)
    assert [round(d.score, 2) for d in found] == [0.95, 0.6]


def test_corners_are_given_where_the_cells_agree_on_them():
    heads = empty()
    slanted = [0, 0.1, 0.95, 0, 1, 0.9, 0.05, 1]
    put(heads, 1, 2, (10, 6, 34, 18), corners=slanted)
    put(heads, 1, 3, (10, 6, 34, 18), corners=slanted)
    (found,) = detections_of(heads, 0.5, LIMITS)
    assert found.quad is not None
    assert np.array(found.quad.corners) == pytest.approx(np.array([[20, 14.4], [65.6, 12], [68, 33.6], [22.4, 36]]))


def test_corners_are_withheld_where_the_cells_disagree():
    heads = empty()
    put(heads, 1, 2, (10, 6, 34, 18))
    put(heads, 1, 3, (10, 6, 34, 18), corners=[0, 0.9, 1, 0, 1, 1, 0, 1])
    (found,) = detections_of(heads, 1.0, LIMITS)
    assert found.quad is None


def test_corners_of_a_single_cell_are_not_trusted():
    heads = empty()
    put(heads, 1, 2, (10, 6, 34, 18))
    (found,) = detections_of(heads, 1.0, LIMITS)
    assert found.quad is None


@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [0, 10], [20, 10], [20, 0]],  # counter-clockwise
        [[0, 0], [20, 10], [20, 0], [0, 10]],  # crossed
        [[0, 0], [20, 0], [10, 5], [0, 10]],  # not convex (a straight corner)
        [[0, 0], [4, 0], [4, 2], [0, 2]],  # a corner of its box only
        [[5, 5], [5, 5], [5, 5], [5, 5]],  # a point
    ],
)
def test_corners_that_are_no_plate_are_refused(corners):
    box = Box(left=0, top=0, right=20, bottom=10)
    assert quad_of(np.array(corners, np.float32), box) is None


def test_no_more_than_the_best_cells_are_looked_at():
    heads = empty(40, 40)
    heads[0] = 3.0
    heads[0, 5, 5] = 5.0
    cells = cells_of(heads, 0.3)
    assert len(cells.scores) == 300
    assert cells.scores[0] == pytest.approx(1 / (1 + math.exp(-5)))


@given(st.lists(st.floats(-60, 60, width=32), min_size=13, max_size=13))
def test_no_output_of_the_network_breaks_the_decoding(values):
    heads = empty()
    heads[:, 1, 2] = values
    heads[:, 1, 3] = values[::-1]
    for found in detections_of(heads, 0.37, LIMITS):
        assert math.isfinite(found.box.area)
        assert 0 <= found.score <= 1
        assert found.box.left <= found.box.right


def test_overlap_of_a_box_with_itself_is_one_and_with_a_far_one_nothing():
    box = np.array([0, 0, 10, 5], np.float32)
    assert overlaps(box, np.stack([box, box + 100])).tolist() == [1, 0]


class OnePlate:
    """A network that always claims the same plate and keeps what it was given."""

    def run(self, batch):
        self.batch = batch
        heads = empty(36, 64)
        put(heads, 10, 10, (64, 76, 104, 96))
        return [heads[None]]


def test_the_frame_is_letterboxed_and_its_plates_come_back_in_frame_pixels():
    network = OnePlate()
    detector = Detector(network, width=512, height=288, limits=LIMITS)
    (found,) = detector.detect(np.full((720, 1280, 3), 7, np.uint8))
    assert network.batch.shape == (1, 288, 512, 3)
    assert found.box.left == pytest.approx(160, rel=1e-4)


def test_an_empty_picture_has_no_plates():
    detector = Detector(OnePlate(), width=512, height=288, limits=LIMITS)
    assert detector.detect(np.zeros((0, 0, 3), np.uint8)) == []
