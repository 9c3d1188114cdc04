"""Purge certificates: what one purge destroyed, in counts, bound to the row of the purge log that says the same.

A certificate holds nothing that its row does not, so it can be written again from the log, and a verifier compares.
"""

from pathlib import Path

import msgspec

from homeplate.errors import LedgerError, StoreError
from homeplate.store.checkpoints import write_durably
from homeplate.store.ledger import Line

PURGE_DONE = "purge.done"
MAXIMUM_BYTES = 4_096


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where in the purge log the row stands, and the log's Merkle root after it (hexadecimal)."""

    row: int
    root: str


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One purge.

    Attributes:
        version: 1.
        purged_at_s: node time, seconds since 1970.
        keys_destroyed: slot keys overwritten since the last certificate.
        keys_destroyed_early: of these, keys that a person had destroyed before their time; the log says who and why.
        outgoing_files, local_files: files removed by this run, by storage class.
        malformed_files: of these, files whose slot could not be told.
        unreadable_files: files that could not be read and are still there.
        keys_left: slot keys that live on.
        oldest_expiry_s: when the first of them expires; None where none is left.
        holds, held_records: evidence holds in force after it, and the copies that they keep.
        held_cases: their case numbers, with commas between.
        holds_ended, held_files: holds whose key was destroyed since the last certificate (counted in `keys_destroyed`
            too), and the copies that were removed.
        resumed: True where a purge before was cut off; its keys are counted here, its files are not.
        ledger: the row.
    """

    version: int
    purged_at_s: int
    keys_destroyed: int
    outgoing_files: int
    local_files: int
    malformed_files: int
    unreadable_files: int
    keys_left: int
    oldest_expiry_s: int | None
    resumed: bool
    holds: int = 0
    held_records: int = 0
    held_cases: str = ""
    holds_ended: int = 0
    held_files: int = 0
    keys_destroyed_early: int = 0
    ledger: Position


def certificate_of(line: Line) -> Certificate:
    """Return the certificate that a `purge.done` row of the purge log stands for.

    Raises:
        LedgerError: where the row is none.
    """
    if line.row.event != PURGE_DONE:
        raise LedgerError(f"purge.log, row {line.row.number}: {line.row.event} is no purge's row")
    place = {"row": line.row.number, "root": line.root}
    try:
        return msgspec.convert({"oldest_expiry_s": None, **line.row.fields, "version": 1, "ledger": place}, Certificate)
    except msgspec.ValidationError as error:
        raise LedgerError(f"purge.log, row {line.row.number}: it lacks what a purge's row says") from error


def certificate_path(folder: Path, row: int) -> Path:
    """Return `purge-000000000012.json` in `folder`."""
    return folder / f"purge-{row:012}.json"


def write_certificate(certificate: Certificate, folder: Path) -> Path:
    """Write a certificate durably and return its path.

    Raises:
        StoreError: where it cannot be written.
    """
    path = certificate_path(folder, certificate.ledger.row)
    write_durably(path, msgspec.json.format(msgspec.json.encode(certificate, order="sorted"), indent=2) + b"\n")
    return path


def read_certificate(path: Path) -> Certificate:
    """Return a certificate as it claims to be.

    Raises:
        StoreError: where it cannot be read.
        LedgerError: where it is no certificate.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAXIMUM_BYTES)
        return msgspec.json.decode(data, type=Certificate)
    except OSError as error:
        raise StoreError(f"the certificate {path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise LedgerError(f"{path} is no purge certificate") from error
