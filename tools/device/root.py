"""Makes a Debian root file system with Homeplate installed as a package would install it, and a disk image of it.

Debian's own packages come over the network once; Homeplate, its locked packages and the units are installed offline
from wheels. A root is kept in the cache and made anew when the lock or the list of packages changes; Homeplate and its
units are put in anew each time, so that what runs is what lies here. Needs root, mmdebstrap and e2fsprogs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "tools/train/runs/device"
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = (
    "systemd", "systemd-sysv", "udev", "kmod", "dbus", "python3", "python3-venv", "nftables", "iproute2", "procps",
    "e2fsprogs", "openssh-server", "mosquitto", "linux-image-amd64", "initramfs-tools", "zstd", "netcat-openbsd",
    "strace",
    # systemd loads these where it finds a TPM
    "libtss2-esys-3.0.2-0", "libtss2-rc0", "libtss2-mu0", "libtss2-tcti-device0",
)  # fmt: skip
DISK_MB = 3072
UNUSED = (
    "mosquitto.service", "systemd-networkd-wait-online.service", "apt-daily.timer", "apt-daily-upgrade.timer",
    "fstrim.timer", "dpkg-db-backup.timer", "e2scrub_reap.service", "e2scrub_all.timer", "console-getty.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service", "systemd-timesyncd.service", "systemd-update-utmp.service", "systemd-pstore.service",
)  # fmt: skip
"""Units of Debian's that a node in an emulator only waits for."""
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
"""What the first file system needs to find the disk: all that it might need is 30 MB and a minute of emulation."""
PREFIX = "opt/homeplate"
LIBEXEC = ("homeplate-egress", "homeplate-prepare", "homeplate-seal-keys")


class DeviceError(Exception):
    """The machine could not be made, or did not do what it should; says what to look at."""


