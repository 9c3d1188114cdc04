"""Opening killed, or its disk failing, at any write of the access log: an answer is never there without its record."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from homeplate.sealing.keys import save_sealing_key
from homeplate.store.ledger import scan
from homeplate_custodian.access import OPENED, SHOWN, make_keys
from homeplate_custodian.records import Inbox
from tests.custodian.sealed_kit import PLATE, Node, new_key
from tests.faults.tracing import needs_strace

PROGRAM = Path(__file__).with_name("open_once.py")
REPOSITORY = Path(__file__).resolve().parents[2]
CALLS = "write,fsync,openat"


def make(folder):
    folder.mkdir()
    node, key = Node(), new_key()
    Inbox(folder / "received").store(*node.facts(key))
    save_sealing_key(key, folder / "agency.key")
    make_keys(folder)
    (folder / "access.log").touch()
    return node.pseudonym.hex() + node.entry().record_public.hex()


def traced(folder, node, *inject):
    """Return how opening ended, and what it did with the access log and the private key, in order."""
    options = [part for each in inject for part in ("-e", f"inject={each}")]
    paths = [part for name in ("access.log", "agency.key") for part in ("-P", str(folder / name))]
    trace = folder.with_suffix(".trace")
    command = ["strace", "-f", "-qq", "-y", "-o", str(trace), *paths, "-e", f"trace={CALLS}", *options]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, sys.executable, str(PROGRAM), str(folder), node],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    called = re.compile(r"\b(write|fsync|openat)\(.*(access\.log|agency\.key)")
    return done, [(match[1], match[2]) for line in trace.read_text().splitlines() if (match := called.search(line))]


def events(folder):
    rows = []
    state = scan(folder / "access.log", visit=lambda line, _leaf: rows.append(line.row.event))
    assert state.bad is None
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return what a run does that nothing disturbs."""
    folder = tmp_path_factory.mktemp("opening") / "whole"
    done, calls = traced(folder, make(folder))
    assert done.stdout == f"{PLATE}\n", done.stderr
    return calls


@needs_strace
def test_the_private_key_is_read_only_after_the_access_record_is_synced(whole):
    read = whole.index(("openat", "agency.key"))
    written = whole.index(("write", "access.log"))
    assert ("fsync", "access.log") in whole[written:read]
    assert whole[read:].count(("write", "access.log")) == 1


@needs_strace
def test_killed_at_any_write_or_sync_of_the_log_no_plate_is_shown_without_its_record(tmp_path, whole):
    counts = Counter(call for call, name in whole if call != "openat" and name == "access.log")
    assert counts["write"] == 2
    assert counts["fsync"] >= 2
    seen = Counter()
    for call, when in ((call, when) for call, count in counts.items() for when in range(1, count + 1)):
        folder = tmp_path / f"{call}-{when}"
        done, calls = traced(folder, make(folder), f"{call}:signal=KILL:when={when}")
        assert done.returncode != 0
        rows, key_read = events(folder), ("openat", "agency.key") in calls
        assert not (key_read and OPENED not in rows), (call, when)
        assert not (PLATE in done.stdout and SHOWN not in rows), (call, when)
        seen[OPENED in rows, key_read, PLATE in done.stdout] += 1
    assert seen[False, False, False]
    assert seen[True, True, False]  # the record is there, the answer is not


@needs_strace
@pytest.mark.parametrize("fault", ["write:error=ENOSPC:when=1", "fsync:error=EIO:when=1+"])
def test_where_the_record_cannot_be_written_or_synced_no_key_is_read(tmp_path, fault):
    done, calls = traced(tmp_path / "disk", make(tmp_path / "disk"), fault)
    assert done.returncode != 0
    assert PLATE not in done.stdout
    assert ("openat", "agency.key") not in calls
