"""A process's own log of what it did, as a Merkle log: one JSON line a row, durable when `append` returns.

A row holds ids, counts, recipients and reasons, never a plate. Its leaf is SHA-256(0x00 || salt || row) (RFC 6962), so
that a public export can withhold a row and still verify; each line also carries the root after it, so that the first
bad row can be named. Signatures over roots are `checkpoints`' affair. One writer a file.
"""

import fcntl
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from homeplate.errors import ClockError, LedgerError, StoreError
from homeplate.ports import Clock, Ledger
from homeplate.store.merkle import HASH_BYTES, Frontier, leaf_hash

SALT_BYTES = 16
MAXIMUM_LINE_BYTES = 16_384
MAXIMUM_TEXT = 4_096
MAXIMUM_FIELDS = 24

Value = str | int | bool

_EVENT = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_INTEGER = range(-(2**63), 2**63)
_CHUNK = 1 << 16
MAXIMUM_REASON = 400


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row. Attributes: number from 1; node time in nanoseconds since 1970; dotted event name; its fields."""

    number: int
    time_ns: int
    event: str
    fields: dict[str, Value]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A row as stored: with its salt and the root after it, both hexadecimal."""

    root: str
    row: Row
    salt: str


class Withheld(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an export shows of a row that it withholds: its leaf hash, number, and the root after it."""

    leaf: str
    number: int
    root: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """The first row that does not verify (its number, from 1) and why."""

    number: int
    reason: str


class _BadRowError(LedgerError):
    """Carries a `BadRow` out of the reading loop."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(f"row {bad.number}: {bad.reason}")
        self.bad = bad


@dataclass(slots=True, kw_only=True)
class Scan:
    """What reading a log showed: its tree, good rows' time, and the first bad row, if any.

    Attributes:
        frontier: the tree over the good rows.
        time_ns: time of the last good row, 0 where there is none.
        end: bytes of the file that hold whole lines.
        tail: bytes after the last whole line (a torn append).
        bad: the first bad row; nothing after it was read.
        points: root and time after each asked-for size (see `scan`).
        withheld: how many rows an export withholds.
        last: the last good line that is not withheld.
    """

    frontier: Frontier = field(default_factory=Frontier)
    time_ns: int = 0
    end: int = 0
    tail: int = 0
    bad: BadRow | None = None
    points: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    withheld: int = 0
    last: Line | None = None


def leaf_of(row: Row, salt: bytes) -> bytes:
    """Return a row's leaf hash: SHA-256(0x00 || salt || canonical JSON of the row)."""
    return leaf_hash(salt + msgspec.json.encode(row, order="sorted"))


def scan(
    path: Path,
    sizes: Iterable[int] = (),
    visit: Callable[[Line], None] | None = None,
    *,
    exported: bool = False,
    end: int | None = None,
) -> Scan:
    """Read a log from its start and check every row: form, number, order in time, running root.

    Args:
        path: the log; a missing file is an empty log.
        sizes: tree sizes whose roots are wanted in `Scan.points`.
        visit: called with each good line.
        exported: True where rows may be withheld; in a node's own log that is a bad row.
        end: how many bytes to read; None reads all.

    Raises:
        StoreError: where the file cannot be read.
    """
    wanted, result = set(sizes), Scan()
    if 0 in wanted:
        result.points[0] = (result.frontier.root(), 0)
    try:
        for raw in _lines(path, result, end):
            line = _check(raw, result, exported=exported)
            result.end += len(raw) + 1
            if result.frontier.size in wanted:
                result.points[result.frontier.size] = (result.frontier.root(), result.time_ns)
            if visit and isinstance(line, Line):
                visit(line)
    except _BadRowError as error:
        result.bad = error.bad
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be read: {error.strerror}") from error
    return result


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the rows of a log with salt and root, also while its process appends.

    Raises:
        LedgerError: at the first bad row, which it names.
        StoreError: where the file cannot be read.
    """
    state = Scan()
    try:
        for raw in _lines(path, state):
            line = _check(raw, state, exported=False)
            if isinstance(line, Line):
                yield line
    except _BadRowError as error:
        raise LedgerError(f"ledger {path.name}, {error}") from error
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be read: {error.strerror}") from error


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a log; see `read_lines`."""
    return (line.row for line in read_lines(path))


def export(lines: Iterable[Line], withhold: Callable[[Row], bool]) -> Iterator[bytes]:
    """Yield a log's lines for the public, those that `withhold` names as leaf hashes; the roots stay as signed.

    Each hash covers 128 random bits of salt, so that nobody finds a withheld row by trying.
    """
    for line in lines:
        shown: Line | Withheld = line
        if withhold(line.row):
            leaf = leaf_of(line.row, bytes.fromhex(line.salt)).hex()
            shown = Withheld(leaf=leaf, number=line.row.number, root=line.root)
        yield msgspec.json.encode(shown, order="sorted") + b"\n"


def _lines(path: Path, state: Scan, end: int | None = None) -> Iterator[bytes]:
    """Yield whole lines without their newline; what follows the last newline is counted in `state.tail`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        rest, left = b"", sys.maxsize if end is None else end
        while chunk := file.read(min(_CHUNK, left)):
            left -= len(chunk)
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if len(rest) > MAXIMUM_LINE_BYTES:
                raise _BadRowError(BadRow(number=state.frontier.size + 1, reason="the line is too long"))
    state.tail = len(rest)


def _check(raw: bytes, state: Scan, *, exported: bool) -> Line | Withheld:
    """Return the line, with its leaf added to the tree; one accepted encoding, so that no byte goes unchecked."""
    number = state.frontier.size + 1
    line, leaf = _decode(raw, number, exported=exported)
    shown = line.row.number if isinstance(line, Line) else line.number
    if shown != number:
        raise _BadRowError(BadRow(number=number, reason=f"row {shown} stands in its place"))
    if isinstance(line, Line) and line.row.time_ns < state.time_ns:
        raise _BadRowError(BadRow(number=number, reason="its time is before the row above"))
    grown = state.frontier.copy()
    grown.append(leaf)
    if grown.root().hex() != line.root:
        raise _BadRowError(BadRow(number=number, reason="its running root does not match: it or its order was changed"))
    state.frontier = grown
    if isinstance(line, Line):
        state.time_ns, state.last = line.row.time_ns, line
    else:
        state.withheld += 1
    return line


def _decode(raw: bytes, number: int, *, exported: bool) -> tuple[Line | Withheld, bytes]:
    """Return a line and its leaf hash."""
    line: Line | Withheld
    try:
        if exported and raw.startswith(b'{"leaf":'):
            line = msgspec.json.decode(raw, type=Withheld)
            hexadecimal, leaf = line.leaf, bytes.fromhex(line.leaf)
            sound = len(leaf) == HASH_BYTES
        else:
            line = msgspec.json.decode(raw, type=Line)
            hexadecimal, salt = line.salt, bytes.fromhex(line.salt)
            sound, leaf = len(salt) == SALT_BYTES, leaf_of(line.row, salt)
        canonical = msgspec.json.encode(line, order="sorted")
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise _BadRowError(BadRow(number=number, reason="the line is no ledger row")) from error
    if len(raw) > MAXIMUM_LINE_BYTES or not sound:
        raise _BadRowError(BadRow(number=number, reason="the line has a wrong length"))
    if canonical != raw or bytes.fromhex(hexadecimal).hex() != hexadecimal:
        raise _BadRowError(BadRow(number=number, reason="the line is not in canonical form"))
    return line, leaf


class MerkleLog:
    """The log of one process, held open and locked until `close`; its threads may share it.

    A torn last line (power cut, kill) is cut off at opening, and a row `ledger.recovered` says so: its append never
    returned, so nothing that was acknowledged is lost.

    Args:
        path: the log, made where it is missing.
        clock: node time; in quarantine a row bears the time that has certainly passed.
        salt: random bytes a row; without its salt a withheld row cannot be guessed from its hash.

    Raises:
        StoreError: where the file cannot be opened, or another process has it.
        LedgerError: where a row does not verify; the message names the first.
    """

    def __init__(self, path: Path, clock: Clock, salt: Callable[[int], bytes] = os.urandom) -> None:
        self._path, self._clock, self._salt = path, clock, salt
        self._broken = False
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"the ledger {path} cannot be opened: {error.strerror}") from error
        try:
            self._open()
        except BaseException:
            os.close(self._file)
            raise

    def _open(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"the ledger {self._path} has a writer already: stop the other process first") from error
        state = scan(self._path)
        if state.bad:
            raise LedgerError(
                f"ledger {self._path.name}, row {state.bad.number}: {state.bad.reason}; keep the ledger folder for the"
                " auditor, then move it away to start a new one"
            )
        self._frontier, self._last, self._end = state.frontier, state.last, state.end
        if state.tail:
            self._cut()
            self.append("ledger.recovered", bytes_cut=state.tail)
        self._sync_folder()

    @property
    def size(self) -> int:
        """How many rows it has."""
        return self._frontier.size

    def root(self) -> bytes:
        """Return the tree's root over all rows, 32 bytes."""
        return self._frontier.root()

    @property
    def last(self) -> Line | None:
        """Its last row, with the root after it; None where it is empty."""
        return self._last

    def lines(self) -> Iterator[Line]:
        """Yield its rows from the first, with salt and root."""
        return read_lines(self._path)

    def rows(self) -> Iterator[Row]:
        """Yield its rows from the first."""
        return read_rows(self._path)

    def append(self, event: str, **fields: Value) -> None:
        """Append a row; it is on disk once this returns.

        Raises:
            StoreError: where it cannot be written (the file is then as before), or a name or value is out of bounds.
        """
        _check_row(event, fields)
        with self._lock:
            if self._broken:
                raise StoreError(f"the ledger {self._path} failed to sync before: mend its disk and start again")
            self._append(event, fields)

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _append(self, event: str, fields: dict[str, Value]) -> None:
        row = Row(number=self.size + 1, time_ns=self._row_time(), event=event, fields=fields)
        salt = self._salt(SALT_BYTES)
        frontier = self._frontier.copy()
        frontier.append(leaf_of(row, salt))
        line = Line(root=frontier.root().hex(), row=row, salt=salt.hex())
        raw = msgspec.json.encode(line, order="sorted") + b"\n"
        if len(raw) > MAXIMUM_LINE_BYTES:
            raise StoreError(f"a ledger row of event {event} has {len(raw)} bytes, over {MAXIMUM_LINE_BYTES}")
        self._write(raw)
        self._frontier, self._last, self._end = frontier, line, self._end + len(raw)

    def _row_time(self) -> int:
        """Node time, never before the row above; in quarantine what has certainly passed, so that the alarm fits in."""
        try:
            now = self._clock.now_ns()
        except ClockError:
            now = self._clock.least_ns()
        return max(self._last.row.time_ns, now) if self._last else now

    def _write(self, line: bytes) -> None:
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            self._cut()
            raise StoreError(f"the ledger {self._path} cannot be written: {error.strerror}; free its disk") from error
        try:
            os.fsync(self._file)
        except OSError as error:
            # After a failed fsync the kernel may drop the pages and report success next time: never trust it again.
            self._broken = True
            raise StoreError(f"the ledger {self._path} cannot be synced: {error.strerror}; its disk fails") from error

    def _cut(self) -> None:
        """Cut the file back to its last whole row."""
        try:
            os.ftruncate(self._file, self._end)
            os.fsync(self._file)
        except OSError as error:
            self._broken = True
            raise StoreError(f"the ledger {self._path} cannot be cut back to its last row: {error.strerror}") from error

    def _sync_folder(self) -> None:
        try:
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(f"the ledger's folder {self._path.parent} cannot be synced: {error.strerror}") from error


def _check_row(event: str, fields: dict[str, Value]) -> None:
    """Refuse what a row may not hold; a message names the field, never its value."""
    if not _EVENT.match(event):
        raise StoreError("a ledger event is 1 to 64 characters of a-z, 0-9, dot and hyphen")
    if len(fields) > MAXIMUM_FIELDS:
        raise StoreError(f"a ledger row of event {event} has {len(fields)} fields, over {MAXIMUM_FIELDS}")
    for name, value in fields.items():
        if not _FIELD.match(name):
            raise StoreError(f"a field's name in a ledger row of event {event} is not a-z, 0-9 and underscore")
        if type(value) not in {str, int, bool}:
            raise StoreError(f"field {name} of ledger event {event} is a {type(value).__name__}: only str, int, bool")
        if isinstance(value, str) and not (len(value) <= MAXIMUM_TEXT and value.isprintable()):
            raise StoreError(f"field {name} of ledger event {event} is over {MAXIMUM_TEXT} characters or unprintable")
        if isinstance(value, int) and value not in _INTEGER:
            raise StoreError(f"field {name} of ledger event {event} does not fit 64 bits")


def fit(text: str) -> str:
    """Return foreign words (an error's, a signer's) as a row may hold them: printable, on one line, not too long."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAXIMUM_REASON]


class CoalescingLedger:
    """A ledger in which repeats of a row are counted: the first is written at once, the rest with `repeats` later.

    Only the named events are coalesced; rows are the same where event and all fields are. Counts that a crash loses
    are of repeats, never of a first row.

    Args:
        ledger: where rows go.
        clock: node time.
        events: the events whose repeats are counted (refusals).
        window_ns: how long repeats are gathered.
        maximum: how many different rows are remembered; the oldest is written out where there are more.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        events: frozenset[str],
        window_ns: int = 60_000_000_000,
        maximum: int = 256,
    ) -> None:
        self._ledger, self._clock = ledger, clock
        self._events, self._window_ns, self._maximum = events, window_ns, maximum
        self._open: OrderedDict[tuple[str, frozenset[tuple[str, Value]]], _Repeats] = OrderedDict()
        self._lock = threading.Lock()

    def append(self, event: str, **fields: Value) -> None:
        """Append a row, or count it where the same one was written within the window.

        Raises:
            StoreError: where it cannot be written.
        """
        if event not in self._events:
            self._ledger.append(event, **fields)
            return
        try:
            now = self._clock.now_ns()
        except ClockError:  # no window without time: better each refusal than none
            self._ledger.append(event, **fields)
            return
        with self._lock:
            self._count(event, fields, now)

    def flush(self) -> None:
        """Write out every count (at the end of a run).

        Raises:
            StoreError: where one cannot be written.
        """
        with self._lock:
            for key in list(self._open):
                self._settle(key)

    def _count(self, event: str, fields: dict[str, Value], now_ns: int) -> None:
        key = (event, frozenset(fields.items()))
        self._expire(now_ns)
        if key in self._open:
            self._open[key].count += 1
            return
        self._ledger.append(event, **fields)
        self._open[key] = _Repeats(since_ns=now_ns, fields=fields)
        if len(self._open) > self._maximum:
            self._settle(next(iter(self._open)))

    def _expire(self, now_ns: int) -> None:
        for key, repeats in list(self._open.items()):  # oldest first: they stand in the order of their first row
            if now_ns - repeats.since_ns < self._window_ns:
                return
            self._settle(key)

    def _settle(self, key: tuple[str, frozenset[tuple[str, Value]]]) -> None:
        repeats = self._open[key]
        if repeats.count:
            self._ledger.append(key[0], **repeats.fields, repeats=repeats.count)
        del self._open[key]


@dataclass(slots=True, kw_only=True)
class _Repeats:
    since_ns: int
    fields: dict[str, Value]
    count: int = 0
