"""A camera that is lost is opened again while the node goes on. The doubles are cameras of the same protocol."""

import threading
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pytest

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.live import LiveSource, Patience, Picture
from homeplate.clock import perf_ns
from homeplate.domain.passage import CameraChange, ChangeKind, Frame
from homeplate.domain.source import CameraSettings, SourceKind, SourceSettings

NOW_NS = 1_790_000_000 * 10**9
SETTINGS = SourceSettings(name="road", kind=SourceKind.V4L2, path=PurePath("/dev/video0"), camera=CameraSettings())
ENDLESS = 10**9
HASTE = Patience(opening=5.0, stall=0.05, backoff=0.01, backoff_most=0.02, steady=60.0)


@dataclass
class Scripted:
    """A camera that gives some pictures, then fails, or hangs until it is let go."""

    pictures: int
    error: Exception | None = None
    hang: threading.Event | None = None
    taken: int = 0
    closed: threading.Event = field(default_factory=threading.Event)
    grey: bool = False
    asked: threading.Semaphore | None = None

    def take(self):
        if self.asked is not None:
            self.asked.acquire()
        if self.taken == self.pictures:
            if self.hang is not None:
                self.hang.wait(10)
            raise self.error or SourceError("road", Reason.DRIVER, "broke off")
        self.taken += 1
        image = np.full((48, 64, 3), self.taken % 256, np.uint8)
        return Picture(image=image, grey=image[::2, ::2, 0].copy() if self.grey else None, age_ns=1_000_000)

    def close(self):
        self.closed.set()


def live(*cameras, settings=SETTINGS, now_ns=lambda: NOW_NS, patience=HASTE):
    left = iter(cameras)

    def open_camera():
        camera = next(left)
        if isinstance(camera, Exception):
            raise camera
        return camera

    return LiveSource(settings, open_camera, now_ns=now_ns, perf_ns=perf_ns, patience=patience)


def until(source, wanted):
    """Take what a source yields until `wanted` says so, then close it."""
    came = []
    for item in source.frames():
        came.append(item)
        if wanted(came):
            source.close()
    return came


def changes(came):
    return [(c.kind, c.attempts, c.reason) for c in came if isinstance(c, CameraChange)]


def back(came):
    return any(isinstance(c, CameraChange) and c.kind is ChangeKind.BACK for c in came) and isinstance(came[-1], Frame)


def test_a_camera_that_breaks_off_is_closed_and_opened_again():
    first, second = Scripted(2), Scripted(ENDLESS)
    came = until(live(first, second), back)
    assert changes(came) == [(ChangeKind.LOST, 0, "driver"), (ChangeKind.BACK, 1, "")]
    assert first.closed.is_set()
    assert second.closed.wait(5)


def test_a_camera_that_hangs_is_lost_by_its_deadline_and_no_second_one_is_begun_while_it_hangs():
    hang = threading.Event()
    first, second = Scripted(1, hang=hang), Scripted(ENDLESS)
    source = live(first, second)
    came = []
    for item in source.frames():
        came.append(item)
        if isinstance(item, CameraChange) and item.kind is ChangeKind.LOST:
            assert (item.reason, second.taken, first.closed.is_set()) == ("stalled", 0, False)
            # Only what ends the hang lets the next attempt begin.
            threading.Timer(0.1, hang.set).start()
        if back(came):
            source.close()
    assert first.closed.is_set()
    assert changes(came)[-1] == (ChangeKind.BACK, 1, "")


def test_every_failed_attempt_is_said_and_the_return_counts_them():
    missing = SourceError("road", Reason.MISSING, "no such device")
    came = until(live(missing, missing, missing, Scripted(ENDLESS)), back)
    lost = [(ChangeKind.LOST, n, "missing") for n in range(3)]
    assert changes(came)[:4] == [*lost, (ChangeKind.BACK, 3, "")]


def test_the_indices_and_times_of_a_camera_go_on_over_a_loss():
    now = iter(range(NOW_NS, NOW_NS + 10**12, 10**8))
    source = live(Scripted(3, grey=True), Scripted(ENDLESS), now_ns=lambda: next(now))
    came = until(source, lambda came: back(came) and sum(isinstance(c, Frame) for c in came) > 3)
    frames = [c for c in came if isinstance(c, Frame)]
    assert [f.captured_ns for f in frames] == sorted({f.captured_ns for f in frames})
    assert [f.stream_ns for f in frames] == [f.captured_ns - frames[0].captured_ns for f in frames]
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert frames[0].captured_ns == NOW_NS - 1_000_000


def test_masks_cover_the_picture_and_its_small_copy():
    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    source = live(
        Scripted(9, grey=True),
        settings=SourceSettings(
            name="road", kind=SourceKind.V4L2, path=PurePath("x"), camera=CameraSettings(), masks=(mask,)
        ),
    )
    [frame, *_] = until(source, lambda _: True)
    assert frame.image[:, :31].max() == 0
    assert frame.grey[:, :15].max() == 0
    assert frame.image[:, 40:].min() > 0
    assert frame.grey[:, 20:].min() > 0


def test_closing_ends_a_source_that_waits_for_its_camera():
    hang = threading.Event()
    source = live(Scripted(0, hang=hang), patience=Patience())
    threading.Timer(0.05, source.close).start()
    assert list(source.frames()) == []
    hang.set()


def test_a_bug_in_a_cameras_thread_is_no_loss():
    with pytest.raises(ZeroDivisionError):
        until(live(Scripted(1, error=ZeroDivisionError())), lambda _: False)


def test_a_frame_that_nobody_asked_for_in_time_is_a_gap_in_the_index():
    asked = threading.Semaphore(1)
    camera = Scripted(100, asked=asked)
    source = live(camera)
    frames = source.frames()
    first = next(frames)
    asked.release(3)
    while camera.taken < 4:
        pass
    later = next(frames)
    source.close()
    asked.release()
    assert (first.index, later.index, int(later.image[0, 0, 0])) == (0, 3, 4)
