"""A node with records of two cameras, their rows in capture's ledger, and what holds need, for tests of holds."""

import dataclasses
import os
from pathlib import Path

from homeplate.clock import NANOSECONDS, SimulatedClock
from homeplate.domain.hold import Ground, Hold, Release
from homeplate.domain.record import RecordId, StorageClass
from homeplate.hold import SEALED, Holder
from homeplate.purge import Held, purge
from homeplate.sealing.keys import generate_signing_key
from homeplate.sealing.slots import SlotStore
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.spool import FileSpool
from homeplate.trust.hold import sign_hold, sign_release

NOW_S = 1_790_000_000
NODE = bytes(range(16))
KEY = generate_signing_key()
CONTENT = b"sealed" * 100


class HoldingNode:
    """A node's folder; opened anew for every step, as the processes do."""

    def __init__(self, root: Path) -> None:
        root.mkdir(exist_ok=True)
        self.root, self.clock = root, SimulatedClock(NOW_S * NANOSECONDS)
        self.spool, self.held = FileSpool(root / "spool"), HeldRecords(root / "held")
        self.keys = (KEY.public_key().public_bytes_raw(),)

    def stores(self) -> dict[StorageClass, SlotStore]:
        return {each: SlotStore(self.root / f"{each}.slots", self.root / f"{each}.memory") for each in StorageClass}

    def held_keys(self) -> SlotStore:
        return SlotStore(self.root / "held.slots", self.root / "held.memory")

    def record(self, camera="road", captured_s=NOW_S - 60, keep_s=500, storage=StorageClass.LOCAL) -> RecordId:
        """Put a record where capture would, with the row that commits it."""
        record_id, stores = RecordId(os.urandom(16)), self.stores()
        store = stores[storage]
        blob = store.wrap(store.slot_for("hits", NOW_S + keep_s, 100_000), record_id, CONTENT)
        self.spool.stage(record_id, blob, storage)
        with MerkleLog(self.root / "capture.log", SimulatedClock(NOW_S * NANOSECONDS)) as log:
            log.append(SEALED, source=camera, records=str(record_id), captured_s=captured_s)
        self.spool.release([record_id])
        _close(stores.values())
        return record_id

    def holding(self, do):
        """Call `do` with a `Holder`, as a process of its own would."""
        stores, held_keys = self.stores(), self.held_keys()
        with MerkleLog(self.root / "hold.log", self.clock) as ledger:
            holder = Holder(
                node=NODE, clock=self.clock, hold_keys=lambda: self.keys, stores=stores, spool=self.spool,
                held=self.held, held_keys=held_keys, ledger=ledger,
                captured=lambda: read_rows(self.root / "capture.log"),
            )  # fmt: skip
            try:
                return do(holder)
            finally:
                _close([*stores.values(), held_keys])

    def apply(self, hold=None):
        return self.holding(lambda holder: holder.apply(signed(hold or a_hold())))

    def release(self, hold=None):
        return self.holding(lambda holder: holder.release(released(hold or a_hold())))

    def in_force(self):
        return self.holding(lambda holder: holder.in_force())

    def purge(self, now_s: int | None = None, **other):
        if now_s is not None:
            self.clock.advance_to(now_s * NANOSECONDS)
        stores, held_keys = self.stores(), self.held_keys()
        try:
            return purge(
                clock=self.clock, stores=stores, spool=self.spool,
                open_ledger=lambda: MerkleLog(self.root / "purge.log", self.clock),
                certificates=self.root / "certificates", held=Held(keys=held_keys, records=self.held), **other,
            )  # fmt: skip
        finally:
            _close([*stores.values(), held_keys])

    def rows(self, log, event=None):
        return [row for row in read_rows(self.root / f"{log}.log") if event in {None, row.event}]

    def readable_copies(self):
        """Return the ids of copies that open with a key that is on the disk now."""
        keys, found = self.held_keys(), set()
        for hold_id in self.held.holds():
            found |= {each for each in self.held.records(hold_id) if keys.unwrap(self.held.get(hold_id, each))}
        keys.close()
        return found

    def readable_originals(self):
        stores, found = self.stores(), set()
        for storage, store in stores.items():
            found |= {each for each in self.spool.released(storage) if store.unwrap(self.spool.get(each))}
        _close(stores.values())
        return found

    def live_hold_keys(self):
        keys = self.held_keys()
        live = keys.live()
        keys.close()
        return live


def a_hold(**changed) -> Hold:
    good = Hold(
        hold_id=b"h" * 16, node=NODE, case="26-1234", ground=Ground.EVIDENCE, camera="road", from_s=NOW_S - 600,
        to_s=NOW_S - 1, most_records=4, issued_s=NOW_S - 5, expires_s=NOW_S + 100_000,
    )  # fmt: skip
    return dataclasses.replace(good, **changed)


def signed(hold: Hold, key=KEY) -> bytes:
    return sign_hold(hold, key)


def released(hold: Hold, key=KEY) -> bytes:
    return sign_release(Release(hold_id=hold.hold_id, node=hold.node, case=hold.case, issued_s=NOW_S), key)


def _close(stores) -> None:
    for store in stores:
        store.close()
