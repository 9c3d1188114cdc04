"""Holds killed at any system call that changes the disk: a record is held or under its slot, never lost, never over."""

import contextlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from homeplate.errors import TrustError
from tests.faults.tracing import needs_strace
from tests.holding import KEY, NOW_S, HoldingNode, a_hold, released, signed

PROGRAM = Path(__file__).with_name("hold_once.py")
# A kill at a sync leaves what a kill at the call after it leaves: the kernel keeps what was written.
CALLS = "pwrite64,write,unlink,rename,rmdir"
HOLD = a_hold()
REPOSITORY = Path(__file__).resolve().parents[2]


def make(root):
    """Make a node with one record."""
    node = HoldingNode(root)
    node.apply_id = node.record()
    for store in (*node.stores().values(), node.held_keys()):
        store.close()
    (root / "signed.txt").write_bytes(signed(HOLD))
    (root / "released.txt").write_bytes(released(HOLD))
    return node


def traced(root, verb, now_s, *inject):
    options = [part for each in inject for part in ("-e", f"inject={each}")]
    folder = root / "held" / HOLD.hold_id.hex()
    names = [*root.rglob("*"), root / "hold.log", root / "purge.log", root / "certificates", folder]
    names += [folder / f"{stem}.{end}" for stem in ("hold", "release") for end in ("txt", "new")]
    for path in (root / "spool").rglob("*.rec"):
        names += [folder / path.name, folder / f"{path.stem}.new"]
    certificates = (
        root / "certificates" / f"purge-{number:012}.{end}" for number in range(6) for end in ("json", "new")
    )
    paths = [part for path in (root, *names, *certificates) for part in ("-P", str(path))]
    document = root / ("released.txt" if verb == "release" else "signed.txt")
    log, public = root.with_suffix(".trace"), KEY.public_key().public_bytes_raw().hex()
    command = ["strace", "-f", "-qq", "-o", str(log), *paths, "-e", f"trace={CALLS}", *options]
    command += [sys.executable, str(PROGRAM), verb, str(root), str(now_s), str(document), public]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return done, Counter(re.findall(r"^\d+ +(\w+)\(", log.read_text(), re.MULTILINE))


def every_call(tmp_path, verb, now_s, prepare):
    """Yield a node for each call of a whole run, killed at that call."""
    whole = make(tmp_path / "whole")
    prepare(whole)
    done, calls = traced(tmp_path / "whole", verb, now_s)
    assert done.stdout == "done\n", done.stderr
    assert calls.total() >= 3
    for call, when in ((call, when) for call, count in calls.items() for when in range(1, count + 1)):
        node = make(tmp_path / f"{call}-{when}")
        prepare(node)
        killed, _ = traced(node.root, verb, now_s, f"{call}:signal=KILL:when={when}")
        assert killed.returncode != 0, (call, when)
        yield (call, when), node


@needs_strace
def test_killed_while_it_is_applied_a_hold_is_in_force_as_a_whole_or_not_at_all(tmp_path):
    outcomes = Counter()
    for at, node in every_call(tmp_path, "apply", NOW_S, lambda _: None):
        assert node.readable_originals() == {node.apply_id}, at
        node.purge(NOW_S + 1)
        held = node.readable_copies()
        assert bool(held) == bool(node.live_hold_keys()) == bool(node.held.holds()), at
        outcomes[bool(held)] += 1
        with contextlib.suppress(TrustError):  # replayed, where it is in force
            node.apply()
        assert node.readable_copies() == {node.apply_id}, at
        assert [row.event for row in node.rows("hold")].count("hold.applied") == 1, at
        node.purge(NOW_S + 500)
        assert (node.readable_originals(), node.readable_copies()) == (set(), {node.apply_id}), at
        node.purge(HOLD.expires_s)
        assert (node.live_hold_keys(), node.held.holds()) == ((), ()), at
    assert set(outcomes) == {False, True}


@needs_strace
def test_killed_while_it_ends_a_hold_purge_ends_it_the_next_time_and_says_so_once(tmp_path):
    for at, node in every_call(tmp_path, "purge", HOLD.expires_s, lambda node: node.apply()):
        node.purge(HOLD.expires_s)
        assert (node.live_hold_keys(), node.held.holds()) == ((), ()), at
        assert len(node.rows("purge", "hold.ended")) == 1, at
        done = node.rows("purge", "purge.done")
        assert sum(row.fields["holds_ended"] for row in done) == 1, at


@needs_strace
def test_killed_while_it_is_released_a_hold_is_released_or_still_in_force(tmp_path):
    for at, node in every_call(tmp_path, "release", NOW_S, lambda node: node.apply()):
        with contextlib.suppress(TrustError):  # it is released already
            node.release()
        node.purge(NOW_S + 1)
        assert (node.live_hold_keys(), node.held.holds()) == ((), ()), at
        assert node.readable_originals() == {node.apply_id}, at
        assert [row.event for row in node.rows("hold")].count("hold.released") == 1, at
