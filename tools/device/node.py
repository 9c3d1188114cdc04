"""An emulated node: `python -m tools.device.node up --ssh-port N` starts it, with ssh on 127.0.0.1:N, until Ctrl-C.

It is an amd64 computer of 512 MB under qemu with Debian, Homeplate as a package leaves it, a TPM and a hardware
watchdog, and beside it a custodian, a broker and a receiver (`tools.device.site`). `--provisioned` also enrols it,
installs its bundle and lets it read a clip; else it waits for `homeplate init`, as a blank card does. `--container`
makes it a systemd-nspawn container instead, which is not emulated and so as fast as this machine. Needs root. When it
takes commands, one JSON line says where everything is; its last field is the command that logs in. SIGUSR1 to the `pid`
it names pulls the node's plug, SIGUSR2 starts it again.
"""

import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue

from tools.device import root, walk
from tools.device.machines import MEMORY_MB, Computer, Container, Machine, make_key
from tools.device.site import CONFIG, NODE, PREFIX_LENGTH, Site, say
from tools.render.clip import FPS, repeat_clip

SECONDS, PLATES = 8.0, 4
"""Of the clip."""
SLOW_FPS = 2.0
"""Frames a second of a node that reads for minutes: what an emulated one keeps up with."""


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
    parser.add_argument("--container", action="store_true", help="a container with systemd, at native speed")
    parser.add_argument("--minutes", type=float, help="with --provisioned: of reading, the clip again and again")
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
    """Start everything, say where it is, and wait for the end; meanwhile the power is switched."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        site = undo.enter_context(Site(folder))
        machine: Machine
        if asked.container:
            machine = undo.enter_context(container(site, asked.cache))
        else:
            machine = computer(site, asked.cache, memory_mb=asked.memory_mb)
        site.found()
        clip = site.render(seconds=SECONDS, plates=PLATES)
        site.wants(site.wanted)
        site.serve()
        power = PowerButton(machine)
        undo.callback(power.off)
        booted_s = power.on()
        if asked.provisioned:
            provision(machine, site, clip, asked.minutes)
        undo.enter_context(forwarded(site, asked.ssh_port))
        print(json.dumps(facts(site, asked.ssh_port, clip, booted_s)), flush=True)
        power.obey()


def provision(machine: Machine, site: Site, clip: Path, minutes: float | None) -> None:
    """Make it a node that reads the clip: once, or in slow motion again and again for some minutes."""
    if minutes is None:
        walk.provision(machine, site, clip)
        return
    longer = site.folder / "again.avi"
    repeat_clip(clip, longer, math.ceil(minutes * 60 * SLOW_FPS / (SECONDS * FPS)))
    walk.provision(machine, site, longer, f"{CONFIG}realtime_fps = {SLOW_FPS}\n")
    units = [f"homeplate-{name}.service" for name in ("capture", "uplink", "bundle")]
    site.until(lambda: all(walk.is_active(machine, unit) for unit in units), "the units to run", every_s=1.0)


def facts(site: Site, port: int, clip: Path, booted_s: float) -> dict[str, object]:
    """Return where everything is."""
    key, known = site.folder / "login", site.folder / "known_hosts"
    login = ["ssh", "-i", str(key), "-p", str(port), "-o", f"UserKnownHostsFile={known}"]
    return {
        "ssh_port": port, "user": "root", "key": str(key), "known_hosts": str(known), "custody": str(site.custody),
        "clip": str(clip), "plates": site.plates, "wanted": site.wanted, "namespace": site.name, "pid": os.getpid(),
        "booted_s": round(booted_s, 1), "login": " ".join([*login, "root@127.0.0.1"]),
    }  # fmt: skip


class PowerButton:
    """A machine's power: SIGUSR1 to this process cuts it, SIGUSR2 starts it again."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._is_on = False
        self._pressed: SimpleQueue[int] = SimpleQueue()  # a handler may put into it: it is reentrant
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _: self._pressed.put(number))

    def on(self) -> float:
        """Start it; return the seconds that it took."""
        self._is_on = True
        return self._machine.boot()

    def off(self) -> None:
        """Cut it off, if it is on."""
        if self._is_on:
            self._is_on = False
            self._machine.cut()

    def obey(self) -> None:
        """Switch as the signals say, until Ctrl-C."""
        while True:
            if self._pressed.get() == signal.SIGUSR1:
                self.off()
            elif not self._is_on:
                say(f"on again, in {self.on():.0f} s")


@contextmanager
def container(site: Site, cache: Path) -> Iterator[Container]:
    """Yield a container whose changes to the Debian root lie in the site's folder."""
    base, data = root.debian(cache), site.folder / "data"
    data.mkdir(exist_ok=True)
    with root.layered(base, site.folder / "layer") as mine:
        root.install(mine)
        address(mine, site)
        say("the container's root is made")
        yield Container(root=mine, data=data, site=site)


def address(mine: Path, site: Site) -> Path:
    """Give a root its address, its ssh server and the key that logs in; return the key."""
    key = make_key(site.folder)
    root.machine(mine, address=f"{NODE}/{PREFIX_LENGTH}", authorized=key.with_suffix(".pub").read_text())
    kind, host_key, *_ = (mine / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
    (site.folder / "known_hosts").write_text(f"* {kind} {host_key}\n")
    return key


def computer(site: Site, cache: Path, *, memory_mb: int = MEMORY_MB, tpm: bool = True) -> Computer:
    """Return a computer with a new disk in the site's folder; its kernel is copied there too."""
    base = root.debian(cache)
    disk = site.folder / "disk.ext4"
    with root.layered(base, site.folder / "layer") as mine:
        root.install(mine)
        key = address(mine, site)
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
