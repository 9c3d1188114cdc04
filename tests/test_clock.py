"""Node time over simulated machines: wall clock, boot clock and boot id are the test's; marks are real files."""

import json
import os
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate import clock as module
from homeplate.clock import (
    EARLIEST_NS,
    NANOSECONDS,
    PLAUSIBLE_OFF_NS,
    RESERVE_NS,
    UNCONFIRMED_OFF_NS,
    Readers,
    SimulatedClock,
    SystemClock,
    WallClock,
    perf_ns,
    system_readers,
    utc_text,
)
from homeplate.errors import ClockError

START_NS = EARLIEST_NS + 100 * 86_400 * NANOSECONDS
DAY_NS = 86_400 * NANOSECONDS


@dataclass
class Machine:
    """A machine whose time the test moves: `run` is powered on, `off` is power cut, `step` moves the wall alone."""

    wall: int = START_NS
    since_boot: int = 5 * NANOSECONDS
    boots: int = 0
    powered: int = field(default=0)

    def run(self, ns):
        self.wall += ns
        self.since_boot += ns
        self.powered += ns

    def off(self, ns):
        self.wall += ns
        self.since_boot = 0
        self.boots += 1

    def readers(self):
        return Readers(boot_id=lambda: f"boot-{self.boots}", boot_ns=lambda: self.since_boot, wall_ns=lambda: self.wall)


def start(machine, folder, process="capture"):
    return SystemClock(folder, process, readers=machine.readers())


def test_within_a_boot_the_wall_clock_changes_nothing(tmp_path):
    machine = Machine()
    clock = start(machine, tmp_path)
    assert clock.now_ns() == START_NS
    machine.wall += 400 * DAY_NS
    machine.run(7 * NANOSECONDS)
    assert clock.now_ns() == START_NS + 7 * NANOSECONDS
    machine.wall = 0
    assert clock.now_ns() == START_NS + 7 * NANOSECONDS


def test_a_clock_that_was_never_set_is_refused_at_first_start(tmp_path):
    with pytest.raises(ClockError, match=r"1970-01-01.*never set"):
        start(Machine(wall=50 * NANOSECONDS), tmp_path)
    assert list(tmp_path.glob("*.mark")) == []
    with pytest.raises(ClockError, match="2025-12-31"):
        start(Machine(wall=EARLIEST_NS - 1), tmp_path)
    start(Machine(wall=EARLIEST_NS), tmp_path)


