"""A stolen disk, every byte of its raw image, and the custodian's private keys: what is past its date does not open.

The node's whole data folder lies on an ext4 of its own; the image is read unmounted, free blocks and journal included.
Before expiry the same search finds and opens everything, so it can fail.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeplate.clock import NANOSECONDS, SimulatedClock
from homeplate.domain.record import DAY_SECONDS, Part, StorageClass
from homeplate.hold import Holder
from homeplate.purge import Held, purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.spool import FileSpool
from tests.capturing import KEYS, NODE, NOW_S, SIGNING_KEY, Film, Node, rule, terms, traffic
from tests.disk import mounted
from tests.forensics import opened, stored_records
from tests.holding import KEY, a_hold, signed
from tests.sealing.opener import Vector, content_of

PLATES = ("7ABC123", "8XYZ987", "6QRS456", "5TUV321")
RETENTION_S, HOLD_S = 12 * DAY_SECONDS, 40 * DAY_SECONDS
PUBLIC = SIGNING_KEY.public_key().public_bytes_raw().hex()
VECTORS = {
    name: Vector(name, {"node-public": PUBLIC, "kem": key.kem.value, "private": key.private_bytes.hex()}, ())
    for name, key in KEYS.items()
}


@dataclass
class OnDisk(Node):
    """A node whose memory-backed slots are not on the disk."""

    memory: Path = Path()

    def slots(self, storage):
        return self.store(storage.value)

    def store(self, name):
        return SlotStore(self.folder / f"{name}.slots", self.memory / f"{name}.slots")

    def at(self, now_s, do):
        """Call `do` with clock, slot stores and hold keys, as a process at that time would."""
        stores, held = {storage: self.slots(storage) for storage in StorageClass}, self.store("held")
        try:
            return do(SimulatedClock(now_s * NANOSECONDS), stores, held)
        finally:
            for store in (*stores.values(), held):
                store.close()

    def hold(self, clock, stores, held):
        """Hold the first plate's passage."""
        with MerkleLog(self.folder / "hold.log", clock) as ledger:
            Holder(
                node=NODE, clock=clock, hold_keys=lambda: [KEY.public_key().public_bytes_raw()], stores=stores,
                spool=FileSpool(self.folder / "spool"), held=HeldRecords(self.folder / "held"), held_keys=held,
                ledger=ledger, captured=lambda: read_rows(self.folder / "capture.log"),
            ).apply(signed(a_hold(from_s=NOW_S, to_s=NOW_S + 1, expires_s=NOW_S + HOLD_S)))  # fmt: skip

    def purge(self, clock, stores, held):
        return purge(
            clock=clock, stores=stores, spool=FileSpool(self.folder / "spool"),
            open_ledger=lambda: MerkleLog(self.folder / "purge.log", clock),
            certificates=self.folder / "certificates", held=Held(keys=held, records=HeldRecords(self.folder / "held")),
        )  # fmt: skip


@pytest.fixture
def disk(tmp_path):
    yield from mounted(tmp_path)


def node_on(disk, tmp_path):
    """Make a node on the disk, and let it capture: facts and crops for twelve days, and facts for ten minutes."""
    (tmp_path / "memory").mkdir()
    long = rule("long", retention_s=RETENTION_S)
    short = rule(
        "short", retention_s=600, storage=StorageClass.LOCAL, parts=frozenset({Part.FACTS}), recipients=("shelbyville",)
    )
    node = OnDisk(disk.mount_point / "node", terms=lambda: terms(long, short), memory=tmp_path / "memory")
    node.run(Film(script=traffic(*PLATES), count=180).feed())
    return node


def seen(raw):
    """Return (whose, plate) of the facts that open, and how many crops."""
    found = list(opened(raw, VECTORS))
    facts = [json.loads(content_of(text)) | {"whose": whose} for whose, part, text in found if part == "facts"]
    return sorted((fact["whose"], fact["plate"]) for fact in facts), sum(part == "crop" for _, part, _ in found)


def test_past_its_date_nothing_on_the_raw_disk_opens_with_the_recipients_key_and_before_everything_does(disk, tmp_path):
    node = node_on(disk, tmp_path)
    disk.unmount()
    raw = disk.raw()
    # The keys of the short rule were in memory alone: who takes the power takes its records.
    assert seen(raw) == (sorted(("springfield", plate) for plate in PLATES), len(PLATES))
    assert len(stored_records(raw)) == 3 * len(PLATES)
    assert not [plate for plate in PLATES if plate.encode() in raw]

    disk.mount()
    node.at(NOW_S + 3600, node.hold)
    node.at(NOW_S + RETENTION_S, node.purge)
    assert not list((node.folder / "spool").rglob("*.rec"))
    disk.unmount()
    raw = disk.raw()
    assert seen(raw) == ([("springfield", PLATES[0])], 1)  # the evidence hold's copies, and nothing else
    assert len(stored_records(raw)) > len(PLATES)  # the files are gone; ciphertext lies in free blocks

    disk.mount()
    node.at(NOW_S + HOLD_S, node.purge)
    disk.unmount()
    raw = disk.raw()
    assert seen(raw) == ([], 0)
    assert len(stored_records(raw)) > len(PLATES)


def test_the_search_finds_a_destroyed_key_in_a_journal_that_holds_contents(disk, tmp_path):
    """The control for the journal: on such a file system the node refuses to start (`require_in_place`)."""
    disk.unmount()
    disk.mount("loop,data=journal")
    node = node_on(disk, tmp_path)
    disk.unmount()
    disk.mount("loop,data=journal")
    node.at(NOW_S + RETENTION_S, node.purge)
    disk.unmount()
    assert seen(disk.raw())[0] == sorted(("springfield", plate) for plate in PLATES)
