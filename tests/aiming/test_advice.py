"""What aim says: figures from sightings, and words that name the number, what is enough and the change."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.aiming.advice import (
    CONTRAST_ENOUGH,
    FRAMES_ENOUGH,
    SHARP_ENOUGH,
    TILT_ENOUGH_DEG,
    WIDTH_ENOUGH_PX,
    Seen,
    Thing,
    advice,
    figures_of,
)
from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection
from homeplate.vision.quality import Light, PlateLook, light_of, plate_look, sharpness, tilt_deg

GOOD = {"width_px": 120.0, "score": 0.8, "tilt_deg": 1.0, "sharpness": 0.4, "contrast": 120.0, "white": 0.1}
LIGHT = Light(mean=110.0, white=0.0, black=0.0)


def look(**changes):
    return PlateLook(**(GOOD | changes))


def seen(*looks, **changes):
    looks = looks or (look(),) * 5
    given = {"source": "lane-1", "frame": (1280, 720), "arriving": 15.0, "looked": 15.0, "frames": 50, "light": LIGHT}
    return Seen(**(given | {"looks": looks, "minimum_width": 60.0} | changes))


def wrong(one):
    return {piece.thing: piece.text for piece in advice(one) if piece.enough is False}


def test_a_camera_that_is_aimed_well_has_nothing_to_change():
    assert wrong(seen()) == {}
    assert {piece.thing for piece in advice(seen())} >= {Thing.WIDTH, Thing.TILT, Thing.SHARPNESS, Thing.LIGHT}


def test_narrow_plates_are_told_with_the_zoom_and_the_way_that_mend_them():
    text = wrong(seen(*[look(width_px=48.0)] * 5))[Thing.WIDTH]
    assert (
        text == "plates are 48 px wide where they are nearest; 80 px are needed: zoom in 1.7 times, or move 40 % nearer"
    )


@pytest.mark.parametrize("width", [72.1, 78.4, 79.9])
def test_a_gap_that_no_zoom_closes_is_not_worth_a_word(width):
    assert Thing.WIDTH not in wrong(seen(*[look(width_px=width)] * 5))
    assert "zoom in 1.1 times, or move 11 % nearer" in wrong(seen(*[look(width_px=71.0)] * 5))[Thing.WIDTH]


def test_plates_a_little_narrower_than_are_read_are_told_without_an_empty_figure():
    text = wrong(seen(*[look(width_px=108.0)] * 5, minimum_width=110.0))[Thing.WIDTH]
    assert text.endswith("110 px are needed: zoom in a little, or lower the source's minimum_plate_width_px")


def test_a_source_that_is_configured_for_wider_plates_needs_those():
    assert Thing.WIDTH in wrong(seen(*[look(width_px=100.0)] * 5, minimum_width=110.0))


def test_a_car_that_comes_nearer_is_judged_by_where_it_is_near():
    approaching = [look(width_px=width) for width in (40, 45, 50, 55, 60, 70, 85, 100)]
    assert wrong(seen(*approaching)) == {}
    figures = figures_of(seen(*approaching))
    assert (figures.smallest_px, figures.width_px) == (40, 57.5)


def test_a_picture_that_is_turned_clockwise_asks_for_a_turn_of_the_camera_the_same_way():
    assert "turn the camera 14 degrees clockwise" in wrong(seen(*[look(tilt_deg=14.0)] * 5))[Thing.TILT]
    assert "turn the camera 14 degrees counter-clockwise" in wrong(seen(*[look(tilt_deg=-14.0)] * 5))[Thing.TILT]


def test_of_blur_nothing_is_said_where_width_or_noise_would_be_taken_for_it():
    blurred = {"sharpness": SHARP_ENOUGH / 2}
    assert set(wrong(seen(*[look(**blurred)] * 5))) == {Thing.SHARPNESS}
    assert set(wrong(seen(*[look(**blurred, width_px=40.0)] * 5))) == {Thing.WIDTH}
    assert set(wrong(seen(*[look(**blurred, contrast=10.0)] * 5))) == {Thing.CONTRAST}


@pytest.mark.parametrize(
    ("changes", "thing", "words"),
    [
        ({"looked": 4.0, "arriving": 5.0}, Thing.FRAMES, "raise the camera's rate"),
        ({"looked": 4.0, "arriving": 25.0}, Thing.FRAMES, "fewer tiles"),
        ({"light": Light(mean=3.0, white=0.0, black=0.9)}, Thing.LIGHT, "is dark"),
        ({"light": Light(mean=250.0, white=0.9, black=0.0)}, Thing.LIGHT, "too bright"),
        ({"outside": 20}, Thing.PLACE, "20 of 25 plates lie outside"),
        ({"cut_off": 20}, Thing.PLACE, "20 of 25 plates are cut off"),
    ],
)
def test_what_is_wrong_is_named_with_its_number(changes, thing, words):
    found = wrong(seen(**changes))
    assert set(found) == {thing}
    assert words in found[thing]


def test_what_is_not_known_yet_is_not_called_wrong():
    assert [piece.enough for piece in advice(Seen(source="lane-1"))] == [None]
    nothing = advice(Seen(source="lane-1", frame=(64, 48), arriving=15.0, looked=15.0, light=LIGHT))
    assert {piece.thing: piece.enough for piece in nothing}[Thing.PLATES] is None
    assert not any(piece.enough is False for piece in nothing)


@given(
    st.builds(
        PlateLook,
        width_px=st.floats(1, 4000), score=st.floats(0, 1), tilt_deg=st.none() | st.floats(-180, 180),
        sharpness=st.floats(0, 50), contrast=st.floats(0, 255), white=st.floats(0, 1),
    ),
    st.floats(0, 240),
    st.integers(0, 50),
)  # fmt: skip
def test_each_thing_is_said_once_and_enough_means_the_number_is(plate, rate, outside):
    said = advice(seen(*[plate] * 4, looked=rate, outside=outside))
    by_thing = {piece.thing: piece.enough for piece in said}
    assert len(by_thing) == len(said)
    assert [piece.enough for piece in said] == sorted((p.enough for p in said), key=[False, None, True].index)
    assert by_thing[Thing.FRAMES] == (rate >= FRAMES_ENOUGH)
    assert by_thing[Thing.WIDTH] == (plate.width_px >= WIDTH_ENOUGH_PX)
    tilt = None if plate.tilt_deg is None else abs(plate.tilt_deg) <= TILT_ENOUGH_DEG
    assert by_thing[Thing.TILT] == tilt
    if plate.contrast < CONTRAST_ENOUGH:
        assert by_thing[Thing.CONTRAST] is False


# --- the figures themselves ----------------------------------------------------------------------------------------


def plate_picture(turn_deg=0.0, blur=0.0, gain=1.0):
    """A grey picture with a white plate of black bars in its middle, and the plate's corners."""
    picture = np.full((200, 320, 3), 90, np.uint8)
    corners = np.array([(100.0, 70.0), (220.0, 70.0), (220.0, 130.0), (100.0, 130.0)])
    cv2.rectangle(picture, (100, 70), (219, 129), (230, 230, 230), -1)
    for x in range(110, 210, 14):
        cv2.rectangle(picture, (x, 84), (x + 5, 116), (30, 30, 30), -1)
    matrix = cv2.getRotationMatrix2D((160, 100), -turn_deg, 1.0)
    picture = cv2.warpAffine(picture, matrix, (320, 200), borderMode=cv2.BORDER_REPLICATE)
    turned = np.column_stack([corners, np.ones(4)]) @ matrix.T
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return np.clip(picture * gain, 0, 255).astype(np.uint8), Quad(corners=tuple(map(tuple, turned.tolist())))


