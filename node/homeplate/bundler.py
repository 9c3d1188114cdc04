"""The bundle service: verifies candidates and puts the good ones in force. It has no network and no key.

A candidate lies in the inbox, or is a folder that somebody brought where no service runs. A bad one changes nothing:
the bundle in force stays, and the refusal is in the ledger with its name. What a bundle means is `trust`'s to say; this
orders the steps and writes the rows.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ClockError, StoreError, TrustError
from homeplate.policy.egress import Opening, common, nftables, openings, systemd_drop_in
from homeplate.policy.expiry import endings
from homeplate.ports import Clock
from homeplate.store.ledger import CoalescingLedger, MerkleLog, Row, Value, fit, read_rows
from homeplate.trust.bundle import Bundle, Candidate, commit_bundle, judge_bundle
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.inbox import answer, candidates, files_of, is_handed_in, serving
from homeplate.trust.installed import InstalledBundle
from homeplate.trust.metadata import ONLINE_DAYS
from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError, reason_of

POLL_S = 2.0
APPLY_S = 10.0
NOT_APPLIED = "egress-not-applied"
_MAX_RULES_BYTES = 4 * 1024 * 1024
REPEATED = frozenset({"bundle.refused", "bundle.unchanged"})
_REPEATS_WINDOW_NS = 3600 * NANOSECONDS


class JudgingClock(Clock, Protocol):
    """Node time that a signed bundle can mend: `clock.SystemClock`."""

    @property
    def quarantine(self) -> object | None:
        """Why node time is refused; None where it is good."""
        ...

    def believe(self, signed_ns: int) -> None:
        """Take a time that a custodian signed."""
        ...


class BundleLog:
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

    def rows(self) -> Iterator[Row]:
        """Yield the rows that were written so far.

        Raises:
            LedgerError: at the first row that does not verify.
        """
        return read_rows(self._path)


def openings_of(bundle: Bundle, now_s: int) -> frozenset[Opening]:
    """Return what the kernel lets uplink reach under a bundle at `now_s`, seconds since 1970."""
    return openings(
        bundle.registry,
        bundle.allowlist,
        bundle.jurisdiction,
        now_s,
        ends_s=bundle.expires_s,
        unregistered=bundle.unregistered,
    )


class EgressFiles:
    """The kernel's rules as two files, for what applies them with more rights than this process has.

    Where `applied` is there, something applies them: it holds the nftables file that is in force, and is waited for.

    Args:
        folder: `uplink.conf` (systemd) and `uplink.nft` (nftables) are written here.
        applied: a file of what applies them, in a folder of its own: root must not write where this process may.
        user: uplink's, by name or number.
        wait_s: how long a change may take to be applied.
    """

    def __init__(self, folder: Path, *, applied: Path, user: str, wait_s: float = APPLY_S) -> None:
        self._folder, self._applied, self._user, self._wait_s = folder, applied, user, wait_s

    def write(self, opened: frozenset[Opening]) -> bool:
        """Write the rules where they differ from what is there; tell whether they did.

        Raises:
            TrustError: where they cannot be written.
        """
        texts = {"uplink.conf": systemd_drop_in(opened), "uplink.nft": nftables(opened, user=self._user)}
        changed = [name for name, text in texts.items() if self._read(self._folder / name) != text.encode()]
        for name in changed:
            write_durably(self._folder / name, texts[name].encode())
        return bool(changed)

    def await_applied(self) -> None:
        """Wait until the rules that were written are in force.

        Raises:
            NamedTrustError: `egress-not-applied`, where that takes too long.
        """
        until, pause = perf_ns() + int(self._wait_s * NANOSECONDS), threading.Event()
        rules = self._folder / "uplink.nft"
        while (applied := self._read(self._applied)) is not None and applied != self._read(rules):
            if perf_ns() > until:
                message = f"{self._folder}: the rules of uplink.nft were not applied in time; see what applies them"
                raise NamedTrustError(NOT_APPLIED, message)
            pause.wait(0.05)

    @staticmethod
    def _read(path: Path) -> bytes | None:
        with suppress(NamedTrustError):
            return read_bounded(path, _MAX_RULES_BYTES)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look at the inbox came to, in candidates."""

    installed: int = 0
    refused: int = 0


