"""The node's machine: a container whose first process is systemd, or an emulated computer. Both do the same few things.

The container (systemd-nspawn) runs at native speed on this kernel; killing its first process ends all of it at once.
The computer (qemu, software emulation) has a disk, a TPM, a hardware watchdog and a power plug that can be pulled.
"""

import base64
import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tools.device.root import DeviceError, call
from tools.device.site import NODE, Site

BOOT_S = {"container": 120.0, "computer": 900.0}
EMULATOR = "qemu-system-x86_64"
MEMORY_MB = 512


class Machine(Protocol):
    """A machine that is booted, told what to do, and cut off."""

    def boot(self) -> float:
        """Start it; return the seconds until it takes commands and has started its units."""
        ...

    def cut(self) -> None:
        """End it as a power cut would: nothing in it hears of it."""
        ...

    def run(self, *words: object, given: bytes = b"", ok: bool = True) -> str:
        """Run a command in it as root; return its standard output.

        Raises:
            DeviceError: where it fails and `ok` is True.
        """
        ...


def put(machine: Machine, path: str, content: bytes) -> None:
    """Write a file of root's in the machine."""
    machine.run("sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}", given=content)


def put_folder(machine: Machine, path: str, folder: Path) -> None:
    """Write a folder in the machine."""
    packed = subprocess.run(["tar", "-C", folder, "-cf", "-", "."], capture_output=True, check=True).stdout
    machine.run("sh", "-c", f"mkdir -p {path} && tar -C {path} -xf -", given=packed)


def get(machine: Machine, path: str) -> bytes:
    """Return a file's bytes."""
    return base64.b64decode(machine.run("base64", path))


