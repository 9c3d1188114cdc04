"""Builds the purge: destroys expired slot keys, then their files. It needs neither capture nor uplink."""

from homeplate.app.node import Paths, load_identity, open_hold_slots, open_slots
from homeplate.clock import NANOSECONDS, SystemClock, utc_text
from homeplate.config import Config
from homeplate.domain.record import StorageClass
from homeplate.errors import SealingError, StoreError
from homeplate.purge import Held, purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool


def run_purge(config: Config) -> str:
    """Purge once and return what its certificate says, in a line.

    Raises:
        ConfigError: where the folder holds no node.
        HomeplateError: what went wrong first, after all was destroyed that could be.
    """
    paths = Paths.of(config)
    load_identity(paths)
    clock = SystemClock(paths.clock, "purge")
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
        )
    finally:
        for store in (*stores.values(), *([held.keys] if held else [])):
            store.close()
    files = certificate.outgoing_files + certificate.local_files
    oldest = "none" if certificate.oldest_expiry_s is None else utc_text(certificate.oldest_expiry_s * NANOSECONDS)
    at = utc_text(certificate.purged_at_s * NANOSECONDS)
    return (
        f"purged at {at}: {certificate.keys_destroyed} slot keys destroyed, {files} files removed, "
        f"{certificate.keys_left} keys left, the first to expire: {oldest}; "
        f"{certificate.holds} holds keep {certificate.held_records} records"
    )


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
