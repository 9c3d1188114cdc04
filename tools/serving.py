"""The loop of a process that recognises pictures for a measurement: a question a line in, an answer a line out.

Standard library only, because the peer's environment has no other module of ours. A question is {"kind", "path"}, an
answer {"image", "plates", "milliseconds", "peak_mb"}; what libraries print goes to the standard error.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def peak_mb() -> float | None:
    """Return the most resident memory of this process so far, in MB of 2**20 bytes; None where the system won't say.

    It is VmHWM, which an exec starts anew; getrusage would carry the parent's peak over.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kib) / 1024


def pin(core: int | None) -> None:
    """Keep this process on one core, so that no engine gets a second one; nothing where the system cannot."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def serve(recognise: Callable[[str, Path], Row]) -> None:
    """Answer questions until the input ends."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            question = json.loads(line)
            row = recognise(question["kind"], Path(question["path"]))
            answers.write(json.dumps({**row, "image": question["path"], "peak_mb": peak_mb()}) + "\n")
            answers.flush()
