"""A ledger's rows as bytes: how a row is stored, what its leaf hash covers, and what an export shows of it.

A leaf covers the row's day, event and number as they are, and a salted hash of its time and of each field
(docs/decisions/0057-public-export.md). So an export may show a row without its time of day or without a field, or
withhold it whole, and the signed roots stay the same. Each hash covers 128 bits that only the node's own log holds:
nobody finds a withheld value by trying. Pure: no files.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS
from homeplate.errors import LedgerError
from homeplate.store.merkle import HASH_BYTES, Frontier, leaf_hash

SALT_BYTES = 16
DAY_NS = DAY_SECONDS * NANOSECONDS
MAXIMUM_LINE_BYTES = 16_384
_TIME = "/time"  # no field has such a name

Value = str | int | bool


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every line is: frozen and strict."""


class Row(_Stored, frozen=True, kw_only=True):
    """One row. Attributes: number from 1; node time in nanoseconds since 1970; dotted event name; its fields."""

    number: int
    time_ns: int
    event: str
    fields: dict[str, Value]


class Line(_Stored, frozen=True, kw_only=True):
    """A row as stored: with its salt and the root after it, both hexadecimal."""

    root: str
    row: Row
    salt: str


class Shown(_Stored, frozen=True, kw_only=True):
    """What an export shows of a row whose time of day it withholds.

    Attributes:
        day: days since 1970-01-01 UTC.
        event, number, root: as in a row.
        fields: those that are shown; `salts`: of each the 16 bytes under its hash, hexadecimal.
        withheld: the hashes of the others, by name.
        time: the hash of the time in nanoseconds.
    """

    day: int
    event: str
    fields: dict[str, Value]
    number: int
    root: str
    salts: dict[str, str]
    time: str
    withheld: dict[str, str]


class Withheld(_Stored, frozen=True, kw_only=True):
    """What an export shows of a row that it withholds: its leaf hash, number, and the root after it."""

    leaf: str
    number: int
    root: str


class Header(_Stored, frozen=True, kw_only=True):
    """The first line of a log file that is not a log's first: the tree of the rows before it (hexadecimal peaks)."""

    peaks: list[str]
    rows: int
    time_ns: int

    @classmethod
    def of(cls, frontier: Frontier, time_ns: int) -> "Header":
        """Return the header after the rows of `frontier`, the last of which is of `time_ns`."""
        return cls(peaks=[peak.hex() for peak in frontier.peaks], rows=frontier.size, time_ns=time_ns)

    @property
    def frontier(self) -> Frontier:
        """The tree of the rows before.

        Raises:
            ValueError: where the peaks are not those of a tree of that size.
        """
        return Frontier.of(self.rows, [bytes.fromhex(peak) for peak in self.peaks])


class Span(NamedTuple):
    """A time in nanoseconds, known as far as an export shows it: between `first` and `last`, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """The first row that does not verify (its number, from 1) and why."""

    number: int
    reason: str


class BadRowError(LedgerError):
    """Carries a `BadRow` out of a reading loop."""

    def __init__(self, bad: BadRow) -> None:
        super().__init__(f"row {bad.number}: {bad.reason}")
        self.bad = bad


AnyLine = Line | Shown | Withheld


def encode(line: _Stored) -> bytes:
    """Return the one accepted form of a line, without its newline."""
    return msgspec.json.encode(line, order="sorted")


def leaf_of(row: Row, salt: bytes) -> bytes:
    """Return a row's leaf hash.

    It is SHA-256(0x00 || canonical JSON of day, event, number, hash of the time, hash of each field); such a hash is
    SHA-256(the 16 bytes of `_salt_of` || canonical JSON of the name and the value).
    """
    hashes = {name: _hash(salt, name, value) for name, value in row.fields.items()}
    return _leaf(row.number, row.time_ns // DAY_NS, row.event, _hash(salt, _TIME, row.time_ns), hashes)


def show(line: Line, fields: Collection[str]) -> Shown:
    """Return what an export shows of a row: its day, and of its fields those in `fields`."""
    row, salt = line.row, bytes.fromhex(line.salt)
    shown = {name: value for name, value in row.fields.items() if name in fields}
    return Shown(
        day=row.time_ns // DAY_NS,
        event=row.event,
        fields=shown,
        number=row.number,
        root=line.root,
        salts={name: _salt_of(salt, name).hex() for name in shown},
        time=_hash(salt, _TIME, row.time_ns),
        withheld={name: _hash(salt, name, value) for name, value in row.fields.items() if name not in shown},
    )


def withhold(line: Line) -> Withheld:
    """Return what an export shows of a row that it withholds whole."""
    leaf = leaf_of(line.row, bytes.fromhex(line.salt))
    return Withheld(leaf=leaf.hex(), number=line.row.number, root=line.root)


def export(lines: Iterable[Line], withheld: Callable[[Row], bool]) -> Iterator[bytes]:
    """Yield a log's lines with newlines, those that `withheld` names as leaf hashes; the others as they are."""
    for line in lines:
        yield encode(withhold(line) if withheld(line.row) else line) + b"\n"


