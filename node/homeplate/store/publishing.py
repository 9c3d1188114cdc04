"""Writes a log as anybody may read it: no time closer than a day, of each row what a closed list names.

A row whose event is not on the list is withheld whole. Only days that are over are shown, and one checkpoint is signed
at their end: those of the cadence, and a witness's dated word, would tell to the minute between which rows they came
(docs/decisions/0060-what-an-export-shows.md).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.errors import LedgerError, StoreError
from homeplate.store.checkpoints import (
    SUFFIX,
    Checkpoint,
    checkpoint_files,
    origin_of,
    read_note,
    sign,
    verify,
    write_durably,
)
from homeplate.store.merkle import Frontier
from homeplate.store.reading import read_lines, scan
from homeplate.store.rows import DAY_NS, AnyLine, Header, Line, Withheld, encode, show, withhold

EXPORT = ".export"

_BUNDLE = frozenset({"version", "root_version", "demo", "independent", "origin"})
_MODELS = frozenset({"provider", "precision", "detector", "reader"})
_CONFIG = frozenset({"config_sha256"})
_NOTHING = frozenset[str]()
_DELIVERY = frozenset({"record", "recipient", "reason"})

PUBLIC: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "aim.preview-started": frozenset({"minutes"}),
        "aim.preview-stopped": frozenset({"reason"}),
        "aim.started": _MODELS | _CONFIG | {"sources"},
        "aim.stopped": _NOTHING,
        "broker.refused": frozenset({"recipient", "reason", "repeats"}),
        "bundle.certificate-installed": _NOTHING,
        "bundle.ending": frozenset({"what", "ends"}),
        "bundle.installed": _BUNDLE,
        "bundle.installing": _BUNDLE,
        "bundle.refused": frozenset({"origin", "repeats"}),
        "bundle.started": _CONFIG,
        "bundle.stopped": _NOTHING,
        "bundle.unchanged": _BUNDLE | {"repeats"},
        "capture.camera-back": frozenset({"repeats"}),
        "capture.camera-lost": frozenset({"reason", "repeats"}),
        "capture.clock-quarantined": _NOTHING,
        "capture.not-started": frozenset({"reason"}),
        "capture.refused": frozenset({"rule", "recipient", "reason", "repeats"}),
        "capture.sealed": frozenset({"rules", "recipients", "storages"}),
        "capture.source-broken": frozenset({"reason"}),
        "capture.source-finished": _NOTHING,
        "capture.source-stopped": _NOTHING,
        "capture.started": _MODELS | _CONFIG | {"sources"},
        "capture.stopped": frozenset({"records"}),
        "clock.mark-damaged": _NOTHING,
        "clock.quarantined": _NOTHING,
        "clock.stepped": _NOTHING,
        "delivery.confirmed": _DELIVERY,
        "delivery.forgotten": frozenset({"record", "reason"}),
        "delivery.intended": _DELIVERY | {"purpose"},
        "delivery.not-sent": _DELIVERY,
        "delivery.outcome-unknown": _DELIVERY,
        "delivery.refused": _DELIVERY,
        "egress.changed": frozenset({"openings"}),
        "feed.arrived": frozenset({"source"}),
        "feed.dropped": frozenset({"source"}),
        "feed.refused": frozenset({"source"}),
        "hold.accepted": frozenset({"ground", "records"}),
        "hold.applied": frozenset({"records", "gone"}),
        "hold.ended": _NOTHING,
        "hold.exported": frozenset({"records"}),
        "hold.refused": _NOTHING,
        "hold.released": _NOTHING,
        "hot-list.expired": _NOTHING,
        "ledger.full": frozenset({"segments"}),
        "ledger.recovered": _NOTHING,
        "purge.by-hand": frozenset({"why", "rule", "slots"}),
        "purge.done": frozenset(
            {"keys_destroyed", "keys_destroyed_early", "outgoing_files", "local_files", "holds", "held_records",
             "holds_ended"}
        ),
        "slot.ended-by-hand": frozenset({"rule", "storage"}),
        "slot.expired": frozenset({"rule", "storage"}),
        "uplink.halted": _NOTHING,
        "uplink.started": _CONFIG,
        "uplink.stopped": _NOTHING,
    }
)  # fmt: skip
"""By event, the fields whose values tell nothing of a time within the day, a camera, a person or a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was exported of a log: its rows `first` to `last`, and how many of them are withheld whole."""

    first: int
    last: int
    withheld: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The rows of a log that may be shown: the tree before the first, its day, and the last of them."""

    before: Frontier
    end: Line
    first_day: int


