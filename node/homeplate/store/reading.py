"""Reads and checks a log from its files: closed segments, oldest first, and the file that its process writes.

`capture.log` is written; when it is full it becomes `capture.000000000001.segment` (the number of its first row), and
a new one begins with a header: the tree of all rows before. Reading may begin at any segment; what a header claims is
then worth what a later signed checkpoint, or the segment before it, says (docs/decisions/0058-segments.md).
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import msgspec

from homeplate.errors import LedgerError, StoreError
from homeplate.store.merkle import EMPTY_ROOT, Frontier
from homeplate.store.rows import (
    MAXIMUM_LINE_BYTES,
    AnyLine,
    BadRow,
    BadRowError,
    Header,
    Line,
    Row,
    Shown,
    Span,
    Withheld,
    decode,
    encode,
    number_of,
    span_of,
)

SEGMENT = ".segment"
_HEADER = b'{"peaks":'
_CHUNK = 1 << 16
_TRIES = 20  # each needs another rotation between two system calls

Visit = Callable[[AnyLine, bytes], None]
"""Called with each good line and its leaf hash."""


@dataclass(slots=True, kw_only=True)
class Scan:
    """What reading a log showed: its tree, good rows' time, and the first bad row, if any.

    Attributes:
        frontier: the tree over the good rows.
        start: how many rows come before the first one read: they are in segments that are elsewhere, or passed over.
        time_ns: no later row is of before this (the last good row's time, or its day's begin), 0 where there is none.
        end: bytes of the last file that hold whole lines.
        tail: bytes after the last whole line (a torn append).
        bad: the first bad row; nothing after it was read.
        points: root and time after each asked-for size (see `scan`); `trees`: the tree at that size.
        withheld: how many rows an export withholds whole.
        last: the last good line that is stored as a node does.
        begun: whether a line was read; `first_root`: the root before the first row that was read.
        latest_ns: the last good row is of no later time.
    """

    frontier: Frontier = field(default_factory=Frontier)
    start: int = 0
    time_ns: int = 0
    latest_ns: int = 0
    end: int = 0
    tail: int = 0
    bad: BadRow | None = None
    points: dict[int, tuple[bytes, Span]] = field(default_factory=dict)
    trees: dict[int, Frontier] = field(default_factory=dict)
    withheld: int = 0
    last: Line | None = None
    begun: bool = False
    first_root: bytes = EMPTY_ROOT


def segment_path(log: Path, first: int) -> Path:
    """Return the name of the closed segment of `log` whose first row is `first`: `capture.000000000001.segment`."""
    return log.with_name(f"{log.stem}.{first:012}{SEGMENT}")


def first_row(path: Path) -> int:
    """Return the number in a segment's name; 0 for a file that is none."""
    digits = path.name.removesuffix(SEGMENT).rpartition(".")[2]
    return int(digits) if path.suffix == SEGMENT and digits.isdigit() else 0


def log_name(path: Path) -> str:
    """Return which log a file belongs to: `capture` for `capture.log` and its segments."""
    return path.name.removesuffix(SEGMENT).rpartition(".")[0] if path.suffix == SEGMENT else path.stem


def closed_segments(log: Path, folders: Sequence[Path] = ()) -> list[Path]:
    """Return a log's closed segments, oldest first; one that is in several folders once.

    A crash while a segment is closed leaves it under both names for a moment: it is then still the open file.
    """
    found: dict[int, Path] = {}
    for folder in (log.parent, *folders):
        for path in folder.glob(f"{log.stem}.*{SEGMENT}"):
            first = first_row(path)
            if first and log_name(path) == log.stem and not _same_file(path, log):
                found.setdefault(first, path)
    return [found[first] for first in sorted(found)]


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def log_files(log: Path, folders: Sequence[Path] = (), *, after: int = 0) -> list[Path]:
    """Return the files that hold a log's rows, oldest first.

    Args:
        log: the file that its process writes, or an export; it may be missing.
        folders: where archived segments lie.
        after: leave out the segments whose rows all come up to this one.
    """
    files = [*closed_segments(log, folders), log]
    while len(files) > 1 and (first_row(files[1]) or after + 1) <= after:
        files.pop(0)
    return files


@contextmanager
def _opened(list_files: Callable[[], list[Path]]) -> Iterator[list[tuple[Path, BinaryIO]]]:
    """Open a log's files as they are at one moment: its process may close a segment meanwhile, or one be archived."""
    for _ in range(_TRIES):
        with ExitStack() as stack:
            paths = list_files()
            try:
                files = list[tuple[Path, BinaryIO]](
                    (path, stack.enter_context(path.open("rb"))) for path in paths if path.exists()
                )
            except FileNotFoundError:
                continue
            if list_files() == paths and all(_is_at(file, path) for path, file in files):
                yield files
                return
    raise StoreError("the ledger's files change faster than they can be read; try again")


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def scan(
    path: Path,
    sizes: Iterable[int] = (),
    visit: Visit | None = None,
    *,
    exported: bool = False,
    synced: bool = False,
    folders: Sequence[Path] = (),
    after: int = 0,
    only: bool = False,
) -> Scan:
    """Read a log from its first segment and check every row: form, number, order in time, running root.

    Args:
        path: the log's written file; a missing log is an empty one.
        sizes: tree sizes whose roots are wanted in `Scan.points`.
        visit: called with each good line and its leaf hash.
        exported: True where rows may be withheld; in a node's own log that is a bad row.
        synced: sync the written file, and read only what was in it before: so no row that a power cut may take.
        folders: where archived segments lie.
        after: pass over the segments whose rows all come up to this one.
        only: read the one file `path`.

    Raises:
        StoreError: where the files cannot be read.
    """
    wanted, result = set(sizes), Scan()
    try:
        with _opened(lambda: [path] if only else log_files(path, folders, after=after)) as files:
            for number, (file_path, file) in enumerate(files):
                last = number == len(files) - 1
                end = _synced_bytes(file) if synced and file_path == path else None
                for line, leaf in _rows(file, result, wanted, exported=exported, end=end, last=last):
                    if visit:
                        visit(line, leaf)
            _mark(result, wanted)
    except BadRowError as error:
        result.bad = error.bad
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be read: {error.strerror}") from error
    return result


