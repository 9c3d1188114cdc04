"""No dumps, no swap, and a watchdog that only progress feeds."""

import socket
import subprocess
import sys
from contextlib import suppress

import pytest

from homeplate import health
from homeplate.errors import ConfigError

HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def swaps(tmp_path, *devices):
    path = tmp_path / "swaps"
    path.write_text(HEADER + "".join(f"{device} partition\t1024\t\t0\t\t-2\n" for device in devices))
    return path


def zram(tmp_path, name, backing):
    folder = tmp_path / "block" / name
    folder.mkdir(parents=True)
    if backing is not None:
        (folder / "backing_dev").write_text(backing + "\n")
    return tmp_path / "block"


@pytest.fixture
def harden(monkeypatch):
    """The swap check alone; what changes this very process is tested in a process of its own."""
    monkeypatch.setattr(health, "_forbid_dumps", lambda: None)
    monkeypatch.setattr(health.resource, "setrlimit", lambda *_: None)
    return health.harden_process


def test_no_swap_and_swap_in_memory_are_fine(tmp_path, harden):
    harden(swaps=swaps(tmp_path))
    harden(swaps=swaps(tmp_path, "/dev/zram0"), block_devices=zram(tmp_path, "zram0", "none"))
    harden(swaps=swaps(tmp_path, "/dev/zram1"), block_devices=zram(tmp_path, "zram1", None))


@pytest.mark.parametrize("device", ["/dev/mmcblk0p3", "/var/swap", "/dev/zram9", "/home/zram0x"])
def test_swap_on_a_disk_is_refused_by_name_unless_a_simulation_allows_it(tmp_path, harden, device):
    table, blocks = swaps(tmp_path, "/dev/zram0", device), zram(tmp_path, "zram0", "none")
    with pytest.raises(ConfigError, match=device):
        harden(swaps=table, block_devices=blocks)
    harden(swaps=table, block_devices=blocks, allow_swap=True)


def test_zram_that_writes_back_to_a_disk_is_refused(tmp_path, harden):
    with pytest.raises(ConfigError, match="/dev/zram0"):
        harden(swaps=swaps(tmp_path, "/dev/zram0"), block_devices=zram(tmp_path, "zram0", "/dev/sda2"))


def test_a_system_that_does_not_tell_is_refused(tmp_path, harden):
    with pytest.raises(ConfigError, match="does not tell"):
        harden(swaps=tmp_path / "none" / "swaps")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_hardened_process_can_leave_no_core(tmp_path):
    code = (
        "import ctypes, resource\n"
        "from homeplate.health import harden_process\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.prctl(3, 0, 0, 0, 0) == 1\n"
        "harden_process(allow_swap=True)\n"
        "assert libc.prctl(3, 0, 0, 0, 0) == 0\n"
        "assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)\n"
        "import os; os.abort()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True)
    assert done.returncode == -6, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_systemd_a_beat_does_nothing_and_opens_no_socket(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", None)
    health.watchdog()()


def test_progress_tells_systemd_once_that_it_is_up_and_feeds_the_watchdog_each_second(tmp_path, monkeypatch):
    now = [0]
    monkeypatch.setattr(health, "perf_ns", lambda: now[0])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        made, plain = [], socket.socket
        monkeypatch.setattr(socket, "socket", lambda **kind: made.append(plain(**kind)) or made[-1])
        beat = health.watchdog()
        monkeypatch.undo()
        monkeypatch.setattr(health, "perf_ns", lambda: now[0])
        heard = []
        for moment in (0, 300_000_000, 900_000_000, 1_000_000_000, 1_500_000_000, 2_100_000_000):
            now[0] = moment
            beat()
        listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                heard.append(listener.recv(100))
        made[0].close()
    assert heard == [b"READY=1\n"] + [b"WATCHDOG=1\n"] * 3
