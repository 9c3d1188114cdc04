"""Purge over real slot files, a real spool and a real ledger; time is simulated."""

import itertools
import json
import os
from contextlib import closing
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate import purge as module
from homeplate.app.node import open_slots
from homeplate.app.purge import run_purge
from homeplate.clock import NANOSECONDS, Quarantine, SimulatedClock, SystemClock
from homeplate.domain.record import RecordId, StorageClass
from homeplate.errors import ClockError, SealingError, StoreError
from homeplate.purge import IDLE_S, purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.certificates import read_certificate
from homeplate.store.ledger import MerkleLog, read_rows, scan
from homeplate.store.spool import FileSpool
from tests.test_clock import Machine

NOW_S = 1_790_000_000
SEALED = b"sealed" * 100


class Node:
    """A node's folder, and the moves of capture and uplink on it."""

    def __init__(self, root):
        self.root = root
        self.clock = SimulatedClock(NOW_S * NANOSECONDS)
        self.spool = FileSpool(root / "spool")
        self.certificates = root / "certificates"
        self.log = root / "ledger" / "purge.log"
        (root / "slots").mkdir(exist_ok=True)
        self.stores = {
            storage: SlotStore(root / "slots" / f"{storage}.slots", root / "slots" / f"{storage}.memory")
            for storage in StorageClass
        }
        self.ids = itertools.count()

    def record(self, storage, expiry_s, rule="hits", retention_s=100_000):
        record_id = RecordId(os.urandom(16))
        store = self.stores[storage]
        blob = store.wrap(store.slot_for(rule, expiry_s, retention_s), record_id, SEALED)
        self.spool.stage(record_id, blob, storage)
        self.spool.release([record_id])
        return record_id, blob

    def open_ledger(self):
        return MerkleLog(self.log, self.clock)

    def purge(self, **other):
        return purge(
            **{
                "clock": self.clock,
                "stores": self.stores,
                "spool": self.spool,
                "open_ledger": self.open_ledger,
                "certificates": self.certificates,
                **other,
            }
        )

    def rows(self, event=None):
        return [row for row in read_rows(self.log) if event in {None, row.event}]

    def files(self):
        return set(self.spool.released(StorageClass.OUTGOING)) | set(self.spool.released(StorageClass.LOCAL))


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    for store in node.stores.values():
        store.close()


def test_expired_keys_and_files_go_and_the_rest_stays(node):
    gone, blob = node.record(StorageClass.OUTGOING, NOW_S)
    gone_too, _ = node.record(StorageClass.LOCAL, NOW_S - 50, retention_s=600)
    kept, kept_blob = node.record(StorageClass.OUTGOING, NOW_S + 1)
    kept_local, _ = node.record(StorageClass.LOCAL, NOW_S + 900, rule="other")
    certificate = node.purge()
    assert node.files() == {kept, kept_local}
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    assert node.stores[StorageClass.OUTGOING].unwrap(kept_blob) == SEALED
    assert (certificate.keys_destroyed, certificate.outgoing_files, certificate.local_files) == (2, 1, 1)
    assert (certificate.keys_left, certificate.oldest_expiry_s) == (2, NOW_S + 1)
    assert certificate.purged_at_s == NOW_S
    assert not certificate.resumed
    assert {gone, gone_too}.isdisjoint(node.files())


def test_each_slot_is_a_row_before_its_key_goes_and_the_certificate_is_the_last_row(node):
    node.record(StorageClass.OUTGOING, NOW_S, rule="stolen-cars")
    certificate = node.purge()
    expired, done = node.rows()
    assert (expired.event, done.event) == ("slot.expired", "purge.done")
    assert expired.fields["rule"] == "stolen-cars"
    assert expired.fields["storage"] == "outgoing"
    path = node.certificates / "purge-000000000002.json"
    assert read_certificate(path) == certificate
    assert certificate.ledger.row == 2
    assert certificate.ledger.root == json.loads(node.log.read_bytes().splitlines()[1])["root"]
    assert [each.name for each in node.certificates.iterdir()] == [path.name]


def test_nothing_of_a_destroyed_slot_key_is_left_in_its_file(node):
    node.record(StorageClass.OUTGOING, NOW_S)
    path = node.root / "slots" / "outgoing.slots"
    before = path.read_bytes()
    node.purge()
    after = path.read_bytes()
    cells = [before[at : at + 512] for at in range(512, len(before), 512)]
    used = [cell for cell in cells if any(cell)]
    assert len(used) == 1
    assert not any(after[512:])


