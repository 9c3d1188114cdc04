"""Roots to try packages in: a Debian from its archive, unpacked, entered by chroot with or without a network.

Needs root and mmdebstrap. An arm64 root runs under qemu-user, which the kernel is told of for the time of a trial.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tools.packaging.build import DIST

# What the packages depend on, so that they install without a network; and what an empty Debian lacks for a node.
INCLUDED = (
    "ca-certificates",
    "libstdc++6",
    "nftables",
    "python3",
    "python3-pip-whl",
    "systemd",
    "systemd-sysv",
    "udev",
)
ESSENTIAL = (
    "base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils", "diffutils", "findutils",
    "grep", "gzip", "hostname", "init-system-helpers", "libc-bin", "login", "mawk", "perl-base", "sed", "tar",
    "util-linux",
)  # fmt: skip
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
AARCH64 = (
    r":homeplate-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)


def why_not() -> str | None:
    """Return why no root can be made here; None where it can."""
    if os.geteuid() != 0:
        return "roots are made and entered by root"
    for program, package in (
        ("mmdebstrap", "mmdebstrap"),
        ("mkfs.ext4", "e2fsprogs"),
        ("systemd-nspawn", "systemd-container"),
    ):
        if shutil.which(program, path="/usr/bin:/usr/sbin:/sbin") is None:
            return f"{program} is not installed: apt-get install {package}"
    return None


def run(*command: object, code: int | None = 0, **options: object) -> str:
    """Run a command and return what it said; stop where it ends with another code (None: any)."""
    done = subprocess.run(
        [str(part) for part in command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", **options,  # type: ignore[call-overload]
    )  # fmt: skip
    if code is not None and done.returncode != code:
        raise SystemExit(f"error: {' '.join(map(str, command))} ended with {done.returncode}\n{done.stdout[-6000:]}")
    return str(done.stdout)


def expect(what: object, said: object) -> None:
    """Stop where something is not as it has to be, with what was said."""
    if not what:
        raise SystemExit(f"error: not as it has to be:\n{said}")


def tarball(release: str, architecture: str, include: tuple[str, ...] = INCLUDED, *, name: str = "node") -> Path:
    """Return a root as a tar file, made from Debian's archive where it is not there yet."""
    file = DIST / "roots" / f"{name}-{release}-{architecture}.tar"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new.tar")
        run(
            "mmdebstrap", "--variant=minbase", f"--arch={architecture}", "--skip=check/empty,check/qemu",
            f"--include={','.join(include)}", release, new,
        )  # fmt: skip
        new.rename(file)
    return file


