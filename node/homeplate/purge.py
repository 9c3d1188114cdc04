"""Purge: destroys the keys of expired slots, then the files whose slot is gone, and leaves a certificate.

It needs neither capture nor uplink, and both may run. Keys go first, because their destruction is the deletion; a full
disk, a broken ledger or a quarantined clock does not stop it. Each slot is a row of the purge log before its key goes,
so a purge that was killed is finished, and its keys are counted, by the next one. What is due is `policy.retention`'s.
A purge by hand destroys more, before its time; it must stand in the log with who and why first, else nothing happens.

A hold's key ends at its expiry, at its release, or where it never came into force; the copies under it go too.
Staged files are capture's: they are ciphertext under the same slots, and it discards or releases them when it starts.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from homeplate.clock import NANOSECONDS, Quarantine
from homeplate.domain.hold import hold_of, hold_rule
from homeplate.domain.purging import ByHand
from homeplate.domain.record import RecordId, SlotId, StorageClass
from homeplate.errors import ConfigError, HomeplateError, SealingError, StoreError, TrustError
from homeplate.policy.retention import expired
from homeplate.sealing.slots import SlotInfo, SlotStore, slot_of
from homeplate.store.certificates import PURGE_DONE, Certificate, certificate_of, certificate_path, write_certificate
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import Line, MerkleLog, Value
from homeplate.trust.hold import read_hold

SLOT_EXPIRED = "slot.expired"
SLOT_EARLY = "slot.ended-by-hand"
BY_HAND = "purge.by-hand"
HOLD_ENDED = "hold.ended"
QUARANTINED = "clock.quarantined"
MARK_DAMAGED = "clock.mark-damaged"
STEPPED = "clock.stepped"

# How often a purge that finds nothing due looks through all files, says so in the log, and repeats the clock's alarm.
IDLE_S = 3600
# A wall clock is said to have been set where it moved so far against node time; a power cut moves it up to the clock's
# reserve (90 s) behind.
STEP_S = 120

_HEAD_BYTES = 256  # of a stored record: more than its slot needs, less than any whole one has

T = TypeVar("T")


class PurgeClock(Protocol):
    """The clock as purge needs it: `clock.SystemClock`, or a simulation's."""

    @property
    def quarantine(self) -> Quarantine | None:
        """Why node time is refused; None where it is good."""
        ...

    @property
    def damaged(self) -> Sequence[str]:
        """The names of damaged clock marks; the least time then counts without them."""
        ...

    def least_ns(self) -> int:
        """Return the node time that has certainly passed."""
        ...

    def wall_ahead_ns(self) -> int:
        """Return how far the wall clock is ahead of node time."""
        ...


class PurgeSpool(Protocol):
    """The spool as purge needs it: `store.spool.FileSpool`."""

    def released(self, storage: StorageClass) -> Sequence[RecordId]:
        """Return the ids of a class's released records."""
        ...

    def peek(self, record_id: RecordId, size: int) -> bytes:
        """Return the first bytes of a released record."""
        ...

    def remove(self, record_id: RecordId) -> None:
        """Forget a released record's file."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What holds keep: their keys, open for writing, and the copies under them."""

    keys: SlotStore
    records: HeldRecords