@dataclass(slots=True)
class Container:
    """A machine of systemd-nspawn.

    Its boot clock begins anew with each boot, as a computer's does. nspawn lays a boot id of its own over the kernel's,
    which a unit with a /proc of its own (`ProtectProc=`) does not see: here all see the kernel's.

    Attributes:
        root: its disk.
        data: `/var/lib/homeplate`, a folder on a file system that overwrites in place.
        site: what it is cabled to.
    """

    root: Path
    data: Path
    site: Site
    _process: "subprocess.Popen[bytes] | None" = None
    _leader: int = 0
    _cables: int = 0

    @property
    def _network(self) -> str:
        return f"{self.site.name}-node{self._cables}"

    def boot(self) -> float:
        """Start systemd in a namespace of its own, cabled to the site."""
        begun = time.perf_counter()
        self._cables += 1
        call("ip", "netns", "add", self._network)
        self.site.cable(self._network)
        uptime_s = int(float(Path("/proc/uptime").read_text().split()[0]))
        command = [
            "unshare",
            "--time",
            "--fork",
            f"--boottime=-{uptime_s}",
            "systemd-nspawn",
            "--quiet",
            "-D",
            str(self.root),
        ]
        command += [f"--network-namespace-path=/run/netns/{self._network}", f"--bind={self.data}:/var/lib/homeplate"]
        command += [
            "--register=no",
            "--keep-unit",
            "--capability=all",
            "--system-call-filter=bpf",
            "--console=read-only",
        ]
        with (self.site.folder / "console.log").open("ab") as log:
            environment = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
            self._process = subprocess.Popen(
                [*command, "-b"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        Site.until(self._started, "the container's systemd", BOOT_S["container"], every_s=0.1)
        self.run("umount", "/proc/sys/kernel/random/boot_id")
        return time.perf_counter() - begun

    def _started(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise DeviceError(f"systemd-nspawn ended: see {self.site.folder / 'console.log'}")
        for child in _children(self._process.pid):
            for first in _children(child):
                if Path(f"/proc/{first}/comm").read_text().strip() == "systemd":
                    self._leader = first
        return bool(self._leader) and _is_up(self)

    def cut(self) -> None:
        """Kill its first process, and all others with it."""
        assert self._process is not None
        os.kill(self._leader, signal.SIGKILL)
        self._process.wait(30)
        self._leader = 0
        call("ip", "netns", "delete", self._network)

    def run(self, *words: object, given: bytes = b"", ok: bool = True) -> str:
        """See `Machine.run`."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return _run(["nsenter", "-t", str(self._leader), "-a", "env", "-i", path, *map(str, words)], words, given, ok)


@dataclass(slots=True)
class Computer:
    """A machine of qemu: 512 MB, one disk, a TPM (swtpm), an i6300esb watchdog, a cable to the site."""

    disk: Path
    kernel: tuple[Path, Path]
    site: Site
    key: Path
    memory_mb: int = MEMORY_MB
    tpm: bool = True
    processors: int = 2
    _processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def boot(self) -> float:
        """Start it with what was on its disk."""
        begun = time.perf_counter()
        cable = "node0"
        self.site.ip("tuntap", "add", "dev", cable, "mode", "tap")
        self.site.answer_at(cable)
        command = [
            EMULATOR,
            "-M",
            "pc",
            "-cpu",
            "Westmere",
            "-accel",
            "tcg",
            "-smp",
            str(self.processors),
            "-m",
            str(self.memory_mb),
        ]
        command += ["-drive", f"file={self.disk},if=virtio,format=raw,cache=writeback", "-nographic", "-nodefaults"]
        command += ["-serial", "stdio", "-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset"]
        command += [
            "-netdev",
            f"tap,id=net,ifname={cable},script=no,downscript=no",
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
        command += ["-kernel", str(self.kernel[0]), "-initrd", str(self.kernel[1])]
        command += ["-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no no_timer_check panic=0"]
        if self.tpm:
            command += self._with_tpm()
        self._processes.append(self.site.start("console.log", *command))
        Site.until(self._started, "the computer to boot", BOOT_S["computer"], every_s=2.0)
        return time.perf_counter() - begun

    def _with_tpm(self) -> list[str]:
        state, socket = self.site.folder / "tpm", self.site.folder / "tpm.socket"
        state.mkdir(exist_ok=True)
        socket.unlink(missing_ok=True)
        words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={socket}"]
        self._processes.append(self.site.start("tpm.log", *words))
        Site.until(socket.exists, "swtpm", 30, every_s=0.1)
        chip = ["-chardev", f"socket,id=tpm,path={socket}", "-tpmdev", "emulator,id=tpm0,chardev=tpm"]
        return [*chip, "-device", "tpm-tis,tpmdev=tpm0"]

    def _started(self) -> bool:
        if self._processes[-1].poll() is not None:
            raise DeviceError(f"{EMULATOR} ended: see {self.site.folder / 'console.log'}")
        return _is_up(self)

    def cut(self) -> None:
        """Pull the plug: qemu is killed, and what its guest had not synced is lost."""
        for process in reversed(self._processes):
            for child in _children(process.pid):
                with suppress(ProcessLookupError):
                    _kill(child)
            process.kill()
            process.wait(30)
        self._processes.clear()
        self.hang_up()
        self.site.ip("link", "delete", "node0")

    def hang_up(self) -> None:
        """Forget the connection that commands share."""
        with suppress(DeviceError):
            call(*self.ssh("-O", "exit"))

    def is_up(self) -> bool:
        """Tell whether it takes commands and has started its units."""
        return _is_up(self)

    def ssh(self, *options: str) -> list[str]:
        """Return the beginning of a command that logs in."""
        quiet = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self.site.folder}/ssh", "-o", "ControlPersist=yes"]
        wait = ["-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=20"]
        return self.site.here("ssh", "-i", str(self.key), *quiet, *shared, *wait, *options, f"root@{NODE}")

    def run(self, *words: object, given: bytes = b"", ok: bool = True) -> str:
        """See `Machine.run`."""
        return _run([*self.ssh(), shlex.join(map(str, words))], words, given, ok)


def _is_up(machine: Machine) -> bool:
    try:
        state = machine.run("systemctl", "is-active", "multi-user.target", ok=False).strip()
    except DeviceError:
        return False
    return state == "active"


def _run(command: list[str], words: tuple[object, ...], given: bytes, ok: bool) -> str:
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=False, timeout=1800)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"`{shlex.join(map(str, words))[:200]}` did not end in the machine") from error
    if ok and done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace")[-1500:]
        raise DeviceError(f"in the machine, `{shlex.join(map(str, words))[:300]}` ended with {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def make_key(folder: Path) -> Path:
    """Make the key with which the site logs in to the machine."""
    key = folder / "login"
    if not key.exists():
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    return key