def call(*command: object, cwd: Path | None = None, timeout_s: float = 1800) -> str:
    """Run a command that has to succeed; return its standard output.

    Raises:
        DeviceError: with the end of what it said.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, timeout=timeout_s)
    except FileNotFoundError as error:
        raise DeviceError(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"`{' '.join(words)[:200]}` was not done after {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise DeviceError(
            f"`{' '.join(words)[:300]}` ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"
        )
    return done.stdout


def mirror() -> str:
    """Return the Debian archive that apt of this machine uses."""
    for line in call("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines():
        if "debian.org" in line and "security" not in line:
            return line.rstrip("/")
    raise DeviceError("apt of this machine names no archive of Debian's; set one up, then try again")


def debian(cache: Path) -> Path:
    """Return a Debian root with the locked packages in `/opt/homeplate`, made where it is not there (minutes)."""
    lock = ROOT / "requirements/cpu.lock"
    name = hashlib.sha256(lock.read_bytes() + "".join(PACKAGES).encode()).hexdigest()[:12]
    root = cache / f"{SUITE}-{name}"
    if root.is_dir():
        return root
    if os.geteuid() != 0:
        raise DeviceError("making a root file system needs root")
    cache.mkdir(parents=True, exist_ok=True)
    building = cache / f".{root.name}"
    shutil.rmtree(building, ignore_errors=True)
    wheels = cache / f"wheels-{name}"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("_2_34", "_2_28", "_2_27", "_2_17", "2014")]
    only = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    call(*pip, "download", "--require-hashes", "-r", lock, "-d", wheels, *platforms, *only)
    packages = ",".join(PACKAGES)
    call("mmdebstrap", "--variant=minbase", "--skip=check/empty", f"--include={packages}", SUITE, building, mirror())
    shutil.copytree(wheels, building / "wheels")
    shutil.copyfile(lock, building / "wheels/cpu.lock")
    inside(building, "python3", "-m", "venv", f"/{PREFIX}")
    offline = [f"/{PREFIX}/bin/pip", "install", "--quiet", "--no-index", "--find-links=/wheels"]
    inside(building, *offline, "--require-hashes", "-r", "/wheels/cpu.lock")
    shutil.rmtree(building / "wheels")
    building.rename(root)
    return root


def inside(root: Path, *command: str) -> str:
    """Run a command in a root file system, without a network."""
    return call("unshare", "--net", "chroot", root, *command)


def install(root: Path) -> None:
    """Put Homeplate, its units, users and folders into a root, as the package does; nothing comes over a network."""
    with tempfile.TemporaryDirectory() as folder:
        call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
        (wheel,) = Path(folder).glob("*.whl")
        shutil.copy(wheel, root)
    pip = [f"/{PREFIX}/bin/pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall"]
    inside(root, *pip, f"/{wheel.name}")
    (root / wheel.name).unlink()
    units = root / "usr/lib/systemd/system"
    for path in (ROOT / "systemd").iterdir():
        if path.suffix in {".service", ".path", ".timer", ".target"}:
            shutil.copyfile(path, units / path.name)
    libexec = root / PREFIX / "libexec"
    libexec.mkdir(exist_ok=True)
    for name in LIBEXEC:
        shutil.copy(ROOT / "systemd" / name, libexec / name)
    for kind in ("sysusers", "tmpfiles"):
        shutil.copyfile(ROOT / f"systemd/homeplate.{kind}.conf", root / f"usr/lib/{kind}.d/homeplate.conf")
    shutil.copyfile(ROOT / "systemd/homeplate.udev.rules", root / "usr/lib/udev/rules.d/70-homeplate.rules")
    inside(root, "systemd-sysusers")
    inside(root, "systemctl", "--quiet", "enable", "homeplate.target")
    link = root / "usr/local/bin/homeplate"
    link.unlink(missing_ok=True)
    link.symlink_to(f"/{PREFIX}/bin/homeplate")


def machine(root: Path, *, address: str, gateway: str | None = None, authorized: str | None = None) -> None:
    """Make the root one machine: its name, its network, who may log in; nothing listens that Debian starts by itself.

    Args:
        root: a root of its own; what is here is changed.
        address: of its interface, with the length of the network's prefix.
        gateway: where other networks lie.
        authorized: a public key that logs in as root over ssh; no ssh server where there is none.
    """
    for name in (
        "mosquitto.service",
        "systemd-networkd-wait-online.service",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
    ):
        inside(root, "systemctl", "--quiet", "mask", name)
    inside(root, "systemctl", "--quiet", "enable" if authorized else "disable", "ssh.service")
    inside(root, "systemctl", "--quiet", "enable", "systemd-networkd.service")
    lines = ["[Match]", "Name=en* eth* host*", "[Network]", f"Address={address}"]
    lines += [f"Gateway={gateway}"] if gateway else []
    (root / "etc/systemd/network/10-machine.network").write_text("\n".join(lines) + "\n")
    (root / "etc/hostname").write_text("homeplate-node\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 homeplate-node\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    journal = root / "etc/systemd/journald.conf.d"
    journal.mkdir(exist_ok=True)
    (journal / "device.conf").write_text("[Journal]\nStorage=persistent\nSystemMaxUse=32M\n")
    if authorized:
        ssh = root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "authorized_keys").write_text(authorized)
        inside(root, "ssh-keygen", "-A")


@contextmanager
def layered(base: Path, folder: Path) -> Iterator[Path]:
    """Yield a root whose changes to `base` lie in `folder`, for as long as the context lasts; `base` stays as it is."""
    upper, work, merged = (folder / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    call("mount", "-t", "overlay", "overlay", "-o", options, merged)
    try:
        yield merged
    finally:
        call("umount", merged)


def disk(root: Path, image: Path, megabytes: int = DISK_MB) -> None:
    """Write a root as an ext4 disk."""
    image.unlink(missing_ok=True)
    call("mke2fs", "-q", "-t", "ext4", "-d", root, image, f"{megabytes}m")


def small_initramfs(root: Path) -> None:
    """Make the root's first file system small."""
    (root / "etc/initramfs-tools/conf.d/device").write_text("MODULES=list\n")
    (root / "etc/initramfs-tools/modules").write_text("\n".join(BOOT_MODULES) + "\n")
    inside(root, "update-initramfs", "-u")


def kernel(root: Path) -> tuple[Path, Path]:
    """Return a root's kernel and first file system."""
    found: Sequence[Path] = sorted((root / "boot").glob("vmlinuz-*"))
    if not found:
        raise DeviceError(f"{root} has no kernel")
    return found[-1], found[-1].with_name(found[-1].name.replace("vmlinuz", "initrd.img"))