def public_form(line: Line, withheld: frozenset[str] = _NOTHING) -> AnyLine:
    """Return what an export shows of a row.

    Args:
        line: the row as its node stores it.
        withheld: events whose rows are withheld whole, besides those that the list does not know.
    """
    event = line.row.event
    return show(line, PUBLIC[event]) if event in PUBLIC and event not in withheld else withhold(line)


def publish(
    log: Path,
    folder: Path,
    *,
    checkpoints: Path,
    key: Ed25519PrivateKey,
    pseudonym: bytes,
    now_ns: int,
    withheld: frozenset[str] = _NOTHING,
    archives: Sequence[Path] = (),
) -> Exported | None:
    """Write a log's rows of the days before today to `folder`, with a checkpoint at their end.

    Args:
        log: its written file.
        folder: where `NAME.export` and `checkpoints/` go.
        checkpoints: the node's: what it signed before has to agree.
        key: the node's ledger key.
        pseudonym: the node's, 16 bytes.
        now_ns: node time; the days before its day (UTC) are over.
        withheld: events whose rows are withheld whole.
        archives: folders of archived segments.

    Returns:
        What was written; None where the log has no row of a day that is over.

    Raises:
        LedgerError: where the log does not verify, or contradicts its newest checkpoint; nothing is written.
        StoreError: where a file cannot be read or written.
    """
    part = _part(log, checkpoints, key.public_key().public_bytes_raw(), now_ns // DAY_NS, archives)
    if part is None:
        return None
    last = part.end.row.number
    hidden = _write(folder / f"{log.stem}{EXPORT}", _forms(part, read_lines(log, archives), withheld))
    point = Checkpoint(origin=origin_of(pseudonym, log.stem), size=last, root=bytes.fromhex(part.end.root))
    write_durably(folder / "checkpoints" / f"{log.stem}-{last:012}{SUFFIX}", sign(point, key))
    return Exported(first=part.before.size + 1, last=last, withheld=hidden)


def _forms(part: _Part, lines: Iterable[Line], withheld: frozenset[str]) -> Iterator[Header | AnyLine]:
    """Yield what an export has: where its rows begin, and each row up to the last that may be shown."""
    if part.before.size:
        yield Header.of(part.before, part.first_day * DAY_NS)  # verifying asks for no closer a time
    for line in lines:
        yield public_form(line, withheld)
        if line.row.number == part.end.row.number:
            return


def _part(log: Path, checkpoints: Path, public: bytes, today: int, archives: Sequence[Path]) -> _Part | None:
    """Return which rows may be shown, once the log is found good and to be what its node signed last."""
    first = next(read_lines(log, archives), None)
    if first is None:
        return None
    notes = checkpoint_files(checkpoints, log.stem)
    signed = verify(read_note(notes[-1]), public) if notes else None
    end: Line | None = None

    def visit(line: AnyLine, _: bytes) -> None:
        nonlocal end
        if isinstance(line, Line) and line.row.time_ns // DAY_NS < today:
            end = line

    before = first.row.number - 1
    state = scan(log, {before, signed.size if signed else 0}, visit, synced=True, folders=archives)
    if state.bad:
        raise LedgerError(f"ledger {log.name}, row {state.bad.number}: {state.bad.reason}; nothing was exported")
    if signed and signed.size >= before and state.points.get(signed.size, (b"",))[0] != signed.root:
        raise LedgerError(f"ledger {log.name} is not what {notes[-1].name} signed; nothing was exported")
    if end is None:
        return None
    return _Part(before=state.trees[before], end=end, first_day=first.row.time_ns // DAY_NS)


def _write(path: Path, forms: Iterable[Header | AnyLine]) -> int:
    """Write an export to a new file and sync it; return how many of its rows are withheld.

    Raises:
        StoreError: where it cannot be written.
    """
    hidden = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for form in forms:
                hidden += isinstance(form, Withheld)
                file.write(encode(form) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from error
    return hidden
