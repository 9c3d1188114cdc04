"""The conditions do to a picture what they say, leave it alone, and carry the plate's box along; readings are kept."""

import itertools

import cv2
import numpy as np
import pytest

from tools import conditions, robustness
from tools.conditions import CONDITIONS

BOX = (500.0, 300.0, 600.0, 350.0)


def scene():
    """A grey picture with texture, whose plate is the only bright thing."""
    picture = np.random.default_rng(5).integers(60, 90, (720, 1280, 3)).astype(np.uint8)
    picture[300:350, 500:600] = 255
    return picture


def bright_box(picture, least=170):
    rows, columns = np.nonzero(cv2.blur(picture[..., 1], (3, 3)) >= least)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: one.name)
def test_a_condition_is_repeatable_and_leaves_what_it_is_given(condition):
    picture, random = scene(), np.random.default_rng
    before = picture.copy()
    for level in condition.levels:
        one, box = condition.apply(picture, BOX, level, random(1))
        again, same = condition.apply(picture, BOX, level, random(1))
        assert np.array_equal(picture, before)
        assert np.array_equal(one, again)
        assert box == same
        assert (one.dtype, one.shape[2]) == (np.uint8, 3)


@pytest.mark.parametrize("name", ["blur", "noise", "JPEG", "rain"])
def test_a_harder_level_changes_a_picture_more(name):
    [condition] = [one for one in CONDITIONS if one.name == name]
    picture = cv2.GaussianBlur(scene(), (0, 0), 0.8)
    changes = []
    for level in condition.levels:
        spoiled, box = condition.apply(picture, BOX, level, np.random.default_rng(1))
        assert box == BOX
        changes.append(float(np.abs(spoiled.astype(int) - picture).mean()))
    assert all(a < b for a, b in itertools.pairwise(changes)), changes


def test_blur_means_the_same_on_plates_of_any_width():
    picture = scene()
    narrow, _ = conditions.blur(picture, (0, 0, 50, 25), 2, np.random.default_rng(1))
    wide, _ = conditions.blur(picture, (0, 0, 100, 50), 1, np.random.default_rng(1))
    assert np.array_equal(narrow, wide)


def test_low_light_darkens_by_the_curve_and_drowns_detail_in_noise():
    picture = np.full((200, 200, 3), 200, np.uint8)
    snr = []
    for share in (1 / 4, 1 / 64):
        dark, _ = conditions.low_light(picture, BOX, share, np.random.default_rng(1))
        assert dark.mean() == pytest.approx(200 * share ** (1 / 2.2), rel=0.03)
        snr.append(dark.mean() / dark.std())
    assert snr[0] > 2 * snr[1]


def test_the_box_turns_with_the_plate():
    spoiled, box = conditions.tilt(scene(), BOX, 20.0, np.random.default_rng(1))
    assert box == pytest.approx(bright_box(spoiled), abs=4)
    assert box[3] - box[1] == pytest.approx(50 * np.cos(np.pi / 9) + 100 * np.sin(np.pi / 9), abs=0.1)


@pytest.mark.parametrize("width", [20, 60, 200])
@pytest.mark.parametrize("at", [(500, 300), (5, 5), (1170, 660)])
def test_a_plate_gets_the_width_asked_for_in_a_frame_of_the_usual_size(width, at):
    picture = scene()
    picture[300:350, 500:600] = 75
    x, y = at
    picture[y : y + 50, x : x + 100] = 255
    spoiled, box = conditions.plate_width(picture, (x, y, x + 100, y + 50), width, np.random.default_rng(1))
    assert spoiled.shape == (720, 1280, 3)
    assert box[2] - box[0] == pytest.approx(width)
    assert box == pytest.approx(bright_box(spoiled, 160), abs=4)


class Echo:
    """An engine that counts how often it is asked."""

    name, asked = "echo", 0

    def ask(self, kind, path):
        self.asked += 1
        return {"image": str(path), "plates": [], "milliseconds": 1.0, "peak_mb": 1.0}


def one_spoiled(tmp_path, key):
    return robustness.Spoiled(key=key, case=("blur", 1.0), label={}, file=tmp_path / "x" / "0.bmp")


def test_what_was_read_is_not_asked_again_after_a_stop(tmp_path):
    for _ in range(2):
        engine = Echo()
        kept = robustness.Kept(engine, tmp_path / "kept.jsonl")
        rows = [kept.read(one_spoiled(tmp_path, key)) for key in ("blur/1/a", "blur/1/b", "blur/1/a")]
        assert all(row["image"].endswith("x/0.bmp") for row in rows)
    assert engine.asked == 0
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 2


def test_the_table_has_a_line_a_case_and_compares_in_pairs():
    judged = {
        name: {case: {"exact": exact, "found_iou50": [True] * 12} for case in robustness.cases()}
        for name, exact in (("homeplate", [True] * 10 + [False] * 2), ("fast-alpr", [False] * 8 + [True] * 4))
    }
    lines = robustness.table(judged, "set").splitlines()
    assert len(lines) == 2 + len(robustness.cases())
    assert lines[2] == "| as published | 10 (0.83) | 4 (0.33) | 12 (1.00) | 12 (1.00) | 0.11 |"
    assert "low light 1/64" in lines[2 + robustness.cases().index(("low light", 1 / 64))]