def extracted(release: str, architecture: str) -> Path:
    """Return a root as a tar file, unpacked only: configuring it under emulation takes half an hour."""
    file = DIST / "roots" / f"extracted-{release}-{architecture}.tar"
    if not file.exists():
        folder = file.with_suffix("")
        shutil.rmtree(folder, ignore_errors=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        wanted = ",".join((*ESSENTIAL, *(name for name in INCLUDED if name != "ca-certificates")))
        run(
            "mmdebstrap", "--variant=extract", f"--arch={architecture}", "--skip=check/empty,check/qemu",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={wanted}", release, folder,
        )  # fmt: skip
        for name in ("passwd", "group"):
            shutil.copy(folder / f"usr/share/base-passwd/{name}.master", folder / "etc" / name)
        # As update-ca-certificates would: pip 25 reads it before it looks at what it is asked.
        certificates = sorted((folder / "usr/share/ca-certificates/mozilla").glob("*.crt"))
        (folder / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(file.read_bytes() for file in certificates))
        (folder / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
        (folder / "var/lib/dpkg/status").touch()
        run("tar", "-cf", file, "-C", folder, ".")
        shutil.rmtree(folder)
    return file


class Root:
    """A root that is unpacked and mounted: `/run` in memory, `/var/lib/homeplate` an ext4 of its own, as on a board."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder.with_suffix(".ext4")

    def __truediv__(self, path: str) -> Path:
        """Return a path in the root as it is from outside."""
        return self.folder / path.lstrip("/")

    def call(self, *command: object, code: int | None = 0, online: bool = False) -> str:
        """Run a command in the root: without any network but where `online` asks for it."""
        apart = [] if online else ["unshare", "--net", "--"]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        environment |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        return run(*apart, "chroot", self.folder, *command, code=code, env=environment)

    def raw(self) -> bytes:
        """Return the data's disk as it lies there, after all was written."""
        os.sync()
        return self.image.read_bytes()


@contextlib.contextmanager
def root(folder: Path, tar: Path, *, data_mib: int = 192) -> Iterator[Root]:
    """Have a root while the context lasts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run("tar", "-xf", tar, "-C", folder)
    made = Root(folder)
    made.image.unlink(missing_ok=True)
    with made.image.open("wb") as file:
        file.truncate(data_mib * 1024 * 1024)
    run("mkfs.ext4", "-q", "-F", made.image)
    # Services are not started in a chroot.
    (made / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (made / "usr/sbin/policy-rc.d").chmod(0o755)
    (made / "var/lib/homeplate").mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        for kind, source, place in (
            ("proc", "proc", "proc"),
            ("sysfs", "sys", "sys"),
            ("devtmpfs", "/dev", "dev"),
            ("tmpfs", "run", "run"),
            ("ext4", made.image, "var/lib/homeplate"),
        ):
            options = {"devtmpfs": ["--bind"], "ext4": ["-o", "loop"], "sysfs": ["-t", kind, "-o", "ro"]}.get(
                kind, ["-t", kind]
            )
            run("mount", *options, source, made / place)
            stack.callback(run, "umount", "--lazy", made / place, code=None)
        yield made
    shutil.rmtree(folder, ignore_errors=True)
    made.image.unlink(missing_ok=True)


class Machine(Root):
    """A root whose systemd runs as its first process; commands run among its processes, in its network."""

    first = 0

    def call(self, *command: object, code: int | None = 0, online: bool = False) -> str:
        """Run a command in the machine, as root; it has no network but its own."""
        if online:
            raise ValueError("a machine has no way out")
        inside = ("nsenter", f"--target={self.first}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        return run(*inside, "env", "-i", *(f"{k}={v}" for k, v in ENVIRONMENT.items()), *command, code=code)

    def popen(self, *command: object) -> "subprocess.Popen[str]":
        """Start a command in the machine."""
        inside = ("nsenter", f"--target={self.first}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
        words = [*inside, "env", "-i", *(f"{k}={v}" for k, v in ENVIRONMENT.items()), *map(str, command)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def machine(folder: Path, tar: Path, *, stick: Path, network: str | None = None) -> Iterator[Machine]:
    """Have a booted machine while the context lasts.

    Args:
        folder: where its root goes, new.
        tar: the root.
        stick: a folder that it has as /media/stick.
        network: the name of a network namespace of its own; None gives it none.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run("tar", "-xf", tar, "-C", folder)
    made = Machine(folder)
    # As Debian's installer and every board's image leave it: sudo looks its own host name up.
    (made / "etc/hostname").write_text("node\n")
    (made / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\tnode\n")
    wire = [f"--network-namespace-path=/run/netns/{network}"] if network else ["--private-network"]
    process = subprocess.Popen(
        [
            "systemd-nspawn", "--quiet", f"--directory={folder}", f"--bind={stick}:/media/stick", "--register=no",
            "--keep-unit", *wire, "--capability=all", "--system-call-filter=bpf", "--console=read-only", "--boot",
        ],
        env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        made.first = _first_process(process)
        made.call("systemctl", "is-system-running", "--wait", code=None)
        yield made
    finally:
        if made.first:
            made.call("systemctl", "poweroff", code=None)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _first_process(process: "subprocess.Popen[bytes]") -> int:
    """Return the process number of a machine's systemd, once it takes commands."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(
                f"error: the machine did not start\n{process.communicate()[0].decode(errors='replace')[-3000:]}"
            )
        for child in children.read_text().split():
            found = Path(f"/proc/{child}/root/run/systemd/private")
            if found.exists():
                return int(child)
        time.sleep(0.2)
    process.kill()
    raise SystemExit("error: the machine's systemd did not come up within a minute")


@contextlib.contextmanager
def emulated_arm64() -> Iterator[str]:
    """Have the kernel run arm64 programs through qemu-user while the context lasts; yield qemu's version.

    Bookworm's qemu 7.2 fails on onnxruntime: trixie's is taken, statically linked, from a root of its own.
    """
    folder = DIST / "roots" / "qemu"
    qemu = folder / "usr/bin/qemu-aarch64"
    if not qemu.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        run("mmdebstrap", "--variant=extract", "--skip=check/empty", "--include=qemu-user", "trixie", new)
        new.rename(folder)
    if not (BINFMT / "register").exists():
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    ours = not any(path.name.endswith("aarch64") for path in BINFMT.iterdir())
    if ours:
        (BINFMT / "register").write_text(f"{AARCH64}{qemu}:FP")
    try:
        yield run(qemu, "--version").splitlines()[0]
    finally:
        if ours:
            (BINFMT / "homeplate-aarch64").write_text("-1")
