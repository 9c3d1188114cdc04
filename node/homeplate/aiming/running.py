"""Looks at the sources of one node: a thread a source reads frames, the caller's thread looks at them.

What was seen in the last seconds is kept as figures; a frame is forgotten once it was looked at. For a preview a small
copy waits in `blackout` and leaves as a JPEG without its plates.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from homeplate.aiming.advice import Seen
from homeplate.aiming.blackout import Blackout, Shot
from homeplate.aiming.overlay import draw
from homeplate.aiming.preview import Preview
from homeplate.camera.mailbox import Mailbox, Mailboxes
from homeplate.domain.geometry import Box, inside
from homeplate.domain.passage import CameraChange, ChangeKind, Detection, Frame
from homeplate.domain.source import LIVE_KINDS, SourceSettings
from homeplate.ports import LiveSource, PlateDetector
from homeplate.vision.quality import Light, PlateLook, light_of, plate_look

SECOND = 1_000_000_000
WINDOW_NS = 10 * SECOND
"""What the figures are of: a car or two on a quiet road, and soon what the technician changed."""
MOST_LOOKS = 600
"""Looks that are kept of a source."""
RATE_NS = 3 * SECOND
"""What rates are of."""
PREVIEW_WIDTH = 480
"""Pixels: a plate that nobody claims is rarely legible at this size (docs/aim.md)."""
PREVIEW_NS = SECOND // 5
"""Least time between two pictures of a preview."""
QUALITY = 70
EDGE = 0.005
"""As in the pipeline: a plate this near to the picture's edge is cut off there."""
JOIN_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Eye:
    """One source with what looks at it.

    Attributes:
        capture: finds plates as capture does, down to the preview's scores.
        whole: looks at the whole picture in the same way; None where `capture` does.
        believed: the score from which capture believes it.
    """

    source: LiveSource
    settings: SourceSettings
    capture: PlateDetector
    whole: PlateDetector | None
    believed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    at_ns: int
    plates: tuple[PlateLook, ...]
    cut_off: int
    outside: int


@dataclass(slots=True, kw_only=True)
class _State:
    looks: deque[_Look] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))
    came: deque[int] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))
    frame: tuple[int, int] | None = None
    light: Light | None = None
    said: str | None = None
    broken: bool = False
    blackout: Blackout = field(default_factory=Blackout)
    shown_ns: int | None = None


