"""Retention slots: what is wrapped opens until the slot's key is overwritten in place, and never after."""

import hmac
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate.domain.record import DAY_SECONDS, RecordId, SlotId
from homeplate.sealing import slots as slots_module
from homeplate.sealing.envelope import MAX_RECORD_BYTES
from homeplate.sealing.errors import SlotError, VersionError
from homeplate.sealing.slots import (
    CELL_BYTES,
    CELLS,
    SlotStore,
    filesystem_of,
    require_in_place,
    require_memory_backed,
    slot_of,
)

DEVICE_KEY = bytes(range(32))
RECORD = RecordId(b"r" * 16)
LONG, SHORT = DAY_SECONDS, DAY_SECONDS - 1


class Place:
    """Two folders for a store, which can be opened more than once."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.memory = folder / "disk.slots", folder / "memory" / "memory.slots"
        self.memory.parent.mkdir()
        self.opened: list[SlotStore] = []

    def store(self, device_key: bytes | None = None) -> SlotStore:
        self.opened.append(SlotStore(self.disk, self.memory, device_key))
        return self.opened[-1]

    def reader(self, device_key: bytes | None = None) -> SlotStore:
        self.opened.append(SlotStore.open_existing(self.disk, self.memory, device_key))
        return self.opened[-1]


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for store in place.opened:
        store.close()


def stored_keys(path: Path) -> list[bytes]:
    """Return the keys that stand in a slot file, as its documentation lays it out."""
    data = path.read_bytes()
    cells = [data[start : start + CELL_BYTES] for start in range(CELL_BYTES, len(data), CELL_BYTES)]
    return [cell[81:113] for cell in cells if cell.startswith(b"slot")]


@pytest.mark.parametrize("retention", [SHORT, LONG])
@pytest.mark.parametrize("device_key", [None, DEVICE_KEY], ids=["plain", "device key"])
def test_what_is_wrapped_opens_until_its_slot_is_destroyed(place, retention, device_key):
    store = place.store(device_key)
    slot = store.slot_for("hits", 1000, retention)
    blob = store.wrap(slot, RECORD, b"sealed")
    assert b"sealed" not in blob
    assert slot_of(blob) == slot
    assert store.unwrap(blob) == b"sealed"
    assert store.destroy([slot]) == 1
    assert store.unwrap(blob) is None
    with pytest.raises(SlotError, match="gone"):
        store.wrap(slot, RECORD, b"sealed")
    assert store.destroy([slot]) == 0


def test_a_rule_and_an_expiry_have_one_slot(place):
    store = place.store()
    slot = store.slot_for("hits", 1000, LONG)
    assert store.slot_for("hits", 1000, LONG) == slot
    assert store.slot_for("hits", 1001, LONG) != slot
    assert store.slot_for("other", 1000, LONG) != slot
    assert {(info.rule, info.expiry_s) for info in store.live()} == {("hits", 1000), ("hits", 1001), ("other", 1000)}


def test_slots_outlive_the_process(place):
    store = place.store(DEVICE_KEY)
    slot = store.slot_for("hits", 1000, LONG)
    blob = store.wrap(slot, RECORD, b"sealed")
    again = place.store(DEVICE_KEY)
    assert again.unwrap(blob) == b"sealed"
    assert again.slot_for("hits", 1000, LONG) == slot


def test_a_retention_under_a_day_never_touches_the_disk(place):
    store = place.store()
    before = place.disk.read_bytes()
    slot = store.slot_for("hits", 1000, SHORT)
    store.wrap(slot, RECORD, b"sealed")
    assert place.disk.read_bytes() == before
    assert len(stored_keys(place.memory)) == 1


def test_losing_power_destroys_the_short_slots_alone(place):
    store = place.store()
    short, long = (store.wrap(store.slot_for("hits", 1000, r), RECORD, b"sealed") for r in (SHORT, LONG))
    place.memory.unlink()  # what a reboot does to memory-backed storage
    after = place.store()
    assert after.unwrap(short) is None
    assert after.unwrap(long) == b"sealed"


@pytest.mark.parametrize("retention", [SHORT, LONG])
def test_a_destroyed_key_is_in_no_byte_of_the_file_which_stays_the_same_file(place, retention):
    store = place.store()
    kept, doomed = store.slot_for("hits", 1000, retention), store.slot_for("hits", 2000, retention)
    blob = store.wrap(kept, RECORD, b"sealed")
    path = place.memory if retention == SHORT else place.disk
    inode, keys = path.stat().st_ino, stored_keys(path)
    assert len(keys) == 2
    store.destroy([doomed])
    data = path.read_bytes()
    assert [key in data for key in keys] == [True, False]
    assert doomed.value not in data
    assert path.stat().st_ino == inode
    assert store.unwrap(blob) == b"sealed"


def test_a_device_key_keeps_the_slot_keys_out_of_the_disk_file(place):
    store = place.store(DEVICE_KEY)
    slot = store.slot_for("hits", 1000, LONG)
    blob = store.wrap(slot, RECORD, b"sealed")
    without, wrong = place.store(), place.store(bytes(32))
    for other in (without, wrong):
        with pytest.raises(SlotError, match="device"):
            other.unwrap(blob)
    assert without.live() == store.live()
    assert without.destroy([slot]) == 1, "purge needs no device key"
    assert store.unwrap(blob) is None


def test_uplink_reads_and_changes_nothing(place):
    store = place.store()
    slot = store.slot_for("hits", 1000, SHORT)
    blob = store.wrap(slot, RECORD, b"sealed")
    reader = place.reader()
    assert reader.unwrap(blob) == b"sealed"
    with pytest.raises(SlotError, match="reading only"):
        reader.slot_for("hits", 2000, SHORT)
    with pytest.raises(SlotError, match="reading only"):
        reader.destroy([slot])
    store.destroy([slot])
    assert reader.unwrap(blob) is None


def test_a_reader_takes_a_missing_file_for_an_error_and_not_for_a_deletion(place):
    with pytest.raises(SlotError, match=r"memory\.slots"):
        place.reader()
    place.store()
    place.disk.unlink()
    with pytest.raises(SlotError, match=r"disk\.slots"):
        place.reader()


def test_a_file_that_was_replaced_while_open_is_not_written_to(place):
    store = place.store()
    place.memory.unlink()
    with pytest.raises(SlotError, match="removed"):
        store.slot_for("hits", 1000, SHORT)


@pytest.mark.parametrize("name", ["memory", "disk"])
def test_a_reader_of_a_replaced_file_takes_no_slot_for_destroyed(place, name):
    place.store()
    reader = place.reader()
    getattr(place, name).unlink()
    store = place.store()
    blob = store.wrap(store.slot_for("hits", 1000, SHORT if name == "memory" else LONG), RECORD, b"sealed")
    with pytest.raises(SlotError, match="replaced"):
        reader.unwrap(blob)
    assert place.reader().unwrap(blob) == b"sealed"


@pytest.mark.parametrize("damage", ["short", "header"])
def test_what_is_no_slot_file_is_refused_and_left_alone(place, damage):
    place.store()
    data = place.disk.read_bytes()
    data = data[:-1] if damage == "short" else b"x" + data[1:]
    place.disk.write_bytes(data)
    with pytest.raises(SlotError, match="not a slot file"):
        place.store()
    assert place.disk.read_bytes() == data


def test_a_file_that_cannot_be_made_is_refused_by_name(tmp_path):
    with pytest.raises(SlotError, match="nowhere"):
        SlotStore(tmp_path / "a", tmp_path / "nowhere" / "b")


@pytest.mark.parametrize("position", [0, 4, 20, 60, 70, 81, 112, 129, 144])
def test_a_torn_cell_is_no_slot_and_is_overwritten_at_the_next_destruction(place, position):
    store = place.store()
    slot = store.slot_for("hits", 1000, LONG)
    blob = store.wrap(slot, RECORD, b"sealed")
    with place.disk.open("r+b") as file:
        file.seek(CELL_BYTES + position)
        byte = file.read(1)[0]
        file.seek(CELL_BYTES + position)
        file.write(bytes([byte ^ 1]))
    assert store.live() == ()
    assert store.unwrap(blob) is None
    assert store.destroy([]) == 0
    assert not any(place.disk.read_bytes()[CELL_BYTES:])


def test_a_key_overwritten_between_finding_and_reading_it_is_never_taken_for_zeros(place, monkeypatch):
    store = place.store()
    slot = store.slot_for("hits", 1000, LONG)
    cell = slots_module._SlotFile.cell

    def cell_after_a_purge(file, index):
        found = cell(file, index)
        if found[:4] == b"slot":
            copy = bytes(found)
            with place.disk.open("r+b") as writer:
                writer.seek(index * CELL_BYTES)
                writer.write(bytes(CELL_BYTES))
            return memoryview(copy)
        return found

    monkeypatch.setattr(slots_module._SlotFile, "cell", cell_after_a_purge)
    with pytest.raises(SlotError, match="gone"):
        store.wrap(slot, RECORD, b"sealed")


def test_a_full_file_says_so_and_has_room_again_after_a_destruction(place):
    store = place.store()
    data = bytearray(place.disk.read_bytes())
    slot = store.slot_for("hits", 0, LONG)
    cell = place.disk.read_bytes()[CELL_BYTES : 2 * CELL_BYTES]
    for index in range(1, CELLS + 1):
        data[index * CELL_BYTES : (index + 1) * CELL_BYTES] = cell
    with place.disk.open("r+b") as file:
        file.write(data)
    with pytest.raises(SlotError, match="purge"):
        store.slot_for("hits", 1, LONG)
    assert store.destroy([slot]) == CELLS
    store.slot_for("hits", 1, LONG)


@pytest.mark.parametrize("rule", ["", "UPPER", "a" * 41, "a b", "é"])
def test_a_rule_that_does_not_fit_a_cell_is_refused(place, rule):
    with pytest.raises(SlotError):
        place.store().slot_for(rule, 1, LONG)


def test_a_device_key_has_32_bytes(place):
    with pytest.raises(SlotError, match="32"):
        place.store(b"short")


def test_permissions_are_the_callers_and_the_lock_is_the_owners(tmp_path):
    old = os.umask(0)
    try:
        SlotStore(tmp_path / "a", tmp_path / "b", mode=0o640).close()
    finally:
        os.umask(old)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b")} == {0o640}
    assert {stat.S_IMODE((tmp_path / f"{name}.lock").stat().st_mode) for name in ("a", "b")} == {0o600}
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "a.lock", "b.lock"}


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 8 * 200 - 1))
def test_any_flipped_bit_of_a_stored_record_is_refused(tmp_path_factory, position):
    folder = tmp_path_factory.mktemp("slots")
    store = SlotStore(folder / "a", folder / "b")
    blob = store.wrap(store.slot_for("hits", 1, SHORT), RECORD, bytes(200 - 78))
    changed = bytearray(blob)
    changed[position % (8 * len(blob)) // 8] ^= 1 << position % 8
    try:
        assert store.unwrap(bytes(changed)) is None, "a flipped slot id is a slot that does not exist"
        assert position // 8 in range(18, 34)
    except (SlotError, VersionError):
        pass
    finally:
        store.close()


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"homeplate/v1/slot\n" + tail))
def test_any_bytes_name_a_slot_or_are_refused(data):
    try:
        slot = slot_of(data)
    except (SlotError, VersionError):
        return
    assert data[18:34] == slot.value


def test_each_record_under_a_slot_has_a_key_of_its_own(place):
    store = place.store()
    slot = store.slot_for("hits", 1, LONG)
    blob = store.wrap(slot, RECORD, b"sealed")
    moved = blob[:34] + b"s" * 16 + blob[50:]
    with pytest.raises(SlotError, match="altered"):
        store.unwrap(moved)
    assert store.wrap(slot, RECORD, b"sealed") != blob


@pytest.mark.parametrize("device_key", [None, DEVICE_KEY], ids=["plain", "device key"])
def test_a_stored_record_is_as_the_page_has_it(place, device_key):
    """Section 9 of record-format.md, by hand: a cell's key, HKDF (RFC 5869) with one block, AES-256-GCM."""
    store = place.store(device_key)
    blob = store.wrap(store.slot_for("hits", 1, LONG), RECORD, b"sealed")
    cell = place.disk.read_bytes()[CELL_BYTES : 2 * CELL_BYTES]
    slot_key = cell[81:113]
    if device_key is not None:
        slot_key = AESGCM(device_key).decrypt(cell[69:81], cell[81:129], cell[4:20])
    extracted = hmac.digest(RECORD.value, slot_key, "sha256")
    key = hmac.digest(extracted, b"homeplate/v1/slot\1", "sha256")
    assert blob[:50] == b"homeplate/v1/slot\n" + cell[4:20] + RECORD.value
    assert AESGCM(key).decrypt(blob[50:62], blob[62:], blob[:50]) == b"sealed"


