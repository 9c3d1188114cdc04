"""A process to kill: applies or releases the signed file given, or purges, in the node's folder, at the time given."""

import sys
from pathlib import Path

from homeplate.clock import NANOSECONDS
from tests.holding import HoldingNode


def main(verb, folder, now_s, document, public):
    """Do one verb."""
    node = HoldingNode(Path(folder))
    node.keys = (bytes.fromhex(public),)
    node.clock.advance_to(int(now_s) * NANOSECONDS)
    if verb == "purge":
        node.purge()
    else:
        node.holding(lambda holder: getattr(holder, verb)(Path(document).read_bytes()))
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
