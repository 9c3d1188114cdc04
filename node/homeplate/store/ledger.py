"""A process's own log of what it did, as a Merkle log: one JSON line a row, durable when `append` returns.

A row holds ids, counts, recipients and reasons, never a plate. What its bytes are is `rows`' affair, reading and
checking is `reading`'s, signatures over roots are `checkpoints`'. A full file is closed as a segment and a new one
begun, so that opening reads one file alone; where the log has all the segments it may have, it takes no more rows
until some are archived. One writer a log.
"""

import fcntl
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from homeplate.errors import ClockError, LedgerError, StoreError
from homeplate.ports import Clock, Ledger
from homeplate.store.merkle import Frontier
from homeplate.store.reading import (
    Scan,
    closed_segments,
    read_lines,
    read_rows,
    scan,
    segment_path,
)
from homeplate.store.rows import (
    MAXIMUM_LINE_BYTES,
    SALT_BYTES,
    BadRow,
    Header,
    Line,
    Row,
    Shown,
    Value,
    Withheld,
    encode,
    export,
    leaf_of,
)

__all__ = [
    "BadRow", "CoalescingLedger", "Line", "MerkleLog", "Row", "Scan", "Shown", "Value", "Withheld", "export", "fit",
    "leaf_of", "read_lines", "read_rows", "scan",
]  # fmt: skip

SEGMENT_BYTES = 4 * 1024 * 1024
"""A full file; opening checks one alone."""
MAXIMUM_SEGMENTS = 64
"""Closed segments that a log may have on the node: with the written file 260 MiB."""

WARN_SEGMENTS = 48
"""From here on `homeplate check` says that the log fills up."""

MAXIMUM_TEXT = 4_096
MAXIMUM_FIELDS = 24
MAXIMUM_REASON = 400
FULL = "ledger.full"

_EVENT = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_INTEGER = range(-(2**63), 2**63)

Carried = Iterable[tuple[str, dict[str, Value]]]


