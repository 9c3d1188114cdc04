"""Verifies a node's ledgers offline: each log's rows, the signed checkpoints over them, and its purge certificates.

Who signs for a node is the bundle's `nodes` alone. The answer names the first bad row of each log, or, where rows were
rewritten with fresh hashes, the first row that no good signature vouches for any more. Rows after the last checkpoint
are checked among themselves and reported as unsigned; an earlier copy of the checkpoints (`known`, a witness's own for
one) shows that a log was set back together with its checkpoints, or forked. Rows that were archived belong to the log:
where their segments are not given, the first of them is bad. A log that a node always has, and that is not here at all,
is named: as missing where other logs speak of it, else as not verified (`expected`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from homeplate.clock import NANOSECONDS
from homeplate.domain.node import NodeEntry
from homeplate.domain.witness import Witness
from homeplate.errors import HomeplateError, LedgerError
from homeplate.store.certificates import certificate_of, read_certificate
from homeplate.store.checkpoints import Checkpoint, checkpoint_files, origin_of, parse, read_note, verify
from homeplate.store.cosignatures import cosignatures
from homeplate.store.reading import SEGMENT, Scan, log_name, scan
from homeplate.store.rows import AnyLine, BadRow, Line, number_of, span_of
from homeplate_custodian.expected import NODE_LOGS, Signs

LOG_SUFFIX = ".log"
EXPORT_SUFFIX = ".export"
CHECKPOINTS = "checkpoints"
_PSEUDONYM_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What verifying one log showed.

    Attributes:
        name: `capture`, `uplink`, `purge`.
        rows: how many good rows were read.
        signed: how many of them the last good checkpoint covers.
        withheld: how many of them an export withholds whole.
        first: the first row that was read; 1 where nothing is archived elsewhere.
        witnessed: how many rows a witness outside the operator has cosigned.
        witnessed_s: when the last of these cosignatures was made, seconds since 1970; None where there is none.
        bad: the first bad row and why; None where there is none.
    """

    name: str
    rows: int
    signed: int
    withheld: int
    bad: BadRow | None
    first: int = 1
    witnessed: int = 0
    witnessed_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verifying a folder showed: the node's pseudonym (hexadecimal), and its logs by name.

    Attributes:
        absent: of the logs that a node always has those that are not here, each with why it must exist ("": nothing
            says that it does). Nothing of them was verified.
        revoked: the node is revoked in the bundle, and a day before is judged.
    """

    node: str
    logs: tuple[LogReport, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    revoked: bool = False

    @property
    def ok(self) -> bool:
        """True where every row of every log verifies."""
        return all(log.bad is None for log in self.logs)


@dataclass(slots=True, kw_only=True)
class _Log:
    """One log while it is verified: what was found wrong so far, and the checkpoints that hold."""

    name: str
    bad: list[BadRow] = field(default_factory=list)
    good: list[Checkpoint] = field(default_factory=list)
    witnessed: int = 0
    witnessed_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a ledger is held against, besides its own checkpoints.

    Attributes:
        known: folders of checkpoints that were seen before; the logs must agree with these too.
        certificates: folder of purge certificates to compare with the purge log.
        archives: folders of archived segments.
        witnesses: those that the registry names.
        partial: True where archived segments and whole logs may be missing.
        expected: logs that are named where they are not here.
        until_s: where a past day is judged, the first second (since 1970) after it: what a node that is revoked by now
            wrote before counts, and no row of it from then on; None judges the present.
    """

    known: Sequence[Path] = ()
    certificates: Path | None = None
    archives: Sequence[Path] = ()
    witnesses: Sequence[Witness] = ()
    partial: bool = False
    expected: Sequence[str] = NODE_LOGS
    until_s: int | None = None


def verify_ledger(
    folder: Path,
    nodes: Iterable[NodeEntry],
    evidence: Evidence | None = None,
    visit: Callable[[str, AnyLine], None] = lambda _name, _line: None,
) -> Report:
    """Verify the ledgers in `folder` (`NAME.log` or `NAME.export`, closed segments, and `checkpoints/`).

    Args:
        folder: a node's ledger folder, or a copy or export of it.
        nodes: the bundle's nodes.
        evidence: what it is held against besides.
        visit: called with the log's name and each good line, before it is known whether a checkpoint vouches for it.

    Raises:
        LedgerError: where it cannot be told whose ledgers these are, or the node is unknown or revoked.
        StoreError: where a file cannot be read.
    """
    if not folder.is_dir():
        raise LedgerError(f"{folder} is no folder: give the node's ledger folder or a copy of it")
    held = evidence or Evidence()
    places = _places(folder, held)
    names = _names(folder, places)
    node = _node(places, names, nodes)
    _refuse_revoked(node, held)
    signs = Signs()

    def see(name: str, line: AnyLine) -> None:
        signs.visit(name, line)
        visit(name, line)

    reports = [_verify_log(folder, name, node, held, partial(see, name)) for name in names]
    here = {report.name for report in reports if report.rows or report.bad}
    missing = signs.missing(here) if held.expected else {}
    absent = dict.fromkeys((name for name in held.expected if name not in here), "") | missing
    if not held.partial:
        reports = [report for report in reports if report.name not in missing]
        reports += [_missing(name, why) for name, why in missing.items()]
    return Report(
        node=node.pseudonym.hex(),
        logs=tuple(sorted(reports, key=lambda one: one.name)),
        absent=absent,
        revoked=node.revoked,
    )


