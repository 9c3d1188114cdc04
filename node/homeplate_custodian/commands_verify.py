"""`homeplate-custodian verify`: an auditor's look at a node's ledgers, offline; what it means is in `verify`."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.node import NodeEntry
from homeplate.errors import ConfigError, LedgerError
from homeplate.trust.bundle import pin_root, read_bundle
from homeplate.trust.files import read_bounded
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate_custodian import provision
from homeplate_custodian.verify import LogReport, Report, verify_ledger

_folder = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command()
@click.argument("ledgers", type=_folder)
@click.option("--custody", type=_folder, help="The custody folder, whose published bundle names the nodes.")
@click.option("--bundle", type=_folder, help="A published bundle, where the custody is elsewhere; with --root.")
@click.option("--root", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The root it is under.")
@click.option("--known", type=_folder, multiple=True, help="Checkpoints seen before; shows logs that were set back.")
@click.option("--certificates", type=_folder, help="Purge certificates to hold against the purge log.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON line.")
def verify(
    ledgers: Path,
    *,
    custody: Path | None,
    bundle: Path | None,
    root: Path | None,
    known: Sequence[Path],
    certificates: Path | None,
    as_json: bool,
) -> None:
    """Verify a node's ledger folder, or a copy or export of it; name the first bad row (exit code 10)."""
    report = verify_ledger(ledgers, _nodes(custody, bundle, root), known=known, certificates=certificates)
    (_print_json if as_json else _print_lines)(report)
    for log in report.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}")


def _nodes(custody: Path | None, bundle: Path | None, root: Path | None) -> tuple[NodeEntry, ...]:
    """Return the nodes that a verified bundle names: nothing else says whose key signs a ledger."""
    now_s = WallClock().now_ns() // NANOSECONDS
    if custody and not (bundle or root):
        return provision.published(custody, now_s=now_s).nodes
    if not (bundle and root) or custody:
        raise ConfigError("say whose nodes count: --custody FOLDER, or --bundle FOLDER with --root FILE")
    with TemporaryDirectory(prefix="homeplate-verify-") as pins:
        pin_root(read_bounded(root, MAX_METADATA_BYTES), Path(pins))
        return read_bundle(bundle, Path(pins), now_s * NANOSECONDS).nodes


def _print_json(report: Report) -> None:
    logs = {
        log.name: {
            "rows": log.rows,
            "signed": log.signed,
            "withheld": log.withheld,
            "bad_row": log.bad.number if log.bad else None,
            "reason": log.bad.reason if log.bad else None,
        }
        for log in report.logs
    }
    click.echo(json.dumps({"node": report.node, "ok": report.ok, "logs": logs}, sort_keys=True))


def _print_lines(report: Report) -> None:
    click.echo(f"node {report.node}")
    for log in report.logs:
        click.echo(f"{log.name}: {_line(log)}")


def _line(log: LogReport) -> str:
    if log.bad:
        return f"row {log.bad.number} is bad: {log.bad.reason}"
    parts = [f"{log.rows} rows are good"]
    if log.withheld:
        parts.append(f"{log.withheld} of them withheld")
    if log.rows > log.signed:
        parts.append(f"the last {log.rows - log.signed} not signed yet")
    return ", ".join(parts)
