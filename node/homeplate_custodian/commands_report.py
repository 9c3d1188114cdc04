"""`homeplate-custodian report`: what a verified ledger says of a year: counts, agencies and purposes."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from homeplate.domain.agency import Agency
from homeplate.domain.record import NANOSECONDS
from homeplate.errors import LedgerError
from homeplate.store.rows import AnyLine, Row, Shown, Withheld, span_of
from homeplate_custodian.commands_verify import bundle_options, signed_bundle
from homeplate_custodian.verify import Evidence, Report, verify_ledger

INTENDED, CONFIRMED, EXPORTED = "delivery.intended", "delivery.confirmed", "hold.exported"
DISCLOSED = {CONFIRMED, "delivery.outcome-unknown"}
"""What left or may have left: an attempt whose PUBACK never came counts as disclosed; one without an outcome too."""
ATTEMPTED = DISCLOSED | {INTENDED, "delivery.not-sent"}
UNRECORDED = "not recorded"
UPLINK = "uplink"
DENIED = {"capture.refused", "delivery.refused"}
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@dataclass(slots=True, kw_only=True)
class _Record:
    """What is known of one record and recipient. Attributes: purpose: of its last attempt; open: no outcome yet."""

    purpose: str = UNRECORDED
    open: bool = False
    left: bool = False
    confirmed: bool = False


@dataclass(slots=True, kw_only=True)
class Year:
    """What a year's rows say.

    Attributes:
        records: by year of the attempt, recipient and record, what became of it.
        denied: refusals by recipient and reason's code, repeats counted.
        exported: records that were handed out for an evidence hold, by case; the same record each time.
        withheld: rows of the logs that an export withholds whole; whose year they are is not known.
    """

    year: int
    records: dict[tuple[str, str], dict[int, _Record]] = field(default_factory=dict)
    denied: Counter[tuple[str, str]] = field(default_factory=Counter)
    exported: Counter[str] = field(default_factory=Counter)
    withheld: int = 0

    def visit(self, line: AnyLine) -> None:
        """Count one row."""
        span = span_of(line)
        if span is None or isinstance(line, Withheld):
            self.withheld += 1
            return
        what: Row | Shown = line if isinstance(line, Shown) else line.row
        year = datetime.fromtimestamp(span.first // NANOSECONDS, tz=UTC).year
        recipient = str(what.fields.get("recipient", "*"))
        # Policy refuses before anything is sent; what a broker refused was sent.
        if what.event in ATTEMPTED or str(what.fields.get("reason")).startswith("broker:"):
            self._attempt(what, recipient, year)
        if year != self.year:
            return
        if what.event in DENIED:
            code = str(what.fields.get("reason", "")).partition(":")[0]
            self.denied[recipient, code] += int(what.fields.get("repeats", 1))
        elif what.event == EXPORTED:
            self.exported[str(what.fields.get("case", "not shown"))] += int(what.fields.get("records", 0))

    def disclosed(self) -> list[tuple[str, str, bool]]:
        """Return recipient, purpose and whether it was confirmed, of each record that left or may have left."""
        return [
            (recipient, found.purpose, found.confirmed)
            for (recipient, _), years in self.records.items()
            for year, found in years.items()
            if year == self.year and (found.left or found.open)
        ]

    def _attempt(self, what: Row | Shown, recipient: str, year: int) -> None:
        """Take a row of an attempt. One that is begun is open until its outcome, which may be of the next year."""
        years = self.records.setdefault((recipient, str(what.fields.get("record", f"row {what.number}"))), {})
        if what.event == INTENDED:
            found = years.setdefault(year, _Record())
            found.left |= found.open  # the attempt before has no outcome and never will have one
            found.open, found.purpose = True, str(what.fields.get("purpose", UNRECORDED))
            return
        begun = next((one for one, found in years.items() if found.open), None)
        if begun is None and what.event not in DISCLOSED:
            return  # a refusal before anything was sent
        found = years.setdefault(year if begun is None else begun, _Record())
        found.open = False
        found.left |= what.event in DISCLOSED
        found.confirmed |= what.event == CONFIRMED


@click.group()
def report() -> None:
    """Figures from verified ledgers."""


@report.command("disclosures")
@click.argument("ledgers", type=_FOLDER)
@bundle_options
@click.option("--year", type=click.IntRange(2000, 9999), required=True, help="Calendar year, UTC.")
@click.option("--archive", "archives", type=_FOLDER, multiple=True, help="A folder of archived segments.")
@click.option("--partial", is_flag=True, help="Count what is here, though archived segments or whole logs are missing.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON line.")
def disclosures(
    ledgers: Path,
    *,
    custody: Path | None,
    bundle: Path | None,
    root: Path | None,
    year: int,
    archives: tuple[Path, ...],
    partial: bool,
    as_json: bool,
) -> None:
    """Count a year's disclosures and denials by agency and purpose, from ledgers that verify."""
    found = signed_bundle(custody, bundle, root)
    counted = Year(year=year)
    evidence = Evidence(archives=archives, witnesses=found.witnesses, partial=partial)
    verified = verify_ledger(ledgers, found.nodes, evidence, lambda _, line: counted.visit(line))
    _refuse_half(verified, partial=partial)
    rows = _agencies(counted, found.registry)
    unsigned = sum(log.rows - log.signed for log in verified.logs)
    if as_json:
        summary = _summary(verified, counted, rows)
        click.echo(json.dumps(summary | {"rows_unsigned": unsigned}, sort_keys=True))
        return
    click.echo(f"node {verified.node}, {year}: {len(counted.disclosed())} records disclosed")
    for row in rows:
        click.echo(
            f"  {row['agency']}: {row['confirmed']} confirmed, {row['unknown']} unknown; purpose: {row['purpose']}"
        )
    click.echo(f"{sum(counted.exported.values())} handed out for evidence holds")
    for case, count in sorted(counted.exported.items()):
        click.echo(f"  case {case}: {count}")
    click.echo(f"{sum(counted.denied.values())} refused")
    for (who, why), count in sorted(counted.denied.items()):
        click.echo(f"  {who}: {count} {why}")
    if unsigned or counted.withheld:
        click.echo(f"note: {unsigned} rows are not signed yet, {counted.withheld} are withheld")
    for name, why in sorted(verified.absent.items()):
        click.echo(f"note: no log of {name} is here, nothing of it was counted{f': {why}' if why else ''}")
    for log in (log for log in verified.logs if log.first > 1):
        click.echo(f"note: rows 1 to {log.first - 1} of {log.name} are not here and were not counted")


