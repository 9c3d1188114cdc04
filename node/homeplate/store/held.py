"""Held records: copies of stored records under the key of a hold, in a folder of the hold's own.

    held/lock                one writer at a time: applying, or ending
    held/ID/RECORD.rec       wrapped under the hold's key; the original stays in the spool, under its own slot
    held/ID/hold.txt         the signed hold, written last: what lacks it never came into force
    held/ID/release.txt      the signed release: the hold is over, its key goes at the next purge

What the bytes are and whose signature counts is others' affair; the hold's key is a slot of `sealing.slots`.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeplate.domain.record import RECORD_ID_BYTES, RecordId
from homeplate.errors import StoreError
from homeplate.store.checkpoints import write_durably
from homeplate.store.spool import MAX_BLOB_BYTES

_HOLD, _RELEASE, _LOCK, _SUFFIX = "hold.txt", "release.txt", "lock", ".rec"
_MAX_DOCUMENT_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{32}")


class HeldRecords:
    """The folder of all holds. Its files are its owner's alone; uplink reads none of them."""

    def __init__(self, root: Path) -> None:
        """Use `root`; make it where it is missing.

        Raises:
            StoreError: where it cannot be made.
        """
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{root} cannot be made: {error.strerror}; check its owner") from error

    @contextmanager
    def locked(self, *, wait: bool) -> Iterator[bool]:
        """Keep other writers out; yields False where another has it and `wait` is False.

        Raises:
            StoreError: where the lock cannot be opened.
        """
        try:
            lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self._root / _LOCK} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(lock)

    def holds(self) -> tuple[bytes, ...]:
        """Return the ids of all folders, in force or not.

        Raises:
            StoreError: where the folder cannot be read.
        """
        try:
            names = sorted(path.name for path in self._root.iterdir())
        except OSError as error:
            raise StoreError(f"{self._root} cannot be read: {error.strerror}") from error
        return tuple(bytes.fromhex(name) for name in names if _ID.fullmatch(name))

    def document(self, hold_id: bytes) -> bytes | None:
        """Return the signed hold, at most a byte over its bound; None where it never came into force."""
        return _read(self._folder(hold_id) / _HOLD, _MAX_DOCUMENT_BYTES + 1)

    def is_released(self, hold_id: bytes) -> bool:
        """Tell whether a release was written down."""
        return (self._folder(hold_id) / _RELEASE).exists()

    def begin(self, hold_id: bytes) -> None:
        """Make a hold's folder, durably.

        Raises:
            StoreError: where it cannot be made.
        """
        try:
            self._folder(hold_id).mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self._root)
        except OSError as error:
            raise StoreError(f"{self._folder(hold_id)} cannot be made: {error.strerror}; free some space") from error

    def put(self, hold_id: bytes, record_id: RecordId, blob: bytes) -> None:
        """Write a held record, durably; one that is there is replaced.

        Raises:
            StoreError: where it cannot be written.
        """
        write_durably(self._folder(hold_id) / f"{record_id}{_SUFFIX}", blob)

    def commit(self, hold_id: bytes, document: bytes) -> None:
        """Write the signed hold: it is in force once this returns.

        Raises:
            StoreError: where it cannot be written.
        """
        write_durably(self._folder(hold_id) / _HOLD, document)

    def release(self, hold_id: bytes, document: bytes) -> None:
        """Write the signed release: purge destroys the hold's key from now on.

        Raises:
            StoreError: where it cannot be written.
        """
        write_durably(self._folder(hold_id) / _RELEASE, document)

    def records(self, hold_id: bytes) -> tuple[RecordId, ...]:
        """Return the ids of a hold's records.

        Raises:
            StoreError: where the folder cannot be read.
        """
        try:
            names = sorted(path.name for path in self._folder(hold_id).iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(f"{self._folder(hold_id)} cannot be read: {error.strerror}") from error
        stems = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        return tuple(RecordId(bytes.fromhex(stem)) for stem in stems if _is_record(stem))

    def get(self, hold_id: bytes, record_id: RecordId) -> bytes:
        """Return a held record's bytes.

        Raises:
            StoreError: where it is missing, oversized or unreadable.
        """
        blob = _read(self._folder(hold_id) / f"{record_id}{_SUFFIX}", MAX_BLOB_BYTES + 1)
        if blob is None or len(blob) > MAX_BLOB_BYTES:
            raise StoreError(f"held record {record_id} is missing or too long; the folder was tampered with")
        return blob

    def forget(self, hold_id: bytes) -> int:
        """Remove a hold's folder; return how many records were in it. The documents go last.

        Raises:
            StoreError: where something cannot be removed.
        """
        folder = self._folder(hold_id)
        try:
            paths = sorted(folder.iterdir(), key=lambda path: (path.name in {_HOLD, _RELEASE}, path.name))
            for path in paths:
                path.unlink(missing_ok=True)
            folder.rmdir()
            _sync_folder(self._root)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError(f"{folder} cannot be removed: {error.strerror}; look what lies in it") from error
        return sum(path.suffix == _SUFFIX for path in paths)

    def _folder(self, hold_id: bytes) -> Path:
        return self._root / hold_id.hex()


def _is_record(stem: str) -> bool:
    return len(stem) == 2 * RECORD_ID_BYTES and set(stem) <= set("0123456789abcdef")


def _read(path: Path, size: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