class Bundler:
    """Puts bundles in force. One a node at a time: the service and the command take turns at the bundle's folder."""

    def __init__(
        self,
        *,
        installed: Path,
        inbox: Path,
        egress: EgressFiles,
        pseudonym: bytes,
        clock: JudgingClock,
        ledger: BundleLog,
    ) -> None:
        """Compose it.

        Args:
            installed: the node's bundle folder, with its pinned root.
            inbox: where candidates are put, see `trust.inbox`.
            egress: the kernel's rules for uplink.
            pseudonym: the node's, 16 bytes.
            clock: node time.
            ledger: the bundle's own log, opened for each row.
        """
        self._installed, self._inbox, self._egress = installed, inbox, egress
        self._pseudonym, self._clock = pseudonym, clock
        self._bundle = InstalledBundle(installed)
        self._log = ledger
        self._ledger = CoalescingLedger(ledger, clock, events=REPEATED, window_ns=_REPEATS_WINDOW_NS)
        self._warned: frozenset[tuple[str, str]] | None = None
        self._stuck: dict[str, tuple[int, int]] = {}

    def run(self, stop: threading.Event, beat: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Look at the inbox until `stop` is set; `beat` is called after each look (the watchdog's food).

        Raises:
            StoreError: where the ledger cannot be written, or another service looks after the inbox.
        """
        with serving(self._inbox):
            while not stop.is_set():
                self.look()
                beat()
                stop.wait(poll_s)
            with self._alone():
                self._ledger.flush()

    def look(self) -> Looked:
        """Judge every candidate in the inbox, in the order of their names, and take it out; see that the rules fit.

        Raises:
            ClockError: where node time cannot be told; the candidates stay.
            StoreError: where the ledger cannot be written; the candidate stays.
        """
        installed = refused = 0
        with self._alone():
            for candidate in candidates(self._inbox):
                if self._is_stuck(candidate):
                    continue
                taken = self._settle(candidate)
                installed, refused = installed + taken, refused + (not taken)
            self._refresh()
            self._warn()
        return Looked(installed=installed, refused=refused)

    def _settle(self, candidate: Path) -> bool:
        """Judge a candidate, answer whoever waits, and take it out; tell whether it is in force."""
        refusal, version = None, 0
        try:
            version = self._take(candidate, "command" if is_handed_in(candidate) else "inbox").version
        except TrustError as error:  # it is in the ledger; the bundle in force stays
            refusal = error
        if is_handed_in(candidate):
            with suppress(TrustError):  # the one who waits hears nothing, and looks into the ledger
                answer(candidate, version if refusal is None else _sentence(refusal, candidate))
        elif refusal is not None and reason_of(refusal) in {NOT_WRITTEN, NOT_APPLIED}:
            return False  # nothing is wrong with the candidate: it waits until the machine is mended
        self._remove(candidate)
        return refusal is None

    def take(self, folder: Path) -> Bundle:
        """Put the bundle that a person brought in force, and return it; the folder is left as it is.

        Raises:
            TrustError: where it is not acceptable; what was installed stays in force, and the ledger says why.
            ClockError: where node time cannot be told.
            StoreError: where the ledger cannot be written.
        """
        with self._alone():
            bundle = self._take(folder, "command")
            self._refresh()
            self._warn()
            return bundle

    def note(self, event: str, **fields: Value) -> None:
        """Write a row that belongs to an installation.

        Raises:
            StoreError: where the ledger cannot be written.
        """
        with self._alone():
            self._ledger.append(event, **fields)

    def _take(self, source: Path, origin: str) -> Bundle:
        now_ns = self._clock.least_ns() if self._clock.quarantine else self._clock.now_ns()
        try:
            candidate = judge_bundle(files_of(source), self._installed, now_ns, pseudonym=self._pseudonym)
            self._commit(candidate, now_ns)
        except TrustError as error:
            self._ledger.append("bundle.refused", reason=fit(_sentence(error, source)), origin=origin)
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
        now_s = now_ns // NANOSECONDS
        wanted = openings_of(bundle, now_s)
        # What the new bundle does not name is closed before it is in force, what only it names is opened after.
        if self._egress.write(common(self._open_now(), wanted)):
            self._egress.await_applied()
        commit_bundle(candidate, self._installed, now_ns)

    def _refresh(self) -> None:
        """Write the rules of the bundle in force at this moment: what lapses is closed here."""
        opened = self._open_now()
        if self._egress.write(opened):
            self._ledger.append("egress.changed", openings=len(opened))

    def _warn(self) -> None:
        """Write a row where something begins to end soon; once each, over restarts too."""
        with suppress(TrustError, ClockError):
            now_ns = self._clock.now_ns()
            bundle = self._bundle(now_ns)
            if self._warned is None:
                rows = [row.fields for row in self._log.rows() if row.event == "bundle.ending"]
                self._warned = frozenset((str(row["what"]), str(row["ends"])) for row in rows)
            current = endings(bundle.ends_s, bundle.allowlist, now_ns // NANOSECONDS)
            for ending in current:
                if (ending.what, ending.day) not in self._warned:
                    self._ledger.append("bundle.ending", what=ending.what, ends=ending.day)
            self._warned |= {(ending.what, ending.day) for ending in current}

    def _open_now(self) -> frozenset[Opening]:
        """Return what the bundle in force opens; nothing where there is none, or no time that can be believed."""
        with suppress(TrustError, ClockError):
            now_ns = self._clock.now_ns()
            return openings_of(self._bundle(now_ns), now_ns // NANOSECONDS)
        return frozenset()

    def _remove(self, candidate: Path) -> None:
        """Take a judged candidate out of the inbox; one that cannot be removed is not judged again until it changes."""
        with suppress(OSError):
            if candidate.is_dir() and not candidate.is_symlink():
                shutil.rmtree(candidate)
            else:
                candidate.unlink()
            return
        self._stuck[candidate.name] = _stamp(candidate)

    def _is_stuck(self, candidate: Path) -> bool:
        if candidate.name in self._stuck and self._stuck[candidate.name] == _stamp(candidate):
            return True
        self._stuck.pop(candidate.name, None)
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


def _sentence(error: TrustError, source: Path) -> str:
    """Return a refusal as the ledger has it: its name, and a sentence without the candidate's own path.

    The path says nothing of the bundle, and a name that a person gave may hold much.
    """
    text = str(error).replace(f"{source}/", "").replace(str(source), "the candidate")
    return f"{reason_of(error)}: {text}"


def _stamp(candidate: Path) -> tuple[int, int]:
    with suppress(OSError):
        state = candidate.lstat()
        return state.st_ino, state.st_mtime_ns
    return 0, 0