def _missing(name: str, why: str) -> LogReport:
    reason = f"the whole log is missing: {why}; bring it from the node's ledger folder, or judge without it (--partial)"
    return LogReport(name=name, rows=0, signed=0, withheld=0, bad=BadRow(number=1, reason=reason))


def _places(folder: Path, held: Evidence) -> list[Path]:
    return [folder / CHECKPOINTS, *(archive / CHECKPOINTS for archive in held.archives), *held.known]


def _names(folder: Path, places: Sequence[Path]) -> list[str]:
    """Return each log that exists or that a checkpoint speaks of: a log cannot vanish while its checkpoint stays."""
    logs = {log_name(path) for path in folder.iterdir() if path.suffix in {LOG_SUFFIX, EXPORT_SUFFIX, SEGMENT}}
    notes = {path.stem.rpartition("-")[0] for place in places for path in place.glob("*.note")}
    names = sorted(logs | notes - {""})
    if not names:
        raise LedgerError(f"{folder} holds no ledger: give the node's ledger folder or a copy of it")
    return names


def _node(places: Sequence[Path], names: Sequence[str], nodes: Iterable[NodeEntry]) -> NodeEntry:
    """Return the bundle's entry of the node whose checkpoints these are (its key is checked at each signature)."""
    pseudonyms: set[str] = set()
    for path in (path for place in places for name in names for path in checkpoint_files(place, name)):
        try:
            pseudonyms.add(parse(read_note(path)).origin.split("/")[1])
        except (LedgerError, IndexError):
            continue  # damaged: named where its log is verified
    if len(pseudonyms) != 1:
        found = "no readable checkpoint" if not pseudonyms else f"checkpoints of {len(pseudonyms)} nodes"
        raise LedgerError(f"the folder holds {found}, so nobody signs for it: run `homeplate ledger sign` on the node")
    pseudonym = pseudonyms.pop()
    node = next((node for node in nodes if node.pseudonym.hex() == pseudonym), None)
    if node is None:
        raise LedgerError(f"node {pseudonym[:_PSEUDONYM_DIGITS]} is not in the bundle: enrol it, or take its bundle")
    return node


def _refuse_revoked(node: NodeEntry, held: Evidence) -> None:
    if node.revoked and held.until_s is None:
        raise LedgerError(
            f"node {node.pseudonym.hex()} is revoked: nothing that it signed counts; what it signed up to a day before "
            "its revocation is judged with --at YYYY-MM-DD"
        )


def _verify_log(
    folder: Path,
    name: str,
    node: NodeEntry,
    held: Evidence,
    visit: Callable[[AnyLine], None],
) -> LogReport:
    log, places = _Log(name=name), _places(folder, held)
    points = _checkpoints(log, places, node)
    public = folder / f"{name}{EXPORT_SUFFIX}"
    path = public if public.exists() else folder / f"{name}{LOG_SUFFIX}"
    wanted = _certificates(held.certificates) if name == "purge" and held.certificates else {}
    lines: dict[int, Line] = {}

    def keep(line: AnyLine, _: bytes) -> None:
        visit(line)
        if node.revoked:
            _judge_time(log, line, held.until_s)
        if isinstance(line, Line) and line.row.number in wanted:
            lines[line.row.number] = line

    sizes = {point.size for point, _ in points}
    state = scan(path, sizes, keep, exported=path == public, folders=held.archives, only=path == public)
    if state.bad:
        log.bad.append(state.bad)
    for point, file in points:
        _compare(log, point, file, state, node)
        _witness(log, point, file, held.witnesses)
    _judge_ends(log, state, may_lack=held.partial)
    for number, file in wanted.items():
        _compare_certificate(log, file, number, lines.get(number))
    return LogReport(
        name=name,
        rows=state.frontier.size,
        signed=max((point.size for point in log.good), default=0),
        withheld=state.withheld,
        first=state.start + 1,
        witnessed=log.witnessed,
        witnessed_s=log.witnessed_s,
        bad=min(log.bad, key=lambda bad: bad.number, default=None),
    )


