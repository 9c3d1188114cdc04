"""An emulated node: `python -m tools.device.node up --ssh-port N` starts it, with ssh on 127.0.0.1:N, until Ctrl-C.

It is an amd64 computer of 512 MB under qemu with Debian, Homeplate as a package leaves it, a TPM and a hardware
watchdog, and beside it a custodian, a broker and a receiver (`tools.device.site`). `--provisioned` also enrols it,
installs its bundle and lets it read a clip; else it waits for `homeplate init`, as a blank card does. Needs root. When
it takes commands, one JSON line says where everything is; its last field is the command that logs in.
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.device import root, walk
from tools.device.machines import MEMORY_MB, Computer, make_key
from tools.device.site import NODE, PREFIX_LENGTH, Site, say


def main() -> int:
    """Start the node and wait."""
    parser = argparse.ArgumentParser(prog="python -m tools.device.node", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("verb", choices=["up"])
    parser.add_argument("--ssh-port", type=int, required=True, help="on 127.0.0.1")
    parser.add_argument("--cache", type=Path, default=root.CACHE, help="where the Debian root is kept (2 GB)")
    parser.add_argument(
        "--folder", type=Path, help="the site's: custody, login key, disk; kept. Default: a temporary one"
    )
    parser.add_argument("--memory-mb", type=int, default=MEMORY_MB)
    parser.add_argument("--provisioned", action="store_true", help="enrolled, with its bundle, reading a clip")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="homeplate-node-") as temporary:
            up(asked, (asked.folder or Path(temporary)).resolve())
    except KeyboardInterrupt:
        return 0
    except root.DeviceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def up(asked: argparse.Namespace, folder: Path) -> None:
    """Start everything, say where it is, and wait for the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with Site(folder) as site:
        machine = computer(site, asked.cache, memory_mb=asked.memory_mb)
        site.found()
        clip = site.render(seconds=8.0, plates=4)
        site.wants(site.wanted)
        site.serve()
        try:
            booted_s = machine.boot()
            if asked.provisioned:
                walk.provision(machine, site, clip)
            with forwarded(site, asked.ssh_port):
                login = ["ssh", "-i", str(machine.key), "-p", str(asked.ssh_port), "-o", "StrictHostKeyChecking=no"]
                facts = {
                    "ssh_port": asked.ssh_port, "user": "root", "key": str(machine.key), "custody": str(site.custody),
                    "clip": str(clip), "plates": site.plates, "wanted": site.wanted, "namespace": site.name,
                    "booted_s": round(booted_s, 1), "login": " ".join([*login, "root@127.0.0.1"]),
                }  # fmt: skip
                print(json.dumps(facts), flush=True)
                threading.Event().wait()
        finally:
            machine.cut()


def computer(site: Site, cache: Path, *, memory_mb: int = MEMORY_MB, tpm: bool = True) -> Computer:
    """Return a computer with a new disk in the site's folder; its kernel is copied there too."""
    base = root.debian(cache)
    key = make_key(site.folder)
    disk = site.folder / "disk.ext4"
    with root.layered(base, site.folder / "layer") as mine:
        root.install(mine)
        root.machine(mine, address=f"{NODE}/{PREFIX_LENGTH}", authorized=key.with_suffix(".pub").read_text())
        root.small_initramfs(mine)
        root.disk(mine, disk)
        kernel, initramfs = (shutil.copy(path, site.folder) for path in root.kernel(mine))
    shutil.rmtree(site.folder / "layer")
    say("the computer's disk is made")
    return Computer(disk=disk, kernel=(Path(kernel), Path(initramfs)), site=site, key=key, memory_mb=memory_mb, tpm=tpm)


@contextmanager
def forwarded(site: Site, port: int) -> Iterator[None]:
    """Forward a port of 127.0.0.1 to the node's ssh, which lies in the site's network namespace."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as outside:
        fd = outside.fileno()
        relay = site.here(sys.executable, Path(__file__).with_name("relay.py"), fd, NODE, 22)
        process = subprocess.Popen(relay, pass_fds=[fd])
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    raise SystemExit(main())
