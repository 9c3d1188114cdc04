"""A process to kill or starve: appends rows to a log, and prints each row's number once it is acknowledged."""

import sys
from pathlib import Path

from homeplate.clock import SimulatedClock
from homeplate.errors import StoreError
from homeplate.store.ledger import MerkleLog

START_NS = 1_790_000_000_000_000_000


def main(path, rows):
    """Append `rows` rows; say `ok N`, or `refused N` where the row was not taken, as each happens."""
    with MerkleLog(Path(path), SimulatedClock(START_NS)) as log:
        print("open", flush=True)
        for number in range(1, int(rows) + 1):
            try:
                log.append("faults.row", mark=number, text="x" * (number * 37 % 900))
            except StoreError as error:
                print(f"refused {number} {error}", flush=True)
            else:
                print(f"ok {number}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
