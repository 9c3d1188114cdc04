"""A process to kill: hands out node time as fast as it can, each time from a mark that it must write first."""

import sys
import time
from pathlib import Path

from homeplate import clock
from homeplate.errors import ClockError


def main(folder, times, boot):
    """Print `times` node times; each lies past the mark before, so each needs a new one on disk."""
    since = [0]

    def boot_ns():
        since[0] += clock.RESERVE_NS // 3
        return since[0]

    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    readers = clock.Readers(boot_id=lambda: boot, boot_ns=boot_ns, wall_ns=lambda: wall)
    keeper = clock.SystemClock(Path(folder), "capture", readers=readers)
    for _ in range(int(times)):
        try:
            print(keeper.now_ns(), flush=True)
        except ClockError as error:
            print(f"refused {error}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