def test_time_off_counts_by_the_wall_clock_where_it_is_plausible(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    machine.off(3 * DAY_NS)
    machine.run(10 * NANOSECONDS)
    assert start(machine, tmp_path).now_ns() == machine.wall


def test_a_wall_clock_that_went_back_counts_as_no_time_off(tmp_path):
    machine = Machine()
    before = start(machine, tmp_path).now_ns()
    machine.off(0)
    machine.wall -= 300 * DAY_NS
    machine.run(2 * NANOSECONDS)
    assert start(machine, tmp_path).now_ns() == before + RESERVE_NS + 2 * NANOSECONDS


def test_a_power_cut_costs_the_reserve_and_never_gives_time_back(tmp_path):
    machine = Machine()
    clock = start(machine, tmp_path)
    machine.run(RESERVE_NS - 1)
    last = clock.now_ns()
    machine.off(0)
    machine.wall = 0  # no clock kept time through the cut
    assert last < start(machine, tmp_path).now_ns() <= last + RESERVE_NS + NANOSECONDS


def test_a_longer_step_than_can_be_believed_is_quarantined(tmp_path):
    machine = Machine()
    first = start(machine, tmp_path)
    before = first.now_ns()
    machine.off(PLAUSIBLE_OFF_NS + RESERVE_NS + 1)
    clock = start(machine, tmp_path)
    assert clock.quarantine is not None
    assert clock.quarantine.step_s == PLAUSIBLE_OFF_NS // NANOSECONDS
    assert clock.quarantine.mark_s == (before + RESERVE_NS) // NANOSECONDS
    with pytest.raises(ClockError, match=r"leapt 604800 s.*newly signed bundle"):
        clock.now_ns()
    machine.run(50 * NANOSECONDS)
    assert clock.least_ns() == before + RESERVE_NS + 50 * NANOSECONDS  # powered-on time counts, the step does not


def test_quarantine_ends_when_the_wall_clock_is_mended_and_the_other_process_follows(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    machine.off(30 * DAY_NS)
    capture, uplink = start(machine, tmp_path, "capture"), start(machine, tmp_path, "uplink")
    machine.wall = START_NS + DAY_NS
    now = capture.now_ns()
    assert now == machine.wall
    assert capture.quarantine is None
    machine.wall += 365 * DAY_NS
    assert uplink.now_ns() == now


def test_powered_on_time_in_quarantine_is_kept_across_a_reboot(tmp_path):
    machine = Machine()
    before = start(machine, tmp_path).now_ns()
    for _ in range(4):
        machine.off(60 * DAY_NS)
        clock = start(machine, tmp_path)
        machine.run(DAY_NS)
        clock.save_mark()
        assert clock.quarantine is not None
    assert clock.least_ns() >= before + 4 * DAY_NS
    assert clock.least_ns() < before + 5 * DAY_NS


def test_a_signed_time_ends_the_quarantine_of_all_processes_after_a_long_time_off(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    machine.off(60 * DAY_NS)
    capture, bundle = start(machine, tmp_path, "capture"), start(machine, tmp_path, "bundle")
    bundle.believe(machine.wall - PLAUSIBLE_OFF_NS - 1)  # signed too long ago to vouch for this wall clock
    assert bundle.quarantine is not None
    bundle.believe(machine.wall - PLAUSIBLE_OFF_NS)
    assert bundle.quarantine is None
    assert bundle.now_ns() == machine.wall
    assert capture.now_ns() == machine.wall


def test_a_signed_time_moves_no_time_where_there_is_no_quarantine(tmp_path):
    machine = Machine()
    clock = start(machine, tmp_path)
    clock.believe(START_NS + 500 * DAY_NS)
    assert clock.now_ns() == START_NS
    machine.off(0)
    machine.wall = 0
    assert start(machine, tmp_path).now_ns() < START_NS + DAY_NS


def test_processes_of_one_boot_share_one_anchor_whatever_the_wall_does_between_their_starts(tmp_path):
    machine = Machine()
    capture = start(machine, tmp_path, "capture")
    machine.wall += 5 * DAY_NS
    machine.run(NANOSECONDS)
    uplink = start(machine, tmp_path, "uplink")
    assert uplink.now_ns() == capture.now_ns() == START_NS + NANOSECONDS


def test_the_highest_of_several_marks_counts(tmp_path):
    machine = Machine()
    start(machine, tmp_path, "capture")
    machine.run(DAY_NS)
    last = start(machine, tmp_path, "purge").now_ns()
    machine.off(0)
    machine.wall = 0
    assert start(machine, tmp_path, "capture").now_ns() > last


def test_a_restored_machine_image_does_not_set_time_back(tmp_path):
    machine = Machine()
    clock = start(machine, tmp_path)
    machine.run(DAY_NS)
    last = clock.now_ns()
    machine.since_boot -= DAY_NS  # the same boot id, an earlier boot clock
    machine.wall -= DAY_NS
    assert start(machine, tmp_path).now_ns() > last


def test_a_damaged_mark_is_refused_by_name(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    path = tmp_path / "capture.mark"
    good = path.read_bytes()
    early = json.dumps({**json.loads(good), "reserved_ns": START_NS - 1}).encode()
    for bad in (b"", b"{}", early, good[:-1], good.replace(b'"version":2', b'"version":3'), b"\xff" + good):
        path.write_bytes(bad)
        with pytest.raises(ClockError, match=r"capture.mark"):
            start(machine, tmp_path, "uplink")


def test_a_mark_of_an_older_version_is_refused_with_what_to_do(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    path = tmp_path / "capture.mark"
    old = {name: value for name, value in json.loads(path.read_bytes()).items() if name != "confirmed_ns"}
    path.write_text(json.dumps(old | {"version": 1}))
    told = r"capture.mark is of version 1, not 2: run `homeplate purge`.*remove the other marks.*newly signed bundle"
    with pytest.raises(ClockError, match=told):
        start(machine, tmp_path, "uplink")
    machine.run(DAY_NS)
    purge = witnessed(machine, tmp_path, START_NS + DAY_NS - 3600 * NANOSECONDS)  # the last row of its ledger
    path.unlink()
    bundle = start(machine, tmp_path, "bundle")
    with pytest.raises(ClockError, match="newly signed bundle"):
        bundle.now_ns()
    bundle.believe(machine.wall)
    assert bundle.now_ns() == start(machine, tmp_path).now_ns() == machine.wall
    assert purge.least_ns() <= machine.wall


def test_time_off_that_no_signature_confirms_is_summed_over_boots(tmp_path):
    """With the wall clock moved before each boot, nine boots in seconds of power would give two months."""
    machine = Machine()
    start(machine, tmp_path)
    for _ in range(9):
        machine.off(0)
        machine.wall += PLAUSIBLE_OFF_NS - DAY_NS // 10
        machine.run(5 * NANOSECONDS)
        clock = start(machine, tmp_path)
    assert clock.least_ns() <= START_NS + UNCONFIRMED_OFF_NS + 10 * RESERVE_NS
    assert clock.unconfirmed_ns == 2 * (PLAUSIBLE_OFF_NS - DAY_NS // 10 - RESERVE_NS)
    machine.wall = clock.least_ns() + DAY_NS
    with pytest.raises(ClockError, match=r"off before it rest on the clock alone, more than the 1209600 s"):
        clock.now_ns()
    assert clock.quarantine.unconfirmed_s == clock.unconfirmed_ns // NANOSECONDS
    machine.wall = START_NS + DAY_NS  # somebody set it right
    assert clock.now_ns() == clock.least_ns()


def test_the_sum_ends_exactly_at_its_limit(tmp_path):
    for beyond in (0, 1):
        machine, folder = Machine(since_boot=0), tmp_path / str(beyond)
        start(machine, folder)
        for off in (PLAUSIBLE_OFF_NS, PLAUSIBLE_OFF_NS + beyond):
            machine.off(RESERVE_NS + off)
            clock = start(machine, folder)
        assert (clock.quarantine is None) == (beyond == 0)


def test_a_signed_time_confirms_the_time_off_before_it_for_good(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    for process in ("capture", "uplink"):
        machine.off(PLAUSIBLE_OFF_NS)
        start(machine, tmp_path, process)
    bundle = start(machine, tmp_path, "bundle")
    assert bundle.unconfirmed_ns == 2 * (PLAUSIBLE_OFF_NS - RESERVE_NS)
    bundle.believe(bundle.now_ns() - 10 * DAY_NS)
    assert bundle.unconfirmed_ns == 10 * DAY_NS
    bundle.believe(bundle.now_ns() - 12 * DAY_NS)  # an older one takes nothing back
    assert bundle.unconfirmed_ns == start(machine, tmp_path, "uplink").unconfirmed_ns == 10 * DAY_NS
    machine.off(4 * DAY_NS)
    again = start(machine, tmp_path)
    assert again.quarantine is None
    assert again.unconfirmed_ns == 14 * DAY_NS - RESERVE_NS
    machine.off(DAY_NS)
    assert start(machine, tmp_path, "uplink").quarantine is not None


def test_time_off_under_a_signature_counts_from_the_signed_time_alone(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    machine.off(60 * DAY_NS)
    bundle = start(machine, tmp_path, "bundle")
    bundle.believe(machine.wall - 2 * DAY_NS)
    assert bundle.now_ns() == machine.wall
    assert bundle.unconfirmed_ns == start(machine, tmp_path).unconfirmed_ns == 2 * DAY_NS


def test_a_lost_mark_gives_no_time_off_back(tmp_path):
    machine = Machine()
    start(machine, tmp_path)
    machine.off(PLAUSIBLE_OFF_NS)
    start(machine, tmp_path), start(machine, tmp_path, "uplink")
    spent = start(machine, tmp_path, "bundle").unconfirmed_ns
    for name in ("capture", "bundle"):
        (tmp_path / f"{name}.mark").unlink()
        assert start(machine, tmp_path, "check").unconfirmed_ns == spent
    damage(tmp_path, "uplink", "check")
    witnessed(machine, tmp_path, machine.wall)
    for name in ("uplink", "check"):
        (tmp_path / f"{name}.mark").unlink()
    machine.run(NANOSECONDS)
    machine.off(DAY_NS)
    assert start(machine, tmp_path).quarantine is not None  # nothing says any more what was confirmed


def test_a_process_writes_its_own_mark_alone(tmp_path):
    machine = Machine()
    start(machine, tmp_path, "capture")
    before = (tmp_path / "capture.mark").stat().st_ino
    start(machine, tmp_path, "uplink").save_mark()
    assert (tmp_path / "capture.mark").stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture.mark", "uplink.mark"]
    for name in ("", "../up", "Up", "a b"):
        with pytest.raises(ClockError, match="named by a process"):
            start(machine, tmp_path, name)


def test_an_unwritable_mark_stops_node_time_but_not_the_least_time(tmp_path, monkeypatch):
    machine = Machine()
    clock = start(machine, tmp_path)
    now = clock.now_ns()

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(module.os, "fsync", full)
    machine.run(2 * RESERVE_NS)
    with pytest.raises(ClockError, match="No space left"):
        clock.now_ns()
    assert clock.least_ns() == now + 2 * RESERVE_NS
    assert not list(tmp_path.glob("*.new"))


def test_node_time_is_never_handed_out_beyond_the_mark_on_disk(tmp_path):
    machine = Machine()
    clock = start(machine, tmp_path)
    for _ in range(50):
        machine.run(RESERVE_NS // 3)
        assert clock.now_ns() <= module._read_mark(tmp_path / "capture.mark").reserved_ns


actions = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 3 * DAY_NS)),
        st.tuples(st.just("step"), st.integers(-500 * DAY_NS, 500 * DAY_NS)),
        st.tuples(st.just("cut"), st.integers(0, 40 * DAY_NS)),
        st.tuples(st.just("restart"), st.sampled_from(["capture", "uplink", "purge"])),
        st.tuples(st.just("believe"), st.integers(-40 * DAY_NS, 20 * DAY_NS)),
    ),
    max_size=40,
)
spoofs = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(0, 2 * RESERVE_NS)),
        st.tuples(st.just("cut"), st.sampled_from([0, NANOSECONDS, DAY_NS, PLAUSIBLE_OFF_NS - DAY_NS // 10])),
        st.tuples(st.just("step"), st.integers(-3 * DAY_NS, PLAUSIBLE_OFF_NS + DAY_NS)),
        st.tuples(st.just("restart"), st.sampled_from(["capture", "uplink", "purge"])),
        st.tuples(st.just("lose"), st.sampled_from(["capture", "uplink"])),
        st.tuples(st.just("believe"), st.integers(-40 * DAY_NS, 20 * DAY_NS)),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(spoofs)
def test_no_history_of_clock_moves_ages_a_record_past_the_unconfirmed_time_off_beyond_signed_times(steps):
    """Node time is at most `UNCONFIRMED_OFF_NS` past powered-on time, reserves and signed times, whatever moves.

    Every process of a boot comes to the same time and the same sum, in whatever order they start.
    """
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        spoof(Path(folder), Machine(), steps)


def spoof(folder, machine, steps):
    purge = start(machine, folder, "purge")
    confirmed = START_NS  # as somebody outside knows it
    for kind, value in steps:
        if kind == "step":
            machine.wall = max(0, machine.wall + value)
        elif kind == "cut":
            machine.off(value)
            confirmed += RESERVE_NS
            purge = start(machine, folder, "purge")
        elif kind == "restart":
            start(machine, folder, value)
        elif kind == "lose":
            (folder / f"{value}.mark").unlink(missing_ok=True)
        elif kind == "believe":
            start(machine, folder, "bundle").believe(confirmed + value)
            confirmed = max(confirmed, confirmed + value)
        else:
            machine.run(value)
            confirmed += value
            purge.save_mark()
        clocks = [start(machine, folder, name) for name in ("uplink", "capture")]
        assert len({(clock.least_ns(), clock.unconfirmed_ns, clock.quarantine is None) for clock in clocks}) == 1
        assert clocks[0].least_ns() <= confirmed + UNCONFIRMED_OFF_NS
        assert clocks[0].least_ns() - clocks[0].unconfirmed_ns <= confirmed
        if clocks[0].quarantine is None:
            assert purge.now_ns() == clocks[0].now_ns() <= confirmed + UNCONFIRMED_OFF_NS


@settings(max_examples=60, deadline=None)
@given(actions)
def test_powered_on_life_never_exceeds_the_cap_and_time_never_goes_back(tmp_path_factory, steps):
    """A record made at the start is past its cap by purge's clock once the machine ran that long, whatever happens.

    Purge runs once in `RESERVE_NS` (its timer), as on a node; the machine may die at any moment in between.
    """
    folder = tmp_path_factory.mktemp("clock")
    machine = Machine()
    purge = start(machine, folder, "purge")
    made = last = purge.now_ns()
    machine.powered = 0
    for kind, value in steps:
        if kind == "step":
            machine.wall = max(0, machine.wall + value)
        elif kind == "cut":
            machine.off(value)
            purge = start(machine, folder, "purge")
        elif kind == "restart":
            start(machine, folder, value)
        elif kind == "believe":
            start(machine, folder, "bundle").believe(last + value)
        else:
            remaining = value
            machine.run(remaining % RESERVE_NS)
            purge.save_mark()
            for _ in range(min(remaining // RESERVE_NS, 5)):
                machine.run(RESERVE_NS)
                purge.save_mark()
        now = purge.least_ns()
        assert now >= last
        last = now
        assert now - made >= machine.powered
        if purge.quarantine is None:
            assert purge.now_ns() >= now


def test_power_cuts_take_at_most_the_reserve_each_from_a_life(tmp_path):
    machine = Machine()
    made = start(machine, tmp_path).now_ns()
    for _ in range(20):
        clock = start(machine, tmp_path)
        machine.run(NANOSECONDS)
        clock.now_ns()
        machine.off(0)
    machine.off(0)
    assert start(machine, tmp_path).now_ns() - made <= 20 * (RESERVE_NS + 2 * NANOSECONDS) + RESERVE_NS


def test_threads_may_share_a_clock(tmp_path):
    clock, seen, gate = SystemClock(tmp_path, "capture"), [], threading.Barrier(4)

    def ask():
        gate.wait()
        seen.append([clock.now_ns() for _ in range(200)])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 4
    assert all(times == sorted(times) for times in seen)


def test_the_machines_own_clocks_are_read(tmp_path):
    readers = system_readers()
    assert len(readers.boot_id()) == 36
    assert 0 < readers.boot_ns() <= readers.boot_ns()
    assert abs(SystemClock(tmp_path, "capture").now_ns() - readers.wall_ns()) < 5 * NANOSECONDS
    assert abs(WallClock().now_ns() - readers.wall_ns()) < 5 * NANOSECONDS
    assert perf_ns() <= perf_ns()


def test_an_unknown_system_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "plan9")
    with pytest.raises(ClockError, match="plan9"):
        system_readers()


def test_a_simulation_stands_still_until_it_is_advanced_and_never_goes_back():
    clock = SimulatedClock(START_NS)
    clock.advance_to(START_NS + 5)
    clock.advance_to(START_NS + 3)
    assert clock.now_ns() == clock.least_ns() == START_NS + 5


def test_times_are_shown_in_utc_to_the_second():
    assert utc_text(EARLIEST_NS + NANOSECONDS * 61 + 999) == "2026-01-01T00:01:01Z"


def witnessed(machine, folder, told_ns=0, process="purge"):
    return SystemClock(folder, process, readers=machine.readers(), witness=lambda: told_ns)


def damage(folder, *names):
    for name in names:
        (folder / f"{name}.mark").write_bytes(b"\0" * 40)


@pytest.mark.parametrize("damaged", [["capture"], ["purge"]])
def test_with_a_mark_of_this_boot_left_a_damaged_one_costs_purge_nothing(tmp_path, damaged):
    machine = Machine()
    start(machine, tmp_path, "capture"), start(machine, tmp_path, "purge")
    machine.run(DAY_NS)
    damage(tmp_path, *damaged)
    machine.wall += 3 * DAY_NS  # whoever damages a mark may move the wall, too
    purge = witnessed(machine, tmp_path)
    assert purge.damaged == tuple(f"{name}.mark" for name in damaged)
    assert purge.least_ns() == START_NS + DAY_NS
    with pytest.raises(ClockError, match="damaged"):
        purge.now_ns()
    damage(tmp_path, "capture")
    with pytest.raises(ClockError, match=r"capture.mark is damaged.*homeplate purge"):
        start(machine, tmp_path, "uplink")
    (tmp_path / "capture.mark").unlink()
    assert start(machine, tmp_path, "capture").now_ns() == START_NS + DAY_NS  # the boot's anchor is still settled


def test_with_a_mark_of_an_earlier_boot_left_powered_on_time_goes_on_from_there(tmp_path):
    machine = Machine()
    start(machine, tmp_path, "capture"), start(machine, tmp_path, "purge")
    machine.off(3 * DAY_NS)
    machine.run(60 * NANOSECONDS)
    damage(tmp_path, "purge")
    purge = witnessed(machine, tmp_path)
    assert purge.least_ns() == START_NS + RESERVE_NS + 60 * NANOSECONDS
    machine.run(60 * NANOSECONDS)
    again = witnessed(machine, tmp_path)  # its own mark was written anew: the wall counts again, as at a boot
    assert again.damaged == ()
    assert again.now_ns() == machine.wall


@pytest.mark.parametrize("gone", [False, True])
def test_with_no_mark_left_purge_goes_on_from_what_its_ledgers_tell(tmp_path, gone):
    machine = Machine()
    start(machine, tmp_path, "purge")
    machine.run(DAY_NS)
    damage(tmp_path, "purge")
    if gone:
        (tmp_path / "purge.mark").unlink()
    told = START_NS + DAY_NS - 5 * NANOSECONDS
    purge = witnessed(machine, tmp_path, told)
    assert purge.least_ns() == told
    machine.run(50 * NANOSECONDS)
    assert purge.least_ns() == told + 50 * NANOSECONDS
    machine.off(0)
    assert witnessed(machine, tmp_path, told).least_ns() >= told + 50 * NANOSECONDS


def test_with_nothing_left_purge_starts_at_the_earliest_day_and_nothing_is_over_by_the_wall_alone(tmp_path):
    machine = Machine()
    start(machine, tmp_path, "purge")
    damage(tmp_path, "purge")
    assert witnessed(machine, tmp_path).least_ns() == EARLIEST_NS
    assert start(machine, tmp_path, "capture").quarantine is not None  # a signed time ends that


def test_a_first_start_is_no_damage(tmp_path):
    purge = witnessed(Machine(), tmp_path)
    assert (purge.damaged, purge.now_ns()) == ((), START_NS)