def test_a_purge_with_nothing_to_do_repeats_the_last_certificate_and_says_so_each_hour(node):
    first = node.purge()
    assert (first.keys_destroyed, first.oldest_expiry_s) == (0, None)
    node.clock.advance_to((NOW_S + IDLE_S - 1) * NANOSECONDS)
    assert node.purge() == first
    assert len(node.rows()) == 1
    node.clock.advance_to((NOW_S + IDLE_S) * NANOSECONDS)
    assert node.purge().purged_at_s == NOW_S + IDLE_S
    assert len(node.rows()) == 2


def test_a_lost_certificate_is_written_again_from_the_log(node):
    node.record(StorageClass.OUTGOING, NOW_S)
    certificate = node.purge()
    path = next(node.certificates.iterdir())
    good = path.read_bytes()
    path.unlink()
    assert node.purge() == certificate
    assert path.read_bytes() == good


def test_files_whose_slot_power_loss_took_go_too(node):
    lost, _ = node.record(StorageClass.LOCAL, NOW_S + 500, retention_s=600)
    node.stores[StorageClass.LOCAL].close()
    (node.root / "slots" / "local.memory").unlink()
    node.stores[StorageClass.LOCAL] = SlotStore(
        node.root / "slots" / "local.slots", node.root / "slots" / "local.memory"
    )
    certificate = node.purge()
    assert lost not in node.files()
    assert (certificate.keys_destroyed, certificate.local_files) == (0, 1)


def test_a_file_that_names_no_slot_goes_and_is_counted(node):
    for name, data in (("0" * 32, b""), ("1" * 32, b"\0" * 5000)):
        (node.root / "spool" / "outgoing" / f"{name}.rec").write_bytes(data)
    certificate = node.purge()
    assert node.files() == set()
    assert (certificate.outgoing_files, certificate.malformed_files) == (2, 2)


def test_a_record_that_capture_releases_meanwhile_is_no_orphan(node):
    """Between the listing of files and the reading of slots both a slot and a file may appear."""
    real, added = node.spool.released, []

    def released(storage):
        ids = real(storage)
        if not added:
            added.append(node.record(StorageClass.OUTGOING, NOW_S + 10, rule="new")[0])
        return ids

    node.record(StorageClass.OUTGOING, NOW_S)
    spool = SimpleNamespace(released=released, peek=node.spool.peek, remove=node.spool.remove)
    node.purge(spool=spool)
    assert node.files() == set(added)


def test_a_record_that_uplink_delivers_meanwhile_is_not_counted_as_unreadable(node):
    record_id, _ = node.record(StorageClass.OUTGOING, NOW_S + 10)

    def peek(name, size):
        node.spool.remove(name)
        return node.spool.peek(name, size)

    spool = SimpleNamespace(released=node.spool.released, peek=peek, remove=node.spool.remove)
    assert node.purge(spool=spool).unreadable_files == 0
    assert record_id not in node.files()


def test_a_file_that_cannot_be_read_stays_and_is_counted(node):
    record_id, _ = node.record(StorageClass.OUTGOING, NOW_S + 10)

    def peek(*_):
        raise StoreError("Input/output error")

    spool = SimpleNamespace(released=node.spool.released, peek=peek, remove=node.spool.remove)
    certificate = node.purge(spool=spool)
    assert certificate.unreadable_files == 1
    assert node.files() == {record_id}


def _no_ledger():
    raise StoreError("the ledger is broken")


def test_a_ledger_that_does_not_open_stops_no_destruction(node):
    _, blob = node.record(StorageClass.OUTGOING, NOW_S)
    with pytest.raises(StoreError, match="ledger is broken"):
        node.purge(open_ledger=_no_ledger)
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    assert node.files() == set()


def test_on_a_full_disk_the_rows_are_written_once_files_are_gone(node, monkeypatch):
    _, blob = node.record(StorageClass.OUTGOING, NOW_S)
    real = MerkleLog.append

    def append(log, event, **fields):
        if node.files():
            raise StoreError("No space left on device")
        real(log, event, **fields)

    monkeypatch.setattr(MerkleLog, "append", append)
    certificate = node.purge()
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    assert [row.event for row in node.rows()] == ["slot.expired", "purge.done"]
    assert certificate.keys_destroyed == 1


