"""A camera that is opened again and again. It decides when one counts as lost; how one is opened is others' affair.

A driver's call may never return, so each opening has a thread of its own that hands over its newest picture. Where none
comes in time the thread is told to end and the camera is opened anew, later each time; while a thread hangs in the
driver, no second one is begun, and nothing is said: the watchdog then ends a process whose only camera it was.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.exposure import captured_ns
from homeplate.camera.masks import apply_masks
from homeplate.domain.passage import CameraChange, ChangeKind, Frame, Image
from homeplate.domain.source import SourceSettings

SECOND = 1_000_000_000
FIRST_S, TAKE_S = 18.0, 4.0
"""How long a camera's own `take` waits, for the first picture and for the others, seconds: less than `Patience` says,
because the camera knows why none came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a camera is waited for, seconds.

    Attributes:
        opening: until the first picture (an IMX708 with its tuning takes 2 s, a Jetson's daemon 5 s).
        stall: until the next one.
        backoff: before the second attempt to open it; doubles with each.
        backoff_most: and no longer than this: the service's watchdog hears of every attempt.
        steady: after so long without a loss the first attempt is made at once again.
    """

    opening: float = 20.0
    stall: float = 5.0
    backoff: float = 1.0
    backoff_most: float = 15.0
    steady: float = 60.0


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What a camera hands over.

    Attributes:
        image: [H, W, 3] BGR, memory of its own.
        grey: the same small and grey, [h, w], memory of its own; None: the camera makes none.
        age_ns: nanoseconds since it was taken.
    """

    image: Image = field(repr=False)
    grey: Image | None = field(repr=False, default=None)
    age_ns: int = 0


class Camera(Protocol):
    """A camera that is open. One thread uses it."""

    def take(self) -> Picture:
        """Wait for the next picture.

        Raises:
            SourceError: the camera has none, or breaks off.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


class LiveSource:
    """Implements `ports.LiveSource` for one camera."""

    def __init__(
        self,
        settings: SourceSettings,
        open_camera: Callable[[], Camera],
        *,
        now_ns: Callable[[], int],
        perf_ns: Callable[[], int],
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        """Name the camera; nothing is opened yet.

        Args:
            settings: what the configuration says.
            open_camera: opens it; may raise SourceError.
            now_ns: node time.
            perf_ns: a counter of nanoseconds, by which a loss is dated.
            patience: how long it is waited for.
        """
        self._settings, self._open_camera = settings, open_camera
        self._now_ns, self._perf_ns, self._patience = now_ns, perf_ns, patience
        self._closing = threading.Event()
        self._session: _Session | None = None
        self._index = 0
        self._first_ns: int | None = None
        self._last_ns = 0

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._settings.name

    def frames(self) -> Iterator[Frame | CameraChange]:
        """Yield frames until it is closed; each failure of the camera, and that it came back, in between."""
        failures = attempts = 0
        while not self._closing.is_set():
            begun_ns, lost = self._perf_ns(), failures > 0
            try:
                for frame in self._attempt():
                    if lost:
                        yield self._change(ChangeKind.BACK, attempts)
                        lost, attempts = False, 0
                    yield frame
            except SourceError as error:
                yield self._change(ChangeKind.LOST, attempts, error)
            attempts += 1
            steady = self._perf_ns() - begun_ns >= self._patience.steady * SECOND and not lost
            failures = 1 if steady else failures + 1
            self._wait(failures)
        if self._session is not None:
            self._session.ended(CLOSE_S)

    def close(self) -> None:
        """End `frames`, also while it waits."""
        self._closing.set()
        if (session := self._session) is not None:
            session.stop()

    def _attempt(self) -> Iterator[Frame]:
        """Open the camera once and yield what it takes until it is lost or this source is closed."""
        session = self._session = _Session(self.name, self._open_camera)
        try:
            wait_s = self._patience.opening
            while not self._closing.is_set() and (picture := session.next(wait_s)) is not None:
                self._index += session.missed()
                yield self._frame(picture)
                wait_s = self._patience.stall
        finally:
            session.stop()

    def _wait(self, failures: int) -> None:
        """Wait before the next attempt, and for as long as the last one hangs in the driver."""
        doubled = self._patience.backoff * 2 ** min(failures - 1, 16)
        self._closing.wait(min(doubled, self._patience.backoff_most))
        while self._session is not None and not self._closing.is_set() and not self._session.ended(WAKE_S):
            pass

    def _frame(self, picture: Picture) -> Frame:
        taken_ns = captured_ns(self._now_ns(), picture.age_ns)
        self._first_ns = taken_ns if self._first_ns is None else self._first_ns
        taken_ns = max(taken_ns, self._last_ns + 1, self._first_ns)
        self._last_ns = taken_ns
        apply_masks(picture.image, self._settings.masks)
        if picture.grey is not None:
            apply_masks(picture.grey, self._settings.masks)
        frame = Frame(
            source=self.name,
            index=self._index,
            stream_ns=taken_ns - self._first_ns,
            captured_ns=taken_ns,
            image=picture.image,
            grey=picture.grey,
        )
        self._index += 1
        return frame

    def _change(self, kind: ChangeKind, attempts: int, error: SourceError | None = None) -> CameraChange:
        reason, message = (error.reason.value, str(error)) if error else ("", "")
        return CameraChange(source=self.name, kind=kind, attempts=attempts, reason=reason, message=message)


WAKE_S = 0.2
"""How often a waiting thread looks whether it should stop."""
CLOSE_S = 1.5
"""How long a camera may take to be closed at the end; one that hangs is left to the end of the process."""


class _Session:
    """One opening of a camera, and the thread that it has."""

    def __init__(self, name: str, open_camera: Callable[[], Camera]) -> None:
        self._name, self._open_camera = name, open_camera
        self._change = threading.Condition()
        self._picture: Picture | None = None
        self._missed = 0
        self._error: Exception | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}", daemon=True)
        self._thread.start()

    def next(self, wait_s: float) -> Picture | None:
        """Return the newest picture, or None where the session was stopped.

        Raises:
            SourceError: the camera broke off, or none came in time.
            Exception: a bug in its thread.
        """
        with self._change:
            over = lambda: self._picture or self._error or self._stopping  # noqa: E731
            if not self._change.wait_for(over, wait_s):
                what = f"no picture for {wait_s:g} s; check the cable and the camera's power"
                raise SourceError(self._name, Reason.STALLED, what)
            picture, self._picture = self._picture, None
            if picture is None and self._error is not None:
                raise self._error
            return picture

    def missed(self) -> int:
        """Return how many pictures were replaced before they were asked for, since the last time."""
        with self._change:
            missed, self._missed = self._missed, 0
            return missed

    def stop(self) -> None:
        """Tell the thread to close the camera; it may hang."""
        with self._change:
            self._stopping = True
            self._change.notify_all()

    def ended(self, wait_s: float) -> bool:
        """Tell whether the thread is at its end, after waiting for it."""
        self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            camera = self._open_camera()
            try:
                while self._put(camera.take()):
                    pass
            finally:
                camera.close()
        except Exception as error:  # noqa: BLE001 - a thread's top: `next` raises it
            with self._change:
                self._error = error
                self._change.notify_all()

    def _put(self, picture: Picture) -> bool:
        with self._change:
            self._missed += self._picture is not None
            self._picture = picture
            self._change.notify_all()
            return not self._stopping