def purge(
    *,
    clock: PurgeClock,
    stores: Mapping[StorageClass, SlotStore],
    spool: PurgeSpool,
    open_ledger: Callable[[], MerkleLog],
    certificates: Path,
    held: Held | None = None,
    unopened: HomeplateError | None = None,
    by_hand: ByHand | None = None,
) -> Certificate:
    """Purge once; return its certificate, or the last one where nothing was due and that is less than `IDLE_S` old.

    Idempotent; killed at any moment and run again, it ends in the same state.

    Args:
        clock: its least time decides, so a quarantined clock neither lengthens a life nor ends one early.
        stores: the slot keys of each class, open for writing.
        spool: the records under them.
        open_ledger: opens the purge log, late: one that does not open stops no destruction.
        certificates: folder of the certificates.
        held: what holds keep; None where it could not be opened.
        unopened: why a class is missing from `stores`, or `held` is; raised at the end, instead of a certificate.
        by_hand: what a person destroys before its time; never what holds keep.

    Raises:
        HomeplateError: what went wrong first, after all was destroyed that could be.
        ConfigError, StoreError: `by_hand` names nothing that lives, or cannot be written down; nothing was destroyed.
    """
    now_s = clock.least_ns() // NANOSECONDS
    problems = _Problems(unopened)
    with ExitStack() as stack:
        journal = stack.enter_context(closing(_Journal(open_ledger, certificates)))
        holds = _Holds(held, problems, stack)
        names = _released(spool, stores, problems)
        _destroy(stores, holds, journal, problems, by_hand=by_hand, now_s=now_s)
        journal.alarm(clock, now_s)
        if journal.idle(now_s) and not problems.first:
            return journal.repeat()
        left = [info for store in stores.values() for info in store.live()]
        files = _remove_files(spool, names, {info.slot for info in left}, problems)
        copies = holds.forget_ended()
        problems.end()
        return journal.finish(now_s, files, left, copies)


def _released(
    spool: PurgeSpool, classes: Iterable[StorageClass], problems: "_Problems"
) -> dict[StorageClass, Sequence[RecordId]]:
    """Return the files of each class, before slots are read: a file whose slot is then not there had it destroyed.

    The other way round, a record that capture releases in between would be taken for an orphan.
    """
    nothing: Sequence[RecordId] = ()
    return {storage: problems.catch(partial(spool.released, storage), nothing) for storage in classes}


def _destroy(
    stores: Mapping[StorageClass, SlotStore],
    holds: "_Holds",
    journal: "_Journal",
    problems: "_Problems",
    *,
    by_hand: ByHand | None,
    now_s: int,
) -> None:
    """Destroy the keys of what is over and of what a person ends; the ledger says which before they go."""
    early = journal.early(by_hand, [info for store in stores.values() for info in _not_over(store.live(), now_s)])
    due = {storage: _due(store.live(), now_s, early) for storage, store in stores.items()}
    ending = holds.ending(now_s)
    journal.announce(due, early)
    journal.announce_holds(ending)
    for storage, infos in due.items():
        problems.catch(partial(stores[storage].destroy, [info.slot for info in infos]), 0)
    holds.destroy(ending)


def _remove_files(
    spool: PurgeSpool,
    names: Mapping[StorageClass, Sequence[RecordId]],
    slots: Collection[SlotId],
    problems: "_Problems",
) -> dict[StorageClass, "_Files"]:
    """Remove the files that no living key opens any more; return what was removed and left, by class."""
    return {
        storage: problems.catch(partial(_remove_orphans, spool, storage, ids, slots), _Files())
        for storage, ids in names.items()
    }


