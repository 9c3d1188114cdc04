"""Builds the purge: destroys expired slot keys, then their files. It needs neither capture nor uplink."""

from contextlib import suppress

from homeplate.app.node import Paths, load_identity, open_hold_slots, open_slots
from homeplate.clock import NANOSECONDS, SystemClock, utc_text
from homeplate.config import Config
from homeplate.domain.purging import ByHand
from homeplate.domain.record import StorageClass
from homeplate.errors import SealingError, StoreError
from homeplate.purge import Held, purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.certificates import certificate_path
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.spool import FileSpool


def run_purge(config: Config, by_hand: ByHand | None = None) -> str:
    """Purge once and return what its certificate says, in a line.

    Args:
        config: the node's.
        by_hand: what a person destroys before its time; None where the clock alone decides.

    Raises:
        ConfigError: where the folder holds no node, or `by_hand` names nothing that is here.
        HomeplateError: what went wrong first, after all was destroyed that could be.
    """
    paths = Paths.of(config)
    load_identity(paths)
    clock = SystemClock(paths.clock, "purge", witness=lambda: _last_told_ns(paths))
    before = max(paths.certificates.glob("purge-*.json"), default=None)
    stores, unopened = _open_stores(paths)
    held, unopened_held = _open_held(paths)
    try:
        certificate = purge(
            clock=clock,
            stores=stores,
            spool=FileSpool(paths.spool),
            open_ledger=lambda: MerkleLog(paths.log("purge"), clock),
            certificates=paths.certificates,
            held=held,
            unopened=unopened or unopened_held,
            by_hand=by_hand,
        )
    finally:
        for store in (*stores.values(), *([held.keys] if held else [])):
            store.close()
    files = certificate.outgoing_files + certificate.local_files
    oldest = "none" if certificate.oldest_expiry_s is None else utc_text(certificate.oldest_expiry_s * NANOSECONDS)
    at = utc_text(certificate.purged_at_s * NANOSECONDS)
    early = f" ({certificate.keys_destroyed_early} by hand)" if certificate.keys_destroyed_early else ""
    # The last certificate stands for an hour where nothing is over: said, or it would read as a purge of now.
    again = before == certificate_path(paths.certificates, certificate.ledger.row)
    return ("nothing is over, nothing was destroyed; the last time, " if again else "") + (
        f"purged at {at}: {certificate.keys_destroyed} slot keys destroyed{early}, {files} files removed, "
        f"{certificate.keys_left} keys left, the first to expire: {oldest}; "
        f"{certificate.holds} holds keep {certificate.held_records} records"
    )


def _last_told_ns(paths: Paths) -> int:
    """Return the highest node time in the ledgers of purge's own user: it has passed, whatever became of the marks."""
    last = 0
    for process in ("purge", "capture", "hold"):
        with suppress(StoreError):  # up to the first row that does not verify
            for row in read_rows(paths.log(process)):
                last = max(last, row.time_ns)
    return last


def _open_held(paths: Paths) -> tuple[Held | None, SealingError | StoreError | None]:
    try:
        return Held(keys=open_hold_slots(paths, check=False), records=HeldRecords(paths.held)), None
    except (SealingError, StoreError) as error:
        return None, error


def _open_stores(paths: Paths) -> tuple[dict[StorageClass, SlotStore], SealingError | None]:
    """Open what can be opened, wherever it lies: one class's damage must not keep the other's keys alive."""
    stores: dict[StorageClass, SlotStore] = {}
    unopened = None
    for storage in StorageClass:
        try:
            stores[storage] = open_slots(paths, storage, check=False)
        except SealingError as error:
            unopened = unopened or error
    return stores, unopened
