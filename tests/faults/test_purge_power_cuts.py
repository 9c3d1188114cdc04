"""Power cut at every write of a purge, then every move of the clock: what is over goes, and nothing else goes early.

Both are generated: the writes are counted in a whole run, and the purge dies at each of them, and half-way through each
that can be torn. Where loop mounts are allowed, a second test takes the disk's image at each write instead: what the
kernel had not yet written is then lost, as power takes it.
"""

import os
import shutil
import subprocess
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from homeplate.clock import NANOSECONDS, SystemClock
from homeplate.domain.record import StorageClass
from homeplate.purge import Held, purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.certificates import read_certificate
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog, read_rows, scan
from homeplate.store.spool import FileSpool
from tests.disk import mounted
from tests.holding import HoldingNode, a_hold
from tests.test_clock import Machine

DAY_S = 86_400
START_S = 1_790_000_000
DUE_S = START_S + 3600
WRITES = ("pwrite", "write", "fsync", "unlink", "replace", "rename", "rmdir", "link")
TORN = ("pwrite", "write")
SOON, LATER, HELD = "soon", "later", "held"


@dataclass(frozen=True)
class Move:
    """What the time does while the purge is dead: a reboot after `off_s`, and the wall clock's own step.

    `counted_s` is what of it counts as time off; None says that the same boot goes on.
    """

    name: str
    off_s: int | None
    step_s: int
    counted_s: int


MOVES = (
    Move("back at once", 0, 0, 0),
    Move("off for two hours", 7200, 0, 7200),
    Move("off for three days", 3 * DAY_S, 0, 3 * DAY_S),
    Move("set back a year", 0, -365 * DAY_S, 0),
    Move("no clock", 7200, -START_S - 9000, 0),
    Move("set forward by what is plausible", 0, 6 * DAY_S, 6 * DAY_S),
    Move("set forward by what is not", 0, 400 * DAY_S, 0),
    Move("set forward within the boot", None, 400 * DAY_S, 0),
    Move("set back within the boot", None, -400 * DAY_S, 0),
)


class Killed(BaseException):
    """Stands for the power: nothing catches it."""


