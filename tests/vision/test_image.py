"""Crops and letterboxes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection
from homeplate.vision.image import PAD, area, letterbox, plate_crop


def ramp(rows, columns):
    """A picture whose blue is the column and whose green is the row."""
    picture = np.zeros((rows, columns, 3), np.uint8)
    picture[..., 0] = np.arange(columns)
    picture[..., 1] = np.arange(rows)[:, None]
    return picture


def at(left, top, right, bottom, quad=None):
    return Detection(box=Box(left=left, top=top, right=right, bottom=bottom), score=1, quad=quad)


def test_a_wide_frame_fills_the_canvas():
    canvas, scale = letterbox(np.full((720, 1280, 3), 9, np.uint8), width=512, height=288)
    assert canvas.shape == (288, 512, 3)
    assert scale == pytest.approx(0.4)
    assert (canvas == 9).all()


def test_a_narrow_frame_is_padded_with_grey_at_the_right():
    canvas, scale = letterbox(np.full((480, 640, 3), 9, np.uint8), width=512, height=288)
    assert scale == pytest.approx(0.6)
    assert (canvas[:, :384] == 9).all()
    assert (canvas[:, 384:] == PAD).all()


@given(st.integers(1, 400), st.integers(1, 400))
def test_any_size_is_letterboxed(rows, columns):
    canvas, _ = letterbox(np.zeros((rows, columns, 3), np.uint8), width=64, height=32)
    assert canvas.shape == (32, 64, 3)


def test_the_crop_of_a_box_is_the_box_and_a_margin():
    crop = plate_crop(ramp(100, 200), at(50, 20, 150, 70)).image
    assert crop.shape == (60, 112, 3)
    assert crop[0, 0].tolist() == [44, 15, 0]


def test_a_crop_knows_where_in_the_frame_it_was_cut():
    inner = Box(left=6, top=5, right=106, bottom=55)
    assert plate_crop(ramp(100, 200), at(50, 20, 150, 70)).box_in_frame(inner) == Box(
        left=50, top=20, right=150, bottom=70
    )
    assert plate_crop(ramp(100, 200), at(-10, -10, 90, 40)).box_in_frame(inner) == inner


def test_the_crop_is_a_copy():
    picture = ramp(100, 200)
    plate_crop(picture, at(50, 20, 150, 70)).image[:] = 255
    assert picture[40, 100, 0] == 100


@given(*[st.floats(-300, 300) for _ in range(4)])
def test_no_box_breaks_the_crop(left, top, right, bottom):
    crop = plate_crop(ramp(60, 80), at(left, top, right, bottom)).image
    assert crop.ndim == 3
    assert crop.shape[0] <= 60
    assert crop.shape[1] <= 80


def test_a_plate_outside_the_frame_has_an_empty_crop():
    assert plate_crop(ramp(60, 80), at(100, 100, 140, 120)).image.size == 0


def tilted(picture):
    """Draw a bright plate that is seen from aside and return its corners."""
    for x in range(60, 200):
        top = 50 + round((x - 60) * 50 / 140)
        picture[top : top + 70, x] = 200
    return Quad(corners=((60, 50), (200, 100), (200, 170), (60, 120)))


def test_a_level_plate_is_cut_by_its_box_though_its_corners_are_known():
    picture = ramp(100, 200)
    quad = Quad(corners=((50, 21), (150, 20), (150, 69), (50, 70)))
    assert (
        plate_crop(picture, at(50, 20, 150, 70, quad)).image == plate_crop(picture, at(50, 20, 150, 70)).image
    ).all()


def test_a_tilted_plate_is_straightened():
    picture = np.zeros((250, 300, 3), np.uint8)
    quad = tilted(picture)
    straightened = plate_crop(picture, at(60, 50, 200, 170, quad))
    crop = straightened.image
    rows, columns = crop.shape[:2]
    across, down = round(0.1 * columns), round(0.1 * rows)
    assert (crop[down + 3 : -down - 3, across + 3 : -across - 3] == 200).all()
    assert (crop[0] == 0).all()
    x, y = round(columns / 12), round(rows / 12)  # a tenth of the plate on each side of it
    plate = straightened.box_in_frame(Box(left=x, top=y, right=columns - x, bottom=rows - y))
    assert (plate.left, plate.top, plate.right, plate.bottom) == pytest.approx((60, 50, 200, 170), abs=0.5)
    box_only = plate_crop(picture, at(60, 50, 200, 170)).image
    assert (box_only[6:-6, 8:-8] == 0).any()


def test_a_straightened_crops_corners_are_the_plates_whatever_its_scale():
    corners = ((60, 50), (200, 100), (190, 190), (70, 130))
    crop = plate_crop(np.zeros((250, 300, 3), np.uint8), at(60, 50, 200, 190, Quad(corners=corners)))
    height, width = crop.image.shape[:2]
    # The plate is 148.66 x 90.55 pixels at its longest sides, and the margin is rounded to whole ones.
    across, down = (width - 149) / 2, (height - 91) / 2
    for (x, y), corner in zip(
        ((across, down), (width - across, down), (width - across, height - down), (across, height - down)),
        corners,
        strict=True,
    ):
        moved = crop.into_frame @ (x, y, 1)
        assert moved[:2] / moved[2] == pytest.approx(corner, abs=1e-3)


def test_a_tilted_plate_at_the_frames_edge_is_straightened_too():
    picture = np.zeros((250, 300, 3), np.uint8)
    tilted(picture)
    quad = Quad(corners=((-40, 50), (100, 100), (100, 170), (-40, 120)))
    assert plate_crop(picture, at(-40, 50, 100, 170, quad)).image.size > 0


def test_the_area_of_corners_is_that_of_the_figure_they_span():
    assert area(Quad(corners=((0, 0), (20, 0), (20, 10), (0, 10)))) == 200
    assert area(Quad(corners=((0, 0), (20, 10), (20, 20), (0, 10)))) == 200
