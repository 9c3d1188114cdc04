#!/usr/bin/python3
"""The first and only process of the emulated machine: runs the tasks of /task/tasks.json and switches it off.

Standard library only. What a task prints goes to the console, each line with the task's name before it; a last line
gives its exit status. `tools.emulated.machine` reads both.
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp"))  # noqa: S108 - the guest's own
PLACES = ("/task", "/task/node", "/site")


def main() -> None:
    """Mount what libraries look at, run every task in turn, switch off."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, where in MOUNTS:
        Path(where).mkdir(exist_ok=True)
        libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "HOME": "/tmp", "PYTHONPATH": ":".join(PLACES)}  # noqa: S108
    os.chdir("/task")
    for task in json.loads(Path("/task/tasks.json").read_text(encoding="utf-8")):
        run(task["name"], [sys.executable, *task["words"]], task["input"], environment)
    Path("/proc/sysrq-trigger").write_text("o", encoding="ascii")


def run(name: str, words: list[str], given: str, environment: dict[str, str]) -> None:
    """Run one task and say how it ended."""
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            print(f"@{name} {line}", end="", flush=True)
    print(f"@@{name} {process.returncode}", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        Path("/proc/sysrq-trigger").write_text("o", encoding="ascii")
