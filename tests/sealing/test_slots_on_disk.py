"""What the disk itself holds of a destroyed slot key: scanned in the image of an ext4, journal included.

The file systems are small loop mounts, which need root on Linux. The same scan finds a key that was unlinked instead,
so it can fail.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeplate.domain.record import DAY_SECONDS, RecordId, SlotId
from homeplate.sealing.errors import SlotError
from homeplate.sealing.slots import CELL_BYTES, SlotStore, require_in_place
from tests.disk import Disk, mounted


class SlotDisk(Disk):
    """A disk with a slot file on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.memory = folder / "memory.slots"

    @contextmanager
    def store(self) -> Iterator[SlotStore]:
        store = SlotStore(self.mount_point / "disk.slots", self.memory)
        yield store
        store.close()

    def key_of(self, slot: SlotId) -> bytes:
        data = (self.mount_point / "disk.slots").read_bytes()
        start = data.index(slot.value) - 4
        assert start % CELL_BYTES == 0
        return data[start + 81 : start + 113]


@pytest.fixture
def disk(tmp_path):
    yield from mounted(tmp_path, SlotDisk)


def test_a_destroyed_key_is_nowhere_on_the_disk_and_a_kept_one_is(disk):
    require_in_place(disk.mount_point)
    with disk.store() as store:
        kept, doomed = (store.slot_for("hits", expiry, DAY_SECONDS) for expiry in (1, 2))
        kept_key, doomed_key = disk.key_of(kept), disk.key_of(doomed)
        blob = store.wrap(doomed, RecordId(bytes(16)), b"sealed")
    disk.unmount()
    assert disk.holds(kept_key)
    assert disk.holds(doomed_key)
    disk.mount()
    with disk.store() as store:
        assert store.destroy([doomed]) == 1
        assert store.unwrap(blob) is None
    disk.unmount()
    assert disk.holds(kept_key)
    assert not disk.holds(doomed_key)


def test_two_hundred_slots_made_and_destroyed_leave_no_key_on_the_disk(disk):
    keys = []
    with disk.store() as store:
        for expiry in range(200):
            slot = store.slot_for("hits", expiry, DAY_SECONDS)
            keys.append(disk.key_of(slot))
            if expiry >= 10:
                store.destroy([info.slot for info in store.live() if info.expiry_s == expiry - 10])
        store.destroy([info.slot for info in store.live()])
    disk.unmount()
    data = disk.image.read_bytes()
    assert not [key for key in keys if key in data]


def test_the_scan_finds_a_key_whose_file_was_unlinked(disk):
    """The control: this is what the usual way of deleting a file leaves behind."""
    with disk.store() as store:
        key = disk.key_of(store.slot_for("hits", 1, DAY_SECONDS))
    (disk.mount_point / "disk.slots").unlink()
    os.sync()
    disk.unmount()
    assert disk.holds(key)


def test_a_full_disk_hinders_neither_new_slots_nor_their_destruction(disk):
    with disk.store() as store:
        disk.fill()
        slot = store.slot_for("hits", 1, DAY_SECONDS)
        key = disk.key_of(slot)
        assert store.destroy([slot]) == 1
    disk.unmount()
    assert not disk.holds(key)


def test_a_slot_file_that_does_not_fit_is_refused_and_leaves_nothing(disk):
    disk.fill()
    with pytest.raises(SlotError, match="No space"):
        SlotStore(disk.mount_point / "disk.slots", disk.memory)
    assert {path.name for path in disk.mount_point.iterdir()} == {"filler", "lost+found"}
