"""The spool: staged, then released or discarded, and nothing lost or doubled by a crash."""

import hashlib
import os
import re
import signal
import stat
import subprocess
import sys

import pytest

from homeplate.domain.record import RecordId, StorageClass
from homeplate.errors import StoreError
from homeplate.store.spool import MAX_BLOB_BYTES, FileSpool
from tests.disk import own_mounts

LOCAL, OUTGOING = StorageClass.LOCAL, StorageClass.OUTGOING
each_class = pytest.mark.parametrize("storage", StorageClass)


def rid(number: int) -> RecordId:
    return RecordId(number.to_bytes(16, "big"))


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def spool(tmp_path):
    return FileSpool(tmp_path / "spool")


@each_class
def test_a_staged_record_is_seen_by_nobody_until_it_is_released(spool, storage):
    spool.stage(rid(1), b"one", storage)
    assert spool.staged() == (rid(1),)
    assert spool.pending() == spool.released(storage) == ()
    with pytest.raises(StoreError, match="not in the spool"):
        spool.get(rid(1))
    spool.release([rid(1)])
    assert spool.staged() == ()
    assert spool.released(storage) == (rid(1),)
    assert spool.get(rid(1)) == b"one"


def test_only_outgoing_records_are_pending(spool):
    spool.stage(rid(1), b"one", LOCAL)
    spool.stage(rid(2), b"two", OUTGOING)
    spool.release([rid(1), rid(2)])
    assert spool.pending() == (rid(2),)
    assert spool.released(LOCAL) == (rid(1),)


def test_pending_is_in_the_order_of_writing(spool, tmp_path):
    for number in (3, 1, 2):
        spool.stage(rid(number), b"", OUTGOING)
        os.utime(tmp_path / "spool/staging/outgoing" / f"{rid(number)}.rec", ns=(0, 10 - number))
    spool.release([rid(1), rid(2), rid(3)])
    assert spool.pending() == (rid(3), rid(2), rid(1))


def test_releasing_twice_is_releasing_once(spool):
    spool.stage(rid(1), b"one", OUTGOING)
    spool.release([rid(1)])
    spool.release([rid(1), rid(1)])
    assert spool.pending() == (rid(1),)


def test_releasing_what_was_never_staged_is_an_error(spool):
    with pytest.raises(StoreError, match="neither staged nor released"):
        spool.release([rid(1)])


def test_a_discarded_record_is_gone_and_a_released_one_is_not_discarded(spool, tmp_path):
    spool.stage(rid(1), b"one", OUTGOING)
    spool.stage(rid(2), b"two", OUTGOING)
    spool.release([rid(2)])
    spool.discard([rid(1), rid(2), rid(3)])
    assert spool.staged() == ()
    assert files(tmp_path) == [f"{rid(2)}.rec"]


def test_a_removed_record_is_gone_and_removing_it_again_is_fine(spool, tmp_path):
    spool.stage(rid(1), b"one", OUTGOING)
    spool.release([rid(1)])
    spool.remove(rid(1))
    spool.remove(rid(1))
    assert spool.pending() == ()
    assert files(tmp_path) == []


@each_class
def test_an_id_is_stored_once(spool, storage):
    spool.stage(rid(1), b"one", storage)
    with pytest.raises(StoreError):
        spool.stage(rid(1), b"two", storage)
    spool.release([rid(1)])
    with pytest.raises(StoreError, match="already"):
        spool.stage(rid(1), b"three", storage)
    assert spool.get(rid(1)) == b"one"


def test_another_process_finds_what_was_staged_and_released(spool, tmp_path):
    spool.stage(rid(1), b"one", LOCAL)
    spool.stage(rid(2), b"two", OUTGOING)
    spool.release([rid(2)])
    again = FileSpool(tmp_path / "spool")
    assert again.staged() == (rid(1),)
    assert again.pending() == (rid(2),)


def test_files_of_other_names_are_not_records(spool, tmp_path):
    for name in ("note.txt", "00.rec", "G" * 32 + ".rec", "0" * 32):
        (tmp_path / "spool/outgoing" / name).touch()
        (tmp_path / "spool/staging/outgoing" / name).touch()
    assert spool.pending() == spool.staged() == ()


def test_a_record_that_is_too_long_is_refused_both_ways(spool, tmp_path):
    spool.stage(rid(1), bytes(MAX_BLOB_BYTES), OUTGOING)
    with pytest.raises(StoreError, match="more than the spool takes"):
        spool.stage(rid(2), bytes(MAX_BLOB_BYTES + 1), OUTGOING)
    spool.release([rid(1)])
    with (tmp_path / "spool/outgoing" / f"{rid(1)}.rec").open("ab") as file:
        file.write(b"x")
    with pytest.raises(StoreError, match="longer"):
        spool.get(rid(1))


