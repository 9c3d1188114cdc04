"""Held records: a hold's folder comes into force with its document, and goes whole; and each failure is named."""

import os
import re
import stat
import threading

import pytest

from homeplate.domain.record import RecordId
from homeplate.errors import StoreError
from homeplate.store.held import HeldRecords
from homeplate.store.spool import MAX_BLOB_BYTES

HOLD, OTHER = b"h" * 16, b"i" * 16
ONE, TWO = RecordId(b"1" * 16), RecordId(b"2" * 16)


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(StoreError, match=f"^{re.escape(message)}$")


@pytest.fixture
def held(tmp_path):
    return HeldRecords(tmp_path / "state" / "held")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "state" / "held"


def test_the_folders_are_their_owners_alone(tmp_path):
    old = os.umask(0)
    try:
        held = HeldRecords(tmp_path / "a" / "held")
        held.begin(HOLD)
        with held.locked(wait=True) as locked:
            assert locked
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").rglob("*")}
    assert modes == {"held": 0o700, HOLD.hex(): 0o700, "lock": 0o600}
    HeldRecords(tmp_path / "a" / "held").begin(HOLD)


def test_a_hold_is_in_force_once_its_document_is_written(held, root):
    assert held.holds() == ()
    assert held.document(HOLD) is None
    held.begin(HOLD)
    assert held.holds() == (HOLD,)
    held.put(HOLD, ONE, b"blob")
    assert held.document(HOLD) is None
    held.commit(HOLD, b"the hold")
    assert held.document(HOLD) == b"the hold"
    assert not held.is_released(HOLD)
    held.release(HOLD, b"the release")
    assert held.is_released(HOLD)
    assert not held.is_released(OTHER)
    assert sorted(path.name for path in (root / HOLD.hex()).iterdir()) == [f"{ONE}.rec", "hold.txt", "release.txt"]


def test_a_document_is_read_up_to_one_byte_over_its_bound(held):
    held.begin(HOLD)
    held.commit(HOLD, b"x" * 10_000)
    assert held.document(HOLD) == b"x" * 4097


def test_records_come_back_by_hold_and_a_file_of_another_name_is_none(held, root):
    held.begin(HOLD)
    held.begin(OTHER)
    every = RecordId(bytes.fromhex("0123456789abcdef" * 2))
    for record_id in (TWO, ONE, every):
        held.put(HOLD, record_id, bytes(record_id.value))
    held.put(OTHER, TWO, b"other")
    for name in ("note.txt", "0" * 32, "0" * 31 + ".rec", "G" * 32 + ".rec", "A" * 32 + ".rec", "X" * 32 + ".rec"):
        (root / HOLD.hex() / name).touch()
    assert held.records(HOLD) == (every, ONE, TWO)
    assert held.records(b"n" * 16) == ()
    assert held.get(HOLD, TWO) == TWO.value
    held.put(HOLD, TWO, b"again")
    assert held.get(HOLD, TWO) == b"again"
    assert held.get(OTHER, TWO) == b"other"
    for name in ("lost+found", "A" * 32, "0" * 31, "0" * 33):
        (root / name).mkdir()
    assert held.holds() == (HOLD, OTHER)


def test_a_record_that_is_missing_or_too_long_says_that_somebody_was_there(held, root):
    held.begin(HOLD)
    message = f"held record {ONE} is missing or too long; the folder was tampered with"
    with says(message):
        held.get(HOLD, ONE)
    held.put(HOLD, ONE, bytes(MAX_BLOB_BYTES))
    assert len(held.get(HOLD, ONE)) == MAX_BLOB_BYTES
    os.truncate(root / HOLD.hex() / f"{ONE}.rec", 1 << 40)  # sparse: it is not read whole either
    with says(message):
        held.get(HOLD, ONE)


def test_forgetting_a_hold_takes_its_records_first_and_its_documents_last(held, root, monkeypatch):
    held.begin(HOLD)
    held.put(HOLD, ONE, b"1")
    held.put(HOLD, TWO, b"2")
    held.commit(HOLD, b"hold")
    held.release(HOLD, b"release")
    (root / HOLD.hex() / "zz.new").touch()
    gone, real = [], os.unlink
    monkeypatch.setattr(os, "unlink", lambda path, **more: (gone.append(os.fspath(path)), real(path, **more)))
    assert held.forget(HOLD) == 2
    assert [os.path.basename(path) for path in gone] == [  # noqa: PTH119
        f"{ONE}.rec", f"{TWO}.rec", "zz.new", "hold.txt", "release.txt",
    ]  # fmt: skip
    assert held.holds() == ()
    assert held.forget(HOLD) == 0


def test_one_writer_at_a_time_and_one_who_does_not_wait_is_told(held):
    with held.locked(wait=True) as first:
        assert first is True
        with held.locked(wait=False) as second:
            assert second is False
        waited = []

        def wait():
            with held.locked(wait=True) as mine:
                waited.append(mine)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.05)
        assert waited == []
    thread.join()
    assert waited == [True]
    with held.locked(wait=False) as again:
        assert again is True


def test_what_cannot_be_made_read_or_removed_is_named_with_the_next_step(held, root, tmp_path):
    (tmp_path / "file").touch()
    with says(f"{tmp_path / 'file'} cannot be made: File exists; check its owner"):
        HeldRecords(tmp_path / "file")
    (root / "lock").mkdir()
    with says(f"{root / 'lock'} cannot be opened: Is a directory"), held.locked(wait=True):
        pass
    folder = root / HOLD.hex()
    folder.touch()
    with says(f"{folder} cannot be made: File exists; free some space"):
        held.begin(HOLD)
    with says(f"{folder} cannot be read: Not a directory"):
        held.records(HOLD)
    with says(f"{folder}/hold.txt cannot be read: Not a directory"):
        held.document(HOLD)
    folder.unlink()
    held.begin(HOLD)
    (folder / "folder").mkdir()
    with pytest.raises(StoreError, match=rf"^{re.escape(str(folder))} cannot be removed: .*; look what lies in it$"):
        held.forget(HOLD)
    (root / "lock").rmdir()
    os.rename(root, tmp_path / "elsewhere")  # noqa: PTH104
    with says(f"{root} cannot be read: No such file or directory"):
        held.holds()


def test_a_folder_is_on_the_disk_before_it_is_written_to(held, root, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    held.begin(HOLD)
    assert synced == [str(root)]
    synced.clear()
    held.put(HOLD, ONE, b"x")
    assert synced == [str(root / HOLD.hex() / f"{ONE}.new"), str(root / HOLD.hex())]
    synced.clear()
    held.forget(HOLD)
    assert synced == [str(root)]
