"""What a process does to itself before it touches a key or a plate, and how it tells systemd that it makes progress.

No core dump and no swap: either would write keys and plates to a disk that purge cannot reach (ARCHITECTURE 5).
"""

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.errors import ConfigError

SWAPS = Path("/proc/swaps")
BLOCK_DEVICES = Path("/sys/block")
_PR_SET_DUMPABLE = 4  # linux/prctl.h
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_BEAT_NS = NANOSECONDS  # systemd hears at most one beat a second, however many frames a second there are


def harden_process(*, allow_swap: bool = False, swaps: Path = SWAPS, block_devices: Path = BLOCK_DEVICES) -> None:
    """Forbid core dumps, and refuse to go on where memory may be written to a disk as swap.

    Args:
        allow_swap: True for simulations and demos, whose plates and keys are throw-away.
        swaps: the kernel's table of active swap.
        block_devices: where the kernel tells what stands behind a zram device.

    Raises:
        ConfigError: where swap is active on anything but memory (zram without a backing device), or cannot be judged.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _forbid_dumps()
    if allow_swap:
        return
    try:
        lines = swaps.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except FileNotFoundError as error:
        if sys.platform == "linux" and swaps.parent.is_dir():
            return  # a kernel without swap support has no table
        raise ConfigError("this system does not tell whether it swaps: only a simulation may run here") from error
    except OSError as error:
        raise ConfigError(f"{swaps} cannot be read: {error.strerror}; a node must know that nothing swaps") from error
    for line in lines:
        device = line.split()[0]
        if not _in_memory(device, block_devices):
            raise ConfigError(
                f"swap is active on {device}, so plates and keys may reach the disk: swapoff, or use zram"
            )


def _forbid_dumps() -> None:
    """Make the process undumpable: a core_pattern that is a pipe (systemd-coredump) does not heed RLIMIT_CORE."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise ConfigError(f"core dumps cannot be forbidden: {os.strerror(ctypes.get_errno())}")


def leave_network() -> bool:
    """Move this thread, and all that it starts, to a network of their own in which there is nothing.

    Units have `PrivateNetwork=yes` for it; this is for what a person starts. Sockets with a path are not of a network.

    Returns:
        False where that cannot be done: root may, and not in every container.
    """
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0)


def _in_memory(device: str, block_devices: Path) -> bool:
    """Tell whether a swap device is zram with no disk behind it (it can write idle pages back to one)."""
    name = Path(device).name
    if not (name.startswith("zram") and name.removeprefix("zram").isdigit()):
        return False
    try:
        return (block_devices / name / "backing_dev").read_text(encoding="utf-8").strip() == "none"
    except FileNotFoundError:
        return (block_devices / name).is_dir()  # a kernel without zram writeback has no such file
    except OSError:
        return False


def watchdog() -> Callable[[], None]:
    """Return what to call at each piece of progress (a frame processed, a spool looked through).

    The first call tells systemd that the service is up, later ones feed its watchdog; without systemd it does nothing.
    Only progress may call it, never a timer: a stuck process must starve.
    """
    if not os.environ.get("NOTIFY_SOCKET"):
        return lambda: None
    from systemd_watchdog.systemd_watchdog import WatchDog  # noqa: PLC0415 - it opens a socket: only where systemd asks for one

    service = WatchDog()
    last = -_BEAT_NS
    ready = False

    def beat() -> None:
        nonlocal last, ready
        if not ready:
            service.ready()
            ready = True
        # Not the library's own `ping`: it measures by the wall clock, and a step back would starve a healthy process.
        if perf_ns() - last >= _BEAT_NS:
            last = perf_ns()
            service.notify()

    return beat