def decode(raw: bytes, number: int, *, exported: bool) -> tuple[AnyLine, bytes]:
    """Return a line and its leaf hash.

    Args:
        raw: the line without its newline.
        number: of the row that it should be, for the message.
        exported: whether rows may be withheld or shown in part.

    Raises:
        BadRowError: where it is no line, or not in its one accepted form.
    """
    kind: type[AnyLine] = Line
    if exported:
        kind = Withheld if raw.startswith(b'{"leaf":') else Shown if raw.startswith(b'{"day":') else Line
    try:
        line = msgspec.json.decode(raw, type=kind)
        leaf, sound = _judge(line)
        canonical = encode(line)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BadRowError(BadRow(number=number, reason="the line is no ledger row")) from error
    if len(raw) > MAXIMUM_LINE_BYTES or not sound:
        raise BadRowError(BadRow(number=number, reason="the line has a wrong length"))
    if canonical != raw or not _lower_case(line):
        raise BadRowError(BadRow(number=number, reason="the line is not in canonical form"))
    return line, leaf


def number_of(line: AnyLine) -> int:
    """Return the number that a line gives its row."""
    return line.row.number if isinstance(line, Line) else line.number


def span_of(line: AnyLine) -> Span | None:
    """Return when a row was written, as far as the line shows it; None where it is withheld."""
    if isinstance(line, Withheld):
        return None
    if isinstance(line, Line):
        return Span(line.row.time_ns, line.row.time_ns)
    return Span(line.day * DAY_NS, (line.day + 1) * DAY_NS - 1)


def _judge(line: AnyLine) -> tuple[bytes, bool]:
    """Return a line's leaf hash, and whether its hexadecimal parts have the right lengths."""
    if isinstance(line, Withheld):
        leaf = bytes.fromhex(line.leaf)
        return leaf, len(leaf) == HASH_BYTES
    if isinstance(line, Line):
        salt = bytes.fromhex(line.salt)
        return leaf_of(line.row, salt), len(salt) == SALT_BYTES
    salts = {name: bytes.fromhex(salt) for name, salt in line.salts.items()}
    hashes = [bytes.fromhex(text) for text in (line.time, *line.withheld.values())]
    sound = all(len(salt) == SALT_BYTES for salt in salts.values()) and all(len(one) == HASH_BYTES for one in hashes)
    if salts.keys() != line.fields.keys() or line.withheld.keys() & line.fields.keys():
        raise ValueError("a field is shown without its salt, or shown and withheld")
    shown = {name: _salted(salts[name], name, value) for name, value in line.fields.items()}
    return _leaf(line.number, line.day, line.event, line.time, shown | line.withheld), sound


def _lower_case(line: AnyLine) -> bool:
    """Tell whether a line's hexadecimal digits are the one accepted form of their bytes."""
    if isinstance(line, Withheld):
        texts = [line.leaf]
    elif isinstance(line, Line):
        texts = [line.salt]
    else:
        texts = [line.time, *line.withheld.values(), *line.salts.values()]
    return all(bytes.fromhex(text).hex() == text for text in texts)


def _leaf(number: int, day: int, event: str, time: str, fields: dict[str, str]) -> bytes:
    covered = {"day": day, "event": event, "fields": fields, "number": number, "time": time}
    return leaf_hash(msgspec.json.encode(covered, order="sorted"))


def _hash(salt: bytes, name: str, value: Value) -> str:
    return _salted(_salt_of(salt, name), name, value)


def _salt_of(salt: bytes, name: str) -> bytes:
    """Return the 16 bytes under a field's hash; they tell nothing of the row's salt, so nothing of another field."""
    return hmac.digest(salt, name.encode(), "sha256")[:SALT_BYTES]


def _salted(salt: bytes, name: str, value: Value) -> str:
    return hashlib.sha256(salt + msgspec.json.encode([name, value])).hexdigest()