class _Problems:
    """Remembers the first error, so that one class's failure does not keep the other's keys alive."""

    def __init__(self, first: HomeplateError | None) -> None:
        self.first = first

    def catch(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except (SealingError, StoreError) as error:
            self.first = self.first or error
            return otherwise

    def end(self) -> None:
        """Raise the first error, where there was one."""
        if self.first:
            raise self.first


def _due(live: Sequence[SlotInfo], now_s: int, early: Collection[str]) -> list[SlotInfo]:
    left = _not_over(live, now_s)
    return [info for info in live if info not in left or str(info.slot) in early]


def _not_over(live: Sequence[SlotInfo], now_s: int) -> list[SlotInfo]:
    over = expired({info.slot: (info.rule, info.expiry_s) for info in live}, now_s)
    return [info for info in live if info.slot not in over]


@dataclass(slots=True, kw_only=True)
class _Files:
    """What became of one class's files whose slot is gone."""

    removed: int = 0
    malformed: int = 0
    unreadable: int = 0


def _remove_orphans(
    spool: PurgeSpool, storage: StorageClass, ids: Sequence[RecordId], live: Collection[SlotId]
) -> _Files:
    """Remove the files whose slot's key is gone; one that names no slot can be opened by nobody and goes too."""
    files, unread = _Files(), set()
    for record_id in ids:
        try:
            if slot_of(spool.peek(record_id, _HEAD_BYTES)) in live:
                continue
        except SealingError:
            files.malformed += 1
        except StoreError:
            unread.add(record_id)
            continue
        spool.remove(record_id)
        files.removed += 1
    if unread:  # what uplink delivered since the listing is gone, the rest cannot be read
        files.unreadable = len(unread.intersection(spool.released(storage)))
    return files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """A hold whose key goes now, and why."""

    info: SlotInfo
    case: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copies:
    """What holds keep after a purge, and what it took away."""

    removed: int = 0
    left: int = 0
    cases: tuple[str, ...] = ()


class _Holds:
    """The holds as purge sees them. Who is applying one right now has the lock: then only what is over goes."""

    def __init__(self, held: Held | None, problems: _Problems, stack: ExitStack) -> None:
        self._held, self._problems = held, problems
        self._alone = held is not None and problems.catch(
            lambda: stack.enter_context(held.records.locked(wait=False)), otherwise=False
        )

    def ending(self, now_s: int) -> list[_Ending]:
        """Return the holds whose key has to go: expired, released, or never in force."""
        if self._held is None:
            return []
        found = [(info, self._why(self._held, info, now_s)) for info in self._held.keys.live()]
        return [_Ending(info=info, case=self._case(info) or "", reason=why) for info, why in found if why]

    def destroy(self, ending: Sequence[_Ending]) -> None:
        """Overwrite their keys."""
        if self._held is not None:
            self._problems.catch(partial(self._held.keys.destroy, [each.info.slot for each in ending]), 0)

    def forget_ended(self) -> _Copies:
        """Remove the copies whose hold's key is gone; return what went and what is left."""
        held = self._held
        if held is None:
            return _Copies()
        live = {info.rule: info for info in held.keys.live()}
        no_holds: tuple[bytes, ...] = ()
        no_records: tuple[RecordId, ...] = ()
        folders = self._problems.catch(held.records.holds, no_holds)
        over = [hold_id for hold_id in folders if hold_rule(hold_id) not in live] if self._alone else []
        removed = sum([self._problems.catch(partial(held.records.forget, hold_id), 0) for hold_id in over])
        cases = {hold_of(rule): self._case(info) for rule, info in live.items()}
        kept = {hold_id: case for hold_id, case in cases.items() if case is not None}
        counts = [len(self._problems.catch(partial(held.records.records, hold_id), no_records)) for hold_id in kept]
        return _Copies(removed=removed, left=sum(counts), cases=tuple(sorted(kept.values())))

    def _why(self, held: Held, info: SlotInfo, now_s: int) -> str:
        hold_id = hold_of(info.rule)
        if expired({info.slot: (info.rule, info.expiry_s)}, now_s):
            return "expired"
        if held.records.is_released(hold_id):
            return "released"
        return "unfinished" if self._alone and self._case(info) is None else ""

    def _case(self, info: SlotInfo) -> str | None:
        """Return a hold's case number; None where it never came into force."""
        assert self._held is not None
        unread: bytes | None = b""
        document = self._problems.catch(partial(self._held.records.document, hold_of(info.rule)), unread)
        if document is None:
            return None
        try:
            return read_hold(document)[0].case
        except TrustError:
            return "unreadable"  # the key tells when it ends all the same


@dataclass(slots=True, kw_only=True)
class _History:
    """What the purge log tells: the last finished purge, the slots announced since it, what lacks its certificate.

    `early` are those of `announced` that a person ends before their time, `alarms_s` when an alarm was said last,
    `wall_ahead_s` how far the wall clock was ahead of node time when that was said last.
    """

    done: Line | None = None
    announced: set[str] = field(default_factory=set)
    early: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    lacking: list[Line] = field(default_factory=list)
    alarms_s: dict[str, int] = field(default_factory=dict)
    wall_ahead_s: int = 0


class _Journal:
    """The purge log and the certificates. What cannot be said now is said at the end: files are gone, there is room."""

    def __init__(self, open_ledger: Callable[[], MerkleLog], certificates: Path) -> None:
        self._certificates = certificates
        self._history = _History()
        self._unsaid: list[tuple[str, dict[str, Value]]] = []
        self._resumed = False
        self._log: MerkleLog | StoreError
        try:
            self._log = open_ledger()
            self._remember(self._log)
        except StoreError as error:
            self._log = error

    def close(self) -> None:
        if isinstance(self._log, MerkleLog):
            self._log.close()

    def early(self, by_hand: ByHand | None, live: Sequence[SlotInfo]) -> set[str]:
        """Return which of the live slots that are not over end now, once it is written down who ends them and why.

        Those that a killed purge announced belong to them: what was said is done.

        Raises:
            ConfigError: where nothing lives that is named.
            StoreError: where it cannot be written: nobody destroys evidence without a trace.
        """
        left = set(self._history.early)
        if by_hand is None:
            return left
        named = {str(info.slot) for info in live if by_hand.names(info.rule)}
        if not named:
            raise ConfigError(f"no record of {by_hand.rule or 'any rule'} is here: nothing to destroy before its time")
        if isinstance(self._log, StoreError):
            raise self._log
        what = {"who": by_hand.who, "why": by_hand.why.value, "reference": by_hand.reference}
        self._log.append(BY_HAND, **what, rule=by_hand.rule or "*", slots=len(named))
        return left | named

    def announce(self, due: Mapping[StorageClass, Sequence[SlotInfo]], early: Collection[str]) -> None:
        """Say which slots end, once a slot, before they do."""
        self._resumed = bool(self._history.announced)
        for storage, info in ((storage, info) for storage, infos in due.items() for info in infos):
            slot = str(info.slot)
            if slot not in self._history.announced:
                event = SLOT_EARLY if slot in early else SLOT_EXPIRED
                self._say(event, slot=slot, rule=info.rule, storage=str(storage), expiry_s=info.expiry_s)
                self._history.announced.add(slot)
                if event == SLOT_EARLY:
                    self._history.early.add(slot)

    def announce_holds(self, ending: Sequence[_Ending]) -> None:
        """Say which holds end and why, once a hold, before they do."""
        self._resumed = self._resumed or bool(self._history.ended)
        for each in ending:
            slot = str(each.info.slot)
            if slot not in self._history.ended:
                self._say(
                    HOLD_ENDED,
                    slot=slot,
                    hold=hold_of(each.info.rule).hex(),
                    case=each.case,
                    reason=each.reason,
                    expiry_s=each.info.expiry_s,
                )
                self._history.ended.add(slot)

    def idle(self, now_s: int) -> bool:
        """Tell whether nothing is due, nothing was left unfinished, and it was said not long ago."""
        done = self._history.done
        nothing = not self._history.announced and not self._history.ended and not self._unsaid
        return nothing and done is not None and now_s - _seconds(done) < IDLE_S

    def repeat(self) -> Certificate:
        """Return the last certificate; write those that a crash kept from being written."""
        self._certify()
        assert self._history.done is not None
        return certificate_of(self._history.done)

    def alarm(self, clock: PurgeClock, now_s: int) -> None:
        """Say that node time is quarantined or marks are damaged, once in `IDLE_S`, and each clock step."""
        if quarantine := clock.quarantine:
            fields = {
                "mark_s": quarantine.mark_s,
                "wall_s": quarantine.wall_s,
                "step_s": quarantine.step_s,
                "unconfirmed_s": quarantine.unconfirmed_s,
            }
            self._alarm(QUARANTINED, now_s, fields)
        if clock.damaged:
            self._alarm(MARK_DAMAGED, now_s, {"marks": ",".join(clock.damaged), "least_s": now_s})
        if not clock.quarantine and not clock.damaged:
            self._note_step(clock.wall_ahead_ns() // NANOSECONDS)

    def _note_step(self, ahead_s: int) -> None:
        """Say that somebody set the wall clock, once a step; node time did not follow it within this boot."""
        step_s = ahead_s - self._history.wall_ahead_s
        if abs(step_s) >= STEP_S:
            self._say(STEPPED, step_s=step_s, wall_ahead_s=ahead_s)
            self._history.wall_ahead_s = ahead_s

    def _alarm(self, event: str, now_s: int, fields: Mapping[str, Value]) -> None:
        last = self._history.alarms_s.get(event)
        if last is None or now_s - last >= IDLE_S:
            self._say(event, **fields)

    def finish(
        self, now_s: int, files: Mapping[StorageClass, _Files], left: Sequence[SlotInfo], copies: _Copies
    ) -> Certificate:
        """Write the row of a finished purge and its certificate.

        Raises:
            StoreError: where the log or the certificate cannot be written.
        """
        oldest = {"oldest_expiry_s": min(info.expiry_s for info in left)} if left else {}
        self._say(
            PURGE_DONE,
            purged_at_s=now_s,
            keys_destroyed=len(self._history.announced) + len(self._history.ended),
            outgoing_files=files[StorageClass.OUTGOING].removed,
            local_files=files[StorageClass.LOCAL].removed,
            malformed_files=sum(each.malformed for each in files.values()),
            unreadable_files=sum(each.unreadable for each in files.values()),
            keys_destroyed_early=len(self._history.early),
            keys_left=len(left),
            resumed=self._resumed,
            holds=len(copies.cases),
            held_records=copies.left,
            held_cases=",".join(copies.cases),
            holds_ended=len(self._history.ended),
            held_files=copies.removed,
            **oldest,
        )
        done = self._settle()
        self._history.lacking.append(done)
        self._certify()
        return certificate_of(done)

    def _remember(self, log: MerkleLog) -> None:
        history = self._history
        for line in log.lines():
            if line.row.event == PURGE_DONE:
                history.done, history.announced, history.early, history.ended = line, set(), set(), set()
                if not certificate_path(self._certificates, line.row.number).exists():
                    history.lacking.append(line)
            elif line.row.event in {SLOT_EXPIRED, SLOT_EARLY}:
                history.announced.add(str(line.row.fields["slot"]))
                if line.row.event == SLOT_EARLY:
                    history.early.add(str(line.row.fields["slot"]))
            elif line.row.event == HOLD_ENDED:
                history.ended.add(str(line.row.fields["slot"]))
            elif line.row.event in {QUARANTINED, MARK_DAMAGED}:
                history.alarms_s[line.row.event] = _seconds(line)
            elif line.row.event == STEPPED:
                history.wall_ahead_s = int(line.row.fields["wall_ahead_s"])

    def _say(self, event: str, **fields: Value) -> None:
        if isinstance(self._log, MerkleLog) and not self._unsaid:
            with suppress(StoreError):  # `_settle` tries again and raises
                self._log.append(event, **fields)
                return
        self._unsaid.append((event, fields))

    def _settle(self) -> Line:
        """Write what could not be written; return the last row."""
        if isinstance(self._log, StoreError):
            raise self._log
        for event, fields in self._unsaid:
            self._log.append(event, **fields)
        self._unsaid.clear()
        assert self._log.last is not None
        return self._log.last

    def _certify(self) -> None:
        for line in self._history.lacking:
            write_certificate(certificate_of(line), self._certificates)
        self._history.lacking.clear()


def _seconds(line: Line) -> int:
    return line.row.time_ns // NANOSECONDS
