"""The spool: wrapped sealed records as files, written once by capture and read by uplink and purge.

    staging/CLASS/ID.rec   synced, seen by nobody yet: capture's ledger row decides between `release` and `discard`
    CLASS/ID.rec           released: to uplink (outgoing), or kept on the node (local)

A record is staged by file, fsync, fsync of the folder, and released by rename, fsync of both folders. A crash leaves
either a staged file that no row commits (a torn one can only be such) or a committed one; `capture.recover` sorts them.
What the bytes are is `sealing`'s; when a file may go is uplink's and purge's.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from homeplate.domain.record import RECORD_ID_BYTES, RecordId, StorageClass
from homeplate.errors import StoreError

MAX_BLOB_BYTES = (1 << 20) + 4096
_SUFFIX = ".rec"
# Uplink reads and removes outgoing files; nobody but capture's user sees local ones (invariant 3).
_FOLDER_MODES = {StorageClass.LOCAL: 0o700, StorageClass.OUTGOING: 0o770}
_FILE_MODES = {StorageClass.LOCAL: 0o600, StorageClass.OUTGOING: 0o640}


class FileSpool:
    """A spool in a folder; implements `ports.Spool`. Capture alone stages, releases and discards."""

    def __init__(self, root: Path) -> None:
        """Use the spool under `root`; make its folders where they are missing.

        Raises:
            StoreError: where a folder cannot be made.
        """
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / "staging").mkdir(exist_ok=True)
            for storage in StorageClass:
                self._staging(storage).mkdir(mode=0o700, exist_ok=True)
                self._folder(storage).mkdir(mode=_FOLDER_MODES[storage], exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the spool {root} cannot be made: {error.strerror}; check the path and its owner"
            ) from error

    def stage(self, record_id: RecordId, blob: bytes, storage: StorageClass) -> None:
        """Write a record so that it survives a crash once this returns; nobody sees it yet.

        Raises:
            StoreError: where it is too long, already there, or cannot be written; nothing is left behind.
        """
        if len(blob) > MAX_BLOB_BYTES:
            raise StoreError(f"record {record_id} has {len(blob)} bytes, more than the spool takes")
        if self._path(record_id) is not None:
            raise StoreError(f"record {record_id} is in the spool already")
        folder = self._staging(storage)
        path = folder / f"{record_id}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, _FILE_MODES[storage])
        except OSError as error:
            raise StoreError(f"record {record_id} cannot be staged: {error.strerror}; check the disk") from error
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                _write_all(file.fileno(), blob)
                os.fsync(file.fileno())
            _sync_folder(folder)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(f"record {record_id} cannot be staged: {error.strerror}; free some space") from error

    def release(self, record_ids: Iterable[RecordId]) -> None:
        """Show staged records to their class's readers. Idempotent.

        Raises:
            StoreError: where a file can be found neither staged nor released, or cannot be moved.
        """
        touched: set[Path] = set()
        for record_id in record_ids:
            storage = next((s for s in StorageClass if self._staged_path(s, record_id).exists()), None)
            if storage is not None:
                self._move(record_id, storage)
                touched |= {self._staging(storage), self._folder(storage)}
            elif self._path(record_id) is None:
                raise StoreError(f"record {record_id} is neither staged nor released; the spool was tampered with")
        _sync(*touched)

    def staged(self) -> tuple[RecordId, ...]:
        """Return the ids that were staged and neither released nor discarded."""
        return tuple(record_id for storage in StorageClass for _, record_id in _records(self._staging(storage)))

    def discard(self, record_ids: Iterable[RecordId]) -> None:
        """Remove staged records that no ledger row commits; others are left alone.

        Raises:
            StoreError: where a file cannot be removed.
        """
        for record_id in record_ids:
            for storage in StorageClass:
                _remove(self._staged_path(storage, record_id))
        _sync(*(self._staging(storage) for storage in StorageClass))

    def pending(self) -> tuple[RecordId, ...]:
        """Return the ids of released outgoing records, oldest first."""
        return self.released(StorageClass.OUTGOING)

    def released(self, storage: StorageClass) -> tuple[RecordId, ...]:
        """Return the ids of a class's released records, oldest first.

        Raises:
            StoreError: where the folder cannot be read.
        """
        return tuple(record_id for _, record_id in sorted(_records(self._folder(storage))))

    def get(self, record_id: RecordId) -> bytes:
        """Return a released record's bytes as they were staged.

        Raises:
            StoreError: where the file is missing, oversized or unreadable.
        """
        blob = self.peek(record_id, MAX_BLOB_BYTES + 1)
        if len(blob) > MAX_BLOB_BYTES:
            raise StoreError(f"record {record_id} is longer than the spool takes; the spool was tampered with")
        return blob

    def peek(self, record_id: RecordId, size: int) -> bytes:
        """Return the first `size` bytes of a released record: purge needs its slot alone.

        Raises:
            StoreError: where the file is missing or unreadable.
        """
        path = self._path(record_id)
        if path is None:
            raise StoreError(f"record {record_id} is not in the spool")
        try:
            with path.open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise StoreError(f"record {record_id} cannot be read: {error.strerror}") from error

    def remove(self, record_id: RecordId) -> None:
        """Forget a released record's file; a missing one is fine.

        Raises:
            StoreError: where the file cannot be removed.
        """
        path = self._path(record_id)
        if path is not None:
            _remove(path)
            _sync(path.parent)

    def _staging(self, storage: StorageClass) -> Path:
        return self._root / "staging" / storage.value

    def _folder(self, storage: StorageClass) -> Path:
        return self._root / storage.value

    def _staged_path(self, storage: StorageClass, record_id: RecordId) -> Path:
        return self._staging(storage) / f"{record_id}{_SUFFIX}"

    def _path(self, record_id: RecordId) -> Path | None:
        """Return where a released record is. A class's folder that this user may not enter counts as empty."""
        paths = (self._folder(storage) / f"{record_id}{_SUFFIX}" for storage in StorageClass)
        return next((path for path in paths if os.path.lexists(path)), None)

    def _move(self, record_id: RecordId, storage: StorageClass) -> None:
        path = self._staged_path(storage, record_id)
        try:
            path.rename(self._folder(storage) / path.name)
        except OSError as error:
            raise StoreError(f"record {record_id} cannot be released: {error.strerror}") from error


def _records(folder: Path) -> Iterator[tuple[int, RecordId]]:
    """Yield time of writing and id of each record in a folder; a file of another name is not ours and stays."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise StoreError(f"the spool's folder {folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        stem = entry.name.removesuffix(_SUFFIX)
        if entry.name == stem or len(stem) != 2 * RECORD_ID_BYTES or not set(stem) <= set("0123456789abcdef"):
            continue
        try:
            yield entry.stat(follow_symlinks=False).st_mtime_ns, RecordId(bytes.fromhex(stem))
        except FileNotFoundError:  # delivered or purged since the folder was listed
            continue


def _write_all(descriptor: int, data: bytes) -> None:
    """Write everything: one write may take less where the disk is nearly full."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be removed: {error.strerror}") from error


def _sync(*folders: Path) -> None:
    """Make names in these folders durable.

    Raises:
        StoreError: where a folder cannot be synced.
    """
    for folder in folders:
        try:
            _sync_folder(folder)
        except OSError as error:
            raise StoreError(f"{folder} cannot be synced: {error.strerror}; check the disk") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
