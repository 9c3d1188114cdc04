"""A node's folder over time: a bundle ends the quarantine of a node that was off for long; purge spares no class."""

import dataclasses

import pytest

from homeplate.app.node import install
from homeplate.app.purge import run_purge
from homeplate.clock import NANOSECONDS, SystemClock, system_readers
from homeplate.domain.record import DAY_SECONDS, StorageClass
from homeplate.errors import ClockError, SealingError
from homeplate.sealing.slots import SlotStore
from homeplate_custodian import provision
from tools import stage


def clock_after(paths, days):
    """Return the clock of a machine that was off for `days` since its last mark."""
    real = system_readers()
    later = dataclasses.replace(
        real, boot_id=lambda: f"boot-{days}", wall_ns=lambda: real.wall_ns() + days * DAY_SECONDS * NANOSECONDS
    )
    return SystemClock(paths.clock, "bundle", readers=later)


def test_a_bundle_signed_now_ends_the_quarantine_of_a_node_that_was_off_for_twenty_days(simulation_node):
    clock = clock_after(simulation_node.paths, 20)
    with pytest.raises(ClockError, match="leapt"):
        clock.now_ns()
    published = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s() + 20 * DAY_SECONDS)
    install(simulation_node.load(), published, None, lambda: clock)
    assert clock.now_ns() // NANOSECONDS >= stage.now_s() + 19 * DAY_SECONDS


def test_an_old_bundle_does_not_end_it(simulation_node):
    published = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
    clock = clock_after(simulation_node.paths, 20)
    install(simulation_node.load(), published, None, lambda: clock)
    with pytest.raises(ClockError, match="leapt"):
        clock.now_ns()


def test_purge_destroys_one_class_where_the_other_ones_slot_file_is_damaged(simulation_node):
    paths = simulation_node.paths
    paths.slots(StorageClass.OUTGOING)[0].write_bytes(b"damaged")
    store = SlotStore(*paths.slots(StorageClass.LOCAL))
    store.slot_for("some-rule", stage.now_s() - 1, 60)
    with pytest.raises(SealingError):
        run_purge(simulation_node.load())
    assert not store.live()
    store.close()


def test_a_purge_that_destroyed_nothing_says_so_and_the_last_one_is_not_shown_as_new(simulation_node):
    first = run_purge(simulation_node.load())
    assert first.startswith("purged at ")
    again = run_purge(simulation_node.load())
    assert again == f"nothing is over, nothing was destroyed; the last time, {first}"