class MerkleLog:
    """The log of one process, held open and locked until `close`; its threads may share it.

    A torn last line (power cut, kill) is cut off at opening, and a row `ledger.recovered` says so: its append never
    returned, so nothing that was acknowledged is lost.

    Args:
        path: the log, made where it is missing.
        clock: node time; in quarantine a row bears the time that has certainly passed.
        salt: random bytes a row; without its salt a withheld row cannot be guessed from its hash.
        segment_bytes: at this length the file is closed as a segment.
        maximum_segments: how many closed segments there may be before the log takes no more rows.

    Raises:
        StoreError: where the file cannot be opened, or another process has it.
        LedgerError: where a row does not verify; the message names the first.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        salt: Callable[[int], bytes] = os.urandom,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        maximum_segments: int = MAXIMUM_SEGMENTS,
    ) -> None:
        self._path, self._clock, self._salt = path, clock, salt
        self._segment_bytes, self._maximum_segments = segment_bytes, maximum_segments
        self._carry: Callable[[], Carried] = tuple
        self._broken = False
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"the ledger {path} cannot be opened: {error.strerror}") from error
        with ExitStack() as undo:
            undo.callback(os.close, self._file)
            self._open()
            undo.pop_all()  # it stays open: `close` ends it

    def _open(self) -> None:
        _lock_alone(self._file, self._path)
        state = scan(self._path, only=True)
        before = closed_segments(self._path)
        bad = state.bad or (_breaks(before[-1], state) if before else None)
        if bad:
            raise LedgerError(
                f"ledger {self._path.name}, row {bad.number}: {bad.reason}; keep the ledger folder for the"
                " auditor, then move it away to start a new one"
            )
        self._frontier, self._last, self._end, self._start = state.frontier, state.last, state.end, state.start
        self._time_ns = state.time_ns
        if state.tail:
            self._cut()
            self._add("ledger.recovered", {"bytes_cut": state.tail})
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
        """Its last row, with the root after it; None where its file has none."""
        return self._last

    def lines(self) -> Iterator[Line]:
        """Yield its rows from the first that is on the node, with salt and root."""
        return read_lines(self._path)

    def rows(self) -> Iterator[Row]:
        """Yield its rows; see `lines`."""
        return read_rows(self._path)

    def carry_over(self, carry: Callable[[], Carried]) -> None:
        """Begin each new file with the rows that `carry` returns then: what its process needs of archived files."""
        self._carry = carry

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
        if self._end >= self._segment_bytes:
            if len(closed_segments(self._path)) >= self._maximum_segments:
                self._refuse_full()
            self._rotate()
            for carried, values in self._carry():
                _check_row(carried, values)
                self._add(carried, values)
        self._add(event, fields)

    def _add(self, event: str, fields: dict[str, Value]) -> None:
        line, frontier = self._line(event, fields)
        raw = _raw(line)
        self._write(raw)
        self._frontier, self._last, self._end = frontier, line, self._end + len(raw)
        self._time_ns = line.row.time_ns

    def _line(self, event: str, fields: dict[str, Value]) -> tuple[Line, Frontier]:
        """Return the next row, and the tree with it."""
        row = Row(number=self._frontier.size + 1, time_ns=self._row_time(), event=event, fields=fields)
        salt = self._salt(SALT_BYTES)
        frontier = self._frontier.copy()
        frontier.append(leaf_of(row, salt))
        return Line(root=frontier.root().hex(), row=row, salt=salt.hex()), frontier

    def _row_time(self) -> int:
        """Node time, never before the row above; in quarantine what has certainly passed, so that the alarm fits in."""
        try:
            now = self._clock.now_ns()
        except ClockError:
            now = self._clock.least_ns()
        return max(self._time_ns, now)

    def _refuse_full(self) -> None:
        """Say once that the log has all the segments that it may have, and take no row."""
        if self._last is not None and self._last.row.event != FULL:
            self._add(FULL, {"segments": self._maximum_segments})
        raise StoreError(
            f"the ledger {self._path} has {self._maximum_segments} closed segments, all that it may have: sign it"
            " (`homeplate ledger sign`), then take the oldest away with `homeplate ledger archive DIR`"
        )

    def _rotate(self) -> None:
        """Close the file as a segment and begin the next. The second rename-like step is the one that counts.

        The new file is whole and synced before it has a name that counts; then the full one gets its second name, and
        the new one takes its first. A crash between the two leaves the full file under both names, as the open one.
        """
        header = encode(Header.of(self._frontier, self._time_ns)) + b"\n"
        new, closed = self._path.with_suffix(".next"), segment_path(self._path, self._start + 1)
        file = -1
        try:
            with suppress(FileNotFoundError):
                new.unlink()
            file = _begin_file(new, header)
            with suppress(FileNotFoundError):
                closed.unlink()  # the second name of the open file, from a crash: a closed segment is never this one
            os.link(self._path, closed)
            self._sync_folder()
            new.replace(self._path)
        except (OSError, StoreError) as error:
            if file >= 0:
                os.close(file)
            raise StoreError(f"the ledger {self._path} cannot begin a new segment: {error}; free its disk") from error
        os.close(self._file)
        self._file, self._start, self._end = file, self._frontier.size, len(header)
        try:
            self._sync_folder()
        except StoreError:
            self._broken = True
            raise

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


def _lock_alone(file: int, path: Path) -> None:
    """Hold a log alone: no second writer, also not one that opened it just before it became a segment."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = os.path.samestat(os.fstat(file), path.stat())
    except (BlockingIOError, FileNotFoundError):
        alone = False
    if not alone:
        raise StoreError(f"the ledger {path} has a writer already: stop the other process first")


def _breaks(before: Path, state: Scan) -> BadRow | None:
    """Return what is wrong where a log's file does not continue the segment before it; read from that one's end."""
    root = ""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError), before.open("rb") as file:
        file.seek(max(0, before.stat().st_size - MAXIMUM_LINE_BYTES))
        root = msgspec.json.decode(file.read().rstrip(b"\n").rpartition(b"\n")[2], type=Line).root
    if state.first_root.hex() == root:
        return None
    return BadRow(number=state.start + 1, reason=f"its file does not continue {before.name}")


def _begin_file(path: Path, data: bytes) -> int:
    """Return a new log file with `data`, synced and locked.

    Raises:
        OSError: where it cannot be made, written or synced.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError:
        os.close(file)
        raise
    return file


def _raw(line: Line) -> bytes:
    raw = encode(line) + b"\n"
    if len(raw) > MAXIMUM_LINE_BYTES:
        raise StoreError(f"a ledger row of event {line.row.event} has {len(raw)} bytes, over {MAXIMUM_LINE_BYTES}")
    return raw


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