class Aim:
    """Runs until its sources end or it is told to stop.

    Args:
        eyes: the sources; names are unique.
        preview: where pictures go; None for none.
        perf_ns: a counter of nanoseconds.
    """

    def __init__(self, eyes: Sequence[Eye], *, preview: Preview | None, perf_ns: Callable[[], int]) -> None:
        self._eyes: Mapping[str, Eye] = {eye.source.name: eye for eye in eyes}
        self._preview, self._perf_ns = preview, perf_ns
        self._states = {name: _State() for name in self._eyes}
        self._lock = threading.Lock()
        restarting = frozenset(name for name, eye in self._eyes.items() if eye.settings.kind in LIVE_KINDS)
        self._mail = Mailboxes([(name, True) for name in self._eyes], perf_ns=perf_ns, restarting=restarting)
        self._closing = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Look at frames until every source has ended or `stop` is set.

        Raises:
            ModelError: a model cannot be run.
        """
        threads = [
            threading.Thread(target=self._read, args=(eye,), name=f"source-{name}", daemon=True)
            for name, eye in self._eyes.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while (item := self._mail.take(stop)) is not None:
                if isinstance(item, Frame):
                    self.look(item)
                elif isinstance(item, CameraChange):
                    self._changed(item)
                else:
                    self._ended(item)
        finally:
            self._closing.set()
            self._mail.close()
            for eye in self._eyes.values():
                eye.source.close()
            for thread in threads:
                thread.join(JOIN_S)

    @property
    def broken(self) -> bool:
        """Whether a source ended before its time."""
        return any(state.broken for state in self._states.values())

    def seen(self) -> list[Seen]:
        """Return what was seen of each source lately; any thread may ask."""
        with self._lock:
            return [self._seen(name) for name in self._eyes]

    def look(self, frame: Frame) -> None:
        """Look at one frame."""
        eye, now = self._eyes[frame.source], self._perf_ns()
        claimed = eye.capture.detect(frame.image)
        look = _look(frame, [one for one in claimed if one.score >= eye.believed], eye.settings, now)
        light = light_of(frame.image)
        height, width = frame.image.shape[:2]
        with self._lock:
            state = self._states[frame.source]
            state.looks.append(look)
            state.frame, state.light = (width, height), light
            while state.looks[0].at_ns < now - WINDOW_NS:
                state.looks.popleft()
        if self._preview is not None and not self._preview.over:
            self._picture(self._preview, eye, frame, claimed)

    def _picture(self, preview: Preview, eye: Eye, frame: Frame, claimed: Sequence[Detection]) -> None:
        """Put a small copy of a frame where it waits for what comes after; show what is due."""
        everywhere = [*claimed, *(eye.whole.detect(frame.image) if eye.whole is not None else ())]
        shot = shot_of(frame, everywhere, eye.believed, eye.settings)
        state = self._states[frame.source]
        for due in state.blackout.put(shot):
            if state.shown_ns is not None and 0 <= due.at_ns - state.shown_ns < PREVIEW_NS:
                continue
            state.shown_ns = due.at_ns
            with self._lock:
                seen = self._seen(frame.source)
            draw(due, seen, eye.settings.region)
            coded = cv2.imencode(".jpg", due.image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            preview.put(frame.source, coded.tobytes())

    def _read(self, eye: Eye) -> None:
        """Run one source's thread. A file's frames come when they are due; a camera's are due when they come."""
        name = eye.source.name
        try:
            self._mail.begin(name)
            begun: int | None = None
            for frame in eye.source.frames():
                if isinstance(frame, CameraChange):
                    self._mail.tell(frame)
                    continue
                begun = self._perf_ns() if begun is None else begun
                late_ns = begun + frame.stream_ns - self._perf_ns()
                if self._closing.wait(max(0, late_ns) / SECOND):
                    return
                with self._lock:
                    self._states[name].came.append(self._perf_ns())
                if not self._mail.put(frame):
                    return
            self._mail.end(name)
        except Exception as error:  # noqa: BLE001 - a thread's top: what is not ours ends the process in `take`
            self._mail.end(name, error)

    def _changed(self, change: CameraChange) -> None:
        """Say that a camera is lost, and is opened again, or that it came back."""
        with self._lock:
            self._states[change.source].said = change.message if change.kind is ChangeKind.LOST else None

    def _ended(self, box: Mailbox) -> None:
        with self._lock:
            state = self._states[box.name]
            state.said = str(box.error) if box.error else "the source has ended"
            state.broken = box.error is not None

    def _seen(self, name: str) -> Seen:
        state, now = self._states[name], self._perf_ns()
        looks = [look for look in state.looks if look.at_ns >= now - WINDOW_NS]
        return Seen(
            source=name,
            frame=state.frame,
            arriving=_rate(list(state.came), now),
            looked=_rate([look.at_ns for look in looks], now),
            frames=len(looks),
            looks=tuple(plate for look in looks for plate in look.plates),
            cut_off=sum(look.cut_off for look in looks),
            outside=sum(look.outside for look in looks),
            light=state.light,
            minimum_width=self._eyes[name].settings.minimum_plate_width,
            said=state.said,
        )


def _rate(times: Sequence[int], now: int) -> float:
    """Return how many of the times came a second lately; they are in order."""
    lately = [time for time in times if time >= now - RATE_NS]
    if len(lately) < 2:  # noqa: PLR2004 - one time has no rate
        return 0.0
    return (len(lately) - 1) * SECOND / max(1, lately[-1] - lately[0])


def _look(frame: Frame, found: Sequence[Detection], settings: SourceSettings, now: int) -> _Look:
    """Return what is to be said of a frame's plates; those outside the region or cut off are counted only."""
    height, width = frame.image.shape[:2]
    plates, cut_off, outside = [], 0, 0
    for one in found:
        x, y = one.box.centre
        if settings.region is not None and not inside((x / width, y / height), settings.region):
            outside += 1
        elif _at_edge(one.box, width, height):
            cut_off += 1
        elif (plate := plate_look(frame.image, one)) is not None:
            plates.append(plate)
    return _Look(at_ns=now, plates=tuple(plates), cut_off=cut_off, outside=outside)


def _at_edge(box: Box, width: int, height: int) -> bool:
    across, down = EDGE * width, EDGE * height
    return box.left < across or box.top < down or box.right > width - across or box.bottom > height - down


def shot_of(frame: Frame, claimed: Sequence[Detection], believed: float, settings: SourceSettings) -> Shot:
    """Return a frame as the preview has it: a small copy, and the boxes of all that was claimed in it."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, PREVIEW_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8).copy()
    best = sorted(claimed, key=lambda one: -one.score)
    across, down = size[0] / width, size[1] / height
    boxes = [one.box.stretched(across, down) for one in best]
    return Shot(
        at_ns=frame.stream_ns,
        image=small,
        boxes=tuple(boxes),
        shown=tuple(
            (box, one.box.width >= settings.minimum_plate_width)
            for one, box in zip(best, boxes, strict=True)
            if one.score >= believed
        ),
    )
