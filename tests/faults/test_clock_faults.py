"""The clock's marks under kill -9 and failing disks: node time never goes back over a reboot."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.tracing import needs_strace

KEEPER = Path(__file__).with_name("clock_keeper.py")


def keep(folder, times, boot, *strace):
    command = [*strace, sys.executable, str(KEEPER), str(folder), str(times), boot]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def told(output):
    return [int(line) for line in output.splitlines() if line.isdigit()]


def strace(folder, *inject):
    paths = [part for name in ("", "capture.mark", "capture.new") for part in ("-P", str(folder / name))]
    options = [part for each in inject for part in ("-e", f"inject={each}")]
    return ["strace", "-f", "-qq", "-o", "/dev/null", *paths, "-e", "trace=write,fsync,rename", *options]


@pytest.mark.parametrize("after", [1, 4, 9, 30])
def test_killed_at_a_random_moment_the_next_boot_starts_past_every_time_that_was_handed_out(tmp_path, after):
    with subprocess.Popen(
        [sys.executable, str(KEEPER), str(tmp_path), "100000", "first"], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(after)]
        process.kill()
        lines.append(process.stdout.read())
    times = told("".join(lines))
    assert len(times) >= after
    assert times == sorted(times)
    assert told(keep(tmp_path, 1, "second").stdout)[0] > times[-1]


@needs_strace
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("when", [1, 2, 5])
def test_killed_while_it_writes_a_mark_the_old_one_or_the_new_one_is_there(tmp_path, call, when):
    keep(tmp_path, 1, "zero")
    first = keep(tmp_path, 60, "first", *strace(tmp_path, f"{call}:signal=KILL:when={when}"))
    assert first.returncode != 0
    again = told(keep(tmp_path, 1, "second").stdout)
    assert again[0] > max(told(first.stdout), default=0)


@needs_strace
@pytest.mark.parametrize(
    "fault", ["write:error=ENOSPC:when=2+", "fsync:error=EIO:when=3+", "rename:error=EROFS:when=2+"]
)
def test_a_mark_that_cannot_be_written_stops_time_rather_than_let_it_run_uncovered(tmp_path, fault):
    first = keep(tmp_path, 20, "first", *strace(tmp_path, fault))
    assert "refused" in first.stdout
    assert first.stdout.splitlines()[-1].startswith("refused the clock mark")
    assert told(keep(tmp_path, 1, "second").stdout)[0] > told(first.stdout)[-1]
