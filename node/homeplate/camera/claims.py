"""One process a camera: whoever reads a configured source holds a lock on its name, and the next one hears who does.

The lock is the kernel's, on a small file, so a process that is killed holds nothing. What the file says is for people.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeplate.camera.errors import Reason, SourceError
from homeplate.domain.passage import CameraChange, Frame
from homeplate.ports import LiveSource

_MOST_BYTES = 64


class ClaimedSource:
    """Implements `ports.LiveSource`: another source, while nobody else reads it.

    Args:
        source: it is opened once the lock is held.
        folder: where the locks of all sources lie; it is made where it is missing.
        holder: what this process calls itself, for whoever comes second.
    """

    def __init__(self, source: LiveSource, folder: Path, holder: str) -> None:
        self._source, self._folder, self._holder = source, folder, holder

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._source.name

    def frames(self) -> Iterator[Frame | CameraChange]:
        """Yield the source's frames; the lock is held until they end.

        Raises:
            SourceError: another process reads the source, or the lock cannot be made.
            CameraError: what the source raises.
        """
        with claimed(self._folder, self.name, self._holder):
            yield from self._source.frames()

    def close(self) -> None:
        """End `frames`."""
        self._source.close()


@contextmanager
def claimed(folder: Path, name: str, holder: str) -> Iterator[None]:
    """Hold the lock of a source of this name.

    Raises:
        SourceError: `busy` where another process holds it; `unreadable` where its file cannot be made.
    """
    path = folder / f"{name}.lock"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        what = f"its lock {path} cannot be made: {error.strerror}; check the folder's owner"
        raise SourceError(name, Reason.UNREADABLE, what) from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SourceError(name, Reason.BUSY, _busy(os.pread(file, _MOST_BYTES, 0))) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{holder} {os.getpid()}".encode()[:_MOST_BYTES], 0)
        yield
    finally:
        os.close(file)


def _busy(said: bytes) -> str:
    holder, _, pid = said.decode("ascii", errors="replace").partition(" ")
    if not (holder.isalpha() and pid.isdigit()):
        holder, pid = "another process", "unknown"
    return f"is read by {holder} (process {pid}): one process a camera; stop that one first"