def _judge_time(log: _Log, line: AnyLine, until_s: int | None) -> None:
    """Find a row of a revoked node that is not of the time that is judged; a withheld one is between its neighbours."""
    span = span_of(line)
    if span is not None and until_s is not None and span.first >= until_s * NANOSECONDS:
        reason = "it is of a day after the one that is judged, and the node is revoked"
        log.bad.append(BadRow(number=number_of(line), reason=reason))


def _judge_ends(log: _Log, state: Scan, *, may_lack: bool) -> None:
    """Find what is missing before the first row that was read, and a log that nobody vouches for."""
    if state.start and not may_lack:
        reason = f"rows 1 to {state.start} are not here: name the folder of the archived segments (--archive)"
        log.bad.append(BadRow(number=1, reason=reason))
    if not log.bad and not log.good and state.frontier.size:
        log.bad.append(BadRow(number=1, reason="no checkpoint covers it: run `homeplate ledger sign` on the node"))


def _witness(log: _Log, point: Checkpoint, file: Path, witnesses: Sequence[Witness]) -> None:
    """Take the cosignatures of a checkpoint that holds."""
    if point not in log.good:
        return
    try:
        found = cosignatures(read_note(file), witnesses)
    except LedgerError as error:
        log.bad.append(BadRow(number=log.witnessed + 1, reason=f"{file.name}: {error}"))
        return
    if found:
        log.witnessed = max(log.witnessed, point.size)
        log.witnessed_s = max(log.witnessed_s or 0, *(one.time_s for one in found))


def _checkpoints(log: _Log, places: Sequence[Path], node: NodeEntry) -> list[tuple[Checkpoint, Path]]:
    """Return the log's checkpoints that its node signed, smallest first; a bad one is a finding."""
    points: list[tuple[Checkpoint, Path]] = []
    for path in (path for place in places for path in checkpoint_files(place, log.name)):
        try:
            point = _signed(path, log.name, node)
        except LedgerError as error:
            covered = max((point.size for point, _ in points), default=0)
            log.bad.append(BadRow(number=covered + 1, reason=f"{path.name} cannot vouch for it: {error}"))
            continue
        points.append((point, path))
    return sorted(points, key=lambda pair: pair[0].size)


def _signed(path: Path, name: str, node: NodeEntry) -> Checkpoint:
    point = verify(read_note(path), node.ledger_public)
    if point.origin != origin_of(node.pseudonym, name):
        raise LedgerError(f"it is of {point.origin}")
    return point


def _compare(log: _Log, point: Checkpoint, file: Path, state: Scan, node: NodeEntry) -> None:
    """Hold one checkpoint against the rows; `log.good` holds the smaller ones that agree."""
    vouched = max((good.size for good in log.good if good.size < point.size), default=0)
    if point.size not in state.points:
        if not state.bad and point.size > state.frontier.size:
            reason = f"it is missing: {file.name} covers {point.size} rows, the log has {state.frontier.size}"
            log.bad.append(BadRow(number=state.frontier.size + 1, reason=reason))
        return
    root, span = state.points[point.size]
    if root != point.root:
        reason = f"rows {vouched + 1} to {point.size} are not those that {file.name} signed"
        log.bad.append(BadRow(number=vouched + 1, reason=reason))
    elif point.size and not (
        node.not_before_s <= span.last // NANOSECONDS and span.first // NANOSECONDS <= node.not_after_s
    ):
        reason = f"{file.name} was signed outside the dates of the node's key"
        log.bad.append(BadRow(number=vouched + 1, reason=reason))
    else:
        log.good.append(point)


def _certificates(folder: Path) -> dict[int, Path]:
    """Return the certificates by the row that each names in its file name."""
    return {
        int(path.stem.removeprefix("purge-")): path for path in sorted(folder.glob("purge-" + "[0-9]" * 12 + ".json"))
    }


def _compare_certificate(log: _Log, file: Path, number: int, line: Line | None) -> None:
    """Hold a purge certificate against its row; of a row that is withheld or was not reached nothing can be said."""
    try:
        claimed = read_certificate(file)
        if claimed.ledger.row != number or (line and certificate_of(line) != claimed):
            raise LedgerError("it says something else than the row")
    except HomeplateError as error:
        log.bad.append(BadRow(number=number, reason=f"the certificate {file.name} does not match: {error}"))
