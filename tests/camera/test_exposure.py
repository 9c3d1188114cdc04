"""Shutter, focus, sensor mode and the dating of pictures, as pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.camera.exposure import (
    AGE_MOST_NS,
    SHUTTER_LEAST_US,
    SHUTTER_MOST_US,
    SensorMode,
    captured_ns,
    full_field,
    lens_position,
    lores_size,
    scale_px_per_m,
    shutter_us,
)

PIXELS, SCALES, SPEEDS = st.floats(0.1, 20), st.floats(10, 2000), st.floats(1, 300)


def test_at_50_kmh_and_the_narrowest_plate_the_shutter_is_between_half_a_millisecond_and_one():
    assert 500 <= shutter_us(blur_px=2.0, scale_px_per_m=scale_px_per_m(60), speed_kmh=50) <= 1000


@given(PIXELS, SCALES, SPEEDS)
def test_a_plate_never_smears_by_more_than_the_budget_unless_the_sensor_can_do_no_less(blur, scale, speed):
    exposure = shutter_us(blur_px=blur, scale_px_per_m=scale, speed_kmh=speed)
    smear = exposure * 1e-6 * speed / 3.6 * scale
    assert SHUTTER_LEAST_US <= exposure <= SHUTTER_MOST_US
    assert smear <= blur * (1 + 1e-9) or exposure == SHUTTER_LEAST_US


@given(PIXELS, SCALES, SPEEDS, st.floats(1.01, 3))
def test_faster_or_nearer_is_never_a_longer_exposure(blur, scale, speed, more):
    exposure = shutter_us(blur_px=blur, scale_px_per_m=scale, speed_kmh=speed)
    assert shutter_us(blur_px=blur, scale_px_per_m=scale, speed_kmh=speed * more) <= exposure
    assert shutter_us(blur_px=blur, scale_px_per_m=scale * more, speed_kmh=speed) <= exposure


def test_focus_is_one_over_the_distance_and_stays_within_the_lens():
    assert lens_position(8.0, 0.0, 32.0) == pytest.approx(0.125)
    assert lens_position(0.01, 0.0, 32.0) == 32.0
    assert lens_position(1000.0, 0.5, 32.0) == 0.5


def mode(width, height, fps, field, bits=10):
    return SensorMode(width=width, height=height, bits=bits, fps=fps, field=field)


# As `rpicam-hello --list-cameras` prints them (Raspberry Pi's documentation, "Camera software").
IMX477 = [
    mode(1332, 990, 120.05, (696, 528, 2664, 1980)),
    mode(2028, 1080, 50.03, (0, 440, 4056, 2160), 12),
    mode(2028, 1520, 40.01, (0, 0, 4056, 3040), 12),
    mode(4056, 3040, 10.0, (0, 0, 4056, 3040), 12),
]
IMX708 = [
    mode(1536, 864, 120.13, (768, 432, 3072, 1728)),
    mode(2304, 1296, 56.03, (0, 0, 4608, 2592)),
    mode(4608, 2592, 14.35, (0, 0, 4608, 2592)),
]
IMX296 = [mode(1456, 1088, 60.38, (0, 0, 1456, 1088))]


@pytest.mark.parametrize(
    ("modes", "size", "fps", "expected"),
    [
        (IMX477, (1280, 720), 30, (2028, 1520)),
        (IMX477, (1280, 720), 100, (2028, 1520)),
        (IMX477, (3840, 2160), 30, (4056, 3040)),
        (IMX708, (1280, 720), 60, (2304, 1296)),
        (IMX708, (1536, 864), 30, (2304, 1296)),
        (IMX708, (2560, 1440), 10, (4608, 2592)),
        (IMX296, (1920, 1080), 30, (1456, 1088)),
    ],
)
def test_the_mode_sees_all_that_the_lens_shows_and_is_the_smallest_that_serves(modes, size, fps, expected):
    chosen = full_field(modes, width=size[0], height=size[1], fps=fps)
    assert (chosen.width, chosen.height) == expected


def test_a_camera_without_modes_is_given_none():
    assert full_field([], width=1280, height=720, fps=30) is None


@given(st.integers(10**18, 2 * 10**18), st.integers(-(2**70), 2**70))
def test_a_picture_is_never_dated_after_it_was_handed_over_nor_long_before(now_ns, age_ns):
    assert now_ns - AGE_MOST_NS <= captured_ns(now_ns, age_ns) <= now_ns


def test_a_picture_is_dated_by_its_age():
    assert captured_ns(10**18, 40_000_000) == 10**18 - 40_000_000


@given(st.integers(64, 4096), st.integers(64, 4096))
def test_the_small_stream_is_even_and_no_larger_than_the_picture(width, height):
    across, down = lores_size(width - width % 2, height - height % 2)
    assert across % 2 == down % 2 == 0
    assert 2 <= across <= min(320, width)
    assert 2 <= down <= height
