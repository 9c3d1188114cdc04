"""The periodic audit of accesses (Civil Code 1798.90.53): a draw that anybody can repeat, and ages of what was read.

Pure functions of the access log's rows. Who draws chooses the seed only after the period is over, in public, so that
neither who opened records nor who reviews them can choose which accesses are looked at.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from homeplate.clock import NANOSECONDS
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ConfigError
from homeplate.store.ledger import Line, Row
from homeplate_custodian.access import OPENED, SHOWN

DONE = "audit.done"
_SEED_LABEL = b"homeplate/v1/audit-sample\n"
MAX_SEED = 200

AGE_BOUNDS_DAYS = (1, 2, 4, 8, 15, 22, 31, 61)
"""Where a bar of the histogram of ages ends, in days; 21, 30 and 60 days are retentions that laws name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A draw.

    Attributes:
        seed: as it was said in public.
        first_row, last_row: between which rows of the access log it drew, both included; 0 where there are none.
        root: the log's root after `last_row`, hexadecimal: with the seed it fixes the draw.
        population: how many accesses there were.
        drawn: the rows to review, in order.
    """

    seed: str
    first_row: int
    last_row: int
    root: str
    population: int
    drawn: tuple[Row, ...]


def draw(lines: Sequence[Line], seed: str, count: int, last_row: int | None = None) -> Sample:
    """Return `count` accesses since the last audit (all, where there are fewer), the same for the same log and seed.

    An access is taken where SHA-256(label, seed, root after its row) is among the lowest. The root is random to whoever
    opens (each row has a random salt), and fixed by the log's signed checkpoint before the seed is known.

    Args:
        lines: the access log's.
        seed: said in public after the last of these rows.
        count: how many to draw.
        last_row: of a draw that is repeated: rows after it came later. None takes all rows.

    Raises:
        ConfigError: where the seed is blank or too long.
    """
    if not seed.strip() or len(seed) > MAX_SEED:
        raise ConfigError(f"--seed is 1 to {MAX_SEED} characters, said in public after the period: a lottery's numbers")
    start = max((_reviewed(line.row) for line in lines if line.row.event == DONE), default=0)
    since = [line for line in lines if start < line.row.number and (last_row is None or line.row.number <= last_row)]
    accesses = [line for line in since if line.row.event == OPENED]
    lowest = sorted(accesses, key=lambda line: _rank(seed, line))[:count]
    return Sample(
        seed=seed,
        first_row=since[0].row.number if since else 0,
        last_row=since[-1].row.number if since else 0,
        root=since[-1].root if since else "",
        population=len(accesses),
        drawn=tuple(sorted((line.row for line in lowest), key=lambda row: row.number)),
    )


def _reviewed(row: Row) -> int:
    return int(row.fields["last_row"])


def _rank(seed: str, line: Line) -> bytes:
    return hashlib.sha256(_SEED_LABEL + seed.encode() + b"\n" + bytes.fromhex(line.root)).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the audits stand: when the last was, how old the first access since is, and whether one is overdue."""

    last_audit_s: int | None
    accesses_since: int
    waiting_days: int
    overdue: bool


def standing(rows: Iterable[Row], now_s: int, *, every_days: int) -> Standing:
    """Return how the audits stand at `now_s`: overdue where an access waits for one longer than `every_days`."""
    last: int | None = None
    opened: list[Row] = []
    for row in rows:
        if row.event == DONE:
            last = row.time_ns // NANOSECONDS
            opened = [access for access in opened if access.number > _reviewed(row)]
        elif row.event == OPENED:
            opened.append(row)
    since = [row.time_ns // NANOSECONDS for row in opened]
    waiting = max(0, now_s - since[0]) // DAY_SECONDS if since else 0
    return Standing(
        last_audit_s=last,
        accesses_since=len(since),
        waiting_days=waiting,
        overdue=waiting >= every_days and bool(since),
    )


def ages(rows: Iterable[Row]) -> list[tuple[str, int]]:
    """Return how old records were when they were shown: bars in days and counts, oldest last. No plate is in it.

    Retention is to follow from the age of what is really looked at (State Auditor 2019-118, recommendations 33 and 47).
    """
    counts: Counter[int] = Counter()
    for row in rows:
        if row.event == SHOWN:
            for text in str(row.fields["ages_days"]).split(","):
                if text:
                    counts[sum(int(text) >= bound for bound in AGE_BOUNDS_DAYS)] += 1
    starts = (0, *AGE_BOUNDS_DAYS)
    names = [
        f"{start} to {end - 1}" if end - start > 1 else f"{start}"
        for start, end in zip(starts, AGE_BOUNDS_DAYS, strict=False)
    ]
    return [(name, counts[place]) for place, name in enumerate([*names, f"{AGE_BOUNDS_DAYS[-1]} and more"])]