def _refuse_half(verified: Report, *, partial: bool) -> None:
    """Refuse to count what does not verify, and disclosures without the log that has them.

    Raises:
        LedgerError: names the log and the row.
    """
    for log in verified.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}; nothing was counted")
    if UPLINK in verified.absent and not partial:
        raise LedgerError(
            "ledger uplink: no log is here, and disclosures are in it; nothing was counted. Bring it from the node's "
            "ledger folder; where uplink has never run, --partial counts the other logs"
        )


def _summary(verified: Report, counted: Year, rows: list[dict[str, str | int]]) -> dict[str, object]:
    denied = [{"recipient": who, "reason": why, "count": count} for (who, why), count in sorted(counted.denied.items())]
    exported = [{"case": case, "records": count} for case, count in sorted(counted.exported.items())]
    return {
        "node": verified.node,
        "year": counted.year,
        "disclosures": rows,
        "denials": denied,
        "hold_exports": exported,
        "rows_withheld": counted.withheld,
        "absent": sorted(verified.absent),
        "from_row": {log.name: log.first for log in verified.logs if log.first > 1},
    }


def _agencies(counted: Year, registry: Iterable[Agency]) -> list[dict[str, str | int]]:
    """Return a line for each recipient and purpose; its name is that of the bundle that is given."""
    names = {agency.identifier: agency.legal_name for agency in registry}
    sure = Counter(counted.disclosed())
    return [
        {
            "recipient": who,
            "agency": names.get(who, f"{who} (not in this bundle)"),
            "purpose": purpose,
            "confirmed": sure[who, purpose, True],
            "unknown": sure[who, purpose, False],
        }
        for who, purpose in sorted({(who, purpose) for who, purpose, _ in sure})
    ]
