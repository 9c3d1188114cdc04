"""`homeplate-custodian report`: what a verified ledger says of a year: counts, agencies and purposes."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from homeplate.domain.agency import Agency, Grant
from homeplate.domain.record import NANOSECONDS
from homeplate.errors import LedgerError
from homeplate.store.rows import AnyLine, Row, Shown, Withheld, span_of
from homeplate_custodian.commands_verify import bundle_options, signed_bundle
from homeplate_custodian.verify import Evidence, verify_ledger

CONFIRMED = "delivery.confirmed"
DISCLOSED = {CONFIRMED, "delivery.outcome-unknown"}
"""What left or may have left: an attempt whose PUBACK never came counts as disclosed."""
DENIED = {"capture.refused", "delivery.refused"}
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@dataclass(slots=True, kw_only=True)
class Year:
    """What a year's rows say.

    Attributes:
        disclosed: records that left or may have left, by recipient, and whether one of their attempts was confirmed.
        denied: refusals by recipient and reason's code, repeats counted.
        withheld: rows of the logs that an export withholds whole; whose year they are is not known.
    """

    year: int
    disclosed: dict[tuple[str, str], bool] = field(default_factory=dict)
    denied: Counter[tuple[str, str]] = field(default_factory=Counter)
    withheld: int = 0

    def visit(self, line: AnyLine) -> None:
        """Count one row."""
        span = span_of(line)
        if span is None or isinstance(line, Withheld):
            self.withheld += 1
            return
        if datetime.fromtimestamp(span.first // NANOSECONDS, tz=UTC).year != self.year:
            return
        what: Row | Shown = line if isinstance(line, Shown) else line.row
        recipient = str(what.fields.get("recipient", "*"))
        if what.event in DISCLOSED:
            record = (recipient, str(what.fields.get("record", f"row {what.number}")))
            self.disclosed[record] = self.disclosed.get(record, False) or what.event == CONFIRMED
        elif what.event in DENIED:
            code = str(what.fields.get("reason", "")).partition(":")[0]
            self.denied[recipient, code] += int(what.fields.get("repeats", 1))


@click.group()
def report() -> None:
    """Figures from verified ledgers."""


@report.command("disclosures")
@click.argument("ledgers", type=_FOLDER)
@bundle_options
@click.option("--year", type=click.IntRange(2000, 9999), required=True, help="Calendar year, UTC.")
@click.option("--archive", "archives", type=_FOLDER, multiple=True, help="A folder of archived segments.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def disclosures(
    ledgers: Path,
    *,
    custody: Path | None,
    bundle: Path | None,
    root: Path | None,
    year: int,
    archives: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Count a year's disclosures and denials by agency and purpose, from ledgers that verify."""
    found = signed_bundle(custody, bundle, root)
    counted = Year(year=year)
    evidence = Evidence(archives=archives, witnesses=found.witnesses)
    verified = verify_ledger(ledgers, found.nodes, evidence, lambda _, line: counted.visit(line))
    for log in verified.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}; nothing was counted")
    unsigned = sum(log.rows - log.signed for log in verified.logs)
    rows = _agencies(counted, found.registry, found.allowlist)
    if as_json:
        denied = [
            {"recipient": who, "reason": why, "count": count} for (who, why), count in sorted(counted.denied.items())
        ]
        summary = {"node": verified.node, "year": year, "disclosures": rows, "denials": denied}
        click.echo(json.dumps(summary | {"rows_unsigned": unsigned, "rows_withheld": counted.withheld}, sort_keys=True))
        return
    click.echo(f"node {verified.node}, {year}: {len(counted.disclosed)} records disclosed")
    for row in rows:
        click.echo(
            f"  {row['agency']}: {row['confirmed']} confirmed, {row['unknown']} unknown; purpose: {row['purpose']}"
        )
    click.echo(f"{sum(counted.denied.values())} refused")
    for (who, why), count in sorted(counted.denied.items()):
        click.echo(f"  {who}: {count} {why}")
    if unsigned or counted.withheld:
        click.echo(f"note: {unsigned} rows are not signed yet, {counted.withheld} are withheld")


def _agencies(counted: Year, registry: Iterable[Agency], allowlist: Iterable[Grant]) -> list[dict[str, str | int]]:
    """Return a line for each recipient; its name and purpose are those of the bundle that is given."""
    names = {agency.identifier: agency.legal_name for agency in registry}
    purposes = {grant.identifier: grant.purpose for grant in allowlist}
    sure = Counter((who, confirmed) for (who, _), confirmed in counted.disclosed.items())
    return [
        {
            "recipient": who,
            "agency": names.get(who, f"{who} (not in this bundle)"),
            "purpose": purposes.get(who, "not in this bundle"),
            "confirmed": sure[who, True],
            "unknown": sure[who, False],
        }
        for who in sorted({recipient for recipient, _ in sure})
    ]