@pytest.mark.parametrize("turn", [-30, -8, 0, 3, 25])
def test_a_plate_that_is_turned_clockwise_in_the_picture_has_a_positive_tilt(turn):
    assert tilt_deg(plate_picture(turn)[1]) == pytest.approx(turn, abs=0.01)


def test_blur_lowers_the_sharpness_and_light_does_not():
    grey = [cv2.cvtColor(plate_picture(blur=sigma)[0][70:130, 100:220], cv2.COLOR_BGR2GRAY) for sigma in (0, 1, 2, 3)]
    found = [sharpness(picture) for picture in grey]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[3]
    dim = cv2.cvtColor(plate_picture(gain=0.4)[0][70:130, 100:220], cv2.COLOR_BGR2GRAY)
    assert sharpness(dim) == pytest.approx(found[0], rel=0.05)


def test_a_plates_look_has_its_contrast_and_its_clipped_share():
    picture, quad = plate_picture()
    found = plate_look(picture, Detection(box=quad.box, score=0.9, quad=quad))
    assert found.contrast == 200
    assert (found.white, found.width_px, found.tilt_deg) == (0.0, 120.0, 0.0)
    bright = plate_look(plate_picture(gain=1.2)[0], Detection(box=quad.box, score=0.9))
    assert bright.white == pytest.approx(0.75, abs=0.1)
    assert bright.tilt_deg is None


def test_a_box_beyond_the_picture_has_no_look():
    beyond = Detection(box=Box(left=400, top=10, right=460, bottom=40), score=0.9)
    assert plate_look(plate_picture()[0], beyond) is None


@given(st.integers(0, 255), st.integers(16, 60), st.integers(16, 60))
def test_the_light_of_an_even_picture_is_its_level(level, height, width):
    light = light_of(np.full((height, width, 3), level, np.uint8))
    assert light.mean == pytest.approx(level)
    assert (light.white, light.black) == (float(level >= 250), float(level <= 5))
    assert math.isfinite(light.mean)
