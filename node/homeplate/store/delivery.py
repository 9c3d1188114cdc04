"""Uplink's own log of what it set out to send and what came of it: one row a record, in SQLite, one writer.

It answers two questions after a crash: which record was on its way without an outcome, and which was confirmed though
its file is still in the spool. What was disclosed to whom, for good, is in the ledger; settled rows here are pruned.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from homeplate.domain.record import RecordId
from homeplate.errors import StoreError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS delivery (
  record BLOB PRIMARY KEY CHECK (length(record) = 16),
  recipient TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  changed_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID
"""
_VERSION = 1


class Outcome(StrEnum):
    """What became of the last attempt. `intended` means: not known yet."""

    INTENDED = "intended"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    NOT_SENT = "not-sent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One record's last attempt, counted from 1."""

    record_id: RecordId
    recipient: str
    attempt: int
    outcome: Outcome


class DeliveryLog:
    """The log. Every method returns after its transaction is on disk (WAL, synchronous=FULL)."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the log, or make it.

        The caller keeps two threads from using it at once.

        Raises:
            StoreError: where it cannot be opened or was written by another version.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: the delivery log cannot be opened: {error}") from error
        log = cls(connection, path)
        try:
            log._prepare()
        except StoreError:
            connection.close()
            raise
        return log

    def _prepare(self) -> None:
        with self._checked():
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in {0, _VERSION}:
                raise StoreError(f"{self._path}: a delivery log of version {version}: update Homeplate")
            self._connection.execute(_SCHEMA)
            self._connection.execute(f"PRAGMA user_version={_VERSION}")

    def intend(self, record_id: RecordId, recipient: str, now_s: int) -> Delivery:
        """Write that a record is about to be sent, before a byte of it leaves.

        Raises:
            StoreError: where it cannot be written, or the record was confirmed before.
        """
        with self._checked():
            row = self._connection.execute(
                "INSERT INTO delivery VALUES (?, ?, 1, ?, ?) ON CONFLICT (record) DO UPDATE SET"
                " recipient = excluded.recipient, attempt = attempt + 1,"
                " outcome = excluded.outcome, changed_s = excluded.changed_s"
                " WHERE outcome != ? RETURNING attempt",
                (record_id.value, recipient, Outcome.INTENDED, now_s, Outcome.CONFIRMED),
            ).fetchall()
        if not row:
            raise StoreError(f"record {record_id} was confirmed before: it is not sent twice")
        return Delivery(record_id=record_id, recipient=recipient, attempt=row[0][0], outcome=Outcome.INTENDED)

    def settle(self, record_id: RecordId, outcome: Outcome, now_s: int) -> None:
        """Write what came of the attempt that is open.

        Raises:
            StoreError: where it cannot be written, or no attempt is open.
        """
        with self._checked():
            changed = self._connection.execute(
                "UPDATE delivery SET outcome = ?, changed_s = ? WHERE record = ? AND outcome = ?",
                (outcome, now_s, record_id.value, Outcome.INTENDED),
            ).rowcount
        if changed != 1:
            raise StoreError(f"record {record_id} has no open attempt to settle in {self._path}")

    def open_attempts(self) -> list[Delivery]:
        """Return what was intended and has no outcome: after a crash, at most one a broker."""
        with self._checked():
            rows = self._connection.execute(
                "SELECT record, recipient, attempt, outcome FROM delivery WHERE outcome = ? ORDER BY record",
                (Outcome.INTENDED,),
            ).fetchall()
        return [
            Delivery(record_id=RecordId(record), recipient=recipient, attempt=attempt, outcome=Outcome(outcome))
            for record, recipient, attempt, outcome in rows
        ]

    def outcome(self, record_id: RecordId) -> Outcome | None:
        """Return the last outcome of a record; None where it was never tried."""
        with self._checked():
            row = self._connection.execute(
                "SELECT outcome FROM delivery WHERE record = ?", (record_id.value,)
            ).fetchone()
        return None if row is None else Outcome(row[0])

    def counts(self) -> dict[Outcome, int]:
        """Return how many records have each outcome."""
        with self._checked():
            rows = self._connection.execute("SELECT outcome, count(*) FROM delivery GROUP BY outcome").fetchall()
        return {Outcome(outcome): count for outcome, count in rows}

    def prune(self, before_s: int) -> int:
        """Forget confirmed rows older than `before_s`; return how many. The caller has removed their files."""
        with self._checked():
            return self._connection.execute(
                "DELETE FROM delivery WHERE outcome = ? AND changed_s < ?", (Outcome.CONFIRMED, before_s)
            ).rowcount

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: the delivery log cannot be read or written: {error}") from error