def test_a_ledger_that_cannot_be_written_at_all_is_an_error_after_the_destruction(node, monkeypatch):
    _, blob = node.record(StorageClass.OUTGOING, NOW_S)

    def append(*_, **__):
        raise StoreError("No space left on device")

    monkeypatch.setattr(MerkleLog, "append", append)
    with pytest.raises(StoreError, match="No space"):
        node.purge()
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    monkeypatch.undo()
    assert node.purge().keys_destroyed == 0  # its announcement could not be written, and nobody claims otherwise


def test_one_class_that_fails_does_not_keep_the_others_keys(node, monkeypatch):
    node.record(StorageClass.OUTGOING, NOW_S)
    _, blob = node.record(StorageClass.LOCAL, NOW_S)

    def fail(_):
        raise SealingError("cannot be written")

    monkeypatch.setattr(node.stores[StorageClass.OUTGOING], "destroy", fail)
    with pytest.raises(SealingError):
        node.purge()
    assert node.stores[StorageClass.LOCAL].unwrap(blob) is None
    assert node.rows("purge.done") == []
    monkeypatch.undo()
    certificate = node.purge()
    assert (certificate.keys_destroyed, certificate.resumed) == (2, True)


def test_a_folder_that_cannot_be_listed_stops_no_destruction(node, monkeypatch):
    _, blob = node.record(StorageClass.OUTGOING, NOW_S)

    def fail(_):
        raise StoreError("Input/output error")

    spool = SimpleNamespace(released=fail, peek=node.spool.peek, remove=node.spool.remove)
    with pytest.raises(StoreError, match="Input/output"):
        node.purge(spool=spool)
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None


class QuarantinedClock:
    """Node time that is refused, with `NOW_S` certainly passed."""

    quarantine = Quarantine(mark_s=NOW_S - 5, wall_s=NOW_S + 10**7, step_s=10**7 + 5, unconfirmed_s=3)
    damaged = ()

    def now_ns(self):
        raise ClockError("quarantined")

    def least_ns(self):
        return NOW_S * NANOSECONDS


def test_in_quarantine_what_certainly_expired_goes_what_may_not_have_stays_and_the_ledger_alarms(node):
    node.clock = QuarantinedClock()
    node.record(StorageClass.LOCAL, NOW_S)
    kept, _ = node.record(StorageClass.LOCAL, NOW_S + 1000)
    node.purge()
    assert node.files() == {kept}
    node.record(StorageClass.LOCAL, NOW_S)
    node.purge()
    (alarm,) = node.rows("clock.quarantined")
    assert alarm.fields == {"mark_s": NOW_S - 5, "wall_s": NOW_S + 10**7, "step_s": 10**7 + 5, "unconfirmed_s": 3}
    assert alarm.time_ns == NOW_S * NANOSECONDS


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def _steps(node, monkeypatch, fatal):
    """Make the `fatal`-th durable step of a purge the last; return the counter of steps."""
    count = itertools.count(1)

    def guard(owner, name):
        real = getattr(owner, name)

        def step(*args, **kwargs):
            if next(count) == fatal:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, step)

    guard(MerkleLog, "append")
    guard(SlotStore, "destroy")
    guard(FileSpool, "remove")
    guard(module, "write_certificate")
    return count


@pytest.mark.parametrize("fatal", range(1, 14))
def test_killed_at_any_step_and_run_again_it_ends_in_the_same_state(tmp_path, monkeypatch, fatal):
    node = Node(tmp_path)
    for storage in StorageClass:
        for rule in ("a", "b"):
            node.record(storage, NOW_S, rule=rule)
    kept = {node.record(StorageClass.OUTGOING, NOW_S + 100)[0]}
    count = _steps(node, monkeypatch, fatal)
    killed = False
    try:
        node.purge()
    except Killed:
        killed = True
    monkeypatch.undo()
    assert killed == (fatal <= next(count) - 1)
    certificate = node.purge()
    assert node.files() == kept
    assert {storage: len(store.live()) for storage, store in node.stores.items()} == {"local": 0, "outgoing": 1}
    assert sum(row.fields["keys_destroyed"] for row in node.rows("purge.done")) == 4
    announced = [row.fields["slot"] for row in node.rows("slot.expired")]
    assert len(announced) == len(set(announced)) == 4
    assert certificate.keys_left == 1
    papers = {read_certificate(path).ledger.row for path in node.certificates.iterdir()}
    assert papers == {row.number for row in node.rows("purge.done")}
    for store in node.stores.values():
        store.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(StorageClass), st.integers(-50, 50), st.sampled_from(["a", "b"]), st.booleans()),
        max_size=12,
    ),
    st.integers(0, 60),
)
def test_a_record_outlives_a_purge_exactly_where_its_slot_is_not_over(tmp_path_factory, records, later):
    node = Node(tmp_path_factory.mktemp("node"))
    made = {}
    for storage, offset, rule, short in records:
        record_id, blob = node.record(storage, NOW_S + offset, rule, 600 if short else 100_000)
        made[record_id] = (storage, offset, blob)
    node.clock.advance_to((NOW_S + later) * NANOSECONDS)
    node.purge()
    assert node.files() == {record_id for record_id, (_, offset, _) in made.items() if offset > later}
    for storage, offset, blob in made.values():
        assert node.stores[storage].unwrap(blob) == (SEALED if offset > later else None)
    for store in node.stores.values():
        store.close()


