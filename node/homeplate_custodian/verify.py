"""Verifies a node's ledgers offline: each log's rows, the signed checkpoints over them, and its purge certificates.

Who signs for a node is the bundle's `nodes` alone. The answer names the first bad row of each log, or, where rows were
rewritten with fresh hashes, the first row that no good signature vouches for any more. Rows after the last checkpoint
are checked among themselves and reported as unsigned; an earlier copy of the checkpoints (`known`) shows that a log
was set back together with its checkpoints.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from homeplate.clock import NANOSECONDS
from homeplate.domain.node import NodeEntry
from homeplate.errors import HomeplateError, LedgerError
from homeplate.store.certificates import certificate_of, read_certificate
from homeplate.store.checkpoints import Checkpoint, checkpoint_files, origin_of, parse, read_note, verify
from homeplate.store.ledger import BadRow, Line, Scan, scan

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
        withheld: how many of them an export withholds.
        bad: the first bad row and why; None where there is none.
    """

    name: str
    rows: int
    signed: int
    withheld: int
    bad: BadRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What verifying a folder showed: the node's pseudonym (hexadecimal), and its logs by name."""

    node: str
    logs: tuple[LogReport, ...]

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


def verify_ledger(
    folder: Path, nodes: Iterable[NodeEntry], *, known: Sequence[Path] = (), certificates: Path | None = None
) -> Report:
    """Verify the ledgers in `folder` (`NAME.log` or `NAME.export`, and `checkpoints/`).

    Args:
        folder: a node's ledger folder, or a copy or export of it.
        nodes: the bundle's nodes.
        known: folders of checkpoints that were seen before; the logs must agree with these too.
        certificates: folder of purge certificates to compare with the purge log.

    Raises:
        LedgerError: where it cannot be told whose ledgers these are, or the node is unknown or revoked.
        StoreError: where a file cannot be read.
    """
    if not folder.is_dir():
        raise LedgerError(f"{folder} is no folder: give the node's ledger folder or a copy of it")
    places = [folder / CHECKPOINTS, *known]
    names = _names(folder, places)
    node = _node(places, names, nodes)
    reports = tuple(_verify_log(folder, places, name, node, certificates) for name in names)
    return Report(node=node.pseudonym.hex(), logs=reports)


def _names(folder: Path, places: Sequence[Path]) -> list[str]:
    """Return each log that exists or that a checkpoint speaks of: a log cannot vanish while its checkpoint stays."""
    logs = {path.stem for path in folder.iterdir() if path.suffix in {LOG_SUFFIX, EXPORT_SUFFIX}}
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
    if node.revoked:
        raise LedgerError(f"node {pseudonym} is revoked: nothing that it signed counts")
    return node


def _verify_log(
    folder: Path, places: Sequence[Path], name: str, node: NodeEntry, certificates: Path | None
) -> LogReport:
    log = _Log(name=name)
    points = _checkpoints(log, places, node)
    whole = folder / f"{name}{LOG_SUFFIX}"
    path = whole if whole.exists() else folder / f"{name}{EXPORT_SUFFIX}"
    wanted = _certificates(certificates) if name == "purge" and certificates else {}
    lines: dict[int, Line] = {}

    def keep(line: Line) -> None:
        if line.row.number in wanted:
            lines[line.row.number] = line

    state = scan(path, {point.size for point, _ in points}, keep, exported=path != whole)
    if state.bad:
        log.bad.append(state.bad)
    for point, file in points:
        _compare(log, point, file, state, node)
    if not points and not log.bad and state.frontier.size:
        log.bad.append(BadRow(number=1, reason="no checkpoint covers it: run `homeplate ledger sign` on the node"))
    for number, file in wanted.items():
        _compare_certificate(log, file, number, lines.get(number))
    return LogReport(
        name=name,
        rows=state.frontier.size,
        signed=max((point.size for point in log.good), default=0),
        withheld=state.withheld,
        bad=min(log.bad, key=lambda bad: bad.number, default=None),
    )


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
    vouched = max((good.size for good in log.good), default=0)
    if point.size not in state.points:
        if not state.bad:
            reason = f"it is missing: {file.name} covers {point.size} rows, the log has {state.frontier.size}"
            log.bad.append(BadRow(number=state.frontier.size + 1, reason=reason))
        return
    root, time_ns = state.points[point.size]
    if root != point.root:
        reason = f"rows {vouched + 1} to {point.size} are not those that {file.name} signed"
        log.bad.append(BadRow(number=vouched + 1, reason=reason))
    elif point.size and not node.not_before_s <= time_ns // NANOSECONDS <= node.not_after_s:
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