def test_a_record_that_is_too_long_is_not_wrapped(place):
    store = place.store()
    slot = store.slot_for("hits", 1, LONG)
    assert store.unwrap(store.wrap(slot, RECORD, bytes(MAX_RECORD_BYTES))) == bytes(MAX_RECORD_BYTES)
    with pytest.raises(SlotError, match="long"):
        store.wrap(slot, RECORD, bytes(MAX_RECORD_BYTES + 1))


def test_two_writers_make_one_slot_of_a_rule_and_expiry(place):
    stores, found = [place.store() for _ in range(4)], []

    def create(store):
        found.extend((expiry, store.slot_for("hits", expiry, SHORT)) for expiry in range(8))

    threads = [threading.Thread(target=create, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 8
    assert len(stores[0].live()) == 8


WRITER = """
import sys
from pathlib import Path
from homeplate.sealing.slots import SlotStore
store = SlotStore(Path(sys.argv[1]), Path(sys.argv[2]))
for expiry in range(1000):
    slot = store.slot_for("hits", expiry, 86400)
    print("made", slot, flush=True)
    if expiry % 2:
        store.destroy([slot])
        print("gone", slot, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 4, 9, 30])
def test_kill_9_loses_no_slot_that_was_made_and_revives_none_that_was_destroyed(place, lines):
    command = [sys.executable, "-c", WRITER, str(place.disk), str(place.memory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        seen = [process.stdout.readline().split() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        rest = [line.split() for line in process.stdout.read().split("\n")[:-1]]
    made, gone = (
        {SlotId(value=bytes.fromhex(i)) for what, i in seen + rest if what == word} for word in ("made", "gone")
    )
    store = place.store()  # the lock died with its holder
    live = {info.slot for info in store.live()}
    in_flight = 1
    assert not gone & live
    assert len(made - gone - live) <= in_flight
    assert len(live - made) <= in_flight
    store.slot_for("after", 1, LONG)


def test_the_file_system_is_found(tmp_path):
    assert filesystem_of(Path("/proc/self")) == "proc"
    assert filesystem_of(tmp_path) == filesystem_of(tmp_path / "not" / "there" / "yet") != ""


def test_what_is_not_memory_backed_does_not_pass_for_it():
    with pytest.raises(SlotError, match="memory-backed"):
        require_memory_backed(Path("/proc"))


@pytest.mark.skipif(filesystem_of(Path("/dev/shm")) != "tmpfs", reason="/dev/shm is not a tmpfs here")
def test_short_slots_live_and_die_in_memory_backed_storage(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        memory = Path(folder) / "memory.slots"
        require_memory_backed(memory)
        store = SlotStore(tmp_path / "disk.slots", memory)
        slot = store.slot_for("hits", 1, SHORT)
        blob = store.wrap(slot, RECORD, b"sealed")
        (key,) = stored_keys(memory)
        assert key not in (tmp_path / "disk.slots").read_bytes()
        store.destroy([slot])
        assert store.unwrap(blob) is None
        assert key not in memory.read_bytes()
        store.close()


def test_a_file_system_that_does_not_overwrite_in_place_is_refused(monkeypatch):
    with pytest.raises(SlotError, match="ext4"):
        require_in_place(Path("/proc"))
    monkeypatch.setattr(slots_module, "filesystem_of", lambda _: "btrfs")
    with pytest.raises(SlotError, match="btrfs"):
        require_in_place(Path("/"))
    monkeypatch.setattr(slots_module, "filesystem_of", lambda _: "ext4")
    require_in_place(Path("/"))


@pytest.mark.parametrize(
    ("options", "kind"),
    [("rw,data=journal", "ext4 with data=journal"), ("rw,errors=remount-ro", "ext4"), ("rw,data=ordered", "ext4")],
)
def test_a_journal_that_holds_file_contents_is_no_place_to_overwrite_keys(tmp_path, options, kind):
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 8:1 / / rw,relatime - ext4 /dev/sda1 {options}\n")
    assert filesystem_of(Path("/srv"), table) == kind


def test_a_key_that_contains_a_cells_mark_is_no_cell_of_its_own(place, monkeypatch):
    monkeypatch.setattr(slots_module.secrets, "token_bytes", lambda size: (b"slot" * size)[:size])
    store = place.store()
    first = store.slot_for("hits", 5, LONG)
    monkeypatch.undo()
    second = store.slot_for("hits", 6, LONG)
    assert [info.slot for info in store.live()] == [first, second]
    assert store.unwrap(store.wrap(first, RECORD, b"sealed")) == b"sealed"
    assert store.destroy([first]) == 1
    assert [info.slot for info in store.live()] == [second]


def test_destroying_leaves_the_file_as_it_was_made(place):
    store = place.store()
    made = place.disk.read_bytes()
    slot = store.slot_for("hits", 1, LONG)
    cell = place.disk.read_bytes()[CELL_BYTES : 2 * CELL_BYTES]
    assert cell[145:] == bytes(CELL_BYTES - 145), "behind its checksum a cell is zeros"
    assert store.destroy([slot]) == 1
    assert place.disk.read_bytes() == made
    assert place.store().live() == ()


def test_a_torn_cell_is_overwritten_wherever_it_lies(place):
    store = place.store()
    made = place.disk.read_bytes()
    with place.disk.open("r+b") as file:
        for index in (1, 2, CELLS - 1, CELLS):
            file.seek(index * CELL_BYTES + 7)
            file.write(b"torn")
    assert store.destroy([]) == 0
    assert place.disk.read_bytes() == made


def test_every_cell_is_used_and_none_beyond(place):
    store = place.store()
    size = place.disk.stat().st_size
    slot = store.slot_for("hits", 0, LONG)
    cell = place.disk.read_bytes()[CELL_BYTES : 2 * CELL_BYTES]
    with place.disk.open("r+b") as file:
        for index in range(2, CELLS):
            file.seek(index * CELL_BYTES)
            file.write(cell)
    last = store.slot_for("last", 1, LONG)
    with pytest.raises(SlotError, match="is full"):
        store.slot_for("more", 2, LONG)
    assert place.disk.read_bytes()[CELLS * CELL_BYTES :][4:20] == last.value
    assert place.disk.stat().st_size == size
    assert store.destroy([slot, last]) == CELLS


def test_the_files_of_a_store_are_its_owners_alone_unless_told_otherwise(tmp_path):
    SlotStore(tmp_path / "a", tmp_path / "b").close()
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b")} == {0o600}
