"""Reading with a bound and writing so that a power cut leaves the old file or the new one, never half of one."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError


class Files(Protocol):
    """A bundle's files by their names in its folder, wherever they lie."""

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a file of this name."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes, `limit` at most.

        Raises:
            TrustError: where it is missing, unreadable or longer.
        """
        ...


class FolderFiles:
    """`Files` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __contains__(self, name: object) -> bool:
        """Tell whether something of this name is in the folder."""
        return isinstance(name, str) and (self._folder / name).exists()

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes; see `read_bounded`."""
        return read_bounded(self._folder / name, limit)


def missing(name: object) -> NamedTrustError:
    """Return the refusal of a bundle without this file."""
    return NamedTrustError("missing", f"{name} is missing; copy the whole folder that the custodian published")


def too_large(name: object, limit: int) -> NamedTrustError:
    """Return the refusal of what is longer than `limit` bytes."""
    return NamedTrustError(
        "too-large", f"{name} is larger than the {limit} bytes that it may have; it was not read further"
    )


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a regular file's bytes.

    Args:
        path: the file; a link or a pipe is refused (a pipe would block for ever).
        limit: the most bytes that it may have; judged before anything parses them.

    Raises:
        TrustError: where it is missing, unreadable, no regular file, or longer than `limit`.
    """
    try:
        data = read_at_most(path, limit + 1)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise NamedTrustError("unreadable", f"{path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise too_large(path, limit)
    return data


def read_at_most(path: Path, size: int) -> bytes:
    """Return the first `size` bytes of a regular file.

    Raises:
        OSError: where it cannot be read.
        TrustError: where it is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NamedTrustError("unreadable", f"{path} is no regular file; copy the bundle's folder anew")
        return file.read(size)


def write_durably(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data`: temporary file, fsync, rename, fsync of the folder.

    Raises:
        TrustError: where it cannot be written; the old file, if any, is untouched.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        make_folder(path.parent)
        with suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}; free some space or check its owner"
        raise NamedTrustError(NOT_WRITTEN, message) from error


def make_folder(folder: Path) -> None:
    """Make a folder with those above it so that a power cut after this leaves it there.

    Raises:
        OSError: where it cannot be made or synced.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut.

    Raises:
        OSError: where the folder cannot be opened or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
