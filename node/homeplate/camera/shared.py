"""A network camera's pictures in memory that two processes share: its grabber writes them, capture reads them.

A file on a memory-backed file system with two slots, written in turn; the newest picture wins. Capture trusts nothing
in it: it reads with `pread`, since a file that somebody cuts short would kill a process that has it mapped, and it
checks every size before it looks at a pixel. A slot's number is odd while it is written: the reader tries again.
"""

import fcntl
import os
import stat
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.live import TAKE_S, Picture
from homeplate.camera.planes import Layout, PixelFormat, Planes, to_bgr
from homeplate.clock import boot_ns, perf_ns

SECOND = 1_000_000_000
MAGIC = b"HPFRAME1"
SLOTS = 2
SLOT_BYTES = 16 * 1024 * 1024
"""The largest picture (4096x2304 has 14 MB); what is never written takes up no memory."""
_HEAD = struct.Struct("<8sIIqQ")
_SLOT = struct.Struct("<QqIIII")
HEAD_ROOM = 64
FILE_BYTES = SLOTS * (HEAD_ROOM + SLOT_BYTES) + HEAD_ROOM
POLL_S = 0.004
"""How often capture looks for a new picture: a 64-byte read."""
SILENT_NS = 30 * SECOND
"""A grabber that has said nothing for so long does not run."""


class State(IntEnum):
    """What a grabber says of its camera."""

    STARTING = 0
    RUNNING = 1
    UNREACHABLE = 2
    UNAUTHORIZED = 3
    FORMAT = 4
    STALLED = 5
    REFUSED = 6
    SOFTWARE = 7


