"""A process to kill: one purge of the node in the folder named, at the time named; prints the keys destroyed."""

import sys
from pathlib import Path

from homeplate.clock import NANOSECONDS, SimulatedClock
from homeplate.domain.record import StorageClass
from homeplate.purge import purge
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool


def stores(root):
    """Return the slot stores under `root`, made where they are missing."""
    return {storage: SlotStore(root / f"{storage}.slots", root / f"{storage}.memory") for storage in StorageClass}


def main(folder, now_s):
    """Purge once."""
    root, clock = Path(folder), SimulatedClock(int(now_s) * NANOSECONDS)
    certificate = purge(
        clock=clock,
        stores=stores(root),
        spool=FileSpool(root / "spool"),
        open_ledger=lambda: MerkleLog(root / "purge.log", clock),
        certificates=root / "certificates",
    )
    print(certificate.keys_destroyed)


if __name__ == "__main__":
    main(*sys.argv[1:])