LIFE_S = 600
moves = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 4)),
        st.tuples(st.just("record"), st.sampled_from(StorageClass)),
        st.tuples(st.just("step"), st.integers(-500, 500)),
        st.tuples(st.just("cut"), st.integers(0, 20)),
    ),
    max_size=14,
)


@settings(max_examples=10, deadline=None)
@given(moves)
def test_no_key_outlives_its_retention_in_powered_on_life(tmp_path_factory, steps):
    """Invariant 4: whatever the wall clock and the power do, while the timer runs purge each minute.

    `step` moves the wall clock by days, `cut` cuts the power for days; quarantine may come and go.
    """
    node, machine = Node(tmp_path_factory.mktemp("node")), Machine()
    made = []

    def tick():
        node.clock = SystemClock(node.root / "clock", "purge", readers=machine.readers())
        node.purge()
        for storage, blob, since in made:
            if machine.powered - since >= LIFE_S * NANOSECONDS:
                assert node.stores[storage].unwrap(blob) is None

    tick()
    for kind, value in [*steps, ("run", LIFE_S // 60)]:
        if kind == "run":
            for _ in range(value):
                machine.run(60 * NANOSECONDS)
                tick()
        elif kind == "step":
            machine.wall = max(0, machine.wall + value * 86_400 * NANOSECONDS)
        elif kind == "cut":
            machine.run(40 * NANOSECONDS)  # dies between two ticks
            machine.off(value * 86_400 * NANOSECONDS)
            tick()
        elif node.clock.quarantine is None:
            expiry_s = node.clock.now_ns() // NANOSECONDS + LIFE_S
            made.append((value, node.record(value, expiry_s)[1], machine.powered))
    assert all(node.stores[storage].unwrap(blob) is None for storage, blob, _ in made)
    assert scan(node.log).bad is None
    for store in node.stores.values():
        store.close()


def test_a_damaged_mark_stops_no_purge_and_the_ledger_alarms_once_an_hour(node):
    machine = Machine()
    start_s = machine.wall // NANOSECONDS

    def tick():
        node.clock = SystemClock(
            node.root / "clock", "purge", readers=machine.readers(), witness=lambda: scan(node.log).time_ns
        )
        return node.purge()

    tick()
    _, blob = node.record(StorageClass.OUTGOING, start_s + 600)
    _, later = node.record(StorageClass.LOCAL, start_s + 7200)
    (node.root / "clock" / "capture.mark").write_bytes(b"torn")
    for minute in range(1, 11):
        assert node.stores[StorageClass.OUTGOING].unwrap(blob) == SEALED, minute
        machine.run(60 * NANOSECONDS)
        machine.wall += 400 * 86_400 * NANOSECONDS  # nobody asks it
        tick()
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    assert node.stores[StorageClass.LOCAL].unwrap(later) == SEALED
    [alarm] = node.rows("clock.mark-damaged")
    assert alarm.fields == {"marks": "capture.mark", "least_s": start_s + 60}


def test_a_node_whose_marks_are_all_damaged_purges_by_the_time_that_its_ledger_tells(simulation_node):
    """Through the command, on the machine's own clocks: what was over when the marks were lost goes."""
    paths = simulation_node.paths
    run_purge(simulation_node.load())
    now_s = read_certificate(max(paths.certificates.iterdir())).purged_at_s
    with closing(open_slots(paths, StorageClass.LOCAL, check=False)) as store:
        store.slot_for("hits", now_s, 100_000), store.slot_for("hits", now_s + 5000, 100_000)
    for mark in paths.clock.iterdir():
        mark.write_bytes(b"")
    assert "1 slot keys destroyed" in run_purge(simulation_node.load())
    assert [row.event for row in read_rows(paths.log("purge"))].count("clock.mark-damaged") == 1
