"""Writes the most memory that each of Homeplate's processes had to /run/sampler.json. Standard library only.

By the process's verb: `VmHWM` (all that was ever resident) and `RssAnon` (what no file backs), in kB, of the largest.
"""

import json
import os
import time
from contextlib import suppress

WANTED = ("VmHWM", "RssAnon")


def main() -> None:
    """Sample for ever."""
    most: dict[str, dict[str, int]] = {}
    while True:
        for pid in filter(str.isdigit, os.listdir("/proc")):  # noqa: PTH208 - nothing of ours is imported in the machine
            with suppress(OSError, ValueError, IndexError):
                look(pid, most)
        with open("/run/.sampler.json", "w", encoding="ascii") as file:  # noqa: PTH123
            json.dump(most, file)
        os.replace("/run/.sampler.json", "/run/sampler.json")  # noqa: PTH105
        time.sleep(1)


def look(pid: str, most: dict[str, dict[str, int]]) -> None:
    """Take one process into account."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        words = file.read().decode().split("\0")
    if len(words) < 3 or not words[1].endswith("/homeplate"):
        return
    name = " ".join(word for word in words[2:4] if word and not word.startswith("-"))
    with open(f"/proc/{pid}/status", encoding="ascii") as file:  # noqa: PTH123
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    now = most.setdefault(name, dict.fromkeys(WANTED, 0))
    for field in WANTED:
        now[field] = max(now[field], int(lines[field].split()[0]))


if __name__ == "__main__":
    main()