def read_lines(path: Path, folders: Sequence[Path] = ()) -> Iterator[Line]:
    """Yield the rows of a log with salt and root, also while its process appends.

    Args:
        path: the log's written file.
        folders: where archived segments lie.

    Raises:
        LedgerError: at the first bad row, which it names.
        StoreError: where a file cannot be read.
    """
    state = Scan()
    try:
        with _opened(lambda: log_files(path, folders)) as files:
            for number, (_, file) in enumerate(files):
                for line, _ in _rows(file, state, set(), exported=False, end=None, last=number == len(files) - 1):
                    if isinstance(line, Line):
                        yield line
    except BadRowError as error:
        raise LedgerError(f"ledger {path.name}, {error}") from error
    except OSError as error:
        raise StoreError(f"the ledger {path} cannot be read: {error.strerror}") from error


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a log; see `read_lines`."""
    return (line.row for line in read_lines(path))


def _synced_bytes(file: BinaryIO) -> int:
    """Return how much of a log is surely on the disk.

    Its process may be between write and fsync: a row that is signed and then lost to a power cut would look cut off.
    """
    size = os.fstat(file.fileno()).st_size
    os.fsync(file.fileno())
    return size


def _rows(
    file: BinaryIO, state: Scan, wanted: set[int], *, exported: bool, end: int | None, last: bool
) -> Iterator[tuple[AnyLine, bytes]]:
    """Yield one file's good lines with their leaf hashes, each added to the tree."""
    state.end = 0
    for position, raw in enumerate(_lines(file, state, end)):
        if position == 0 and raw.startswith(_HEADER):
            _begin(raw, state)
        else:
            if position == 0 and state.begun:
                raise BadRowError(BadRow(number=state.frontier.size + 1, reason="its file does not say what precedes"))
            state.begun = True
            _mark(state, wanted)
            yield _check(raw, state, exported=exported)
        state.end += len(raw) + 1
    if state.tail and not last:
        raise BadRowError(BadRow(number=state.frontier.size + 1, reason="a closed segment ends in half a line"))


def _mark(state: Scan, wanted: set[int]) -> None:
    size = state.frontier.size
    if size in wanted and size not in state.points:
        state.points[size] = (state.frontier.root(), Span(state.time_ns, state.latest_ns))
        state.trees[size] = state.frontier.copy()


def _lines(file: BinaryIO, state: Scan, end: int | None = None) -> Iterator[bytes]:
    """Yield whole lines without their newline; what follows the last newline is counted in `state.tail`."""
    rest, left = b"", sys.maxsize if end is None else end
    while chunk := file.read(min(_CHUNK, left)):
        left -= len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole
        if len(rest) > MAXIMUM_LINE_BYTES:
            raise BadRowError(BadRow(number=state.frontier.size + 1, reason="the line is too long"))
    state.tail = len(rest)


def _begin(raw: bytes, state: Scan) -> None:
    """Take a segment's header: at the first file it is what is known of the rows before, later it has to agree."""
    number = state.frontier.size + 1
    try:
        header = msgspec.json.decode(raw, type=Header)
        frontier = header.frontier
        sound = encode(header) == raw and len(raw) <= MAXIMUM_LINE_BYTES and header.rows > 0
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRowError(BadRow(number=number, reason="its file begins with no header")) from error
    if state.begun and header.rows > state.frontier.size:
        raise BadRowError(
            BadRow(number=number, reason=f"rows {number} to {header.rows} are missing: a segment is gone")
        )
    agrees = (header.rows, frontier.root(), header.time_ns) == (number - 1, state.frontier.root(), state.time_ns)
    if not sound or (state.begun and not agrees):
        raise BadRowError(BadRow(number=number, reason="its file does not continue the one before it"))
    if not state.begun:
        state.frontier, state.start, state.begun = frontier, header.rows, True
        state.first_root = frontier.root()
        state.time_ns = state.latest_ns = header.time_ns


def _check(raw: bytes, state: Scan, *, exported: bool) -> tuple[AnyLine, bytes]:
    """Return the line, with its leaf added to the tree; one accepted encoding, so that no byte goes unchecked."""
    number = state.frontier.size + 1
    line, leaf = decode(raw, number, exported=exported)
    if number_of(line) != number:
        raise BadRowError(BadRow(number=number, reason=f"row {number_of(line)} stands in its place"))
    span = span_of(line)
    if span is not None and span.last < state.time_ns:
        raise BadRowError(BadRow(number=number, reason="its time is before the row above"))
    grown = state.frontier.copy()
    grown.append(leaf)
    if grown.root().hex() != line.root:
        raise BadRowError(BadRow(number=number, reason="its running root does not match: it or its order was changed"))
    state.frontier = grown
    if span is not None:
        state.time_ns, state.latest_ns = max(state.time_ns, span.first), span.last
    if isinstance(line, Line):
        state.last = line
    elif isinstance(line, Withheld):
        state.withheld += 1
    return line, leaf


__all__ = [
    "SEGMENT", "Scan", "Shown", "Visit", "closed_segments", "first_row", "log_files", "log_name", "read_lines",
    "read_rows", "scan", "segment_path",
]  # fmt: skip
