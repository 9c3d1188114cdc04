"""A file played as a camera of a rate of its own. The counter of time is the test's; nothing sleeps."""

import threading
from pathlib import Path, PurePath

from homeplate.camera import PacedSource, open_source
from homeplate.domain.source import SourceKind, SourceSettings
from tests.sightings import SECOND, START_NS, Script


class Film:
    name = "road"

    def __init__(self, count):
        self.count, self.closed = count, False

    def frames(self):
        yield from (Script({}).frame(i) for i in range(self.count))

    def close(self):
        self.closed = True


def late():
    """A counter that is always far ahead, so that every frame is due."""
    ticks = iter(range(10**6))
    return lambda: next(ticks) * 1000 * SECOND


def test_frames_bear_the_times_of_a_camera_at_that_rate():
    frames = list(PacedSource(Film(5), fps=4, start_ns=START_NS, perf_ns=late()).frames())
    assert [f.index for f in frames] == list(range(5))
    assert [f.stream_ns for f in frames] == [i * SECOND // 4 for i in range(5)]
    assert all(f.captured_ns == START_NS + f.stream_ns for f in frames)


def test_a_frame_that_is_not_due_waits_and_closing_ends_the_wait():
    film = Film(5)
    source = PacedSource(film, fps=0.001, start_ns=0, perf_ns=lambda: 0)
    came, first = [], threading.Event()

    def read():
        for frame in source.frames():
            came.append(frame.index)
            first.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert first.wait(5)
    source.close()
    thread.join(5)
    assert (came, film.closed, thread.is_alive()) == ([0], True, False)


def test_the_settings_choose_the_pacing():
    settings = SourceSettings(name="road", kind=SourceKind.VIDEO, path=PurePath("x"), realtime_fps=5.0)
    assert isinstance(open_source(settings, 0, now_ns=lambda: 0, runtime=Path()), PacedSource)
