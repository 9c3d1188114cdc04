"""`homeplate-custodian verify`: an auditor's look at a node's ledgers, offline; what it means is in `verify`."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from homeplate.clock import NANOSECONDS, WallClock, utc_text
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ConfigError, LedgerError
from homeplate.trust.bundle import Bundle, pin_root, read_bundle
from homeplate.trust.files import read_bounded
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate.trust.reasons import NamedTrustError
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
@click.option("--at", "day", type=click.DateTime(["%Y-%m-%d"]), help="Judge bundle and node as of this past day (UTC).")
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
    day: datetime | None,
    certificates: Path | None,
    as_json: bool,
) -> None:
    """Verify a node's ledger folder, or a copy or export of it; name the first bad row (exit code 10)."""
    at_s = None if day is None else past_day(day)
    found = signed_bundle(custody, bundle, root, at_s=at_s)
    evidence = Evidence(
        known=known,
        certificates=certificates,
        archives=archives,
        witnesses=found.witnesses,
        partial=partial,
        until_s=None if at_s is None else at_s + DAY_SECONDS,
    )
    report = verify_ledger(ledgers, found.nodes, evidence)
    (_print_json if as_json else _print_lines)(report)
    if day is not None and not as_json:
        click.echo(f"note: judged as of {day.date()}, not as of today{_revoked(report)}")
    for log in report.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}")


def past_day(day: datetime) -> int:
    """Return the first second of a day (UTC), since 1970.

    Raises:
        ConfigError: where it is not over yet or today.
    """
    at_s = int(day.replace(tzinfo=UTC).timestamp())
    if at_s > WallClock().now_ns() // NANOSECONDS:
        raise ConfigError(f"--at {day.date()} is not there yet; leave it out to judge as of now")
    return at_s


def _revoked(report: Report) -> str:
    if not report.revoked:
        return ""
    return (
        "; the node is revoked by now, and the bundle does not say since when: ask, and trust no row after that day on "
        "this word alone"
    )


def signed_bundle(custody: Path | None, bundle: Path | None, root: Path | None, *, at_s: int | None = None) -> Bundle:
    """Return the verified bundle that says whose nodes and whose witnesses count: nothing else does.

    Args:
        custody: the custody folder, whose published bundle counts; or
        bundle: a published bundle, with
        root: the root that it is under.
        at_s: when it has to be in force, seconds since 1970; now where None.

    Raises:
        ConfigError: where it is not said which.
        TrustError: where it does not verify; one that is over says that `--at` judges a day before.
    """
    try:
        return _signed_bundle(custody, bundle, root, WallClock().now_ns() // NANOSECONDS if at_s is None else at_s)
    except NamedTrustError as error:
        if error.reason != "expired" or at_s is not None:
            raise
        raise NamedTrustError(
            error.reason, f"{error}; or `verify --at YYYY-MM-DD` judges as of a day on which it was in force"
        ) from error


def _signed_bundle(custody: Path | None, bundle: Path | None, root: Path | None, now_s: int) -> Bundle:
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
    absent = sorted(report.absent)
    said = {"node": report.node, "ok": report.ok, "logs": logs, "absent": absent, "revoked": report.revoked}
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
