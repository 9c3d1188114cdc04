"""Purge killed at any system call that changes the disk: run again, it ends in the same state."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from homeplate.domain.record import RecordId, StorageClass
from homeplate.store.certificates import read_certificate
from homeplate.store.ledger import read_rows
from homeplate.store.spool import FileSpool
from tests.faults.purge_once import stores
from tests.faults.tracing import needs_strace

NOW_S = 1_790_000_000
PURGE = Path(__file__).with_name("purge_once.py")
CALLS = "pwrite64,fsync,write,unlink,rename,ftruncate"


def make(root):
    """Make a node with four slots that are over and one that is not; return the record that stays."""
    root.mkdir()
    spool, opened = FileSpool(root / "spool"), stores(root)
    kept = None
    for storage, rule, expiry_s in (
        *((storage, rule, NOW_S - 5) for storage in StorageClass for rule in ("a", "b")),
        (StorageClass.OUTGOING, "a", NOW_S + 500),
    ):
        kept = RecordId(os.urandom(16))
        store = opened[storage]
        blob = store.wrap(store.slot_for(rule, expiry_s, 100_000), kept, b"sealed" * 100)
        spool.stage(kept, blob, storage)
        spool.release([kept])
    for store in opened.values():
        store.close()
    return kept


def purge(root, *strace):
    return subprocess.run(
        [*strace, sys.executable, str(PURGE), str(root), str(NOW_S)], check=False, capture_output=True, text=True
    )


def traced(root, *inject):
    options = [part for each in inject for part in ("-e", f"inject={each}")]
    # -P leaves out what the interpreter itself writes.
    paths = [part for path in (root, *root.rglob("*")) for part in ("-P", str(path))]
    extra = ("purge.log", "certificates", "certificates/purge-000000000005.new", "certificates/purge-000000000005.json")
    paths += [part for name in extra for part in ("-P", str(root / name))]
    log = root.with_suffix(".trace")
    done = purge(root, "strace", "-f", "-qq", "-o", str(log), *paths, "-e", f"trace={CALLS}", *options)
    return done, Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def check(root, kept):
    """The state that any number of kills must end in."""
    spool = FileSpool(root / "spool")
    assert [*spool.released(StorageClass.OUTGOING), *spool.released(StorageClass.LOCAL)] == [kept]
    opened = stores(root)
    assert {storage.value: len(store.live()) for storage, store in opened.items()} == {"local": 0, "outgoing": 1}
    for store in opened.values():
        store.close()
    rows = list(read_rows(root / "purge.log"))
    done = [row for row in rows if row.event == "purge.done"]
    assert sum(row.fields["keys_destroyed"] for row in done) == 4
    announced = [row.fields["slot"] for row in rows if row.event == "slot.expired"]
    assert len(announced) == len(set(announced)) == 4
    papers = {read_certificate(path).ledger.row for path in (root / "certificates").glob("*.json")}
    assert papers == {row.number for row in done}


@needs_strace
def test_killed_at_any_system_call_and_run_again_it_ends_in_the_same_state(tmp_path):
    kept = make(tmp_path / "whole")
    done, calls = traced(tmp_path / "whole")
    assert done.stdout == "4\n", done.stderr
    check(tmp_path / "whole", kept)
    assert set(calls) >= {"pwrite64", "fsync", "write", "unlink", "rename"}
    # A kill at a sync leaves what a kill at the call after it leaves: the kernel keeps what was written.
    del calls["fsync"]
    for call, when in ((call, when) for call, count in calls.items() for when in range(1, count + 1)):
        root = tmp_path / f"{call}-{when}"
        kept = make(root)
        first, _ = traced(root, f"{call}:signal=KILL:when={when}")
        assert first.returncode != 0, (call, when)
        again = purge(root)
        assert again.returncode == 0, (call, when, again.stderr)
        check(root, kept)


@needs_strace
def test_a_disk_that_takes_no_new_byte_stops_no_destruction(tmp_path):
    """Keys are overwritten and files unlinked on a full disk; only then does purge say what it cannot write."""
    kept = make(tmp_path / "full")
    done, _ = traced(tmp_path / "full", "write:error=ENOSPC")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    opened = stores(tmp_path / "full")
    assert {storage.value: len(store.live()) for storage, store in opened.items()} == {"local": 0, "outgoing": 1}
    for store in opened.values():
        store.close()
    assert FileSpool(tmp_path / "full" / "spool").pending() == (kept,)
    assert purge(tmp_path / "full").returncode == 0