class Faults:
    """Counts the calls that change the disk, and dies at one of them; after that none works."""

    def __init__(self, monkeypatch, at=None, *, torn=False, seen=lambda _: None):
        self.calls, self._at, self._torn, self._seen = [], at, torn, seen
        for name in WRITES:
            monkeypatch.setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name, real):
        def call(*args, **kwargs):
            self._seen(len(self.calls))
            self.calls.append(name)
            if self._at is not None and len(self.calls) >= self._at:
                if self._torn and name in TORN and len(self.calls) == self._at:
                    real(args[0], args[1][: len(args[1]) // 2], *args[2:])
                raise Killed
            return real(*args, **kwargs)

        return call


def running(root, machine, **other):
    """Purge once in `root`, as its process does."""
    with ExitStack() as stack:
        clock = SystemClock(
            root / "clock", "purge", readers=machine.readers(), witness=lambda: scan(root / "purge.log").time_ns
        )
        stores = {each: SlotStore(root / f"{each}.slots", root / f"{each}.memory") for each in StorageClass}
        held = SlotStore(root / "held.slots", root / "held.memory")
        for store in (*stores.values(), held):
            stack.callback(store.close)
        return purge(
            clock=clock, stores=stores, spool=FileSpool(root / "spool"),
            open_ledger=lambda: MerkleLog(root / "purge.log", clock), certificates=root / "certificates",
            held=Held(keys=held, records=HeldRecords(root / "held")), **other,
        )  # fmt: skip


def made(root):
    """Make a node whose slots are over, or end in an hour or in thirty days, with a hold of each kind; return both."""
    machine = Machine(wall=START_S * NANOSECONDS)
    node = HoldingNode(root)
    node.clock.advance_to(START_S * NANOSECONDS)
    SystemClock(root / "clock", "purge", readers=machine.readers())
    ids = {
        SOON: node.record("yard", START_S - 60, DUE_S + 3600 - START_S),
        LATER: node.record("yard", START_S - 60, DUE_S + 30 * DAY_S - START_S, StorageClass.OUTGOING),
        HELD: node.record("road", START_S - 60, 500),
    }
    node.record("yard", START_S - 60, 400, StorageClass.OUTGOING)
    node.apply(a_hold(expires_s=DUE_S + 20 * DAY_S))
    node.apply(a_hold(hold_id=b"o" * 16, expires_s=DUE_S - 5))
    machine.run((DUE_S - START_S - 60) * NANOSECONDS)
    SystemClock(root / "clock", "purge", readers=machine.readers())  # the timer's last run
    machine.run(60 * NANOSECONDS)
    return machine, ids


def moved(machine, move):
    """Return the machine after a move."""
    after = Machine(wall=machine.wall, since_boot=machine.since_boot, boots=machine.boots)
    if move.off_s is not None:
        after.off(move.off_s * NANOSECONDS)
    after.wall = max(0, after.wall + move.step_s * NANOSECONDS)
    after.run(10 * NANOSECONDS)
    return after


def left(root):
    """Return the ids of records that open with a key that is on the disk now, and of held copies that do."""
    node = HoldingNode(root)
    return node.readable_originals(), node.readable_copies()


def check(root, machine, ids, move, where):
    """The state that any cut and any move must end in."""
    after = moved(machine, move)
    running(root, after)
    soon = {ids[SOON]} if move.counted_s < 3600 - 200 else set()
    assert left(root) == ({ids[LATER], *soon}, {ids[HELD]}), where
    assert set(FileSpool(root / "spool").pending()) == {ids[LATER]}, where
    # Whatever the clock says, an hour of power ends what had an hour to live.
    after.run(3600 * NANOSECONDS)
    running(root, after)
    assert left(root) == ({ids[LATER]}, {ids[HELD]}), where
    assert scan(root / "purge.log").bad is None, where
    rows = list(read_rows(root / "purge.log"))
    told = Counter(row.fields["slot"] for row in rows if row.event in {"slot.expired", "hold.ended"})
    done = [row for row in rows if row.event == "purge.done"]
    assert sorted(told.values()) == [1] * 4, where
    assert sum(row.fields["keys_destroyed"] for row in done) == 4, where
    papers = {read_certificate(path).ledger.row for path in (root / "certificates").glob("*.json")}
    assert papers == {row.number for row in done}, where


def deaths(folder):
    """Return each write of a whole run at which a purge may die: (position, whether it is torn)."""
    machine, _ = made(folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch)
        running(folder / "whole", machine)
    assert {"pwrite", "write", "fsync", "unlink", "replace"} <= set(faults.calls)
    # A death at a sync leaves what one at the next call leaves: the kernel keeps what was written. The images differ.
    calls = [(at, name) for at, name in enumerate(faults.calls, 1) if name != "fsync"]
    cuts = [(at, torn) for at, name in calls for torn in (False, *[True] * (name in TORN))]
    assert len(cuts) > 20
    return cuts


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: the order of writes counts here, not when a disk has them."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def test_cut_at_every_write_and_after_every_move_of_the_clock_what_is_over_is_gone_and_the_rest_lives(memory):
    machine, ids = made(memory / "made")
    cases = 0
    for at, torn in deaths(memory):
        cut = memory / "cut"
        shutil.copytree(memory / "made", cut)
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, at, torn=torn)
            with pytest.raises(Killed):
                running(cut, machine)
        for move in MOVES:
            root = memory / "after"
            shutil.copytree(cut, root)
            check(root, machine, ids, move, (at, torn, move.name))
            shutil.rmtree(root)
            cases += 1
        shutil.rmtree(cut)
    assert cases >= 9 * 20


def images(disk, machine, folder):
    """Purge on the disk, and copy its raw image at each write."""
    taken = []

    def take(_):
        taken.append(folder / f"{len(taken):03}.image")
        subprocess.run(["cp", "--sparse=always", str(disk.image), str(taken[-1])], check=True)

    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, seen=take)
        running(disk.mount_point / "node", machine)
    take(None)
    return taken


@pytest.fixture
def disk(memory):
    yield from mounted(memory)


def test_what_power_takes_from_the_disk_at_any_write_brings_no_key_back_and_loses_none(disk, memory):
    machine, ids = made(disk.mount_point / "node")
    os.sync()
    taken = images(disk, machine, memory)
    assert len(taken) > 30
    disk.unmount()
    for image in taken:
        image.replace(disk.image)
        assert disk.mount()
        for move in (MOVES[3], MOVES[6]):
            shutil.copytree(disk.mount_point / "node", memory / "after")
            check(memory / "after", machine, ids, move, (image.name, move.name))
            shutil.rmtree(memory / "after")
        disk.unmount()
