"""A process to be killed: capture on the scripted frames of test_capture.py; it prints a line a frame."""

import sys
from pathlib import Path

from tests.capturing import Film, Node, traffic


class Loud(list):
    """Prints what is appended."""

    def append(self, item):
        print(*item, flush=True)


if __name__ == "__main__":
    Node(Path(sys.argv[1]), processed=Loud()).run(
        Film(script=traffic("7ABC123", "8XYZ987", "4KLM560"), count=120).feed()
    )