def test_local_records_are_their_owners_alone(spool, tmp_path):
    spool.stage(rid(1), b"one", LOCAL)
    spool.release([rid(1)])
    local = tmp_path / "spool/local"
    assert stat.S_IMODE(local.stat().st_mode) == 0o700
    assert stat.S_IMODE((local / f"{rid(1)}.rec").stat().st_mode) == 0o600


def test_a_spool_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        FileSpool(tmp_path / "file")


WRITER = """
import hashlib, sys
from pathlib import Path
from homeplate.domain.record import RecordId, StorageClass
from homeplate.store.spool import FileSpool
spool = FileSpool(Path(sys.argv[1]))
for number in range(100_000):
    record_id = RecordId(number.to_bytes(16, "big"))
    blob = hashlib.shake_256(record_id.value).digest(66_000)
    spool.stage(record_id, blob, list(StorageClass)[number % 2])
    print("staged", number, flush=True)
    if number % 3 == 0:
        spool.release([record_id])
        print("released", number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 5, 11, 24])
def test_kill_9_in_the_middle_loses_and_doubles_nothing(tmp_path, lines):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "spool")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        seen = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read().splitlines(keepends=True)
    pairs = [line.split() for line in seen if line.endswith("\n")]
    staged, released = ({rid(int(number)) for what, number in pairs if what == word} for word in ("staged", "released"))
    spool = FileSpool(tmp_path / "spool")
    on_disk = {*spool.released(LOCAL), *spool.released(OUTGOING)}
    assert released <= on_disk
    assert staged <= on_disk | set(spool.staged())
    assert not on_disk & set(spool.staged())
    # What capture does when it starts: committed records are released, the others go.
    spool.discard(set(spool.staged()) - staged)
    spool.release(staged)
    assert spool.staged() == ()
    for record_id in staged:
        assert spool.get(record_id) == hashlib.shake_256(record_id.value).digest(66_000)
    assert len(files(tmp_path)) == len({*spool.released(LOCAL), *spool.released(OUTGOING)})


STAGER = """
import resource, signal, sys
from pathlib import Path
from homeplate.domain.record import RecordId, StorageClass
from homeplate.errors import StoreError
from homeplate.store.spool import FileSpool
spool = FileSpool(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if sys.argv[2] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for number in range(64):
    try:
        spool.stage(RecordId(number.to_bytes(16, "big")), bytes([number]) * 5000, StorageClass.OUTGOING)
    except StoreError as error:
        print(number, error)
        break
"""


def stage_until_it_fails(root, limit: int) -> tuple[int, str]:
    command = [sys.executable, "-c", STAGER, str(root), str(limit)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    number, message = output.split(" ", 1)
    return int(number), message


def test_a_record_that_does_not_fit_whole_is_not_staged_in_part(tmp_path):
    number, message = stage_until_it_fails(tmp_path / "spool", 4999)
    assert number == 0
    assert "cannot be staged" in message
    assert files(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting a small file system needs root on Linux")
    with own_mounts():
        if subprocess.run(mount, check=False).returncode:
            pytest.skip("this machine allows no mounts")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stages_no_half_record_and_keeps_the_others(small_disk):
    number, message = stage_until_it_fails(small_disk / "spool", 0)
    assert "No space left" in message
    spool = FileSpool(small_disk / "spool")
    assert sorted(spool.staged()) == [rid(n) for n in range(number)]
    assert len(files(small_disk)) == number > 0
    spool.release(spool.staged())
    for n in range(number):
        assert spool.get(rid(n)) == bytes([n]) * 5000
    spool.remove(rid(0))
    spool.stage(rid(99), b"x" * 4096, OUTGOING)
    assert spool.staged() == (rid(99),)


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(StoreError, match=f"^{re.escape(message)}$")


def test_the_folders_of_a_spool_are_made_with_those_above_and_are_no_strangers(tmp_path):
    old = os.umask(0)
    try:
        FileSpool(tmp_path / "a" / "spool")
        FileSpool(tmp_path / "a" / "spool")
    finally:
        os.umask(old)
    root = tmp_path / "a" / "spool"
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("local", "outgoing", "staging/local")}
    assert modes == {"local": 0o700, "outgoing": 0o770, "staging/local": 0o700}
    assert stat.S_IMODE((root / "staging/outgoing").stat().st_mode) == 0o700


def test_a_record_of_the_longest_length_is_read_and_a_longer_file_not_whole(spool, tmp_path):
    spool.stage(rid(1), bytes(MAX_BLOB_BYTES), OUTGOING)
    spool.release([rid(1)])
    assert len(spool.get(rid(1))) == MAX_BLOB_BYTES
    assert len(spool.peek(rid(1), 3)) == 3
    os.truncate(tmp_path / "spool/outgoing" / f"{rid(1)}.rec", 1 << 40)  # sparse: to read it all would take a tebibyte
    with says(f"record {rid(1)} is longer than the spool takes; the spool was tampered with"):
        spool.get(rid(1))


def test_records_are_found_beside_files_of_other_names_whatever_their_digits(spool, tmp_path):
    every = RecordId(bytes.fromhex("0123456789abcdef" * 2))
    spool.stage(every, b"x", OUTGOING)
    for name in ("note.txt", "X" * 32 + ".rec", "00.rec", "é"):
        (tmp_path / "spool/outgoing" / name).touch()
    spool.release([every])
    spool.stage(rid(2), b"x", OUTGOING)
    spool.release([rid(2)])
    assert set(spool.pending()) == {every, rid(2)}
    link = tmp_path / "spool/outgoing" / f"{rid(3)}.rec"
    link.symlink_to(tmp_path / "nowhere")
    assert rid(3) in spool.pending()


def test_a_release_syncs_the_folders_of_every_class_that_it_touched(spool, tmp_path, monkeypatch):
    synced, real = set(), os.fsync

    def fsync(descriptor):
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        real(descriptor)

    spool.stage(rid(1), b"one", LOCAL)
    spool.stage(rid(2), b"two", OUTGOING)
    monkeypatch.setattr(os, "fsync", fsync)
    spool.release([rid(1), rid(2)])
    root = tmp_path / "spool"
    assert synced == {str(root / name) for name in ("staging/local", "staging/outgoing", "local", "outgoing")}
    synced.clear()
    spool.remove(rid(1))
    assert synced == {str(root / "local")}
    synced.clear()
    spool.stage(rid(4), b"four", OUTGOING)
    assert synced == {str(root / "staging/outgoing" / f"{rid(4)}.rec"), str(root / "staging/outgoing")}
    synced.clear()
    spool.discard([rid(4)])
    assert synced == {str(root / "staging/local"), str(root / "staging/outgoing")}


def test_each_failure_of_a_spool_is_named_with_the_record_or_the_folder(spool, tmp_path, monkeypatch):
    root = tmp_path / "spool"
    (tmp_path / "file").touch()
    with says(f"the spool {tmp_path}/file cannot be made: File exists; check the path and its owner"):
        FileSpool(tmp_path / "file")
    with says(f"record {rid(1)} has {MAX_BLOB_BYTES + 1} bytes, more than the spool takes"):
        spool.stage(rid(1), bytes(MAX_BLOB_BYTES + 1), LOCAL)
    spool.stage(rid(1), b"one", LOCAL)
    with says(f"record {rid(1)} cannot be staged: File exists; check the disk"):
        spool.stage(rid(1), b"one", LOCAL)
    spool.release([rid(1)])
    with says(f"record {rid(1)} is in the spool already"):
        spool.stage(rid(1), b"one", OUTGOING)
    with says(f"record {rid(2)} is neither staged nor released; the spool was tampered with"):
        spool.release([rid(2)])
    with says(f"record {rid(2)} is not in the spool"):
        spool.get(rid(2))
    (root / "outgoing" / f"{rid(3)}.rec").mkdir()
    with says(f"record {rid(3)} cannot be read: Is a directory"):
        spool.get(rid(3))
    with says(f"{root}/outgoing/{rid(3)}.rec cannot be removed: Is a directory"):
        spool.remove(rid(3))
    (root / "staging/outgoing" / f"{rid(3)}.rec").touch()
    with says(f"record {rid(3)} cannot be released: Is a directory"):
        spool.release([rid(3)])
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with says(f"record {rid(4)} cannot be staged: No space left on device; free some space"):
        spool.stage(rid(4), b"four", LOCAL)
    assert not (root / "staging/local" / f"{rid(4)}.rec").exists()
    with says(f"{root}/local cannot be synced: No space left on device; check the disk"):
        spool.remove(rid(1))
    monkeypatch.setattr(os, "fsync", real)
    (root / "local").rmdir()
    with says(f"the spool's folder {root}/local cannot be read: No such file or directory"):
        spool.released(LOCAL)
