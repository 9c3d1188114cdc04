"""What the detector is trained to say is what the node understands."""

import numpy as np
import pytest

from homeplate.vision.detector import Limits, detections_of
from tools.train.detector_data import Plate, targets

SIZE = (256, 128)
LIMITS = Limits(score=0.5, overlap=0.4, corners=0.2)


def said(marks):
    """The heads of a network that says exactly its targets."""
    rows, columns = marks["heat"].shape
    heads = np.zeros((13, rows, columns), np.float32)
    chance = np.clip(marks["heat"], 1e-4, 0.999)
    heads[0] = np.log(chance / (1 - chance))
    y, x = (np.mgrid[:rows, :columns] + 0.5) * 8
    taught = marks["weight"] > 0
    for channel, (sign, centre) in enumerate(((1, x), (1, y), (-1, x), (-1, y))):
        reach = sign * (centre - marks["box"][channel])
        heads[1 + channel][taught] = np.log(np.maximum(reach, 1e-3) / 8)[taught]
    heads[5:] = marks["corners"]
    return heads


def plate(left, top, right, bottom, *, ignored=False):
    corners = np.array([[left, top + 2], [right - 3, top], [right, bottom - 2], [left + 3, bottom]], np.float32)
    return Plate(box=np.array([left, top, right, bottom], np.float32), corners=corners, ignored=ignored)


@pytest.mark.parametrize(
    "box", [(40, 30, 76, 48), (3, 5, 43, 25), (100.5, 60.25, 116, 68), (60, 20, 200, 90), (200, 100, 255, 127)]
)
def test_a_taught_plate_is_decoded_to_its_box(box):
    (found,) = detections_of(said(targets([plate(*box)], SIZE)), 1.0, LIMITS)
    assert [found.box.left, found.box.top, found.box.right, found.box.bottom] == pytest.approx(box, abs=0.2)


def test_taught_corners_are_decoded():
    marked = plate(60, 20, 140, 60)
    (found,) = detections_of(said(targets([marked], SIZE)), 0.5, LIMITS)
    assert np.array(found.quad.corners) == pytest.approx(2 * marked.corners, abs=0.1)


def test_plates_side_by_side_stay_apart():
    found = detections_of(said(targets([plate(20, 30, 56, 48), plate(60, 30, 96, 48)], SIZE)), 1.0, LIMITS)
    assert sorted(round(d.box.left) for d in found) == [20, 60]


def test_an_ignored_plate_is_taught_neither_way():
    marks = targets([plate(20, 30, 56, 48, ignored=True)], SIZE)
    assert (marks["weight"] == 0).all()
    assert marks["heat"][4, 4] == -1
    assert marks["heat"].max() == 0
