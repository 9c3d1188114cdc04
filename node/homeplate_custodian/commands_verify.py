"""`homeplate-custodian verify`: an auditor's look at a node's ledgers, offline; what it means is in `verify`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from homeplate.clock import NANOSECONDS, WallClock, utc_text
from homeplate.errors import ConfigError, LedgerError
from homeplate.trust.bundle import Bundle, pin_root, read_bundle
from homeplate.trust.files import read_bounded
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate_custodian import provision
from homeplate_custodian.verify import Evidence, LogReport, Report, verify_ledger

_folder = click.Path(path_type=Path, file_okay=False, exists=True)


def bundle_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say whose word counts: a custody's bundle, or a bundle under a root."""
    file = click.Path(path_type=Path, dir_okay=False, exists=True)
    for option in (
        click.option("--root", type=file, help="The root it is under."),
        click.option("--bundle", type=_folder, help="A published bundle, where the custody is elsewhere; with --root."),
        click.option("--custody", type=_folder, help="The custody folder, whose published bundle names the nodes."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("ledgers", type=_folder)
@bundle_options
@click.option("--known", type=_folder, multiple=True, help="Checkpoints seen before; shows logs that were set back.")
@click.option("--archive", "archives", type=_folder, multiple=True, help="A folder of archived segments.")
@click.option("--partial", is_flag=True, help="Archived segments or whole logs may be missing: verify what is here.")
@click.option("--certificates", type=_folder, help="Purge certificates to hold against the purge log.")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON line.")
def verify(
    ledgers: Path,
    *,
    custody: Path | None,
    bundle: Path | None,
    root: Path | None,
    known: Sequence[Path],
    archives: Sequence[Path],
    partial: bool,
    certificates: Path | None,
    as_json: bool,
) -> None:
    """Verify a node's ledger folder, or a copy or export of it; name the first bad row (exit code 10)."""
    found = signed_bundle(custody, bundle, root)
    evidence = Evidence(
        known=known, certificates=certificates, archives=archives, witnesses=found.witnesses, partial=partial
    )
    report = verify_ledger(ledgers, found.nodes, evidence)
    (_print_json if as_json else _print_lines)(report)
    for log in report.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}")


def signed_bundle(custody: Path | None, bundle: Path | None, root: Path | None) -> Bundle:
    """Return the verified bundle that says whose nodes and whose witnesses count: nothing else does.

    Raises:
        ConfigError: where it is not said which.
        TrustError: where it does not verify.
    """
    now_s = WallClock().now_ns() // NANOSECONDS
    if custody and not (bundle or root):
        return provision.published(custody, now_s=now_s)
    if not (bundle and root) or custody:
        raise ConfigError("say whose nodes count: --custody FOLDER, or --bundle FOLDER with --root FILE")
    with TemporaryDirectory(prefix="homeplate-verify-") as pins:
        pin_root(read_bounded(root, MAX_METADATA_BYTES), Path(pins))
        return read_bundle(bundle, Path(pins), now_s * NANOSECONDS)


def _print_json(report: Report) -> None:
    logs = {
        log.name: {
            "rows": log.rows,
            "signed": log.signed,
            "first": log.first,
            "withheld": log.withheld,
            "witnessed": log.witnessed,
            "witnessed_at": _time(log.witnessed_s),
            "bad_row": log.bad.number if log.bad else None,
            "reason": log.bad.reason if log.bad else None,
        }
        for log in report.logs
    }
    said = {"node": report.node, "ok": report.ok, "logs": logs, "absent": sorted(report.absent)}
    click.echo(json.dumps(said, sort_keys=True))


def _print_lines(report: Report) -> None:
    click.echo(f"node {report.node}")
    for log in report.logs:
        click.echo(f"{log.name}: {_line(log)}")
    named_bad = {log.name for log in report.logs if log.bad}
    for name, why in sorted(report.absent.items()):
        if name not in named_bad:
            click.echo(f"note: {name}: no log is here, nothing of it was verified{f': {why}' if why else ''}")


def _line(log: LogReport) -> str:
    if log.bad:
        return f"row {log.bad.number} is bad: {log.bad.reason}"
    parts = [f"{log.rows} rows are good"]
    if log.withheld:
        parts.append(f"{log.withheld} of them withheld")
    if log.first > 1:
        parts[0] = f"rows {log.first} to {log.rows} are good"
    if log.rows > log.signed:
        parts.append(f"the last {log.rows - log.signed} not signed yet")
    if log.witnessed:
        parts.append(f"witnessed up to row {log.witnessed} at {_time(log.witnessed_s)}")
    else:
        parts.append("no witness has seen it")
    return ", ".join(parts)


def _time(time_s: int | None) -> str | None:
    return None if time_s is None else utc_text(time_s * NANOSECONDS)
