"""A bundle's installation killed at any system call that changes the disk: the old or the new one is in force."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from homeplate.trust.chunks import split
from homeplate_custodian import provision
from homeplate_custodian.bundle import make_root
from homeplate_custodian.keyring import make_role_key
from tests.faults.bundle_forks import take_in
from tests.faults.tracing import needs_strace
from tests.trust import forge
from tests.trust.bundling import Place
from tests.trust.forge import NOW_S

NAMED = {
    1: {("192.0.2.7", "8883"), ("192.0.2.8", "8883")},
    2: {("192.0.2.7", "8883"), ("192.0.2.9", "8883")},
}
CALLS = "write,fsync,rename,unlink,mkdir,rmdir,unlinkat"


class Forks:
    """The forking process and a strace a child."""

    def __init__(self):
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.bundle_forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def look(self, folder, *inject):
        """Let the bundler of `folder` look at its inbox under strace; return its wait status and the calls it made."""
        self.server.stdin.write(f"{folder}\n")
        self.server.stdin.flush()
        child = self.server.stdout.readline().strip()
        log = folder / "trace"
        options = [part for each in inject for part in ("-e", f"inject={each}")]
        command = ["strace", "-qq", "-y", "-o", str(log), "-p", child, "-e", f"trace={CALLS}", *options]
        subprocess.run(command, check=False, capture_output=True)
        return int(self.server.stdout.readline()), log.read_text().splitlines()

    def close(self):
        self.server.stdin.close()
        self.server.wait(10)
        self.server.stdout.close()


@pytest.fixture(scope="module")
def forks():
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """A node with the first bundle, and in its inbox a second one under a next root that has another online key."""
    folder = tmp_path_factory.mktemp("rotated")
    custody = forge.custody(folder / "custody")
    request, _ = forge.enrolment()
    provision.enrol(custody, request, now_s=NOW_S)
    forge.add_agency(custody, "Oldtown", "Oldtown Police Department", network="192.0.2.8")
    forge.add_grant(custody, "Oldtown")
    forge.published(custody)
    place = Place(folder / "node", custody)
    place.bundler.take(custody / "bundle")
    shutil.rmtree(custody / "online")
    make_role_key(custody / "online")
    root = make_root(custody, provision.mark_of(custody), version=2, now_s=NOW_S)
    (custody / "bundle" / "2.root.json").write_bytes(root)
    provision.revoke_grant(custody, "Oldtown")
    forge.add_agency(custody, "Newtown", "Newtown Police Department", network="192.0.2.9")
    forge.add_grant(custody, "Newtown")
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    forge.published(custody, NOW_S + 1)
    shutil.copytree(custody / "bundle", place.inbox / "new")
    return folder


@needs_strace
def test_killed_at_any_write_the_old_or_the_new_bundle_is_in_force_and_the_next_look_ends_with_the_new(
    forks, rotated, tmp_path
):
    whole = shutil.copytree(rotated, tmp_path / "whole")
    status, lines = forks.look(whole)
    assert status == 0
    assert Place(whole / "node", whole / "custody").version() == 2
    calls = Counter(match[1] for line in lines if (match := re.match(r"(\w+)\(", line)))
    assert set(calls) >= {"write", "fsync", "rename", "mkdir"}
    seen = set()
    # Killed at a sync is killed after the write before it, which is tried anyway: each fourth is enough.
    for call, when in ((c, n) for c, count in calls.items() for n in range(1, count + 1, 4 if c == "fsync" else 1)):
        folder = shutil.copytree(rotated, tmp_path / f"{call}-{when}")
        status, _ = forks.look(folder, f"{call}:signal=KILL:when={when}")
        assert status == 9, (call, when)
        place = Place(folder / "node", folder / "custody")
        seen.add(place.version())
        # What the kernel lets through never exceeds what the bundle in force names.
        assert place.opened() <= NAMED[place.version()], (call, when)
        place.bundler.look()
        assert place.version() == 2, (call, when)
        assert place.opened() == NAMED[2], (call, when)
        assert list(place.inbox.iterdir()) == []
        shutil.rmtree(folder)
    assert seen == {1, 2}


@needs_strace
@pytest.mark.parametrize("fault", ["write:error=ENOSPC", "fsync:error=EIO", "rename:error=EROFS"])
def test_a_disk_that_fails_leaves_the_old_bundle_in_force_and_the_candidate_in_the_inbox(
    forks, rotated, tmp_path, fault
):
    folder = shutil.copytree(rotated, tmp_path / "full")
    status, lines = forks.look(folder, f"{fault}:when=6+")
    assert lines
    place = Place(folder / "node", folder / "custody")
    assert place.version() == 1
    place.bundler.look()
    assert place.version() == 2
    assert status != 9


@needs_strace
def test_all_that_a_new_timestamp_names_is_synced_before_the_timestamp_takes_its_place(forks, rotated, tmp_path):
    """File by file and folder by folder: power may go right after the rename that makes the bundle count."""
    folder = shutil.copytree(rotated, tmp_path / "synced")
    _, lines = forks.look(folder)
    synced, unsynced = set(), set()
    for line in lines:
        if match := re.match(r"fsync\(\d+<([^>]+)>\)", line):
            synced.add(match[1])
            unsynced = {path for path in unsynced if str(Path(path).parent) != match[1]}
        elif match := re.match(r'rename\("([^"]+)", "([^"]+)"\)', line):
            old, new = match.groups()
            if "/node/bundle/" not in new:
                continue
            assert old in synced, f"{new} was put in its place before it was synced"
            if new.endswith("/timestamp.json"):
                assert unsynced == set()
                return
            unsynced.add(new)
        elif (match := re.match(r'mkdir\("([^"]+)"', line)) and "/node/bundle/" in match[1]:
            unsynced.add(match[1])
    raise AssertionError("the timestamp was never replaced")


@needs_strace
def test_killed_at_any_write_a_bundle_in_chunks_is_handed_in_whole_at_the_next_start_and_not_gathered_twice(
    forks, tmp_path
):
    packed = bytes(range(40))
    start = tmp_path / "start"
    (start / "messages").mkdir(parents=True)
    (start / "inbox").mkdir()
    for number, message in enumerate(split(packed, 10)):
        (start / "messages" / str(number)).write_bytes(message)
    whole = shutil.copytree(start, tmp_path / "whole")
    _, lines = forks.look(whole)
    calls = Counter(match[1] for line in lines if (match := re.match(r"(\w+)\(", line)))
    assert set(calls) >= {"write", "fsync", "rename", "unlink"}
    for call, when in ((c, n) for c, count in calls.items() for n in range(1, count + 1, 4 if c == "fsync" else 1)):
        folder = shutil.copytree(start, tmp_path / f"{call}-{when}")
        status, _ = forks.look(folder, f"{call}:signal=KILL:when={when}")
        assert status == 9, (call, when)
        for _ in range(2):
            take_in(folder / "inbox", [path.read_bytes() for path in sorted((folder / "messages").iterdir())])
        assert [path.read_bytes() for path in (folder / "inbox").glob("*.bundle")] == [packed], (call, when)
        assert [path.name for path in (folder / "inbox" / ".arriving").iterdir()] == ["handed-in"], (call, when)
        shutil.rmtree(folder)
