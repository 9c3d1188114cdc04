"""The inbox of the bundle service: how a candidate is put in whole, and how the one who waits for it hears the verdict.

A candidate is a folder, or one file `NAME.bundle` (`packed`). One file is what another user can leave here and the
service can take out: it owns the inbox, and needs no right to the file but to read it.
"""

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec

from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.errors import StoreError, TrustError
from homeplate.trust.files import Files, FolderFiles, read_bounded, sync_folder, write_durably
from homeplate.trust.packed import MAX_PACKED_BYTES, SUFFIX, unpack
from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError

ANSWER_S = 60.0
"""Much longer than a look at the inbox, a judgement and an application of rules together."""

# A name that does not begin with a dot: what is being written is under one that does, and renamed when it is whole.
_CANDIDATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_HANDED_IN = re.compile(r"install-[0-9a-f]{16}\Z")
_LEFT_OVER = re.compile(r"\.{1,2}install-[0-9a-f]{16}\.(part|answer)(\.new)?\Z")
_MAX_ANSWER_BYTES = 16 * 1024


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What became of a candidate that somebody waits for: its refusal, or the version of the bundle in force."""

    refusal: Annotated[str, msgspec.Meta(max_length=_MAX_ANSWER_BYTES // 4)] | None = None
    version: int = 0


def candidates(inbox: Path) -> list[Path]:
    """Return what lies in the inbox to be judged, in the order of the names; none where there is no inbox.

    Raises:
        StoreError: where it cannot be read.
    """
    try:
        found = sorted(path for path in inbox.iterdir() if _CANDIDATE.match(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"the inbox {inbox} cannot be read: {error.strerror}; check its owner") from error
    return [path for path in found if path.suffix == SUFFIX or path.is_dir()]


def files_of(candidate: Path) -> Files:
    """Return a candidate's files.

    Raises:
        NamedTrustError: where it is a link (what it points to may change while it is read), or is no bundle.
    """
    if candidate.is_dir() and not candidate.is_symlink():
        return FolderFiles(candidate)
    if candidate.suffix == SUFFIX:
        return unpack(read_bounded(candidate, MAX_PACKED_BYTES))
    raise NamedTrustError("unreadable", f"{candidate} is no folder; copy the folder that the custodian published")


def hand_in(inbox: Path, packed: bytes, name: str) -> None:
    """Put a packed bundle into the inbox, whole and readable by the service, as `name` (without its suffix).

    Raises:
        TrustError: where it cannot be written.
    """
    part = inbox / f".{name}.part"
    write_durably(part, packed)
    try:
        part.chmod(0o644)
        part.rename(inbox / f"{name}{SUFFIX}")
        sync_folder(inbox)
    except OSError as error:
        message = f"the inbox {inbox} cannot be written: {error.strerror}; run this as root or as the service's user"
        raise NamedTrustError(NOT_WRITTEN, message) from error


def await_answer(inbox: Path, name: str, wait_s: float = ANSWER_S) -> int:
    """Wait until what was handed in as `install-` and 16 hexadecimal digits is in force; return the bundle's version.

    Raises:
        TrustError: where the service refused it, with its reason, or does not answer.
    """
    path, pause = inbox / f".{name}.answer", threading.Event()
    until = perf_ns() + int(wait_s * NANOSECONDS)
    while not path.exists():
        if perf_ns() > until:
            message = "the bundle service did not answer in time; `homeplate ledger show bundle` says what it does"
            raise NamedTrustError("no-answer", message)
        pause.wait(0.05)
    try:
        found = msgspec.json.decode(read_bounded(path, _MAX_ANSWER_BYTES), type=Answer)
    except msgspec.MsgspecError as error:
        raise NamedTrustError("no-answer", f"{path} is no answer; see `homeplate ledger show bundle`") from error
    with suppress(OSError):  # the service removes what is left when it starts
        path.unlink()
    if found.refusal is not None:
        raise TrustError(found.refusal)
    return found.version


def withdraw(inbox: Path, name: str) -> None:
    """Take back what was handed in, where it is still there."""
    with suppress(OSError):
        (inbox / f"{name}{SUFFIX}").unlink(missing_ok=True)


def is_handed_in(candidate: Path) -> bool:
    """Tell whether a person waits for the verdict on this candidate; uplink's user cannot pass for one by a name."""
    if candidate.suffix != SUFFIX or not _HANDED_IN.match(candidate.stem):
        return False
    with suppress(OSError):
        return candidate.lstat().st_uid in {0, os.geteuid()}
    return False


def answer(candidate: Path, outcome: int | str) -> None:
    """Tell whoever waits for it what became of a candidate: the bundle's version, or the refusal.

    Raises:
        TrustError: where it cannot be written.
    """
    found = Answer(refusal=outcome[: _MAX_ANSWER_BYTES // 4]) if isinstance(outcome, str) else Answer(version=outcome)
    write_durably(candidate.with_name(f".{candidate.stem}.answer"), msgspec.json.encode(found))


@contextmanager
def serving(inbox: Path) -> Iterator[None]:
    """Hold the inbox as its service while the context lasts; what an interrupted command left there is removed.

    Raises:
        StoreError: where another service holds it, or it cannot be opened.
    """
    descriptor = _opened(inbox)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another bundle service looks after {inbox}; a node has one") from error
        with suppress(OSError):
            for path in inbox.iterdir():
                if _LEFT_OVER.match(path.name):
                    path.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def is_served(inbox: Path) -> bool:
    """Tell whether a bundle service looks after the inbox at this moment.

    Raises:
        StoreError: where the inbox is there and cannot be opened.
    """
    if not inbox.exists():
        return False
    descriptor = _opened(inbox)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _opened(inbox: Path) -> int:
    try:
        return os.open(inbox, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"the inbox {inbox} cannot be opened: {error.strerror}; check its owner") from error
