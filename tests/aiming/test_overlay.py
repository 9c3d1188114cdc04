"""What is drawn on a preview's picture: always the figures, and advice whole, whatever the picture's width."""

import cv2
import numpy as np
import pytest

from homeplate.aiming.advice import Seen, advice
from homeplate.aiming.blackout import Shot
from homeplate.aiming.overlay import FONT, MARGIN, SCALE, draw, lines_of
from homeplate.vision.quality import Light, PlateLook

LIGHT = Light(mean=110.0, white=0.03, black=0.2)
NARROW = PlateLook(width_px=48.0, score=0.8, tilt_deg=14.0, sharpness=0.31, contrast=120.0, white=0.1)


def seen(*looks, **changes):
    given = {"source": "lane-1", "frame": (1280, 720), "arriving": 15.0, "looked": 15.0, "frames": 50, "light": LIGHT}
    return Seen(**(given | {"looks": looks} | changes))


def width_of(text):
    return cv2.getTextSize(text, FONT, SCALE, 1)[0][0]


def test_width_tilt_sharpness_and_exposure_are_shown_where_nothing_is_wrong_too():
    good = PlateLook(width_px=120.0, score=0.8, tilt_deg=1.0, sharpness=0.31, contrast=120.0, white=0.1)
    text = " ".join(line for line, _ in lines_of(seen(*[good] * 5), 480))
    assert text == ("plates: 120 px wide, tilt +1 deg, sharpness 0.31 exposure: mean 110 of 255, white 3 %, black 20 %")


def test_what_is_not_known_yet_is_shown_as_such():
    text = " ".join(line for line, _ in lines_of(seen(light=None), 480))
    assert text.startswith("plates: ? px wide, tilt ?, sharpness ? exposure: ?")
    tiltless = PlateLook(width_px=120.0, score=0.8, tilt_deg=None, sharpness=0.31, contrast=120.0, white=0.1)
    assert lines_of(seen(*[tiltless] * 5), 480)[0][0] == "plates: 120 px wide, tilt ?, sharpness 0.31"


@pytest.mark.parametrize("width", [160, 240, 320, 480])
@pytest.mark.parametrize("light", [LIGHT, Light(mean=4.0, white=0.0, black=1.0)])
def test_each_line_fits_and_no_word_of_the_advice_is_lost(width, light):
    what = seen(*[NARROW] * 5, light=light)
    lines = [line for line, _ in lines_of(what, width)]
    assert all(MARGIN + width_of(line) <= width for line in lines)
    said = " ".join(lines)
    for one in [one.text for one in advice(what) if not one.enough][:2]:
        assert one in said


def test_what_is_drawn_stays_in_a_picture_of_any_size():
    for height, width in ((270, 480), (90, 160), (20, 24), (1, 1)):
        image = np.full((height, width, 3), 128, np.uint8)
        draw(Shot(at_ns=0, image=image, boxes=()), seen(*[NARROW] * 5), None)
        assert image.shape == (height, width, 3)
