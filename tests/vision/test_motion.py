"""When the motion gate opens."""

import numpy as np

from homeplate.vision.motion import MotionGate, MotionLimits

FRAME_NS = 100_000_000


def road(seed=0):
    """A street with some texture, 320x180."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 180, (18, 32), dtype=np.uint8)
    return np.repeat(np.kron(coarse, np.ones((10, 10), np.uint8))[..., None], 3, axis=2)


def with_car(left):
    picture = road()
    picture[100:140, left : left + 60] = 20
    return picture


def looks(frames, limits=None):
    gate = MotionGate(limits or MotionLimits())
    return [gate.open(frame, index * FRAME_NS) for index, frame in enumerate(frames)]


def test_an_empty_road_is_looked_at_once_and_then_every_two_seconds():
    opened = [index for index, look in enumerate(looks([road()] * 60)) if look]
    assert opened == [*range(7), 26, 46]


def test_a_moving_car_opens_the_gate_at_once():
    frames = [road()] * 15 + [with_car(10 + 12 * step) for step in range(5)]
    assert all(looks(frames)[15:])


def test_the_gate_stays_open_some_frames_after_motion_and_then_closes():
    frames = [road()] * 12 + [with_car(100)] * 2 + [road()] * 3 + [road()] * 17
    limits = MotionLimits(hold_frames=4, memory_ns=1)
    opened = looks(frames, limits)
    assert opened[12:] == [True] * 7 + [False] * 15


def test_a_change_of_the_whole_pictures_light_is_no_motion():
    darker = (road() * 0.7).astype(np.uint8)
    brighter = np.clip(road().astype(int) + 30, 0, 255).astype(np.uint8)
    opened = looks([road()] * 10 + [darker] * 5 + [brighter] * 4)
    assert not any(opened[10:])


def test_noise_is_no_motion():
    rng = np.random.default_rng(1)
    noisy = [np.clip(road() + rng.normal(0, 8, (180, 320, 1)), 0, 255).astype(np.uint8) for _ in range(20)]
    assert not any(looks(noisy)[8:])


def test_a_stopped_car_is_looked_at_again_within_two_seconds():
    frames = [road()] * 10 + [with_car(100)] * 60
    opened = looks(frames)
    assert any(opened[40:61])


def test_a_stream_that_starts_again_starts_the_gate_anew():
    gate = MotionGate()
    for index in range(12):
        gate.open(road(), index * FRAME_NS)
    assert not gate.open(road(), 12 * FRAME_NS)
    assert gate.open(road(), 0)


def test_another_frame_size_starts_the_gate_anew():
    gate = MotionGate()
    for index in range(12):
        gate.open(road(), index * FRAME_NS)
    assert gate.open(road()[:160], 12 * FRAME_NS)
