"""A test that is killed leaves no mount and no loop device behind."""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from homeplate.clock import NANOSECONDS, perf_ns
from tests.disk import mounted

KILLED = """
import sys
from pathlib import Path
from tests.disk import mounted
for disk in mounted(Path(sys.argv[1])):
    (disk.mount_point / "file").write_bytes(b"here")
    print("mounted", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "own").mkdir()
    yield from mounted(tmp_path / "own")


def backed_by(folder):
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it went meanwhile
            found += [path] if path.read_text().startswith(str(folder)) else []
    return found


def test_a_test_that_is_killed_leaves_no_mount_behind(disk, tmp_path):
    assert backed_by(tmp_path), "a mounted disk is seen, or this shows nothing"
    folder = tmp_path / "killed"
    folder.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "mounted\n"
    assert not (folder / "mount" / "file").exists(), "its mounts are its own"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    until = perf_ns() + 20 * NANOSECONDS  # the kernel takes the device down by itself, a little later
    while backed_by(folder) and perf_ns() < until:
        pass
    assert not backed_by(folder)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
