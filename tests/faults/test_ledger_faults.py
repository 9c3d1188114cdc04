"""The ledger under kill -9 and failing disks: real processes, real signals, real errno through strace."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from homeplate.clock import SimulatedClock
from homeplate.store.ledger import MerkleLog, read_rows, scan
from tests.faults.tracing import needs_strace

WRITER = Path(__file__).with_name("ledger_writer.py")
START_NS = 1_790_000_000_000_000_000


def acknowledged(output):
    return [int(number) for number in re.findall(r"^ok (\d+)$", output, re.MULTILINE)]


def marks(path):
    return [row.fields["mark"] for row in read_rows(path) if row.event == "faults.row"]


def reopen(path):
    """Open the log as the next start would, and check that it is sound."""
    MerkleLog(path, SimulatedClock(START_NS)).close()
    assert scan(path).bad is None


def injected(path, rows, *faults):
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", str(path), "-e", "trace=write,fsync,ftruncate"]
    command += [part for fault in faults for part in ("-e", f"inject={fault}")]
    return subprocess.run(
        [*command, sys.executable, str(WRITER), str(path), str(rows)], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_kill_9_loses_no_acknowledged_row_and_the_next_start_goes_on(tmp_path, after):
    path = tmp_path / "a.log"
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path), "100000"], stdout=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(after + 1)]
        process.kill()
        output = "".join(lines) + process.stdout.read()
    told = acknowledged(output)
    assert len(told) >= after
    reopen(path)
    kept = marks(path)
    assert kept[: len(told)] == told
    assert len(kept) <= len(told) + 1  # at most the row that was on its way


@needs_strace
@pytest.mark.parametrize("when", [1, 2, 7])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_killed_at_the_call_itself_loses_no_acknowledged_row(tmp_path, call, when):
    path = tmp_path / "a.log"
    done = injected(path, 20, f"{call}:signal=KILL:when={when}")
    told = acknowledged(done.stdout)
    assert done.returncode != 0
    assert told == list(range(1, when))
    reopen(path)
    assert marks(path)[: len(told)] == told


@needs_strace
def test_a_full_disk_refuses_rows_and_later_ones_are_taken(tmp_path):
    path = tmp_path / "a.log"
    done = injected(path, 9, "write:error=ENOSPC:when=3..5")
    assert "refused 3" in done.stdout
    assert "No space left on device" in done.stdout
    assert acknowledged(done.stdout) == [1, 2, 6, 7, 8, 9]
    reopen(path)
    assert marks(path) == [1, 2, 6, 7, 8, 9]


@needs_strace
def test_an_interrupted_write_is_tried_again(tmp_path):
    path = tmp_path / "a.log"
    done = injected(path, 5, "write:error=EINTR:when=2")  # Python tries again by itself
    assert acknowledged(done.stdout) == [1, 2, 3, 4, 5]
    reopen(path)
    assert marks(path) == [1, 2, 3, 4, 5]


@needs_strace
def test_after_a_failed_sync_nothing_more_is_acknowledged_until_the_next_start(tmp_path):
    path = tmp_path / "a.log"
    done = injected(path, 6, "fsync:error=EIO:when=4")
    assert acknowledged(done.stdout) == [1, 2, 3]
    assert "its disk fails" in done.stdout
    reopen(path)
    assert marks(path)[:3] == [1, 2, 3]
    with MerkleLog(path, SimulatedClock(START_NS)) as log:
        log.append("faults.row", mark=99)


@needs_strace
def test_a_disk_that_fails_in_the_middle_of_everything_never_leaves_a_log_that_does_not_verify(tmp_path):
    path = tmp_path / "a.log"
    done = injected(path, 8, "write:error=ENOSPC:when=2+2", "ftruncate:error=EIO:when=2")
    reopen(path)
    assert set(acknowledged(done.stdout)) <= set(marks(path))
