"""Plays a file as if it were a camera: frames come when they are due, whether or not anybody takes them."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from homeplate.domain.passage import Frame
from homeplate.ports import FrameSource

SECOND = 1_000_000_000


class PacedSource:
    """Implements `ports.FrameSource`: another source's frames at a rate of its own."""

    def __init__(self, source: FrameSource, *, fps: float, start_ns: int, perf_ns: Callable[[], int]) -> None:
        """Wrap `source`; `start_ns` is node time at the first frame, `perf_ns` counts real nanoseconds."""
        self._source, self._fps, self._start_ns, self._perf_ns = source, fps, start_ns, perf_ns
        self._closing = threading.Event()

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._source.name

    def frames(self) -> Iterator[Frame]:
        """Yield the source's frames, each when it is due, with the times of a camera at this rate.

        Raises:
            CameraError: what the source raises.
        """
        begun_ns = self._perf_ns()
        for number, frame in enumerate(self._source.frames()):
            due_ns = round(number * SECOND / self._fps)
            if self._closing.wait(max(0, begun_ns + due_ns - self._perf_ns()) / SECOND):
                return
            yield replace(frame, stream_ns=due_ns, captured_ns=self._start_ns + due_ns)

    def close(self) -> None:
        """End `frames`, also while it waits."""
        self._closing.set()
        self._source.close()
