"""Hands frames from the sources' threads to the one vision thread, a slot a source.

A live source never waits: the newest frame takes the slot and the one it replaces is counted as dropped. A file waits
until its frame is taken, so every frame is processed once; files are merged by capture time, so two runs process the
same frames in the same order. Live sources take turns, and live sources and files take turns, so none starves another.
A source that delivers nothing for too long counts as broken and holds up nobody; a camera that is opened again by
itself (`live.LiveSource`) says what becomes of it instead, and goes on.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from homeplate.camera.errors import Reason, SourceError
from homeplate.domain.passage import CameraChange, Frame
from homeplate.errors import HomeplateError

SECOND = 1_000_000_000
STALL_NS = 30 * SECOND
"""A source without a frame for this long is broken: `cv2.VideoCapture.read` can block for ever."""
MOST_CHANGES = 64
"""Changes of one camera that wait to be told; the oldest are forgotten, as where inference takes minutes."""
WAKE_S = 0.2
"""How often a waiting thread looks whether it should stop or a source stalls."""


@dataclass(slots=True, kw_only=True, eq=False)
class Mailbox:
    """One source's slot. Only `Mailboxes` touches it.

    Attributes:
        live: newest wins; else the source waits.
        restarts: it judges its own stalls.
        frame: what waits to be taken.
        overwritten: frames of a live source that were never taken.
        ended: the source delivers no more.
        error: why it ended before its time.
        taken: told what was taken or ended.
        served: turn in which it was last served.
        heard_ns: when it began or last delivered; None before.
    """

    name: str
    live: bool
    restarts: bool = False
    changes: deque[CameraChange] = field(default_factory=lambda: deque(maxlen=MOST_CHANGES))
    frame: Frame | None = field(default=None, repr=False)
    overwritten: int = 0
    ended: bool = False
    error: BaseException | None = None
    taken: bool = False
    served: int = 0
    heard_ns: int | None = None


class Mailboxes:
    """The slots of all sources of one node."""

    def __init__(
        self,
        sources: Sequence[tuple[str, bool]],
        *,
        perf_ns: Callable[[], int],
        restarting: frozenset[str] = frozenset(),
    ) -> None:
        """Make a slot for each (name, live); `perf_ns` judges stalls alone, but those of `restarting` sources."""
        self._boxes = [Mailbox(name=name, live=live, restarts=name in restarting) for name, live in sources]
        self._by_name = {box.name: box for box in self._boxes}
        self._change = threading.Condition()
        self._closed = False
        self._turn = 0
        self._perf_ns = perf_ns

    def put(self, frame: Frame) -> bool:
        """Deliver a frame; a file's thread waits here. Returns False where the source should stop."""
        box = self._by_name[frame.source]
        with self._change:
            box.heard_ns = self._perf_ns()
            while box.frame is not None and not box.live and not self._closed:
                self._change.wait(WAKE_S)
            if self._closed or box.ended:
                return False
            box.overwritten += box.frame is not None
            box.frame = frame
            box.heard_ns = self._perf_ns()
            self._change.notify_all()
            return True

    def wait_free(self, name: str) -> bool:
        """Wait until a file's frame was taken; a frame that is decoded before would only take memory.

        Returns:
            False where the source should stop.
        """
        box = self._by_name[name]
        with self._change:
            while box.frame is not None and not box.live and not self._closed:
                self._change.wait(WAKE_S)
            return not (self._closed or box.ended)

    def begin(self, name: str) -> None:
        """Say that a source is about to deliver: before, it may take its time (to hash a long film)."""
        with self._change:
            self._by_name[name].heard_ns = self._perf_ns()

    def tell(self, change: CameraChange) -> None:
        """Say what became of a camera."""
        with self._change:
            self._by_name[change.source].changes.append(change)
            self._change.notify_all()

    def end(self, name: str, error: BaseException | None = None) -> None:
        """Say that a source delivers no more, and why where it ended before its time."""
        with self._change:
            box = self._by_name[name]
            if not box.ended:
                box.ended, box.error = True, error
            self._change.notify_all()

    def close(self) -> None:
        """Let every waiting thread go; frames not taken are forgotten."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def overwritten(self, name: str) -> int:
        """Return how many frames of a live source were replaced before they were taken."""
        with self._change:
            return self._by_name[name].overwritten

    def take(self, stop: threading.Event) -> Frame | CameraChange | Mailbox | None:
        """Wait for the next frame to process.

        Returns:
            A frame; or what became of a camera, before its next frame; or the mailbox of a source that just ended (each
            once, after its last frame); or None where all have ended or `stop` is set.

        Raises:
            BaseException: what broke a source's thread, where it is not one of ours.
        """
        with self._change:
            while not stop.is_set():
                self._judge_stalls()
                if (told := next((box for box in self._boxes if box.changes), None)) is not None:
                    return told.changes.popleft()
                if (ended := self._next_ended()) is not None:
                    return ended
                if (box := self._next_box()) is not None:
                    return self._serve(box)
                if all(box.taken for box in self._boxes):
                    return None
                self._change.wait(WAKE_S)
            return None

    def _judge_stalls(self) -> None:
        for box in self._boxes:
            if box.restarts or box.ended or box.frame is not None or box.heard_ns is None:
                continue
            if self._perf_ns() - box.heard_ns > STALL_NS:
                box.ended = True
                message = f"no frame for {STALL_NS // SECOND} s; check the medium or the cable"
                box.error = SourceError(box.name, Reason.STALLED, message)

    def _next_ended(self) -> Mailbox | None:
        for box in self._boxes:
            if box.ended and box.frame is None and not box.taken:
                box.taken = True
                if box.error is not None and not isinstance(box.error, HomeplateError):
                    raise box.error
                return box
        return None

    def _next_box(self) -> Mailbox | None:
        live = [box for box in self._boxes if box.live and box.frame is not None]
        files = [box for box in self._boxes if not box.live and not box.taken]
        ready = [(box.frame.captured_ns, n, box) for n, box in enumerate(files) if box.frame is not None]
        choice = [min(live, key=lambda box: box.served)] if live else []
        if ready and len(ready) == len(files):
            choice.append(min(ready, key=lambda entry: entry[:2])[2])
        last = max((box.served for box in files), default=0)
        return min(choice, key=lambda box: box.served if box.live else last, default=None)

    def _serve(self, box: Mailbox) -> Frame:
        frame = box.frame
        assert frame is not None
        self._turn += 1
        box.frame, box.served = None, self._turn
        # The time that the others' inference takes is not this source's stall.
        box.heard_ns = self._perf_ns()
        self._change.notify_all()
        return frame
