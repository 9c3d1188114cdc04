"""Puts an emulated node to the test, to know that the suite works: `python -m tools.hil.emulated`.

It starts `tools.device.node` with a node that reads a clip again and again, writes the settings as a laptop's owner
would, with a real switch (the node's plug) and a real cut (the broker's address is taken away), and runs the suite.
Needs root and what `make device-boot` needs. The reports are left in a folder, the last line is the suite's JSON.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.device.site import BROKER
from tools.hil.__main__ import main as suite

READY_S = 3600.0
OTHER_STEPS_MINUTES = 12.0
"""What the node reads for besides heat and memory."""
SETTINGS = """\
[node]
ssh_port = {ssh_port}
identity_file = "{key}"
known_hosts = "{known_hosts}"
sudo = false
answer_s = {answer_s}

[network]
where = "here"
cut = ["ip", "-netns", "{namespace}", "address", "del", "{broker}/32", "dev", "lo"]
mend = ["ip", "-netns", "{namespace}", "address", "add", "{broker}/32", "dev", "lo"]
cut_s = {cut_s}
deliver_s = 600

[power]
off = ["kill", "-USR1", "{pid}"]
on = ["kill", "-USR2", "{pid}"]
boot_s = {boot_s}
"""


def main() -> int:
    """Run; return the suite's exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.hil.emulated", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--computer", action="store_true", help="emulated by qemu (slow); default: a container")
    parser.add_argument("--minutes", type=float, default=5.0, help="of heat and memory (default: 5)")
    parser.add_argument("--cache", type=Path, help="where the Debian root is kept (2 GB)")
    parser.add_argument("--only", nargs="+", default=[], help="these steps of the suite alone")
    parser.add_argument("--out", type=Path, default=Path("hil"), help="folder of the reports (default: hil)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homeplate-hil-") as folder, node(asked, Path(folder)) as facts:
        path = Path(folder) / "hil.toml"
        path.write_text(settings(facts, computer=asked.computer))
        words = ["--node", "root@127.0.0.1", "--config", str(path), "--minutes", f"{asked.minutes:g}"]
        words += ["--only", *asked.only] if asked.only else []
        return suite([*words, "--out", str(asked.out)])


def settings(facts: Mapping[str, object], *, computer: bool) -> str:
    """Return the suite's settings for a node that says this of itself; an emulated processor is given its time."""
    slow, native = {"answer_s": 300, "cut_s": 120, "boot_s": 1800}, {"answer_s": 60, "cut_s": 45, "boot_s": 300}
    return SETTINGS.format(**facts, **(slow if computer else native), broker=BROKER)


@contextmanager
def node(asked: argparse.Namespace, folder: Path) -> Iterator[Mapping[str, object]]:
    """Start the node; yield what it says of itself; end it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--ssh-port", str(port), "--folder", str(folder / "site"), "--provisioned"]
    words += ["--minutes", f"{asked.minutes + OTHER_STEPS_MINUTES:g}"]
    words += [] if asked.computer else ["--container"]
    words += ["--cache", str(asked.cache)] if asked.cache else []
    command = [sys.executable, "-m", "tools.device.node", "up", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the node did not come up; what it said is above")
        yield json.loads(line)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
        process.wait(120)


if __name__ == "__main__":
    raise SystemExit(main())