_REASONS: dict[int, tuple[Reason, str]] = {
    State.UNREACHABLE: (Reason.UNREACHABLE, "the camera cannot be reached; check its cable and address"),
    State.UNAUTHORIZED: (Reason.UNAUTHORIZED, "the camera refuses user or password"),
    State.FORMAT: (Reason.FORMAT, "the camera's stream cannot be decoded"),
    State.REFUSED: (Reason.REFUSED, "the camera refuses the stream"),
    State.SOFTWARE: (Reason.SOFTWARE, "the grabber lacks GStreamer or one of its plugins"),
}
_BY_REASON = {reason: State(state) for state, (reason, _) in _REASONS.items()} | {Reason.STALLED: State.STALLED}
_PIXELS = (PixelFormat.I420, PixelFormat.NV12)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The file's head: the grabber's state, when it last wrote, and how many pictures there have been."""

    state: int
    told_ns: int
    count: int


def frames_path(runtime: Path, source: str) -> Path:
    """Return where the pictures of a network camera lie."""
    return runtime / "frames" / f"{source}.frames"


def state_of(reason: Reason) -> State:
    """Return what a grabber says after a failure."""
    return _BY_REASON.get(reason, State.UNREACHABLE)


class FrameWriter:
    """The grabber's end. One writer a file."""

    def __init__(self, source: str, path: Path) -> None:
        """Open the file, or make it (readable by its folder's group).

        Raises:
            SourceError: the folder is missing, not ours, or another grabber has the file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.open(path, flags, 0o640)
        except OSError as error:
            what = f"{path}: {error.strerror}; systemd-tmpfiles makes its folder, for the grabber's user"
            raise SourceError(source, Reason.GRABBER, what) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(self._file, 0o640)
            os.ftruncate(self._file, FILE_BYTES)
        except OSError as error:
            os.close(self._file)
            raise SourceError(source, Reason.GRABBER, f"{path}: {error.strerror}; does another grabber run?") from error
        # Numbers go on after a restart, so that capture sees the next picture as a new one.
        head = _read_head(self._file)
        self._count = head.count if head is not None else 0
        self.tell(State.STARTING)

    def write(self, picture: Planes) -> None:
        """Put the next picture in place of the one before the last.

        Raises:
            ValueError: it is too large.
        """
        layout = picture.layout
        if layout.size > SLOT_BYTES:
            raise ValueError(f"a picture of {layout.width}x{layout.height} is too large; choose a smaller stream")
        at = _slot_at(self._count)
        taken_ns = boot_ns() - picture.age_ns
        shape = (layout.width, layout.height, layout.stride, _PIXELS.index(layout.pixels))
        os.pwrite(self._file, _SLOT.pack(2 * self._count + 1, taken_ns, *shape), at)
        _write_all(self._file, picture.data[: layout.size], at + HEAD_ROOM)
        os.pwrite(self._file, _SLOT.pack(2 * self._count + 2, taken_ns, *shape), at)
        self._count += 1
        self.tell(State.RUNNING)

    def tell(self, state: State) -> None:
        """Say how the camera is."""
        os.pwrite(self._file, _HEAD.pack(MAGIC, state, 0, boot_ns(), self._count), 0)

    def close(self) -> None:
        """Let the file go; it stays, with the last pictures, until the power does."""
        os.close(self._file)


class FrameFile:
    """Capture's end; implements `live.Camera`."""

    def __init__(self, source: str, path: Path) -> None:
        """Open the file.

        Raises:
            SourceError: no grabber made one.
        """
        self._source = source
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            what = f"{path}: {error.strerror}; does `homeplate grab {source}` run?"
            raise SourceError(source, Reason.GRABBER, what) from error
        head = _read_head(self._file) if stat.S_ISREG(os.fstat(self._file).st_mode) else None
        if head is None:
            os.close(self._file)
            raise SourceError(source, Reason.GRABBER, f"{path} is no grabber's file; remove it and start the grabber")
        self._seen = head.count

    def take(self) -> Picture:
        """Wait for a picture that was not there before.

        Raises:
            SourceError: none came; the reason is the grabber's where it has one.
        """
        until_ns = perf_ns() + int(TAKE_S * SECOND)
        while perf_ns() < until_ns:
            head = self._head()
            if head.count != self._seen and head.count:
                picture = self._read(head.count)
                if picture is not None:
                    self._seen = head.count
                    return picture
            time.sleep(POLL_S)
        raise self._why(self._head())

    def state(self) -> State:
        """Return what the grabber says of its camera: that it starts, or runs.

        Raises:
            SourceError: it says that something is wrong, or says nothing any more.
        """
        head = self._head()
        if _is_silent(head) or head.state not in {State.STARTING, State.RUNNING}:
            raise self._why(head)
        return State(head.state)

    def close(self) -> None:
        """Let the file go."""
        os.close(self._file)

    def _head(self) -> _Head:
        head = _read_head(self._file)
        if head is None:
            raise self._error(Reason.GRABBER, "the grabber's file was cut short; restart the grabber")
        return head

    def _read(self, count: int) -> Picture | None:
        """Return the picture with this number; None where its slot is being written again."""
        at = _slot_at(count - 1)
        before = os.pread(self._file, _SLOT.size, at)
        if len(before) < _SLOT.size:
            raise self._error(Reason.GRABBER, "the grabber's file was cut short; restart the grabber")
        number, taken_ns, *shape = _SLOT.unpack(before)
        if number != 2 * count:
            return None
        try:
            layout = _layout(*shape)
        except ValueError as error:
            raise self._error(Reason.FORMAT, f"the grabber's picture is none of ours ({error}); restart it") from error
        data = np.empty(layout.size, np.uint8)
        if os.preadv(self._file, [data.data], at + HEAD_ROOM) < layout.size:
            raise self._error(Reason.GRABBER, "the grabber's file was cut short; restart the grabber")
        if os.pread(self._file, _SLOT.size, at) != before:
            return None
        return Picture(image=to_bgr(data, layout), age_ns=boot_ns() - taken_ns)

    def _why(self, head: _Head) -> SourceError:
        if _is_silent(head):
            return self._error(Reason.GRABBER, f"its grabber says nothing; does `homeplate grab {self._source}` run?")
        unknown = (Reason.STALLED, f"no picture for {TAKE_S:g} s; see the grabber's log")
        return self._error(*_REASONS.get(head.state, unknown))

    def _error(self, reason: Reason, what: str) -> SourceError:
        return SourceError(self._source, reason, what)


def _is_silent(head: _Head) -> bool:
    """Tell whether a grabber has ended: it told nothing lately, or at a time that has not been since this start."""
    return not 0 <= boot_ns() - head.told_ns <= SILENT_NS


def _layout(width: int, height: int, stride: int, pixels: int) -> Layout:
    """Return where a slot's pixels lie.

    Raises:
        ValueError: no picture that fits into a slot looks so.
    """
    if pixels >= len(_PIXELS):
        raise ValueError(f"pixel format {pixels}")
    layout = Layout(width=width, height=height, stride=stride, pixels=_PIXELS[pixels])
    if layout.size > SLOT_BYTES:
        raise ValueError(f"{layout.size} bytes")
    return layout


def _slot_at(number: int) -> int:
    return HEAD_ROOM + number % SLOTS * (HEAD_ROOM + SLOT_BYTES)


def _read_head(file: int) -> _Head | None:
    raw = os.pread(file, _HEAD.size, 0)
    if len(raw) < _HEAD.size:
        return None
    magic, state, _, told_ns, count = _HEAD.unpack(raw)
    return _Head(state=state, told_ns=told_ns, count=count) if magic == MAGIC else None


def _write_all(file: int, data: NDArray[np.uint8], at: int) -> None:
    view = np.ascontiguousarray(data).data
    while view:
        done = os.pwrite(file, view, at)
        view, at = view[done:], at + done
