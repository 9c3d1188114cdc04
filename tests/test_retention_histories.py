"""Histories of captures, clock moves, power cuts, kills, lost marks, holds and purges, generated (invariant 4).

Whatever happens, after a purge a record that was powered on for its retention does not open, and one that does not open
was over by a time that the node had reason to believe: powered-on time, the reserve of each boot, and time off that a
wall clock claimed at a boot within `PLAUSIBLE_OFF_NS`, summed over boots within `UNCONFIRMED_OFF_NS` past what was
signed. A move within a boot, one back and a longer one count nothing.
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from homeplate.clock import NANOSECONDS, PLAUSIBLE_OFF_NS, RESERVE_NS, UNCONFIRMED_OFF_NS, SystemClock
from homeplate.domain.hold import HOLD_WINDOW_S, MOST_HOLDS
from homeplate.domain.purging import ByHand, Why
from homeplate.domain.record import RecordId, StorageClass
from homeplate.errors import ClockError, ConfigError
from homeplate.hold import SEALED
from homeplate.policy.retention import keep_until
from homeplate.store.ledger import MerkleLog, scan
from tests.faults.test_purge_power_cuts import Faults, Killed, running
from tests.holding import CONTENT, HoldingNode, a_hold
from tests.test_clock import Machine

DAY_S = 86_400
RETENTIONS_S = (600, 7200, 2 * DAY_S, 30 * DAY_S)
PLAUSIBLE_S, RESERVE_S = PLAUSIBLE_OFF_NS // NANOSECONDS, RESERVE_NS // NANOSECONDS
UNCONFIRMED_S = UNCONFIRMED_OFF_NS // NANOSECONDS
LOST_S = 3700  # with every mark gone: purge's ledger says the time once an hour
NOTABLE_S = (5, 700, 3600, DAY_S, 3 * DAY_S, 6 * DAY_S, 8 * DAY_S, 31 * DAY_S, 400 * DAY_S, 20_000 * DAY_S)
STEPS_S = st.sampled_from([*NOTABLE_S, *(-step_s for step_s in NOTABLE_S)])
OFF_S = st.sampled_from([0, *NOTABLE_S[:-1]])


@dataclass
class Kept:
    """What must open or not: a record, or a hold's copy.

    Attributes:
        life_s: how long it may be powered on.
        expiry_s: node time at which it is over.
        since_s: how long the machine had been powered on when it was made, less what may since have gone uncounted.
        ended: True once it may be gone for another reason.
    """

    life_s: int
    expiry_s: int
    since_s: float
    in_memory: bool = False
    ended: bool = False


class Histories(RuleBasedStateMachine):
    """A node and its machine."""

    @initialize()
    def start(self):
        shared = Path("/dev/shm")
        self.root = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else None)) / "node"
        self.machine = Machine()
        self.node = HoldingNode(self.root)
        self.records: dict[RecordId, Kept] = {}
        self.captured_s: dict[RecordId, int] = {}
        self.holds: dict[bytes, tuple[RecordId, Kept]] = {}
        self.low_s = self.up_s = self.machine.wall / NANOSECONDS  # node time lies between these
        self.confirmed_low_s = self.confirmed_up_s = self.low_s  # what is confirmed of it lies between these
        self.doubtful = False  # the wall clock may still be asked in this boot
        self.purged = False
        self.tick()
        self.capture(StorageClass.OUTGOING)
        self.hold_of(next(reversed(self.records)), 3 * DAY_S)

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root.parent)

    def tick(self, **killed):
        """Purge once, as the timer does."""
        if self.doubtful:
            self.ask_the_wall(0)
        if killed:
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                Faults(patch, **killed)
                running(self.root, self.machine)
        running(self.root, self.machine)
        self.purged = True

    def ask_the_wall(self, reserve_s):
        """Move the bounds of node time as the wall clock is judged; where it may not be believed, it is asked again."""
        wall_s = self.machine.wall / NANOSECONDS
        self.up_s += reserve_s
        self.confirmed_up_s += reserve_s
        most_s = min(max(self.low_s, self.confirmed_low_s) + PLAUSIBLE_S, self.confirmed_low_s + UNCONFIRMED_S)
        self.doubtful = wall_s > most_s
        if not self.doubtful:
            self.low_s = max(self.low_s, wall_s)
        most_s = min(max(self.up_s, self.confirmed_up_s) + PLAUSIBLE_S, self.confirmed_up_s + UNCONFIRMED_S)
        if wall_s <= most_s:
            self.up_s = max(self.up_s, wall_s)

    def power(self, seconds):
        self.machine.run(seconds * NANOSECONDS)
        self.low_s += seconds
        self.up_s += seconds
        self.confirmed_low_s += seconds
        self.confirmed_up_s += seconds

    def boot(self, off_s, step_s):
        """Cut the power, and start again: memory-backed slots are gone, a purge comes first."""
        self.machine.off(off_s * NANOSECONDS)
        self.machine.wall = max(0, self.machine.wall + step_s * NANOSECONDS)
        for path in self.root.glob("*.memory"):
            path.unlink()
        for kept in self.records.values():
            kept.ended = kept.ended or kept.in_memory
        self.ask_the_wall(RESERVE_S)
        self.power(5)
        self.tick()

    def clock(self, process):
        """Return a clock of another process; None where it may not start now."""
        try:
            clock = SystemClock(self.root / "clock", process, readers=self.machine.readers())
            clock.now_ns()
        except ClockError:
            return None
        return clock

    @rule(storage=st.sampled_from(StorageClass))
    def capture(self, storage):
        """Keep a record of each retention."""
        clock = self.clock("capture")
        if clock is None:
            return
        stores, now_s = self.node.stores(), clock.now_ns() // NANOSECONDS
        for life_s in RETENTIONS_S:
            record_id, expiry_s = RecordId(os.urandom(16)), keep_until(now_s, life_s)
            slot = stores[storage].slot_for(f"rule-{life_s}", expiry_s, life_s)
            self.node.spool.stage(record_id, stores[storage].wrap(slot, record_id, CONTENT), storage)
            with MerkleLog(self.root / "capture.log", clock) as log:
                log.append(SEALED, source=record_id.value.hex()[:8], records=str(record_id), captured_s=now_s)
            self.node.spool.release([record_id])
            self.captured_s[record_id] = now_s
            self.records[record_id] = Kept(life_s, expiry_s, self.machine.powered / NANOSECONDS, life_s < DAY_S)
        for store in stores.values():
            store.close()

    @rule(seconds=st.sampled_from([0, *NOTABLE_S[:8]]))
    def run_on(self, seconds):
        """Stay powered on, with the timer's purge each minute (the last two of them stand for all)."""
        self.power(seconds)
        self.tick()
        self.power(60)
        self.tick()

    @rule(nth=st.integers(0, 50))
    def run_to_an_end(self, nth):
        """Stay powered on just as long as a record or a hold may."""
        powered_s = self.machine.powered / NANOSECONDS
        all_kept = [*self.records.values(), *(kept for _, kept in self.holds.values())]
        lefts_s = [kept.since_s + kept.life_s - powered_s for kept in all_kept if not kept.ended]
        lefts_s = [int(left_s) for left_s in lefts_s if left_s > 60]
        if lefts_s:
            self.run_on(lefts_s[nth % len(lefts_s)] - 60)

    @rule(step_s=STEPS_S)
    def move_the_wall_clock(self, step_s):
        self.machine.wall = max(0, self.machine.wall + step_s * NANOSECONDS)

    @rule(ahead_s=st.sampled_from([-400 * DAY_S, -31 * DAY_S, -8 * DAY_S, -DAY_S, 0, DAY_S, 40 * DAY_S]))
    def a_bundle_is_signed(self, ahead_s):
        """Bring a signed time, so far ahead of what is confirmed."""
        signed_s = int(self.confirmed_up_s) + ahead_s
        with contextlib.suppress(ClockError):
            SystemClock(self.root / "clock", "bundle", readers=self.machine.readers()).believe(signed_s * NANOSECONDS)
        self.confirmed_low_s = max(self.confirmed_low_s, signed_s)
        self.confirmed_up_s = max(self.confirmed_up_s, signed_s)
        if self.doubtful:
            self.ask_the_wall(0)

    @rule(off_s=OFF_S, step_s=st.one_of(st.just(0), STEPS_S), after_s=st.integers(0, 60))
    def cut_the_power(self, off_s, step_s, after_s):
        self.power(after_s)  # the timer's last purge was so long ago
        self.boot(off_s, step_s)

    @rule(at=st.integers(1, 40), torn=st.booleans(), off_s=OFF_S, step_s=st.one_of(st.just(0), STEPS_S))
    def cut_the_power_in_a_purge(self, at, torn, off_s, step_s):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            Faults(patch, at, torn=torn)
            running(self.root, self.machine)
        self.boot(off_s, step_s)

    @rule(at=st.integers(1, 40))
    def kill_a_purge(self, at):
        self.tick(at=at)

    @rule(everything=st.booleans())
    def lose_marks(self, everything):
        """Damage purge's mark, or every mark; purge writes its own anew, and somebody removes the others."""
        self.tick()
        marks = sorted((self.root / "clock").glob("*.mark"))
        here = f'"boot_id":"boot-{self.machine.boots}"'
        others = not everything and any(here in path.read_text() for path in marks if path.name != "purge.mark")
        for path in marks if everything else [self.root / "clock" / "purge.mark"]:
            path.write_bytes(b"\0" * 30)
        if not others:
            self.low_s -= LOST_S
            self.confirmed_low_s = 0
            for kept in (*self.records.values(), *(kept for _, kept in self.holds.values())):
                kept.since_s += LOST_S
        self.tick()
        for path in marks:
            if path.name != "purge.mark":
                path.unlink()
        self.doubtful = not others
        self.tick()

    @rule(nth=st.integers(0, 50), lasting_s=st.sampled_from(NOTABLE_S[1:8]))
    def hold(self, nth, lasting_s):
        if self.records:
            self.hold_of(list(self.records)[nth % len(self.records)], lasting_s)

    def hold_of(self, record_id, lasting_s):
        """Hold one record, where it lives and there is room for a hold."""
        clock = self.clock("hold")
        if clock is None or record_id not in self.node.readable_originals() or len(self.holds) >= MOST_HOLDS:
            return
        now_s = clock.now_ns() // NANOSECONDS
        # Captured within a hold's window, and not over by now: what is over is not copied.
        if self.records[record_id].expiry_s <= now_s or self.captured_s[record_id] < now_s - HOLD_WINDOW_S:
            return
        hold = a_hold(
            hold_id=os.urandom(16), camera=record_id.value.hex()[:8], from_s=now_s - HOLD_WINDOW_S, to_s=now_s,
            issued_s=now_s, expires_s=now_s + lasting_s,
        )  # fmt: skip
        self.node.clock = clock
        assert self.node.apply(hold).records == 1
        self.holds[hold.hold_id] = (
            record_id, Kept(lasting_s, hold.expires_s, self.machine.powered / NANOSECONDS),
        )  # fmt: skip

    @rule(life_s=st.sampled_from(RETENTIONS_S))
    def purge_by_hand(self, life_s):
        name = f"rule-{life_s}"
        by_hand = ByHand(who="b7", why=Why.ORDERED, reference="12", rule=name)
        if self.doubtful:
            self.ask_the_wall(0)
        with contextlib.suppress(ConfigError):  # nothing of that rule lives
            running(self.root, self.machine, by_hand=by_hand)
            for kept in self.records.values():
                kept.ended = kept.ended or kept.life_s == life_s

    def judge(self, kept, there, what):
        powered_s = self.machine.powered / NANOSECONDS - kept.since_s
        if powered_s >= kept.life_s:
            assert not there, f"{what} of {kept.life_s} s opens after {powered_s} s of power"
        if not there:
            assert kept.ended or self.up_s >= kept.expiry_s, f"{what} went {kept.expiry_s - self.up_s} s early"
            kept.ended = True

    @invariant()
    def nothing_lives_past_its_cap_and_nothing_goes_early(self):
        if not getattr(self, "purged", False):
            return
        self.purged = False
        originals = self.node.readable_originals()
        for record_id, kept in self.records.items():
            self.judge(kept, record_id in originals, "a record")
        live = {info.rule.removeprefix("hold:") for info in self.node.live_hold_keys()}
        copies = self.node.readable_copies()
        for hold_id, (record_id, kept) in self.holds.items():
            self.judge(kept, hold_id.hex() in live, "a hold")
            assert hold_id.hex() not in live or record_id in copies
        assert scan(self.root / "purge.log").bad is None


Histories.TestCase.settings = settings(max_examples=14, stateful_step_count=18, deadline=None)
test_no_history_lets_a_record_outlive_its_cap_nor_does_a_clock_move_destroy_one_early = Histories.TestCase
