"""The bundle service: verifies candidates and puts the good ones in force. It has no network and no key.

A candidate is a folder: one that somebody brought (`homeplate bundle install FOLDER`), or one in the inbox. A bad one
changes nothing: the bundle in force stays, and the refusal is in the ledger with its name. What a bundle means is
`trust`'s to say; this orders the steps and writes the rows.
"""

import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homeplate.clock import NANOSECONDS
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import StoreError, TrustError
from homeplate.ports import Clock, Ledger
from homeplate.store.ledger import CoalescingLedger, MerkleLog, Value, fit
from homeplate.trust.bundle import Bundle, Candidate, commit_bundle, judge_bundle
from homeplate.trust.metadata import ONLINE_DAYS
from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError, reason_of

POLL_S = 2.0
REPEATED = frozenset({"bundle.refused", "bundle.unchanged"})
_REPEATS_WINDOW_NS = 3600 * NANOSECONDS
# A name that does not begin with a dot: a folder is copied under one that does, and renamed when it is whole.
_CANDIDATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class JudgingClock(Clock, Protocol):
    """Node time that a signed bundle can mend: `clock.SystemClock`."""

    @property
    def quarantine(self) -> object | None:
        """Why node time is refused; None where it is good."""
        ...

    def believe(self, signed_ns: int) -> None:
        """Take a time that a custodian signed."""
        ...


class BundleLog(Ledger):
    """The bundle's log, opened for each row: the service and the command write to it by turns, under one lock."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock

    def append(self, event: str, **fields: Value) -> None:
        """Append a row durably.

        Raises:
            StoreError: where it cannot be written.
        """
        with MerkleLog(self._path, self._clock) as log:
            log.append(event, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look at the inbox came to, in candidates."""

    installed: int = 0
    refused: int = 0


class Bundler:
    """Puts bundles in force. One a node at a time: the service and the command take turns at the bundle's folder."""

    def __init__(self, *, installed: Path, inbox: Path, pseudonym: bytes, clock: JudgingClock, ledger: Ledger) -> None:
        """Compose it.

        Args:
            installed: the node's bundle folder, with its pinned root.
            inbox: where candidates are put, one folder each.
            pseudonym: the node's, 16 bytes.
            clock: node time.
            ledger: the bundle's own log, opened for each row.
        """
        self._installed, self._inbox, self._pseudonym, self._clock = installed, inbox, pseudonym, clock
        self._ledger = CoalescingLedger(ledger, clock, events=REPEATED, window_ns=_REPEATS_WINDOW_NS)
        self._stuck: dict[str, tuple[int, int]] = {}

    def run(self, stop: threading.Event, beat: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Look at the inbox until `stop` is set; `beat` is called after each look (the watchdog's food).

        Raises:
            StoreError: where the ledger cannot be written.
        """
        while not stop.is_set():
            self.look()
            beat()
            stop.wait(poll_s)
        with self._alone():
            self._ledger.flush()

    def look(self) -> Looked:
        """Judge every candidate in the inbox, in the order of their names, and take it out of there.

        Raises:
            ClockError: where node time cannot be told; the candidates stay.
            StoreError: where the ledger cannot be written; the candidate stays.
        """
        installed = refused = 0
        with self._alone():
            for folder in self._candidates():
                try:
                    self._take(folder, "inbox")
                    installed += 1
                except TrustError as error:  # it is in the ledger; the bundle in force stays
                    refused += 1
                    if reason_of(error) == NOT_WRITTEN:
                        continue  # nothing is wrong with the candidate: it waits for a disk that can be written
                self._remove(folder)
        return Looked(installed=installed, refused=refused)

    def take(self, folder: Path) -> Bundle:
        """Put the bundle that a person brought in force, and return it; the folder is left as it is.

        Raises:
            TrustError: where it is not acceptable; what was installed stays in force, and the ledger says why.
            ClockError: where node time cannot be told.
            StoreError: where the ledger cannot be written.
        """
        with self._alone():
            return self._take(folder, "command")

    def note(self, event: str, **fields: Value) -> None:
        """Write a row that belongs to an installation.

        Raises:
            StoreError: where the ledger cannot be written.
        """
        with self._alone():
            self._ledger.append(event, **fields)

    def _take(self, folder: Path, origin: str) -> Bundle:
        now_ns = self._clock.least_ns() if self._clock.quarantine else self._clock.now_ns()
        try:
            candidate = judge_bundle(_real_folder(folder), self._installed, now_ns, pseudonym=self._pseudonym)
            self._commit(candidate, now_ns)
        except TrustError as error:
            # Without the folder's own path: it says nothing of the bundle, and a name that a person gave may hold much.
            text = str(error).replace(f"{folder}/", "").replace(str(folder), "the candidate")
            self._ledger.append("bundle.refused", reason=fit(f"{reason_of(error)}: {text}"), origin=origin)
            raise
        bundle = candidate.bundle
        # A bundle is also a time that the custodian signed: it ends the quarantine of a node that was off for long.
        self._clock.believe((bundle.expires_s - ONLINE_DAYS * DAY_SECONDS) * NANOSECONDS)
        self._ledger.append(
            "bundle.installed" if candidate.files else "bundle.unchanged",
            version=bundle.version,
            root_version=bundle.root_version,
            demo=bundle.demo,
            independent=bundle.independent,
            origin=origin,
        )
        return bundle

    def _commit(self, candidate: Candidate, now_ns: int) -> None:
        if not candidate.files:
            return
        # Before the commit: a bundle that a crash left in force is in the ledger too.
        bundle = candidate.bundle
        self._ledger.append("bundle.installing", version=bundle.version, root_version=bundle.root_version)
        commit_bundle(candidate, self._installed, now_ns)

    def _candidates(self) -> list[Path]:
        try:
            names = sorted(path.name for path in self._inbox.iterdir() if _CANDIDATE.match(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"the inbox {self._inbox} cannot be read: {error.strerror}; check its owner") from error
        return [folder for name in names if (folder := self._inbox / name).is_dir() and not self._is_stuck(folder)]

    def _remove(self, folder: Path) -> None:
        """Take a judged candidate out of the inbox; one that cannot be removed is not judged again until it changes."""
        with suppress(OSError):
            if folder.is_symlink():
                folder.unlink()
            else:
                shutil.rmtree(folder)
            return
        self._stuck[folder.name] = _stamp(folder)

    def _is_stuck(self, folder: Path) -> bool:
        if folder.name in self._stuck and self._stuck[folder.name] == _stamp(folder):
            return True
        self._stuck.pop(folder.name, None)
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for the turn: one writer of the bundle's folder and log at a time."""
        try:
            folder = os.open(self._installed, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StoreError(f"the bundle's folder {self._installed} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _real_folder(folder: Path) -> Path:
    """Return the folder, unless it is a link: what it points to may change while it is read."""
    if folder.is_symlink() or not folder.is_dir():
        raise NamedTrustError("unreadable", f"{folder} is no folder; copy the folder that the custodian published")
    return folder


def _stamp(folder: Path) -> tuple[int, int]:
    with suppress(OSError):
        state = folder.stat()
        return state.st_ino, state.st_mtime_ns
    return 0, 0
