"""A Debian for the boards' processors, the wheels of the locks for it, and the node installed in it offline.

The root is made with mmdebstrap, without running a program in it; the wheels are downloaded here for the other machine
and checked against the lock's hashes, then installed there without a network, as on a board.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

from tools.device import room

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "tools/train/runs/arm64"
DEBIAN = (
    "base-files", "base-passwd", "bash", "dash", "coreutils", "libc-bin", "ca-certificates", "python3", "python3-venv",
    "python3-pip", "libstdc++6", "mount",
)  # fmt: skip
SUITES = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian's releases and their Python: those of Raspberry Pi OS."""
EMULATOR = "qemu-aarch64"
EMULATOR_SUITE = "trixie"
"""Bookworm's qemu 7.2 crashes where onnxruntime is imported; trixie's 10 does not."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
NEWEST = "cortex-a76"
"""What a command runs on where nothing else is said; qemu's "max" is slower, it signs every return address."""
ENVIRONMENT = {"PATH": "/opt/homeplate/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
DEBIANS_PIP = "/usr/lib/python3/dist-packages"
TESTING = (
    "hypothesis", "iniconfig", "pluggy", "pygments", "pytest", "sortedcontainers", "rich", "markdown-it-py", "mdurl",
)  # fmt: skip
"""What the tests need beside the node, with what these need."""


class ArmError(Exception):
    """Something is missing or failed; the message says what and, where it can, how to get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An installed root.

    Attributes:
        root: its file system.
        python: of its Debian, as "3.11".
        emulator: qemu's program on this machine.
    """

    root: Path
    python: str
    emulator: Path

    def run(
        self, *words: str, shared: Mapping[Path, str] | None = None, processor: str = NEWEST, **environment: str
    ) -> str:
        """Run a command in it, shut off from this machine, and return what it printed.

        Args:
            words: the command.
            shared: folders of this machine by where they are in it.
            processor: qemu's name of it.
            environment: beside what every command sees.

        Raises:
            ArmError: it ended with another status than 0.
        """
        done = self.call(*words, shared=shared, processor=processor, **environment)
        if done.returncode:
            raise ArmError(f"{' '.join(words[:6])} ... ended with {done.returncode}:\n{done.stdout[-3000:]}")
        return done.stdout

    def call(
        self, *words: str, shared: Mapping[Path, str] | None = None, processor: str = NEWEST, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Do the same and return how it ended."""
        seen = {**ENVIRONMENT, "QEMU_CPU": processor, **environment}
        return room.run(self.root, words, emulator=self.emulator, environment=seen, shared=shared)


def made(suite: str, cache: Path) -> Device:
    """Return a Debian of that release, made where it is missing or was made of other packages (350 MB).

    Raises:
        ArmError: it cannot be made.
    """
    emulator, root = emulator_of(cache), cache / suite
    made_of, packages = cache / f"{suite}.packages", " ".join(DEBIAN)
    if not made_of.exists() or made_of.read_text("utf-8") != packages:
        whole = cache / f"{suite}.part"
        shutil.rmtree(whole, ignore_errors=True)
        debian(suite, whole, DEBIAN, "--arch=arm64", "--skip=check/qemu")
        shutil.rmtree(root, ignore_errors=True)
        whole.rename(root)
        made_of.write_text(packages, "utf-8")
    gather_certificates(root)
    return Device(root=root, python=SUITES[suite], emulator=emulator)


def gather_certificates(root: Path) -> None:
    """Do what ca-certificates does where it is not only unpacked: pip 25 reads the file even where it asks nobody."""
    found = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    text = "".join(one.read_text("ascii") for one in found)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(text, "ascii")


def emulator_of(cache: Path) -> Path:
    """Return qemu's user emulator, taken out of Debian's package where it is not there yet."""
    emulator = cache / EMULATOR
    if not emulator.exists():
        whole = cache / "emulator.part"
        shutil.rmtree(whole, ignore_errors=True)
        debian(EMULATOR_SUITE, whole, ["qemu-user"], "--skip=check/empty")
        shutil.copy2(whole / "usr/bin" / EMULATOR, emulator)
        shutil.rmtree(whole)
    return emulator


def debian(suite: str, root: Path, packages: Iterable[str], *words: str) -> None:
    """Unpack packages of Debian into a folder."""
    root.parent.mkdir(parents=True, exist_ok=True)
    hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    include = f"--include={','.join(packages)}"
    command("mmdebstrap", "--variant=extract", hooks, include, *words, suite, str(root), mirror())


def mirror() -> str:
    """Return the address of the archive that this machine's apt is set up with."""
    folder = Path("/etc/apt")
    for path in [*folder.glob("sources.list"), *sorted(folder.glob("sources.list.d/*"))]:
        found = re.search(
            r"^(?:URIs:|deb(?: \[.*\])?) (https?://\S*/debian)/?\s", path.read_text("utf-8"), re.MULTILINE
        )
        if found:
            return found[1]
    raise ArmError("apt of this machine names no archive of Debian's; set one up, then try again")


def lock_for(python: str, locks: Sequence[Path], names: Sequence[str] | None = None) -> str:
    """Return the lines of the locks that a Python on AArch64 takes, with their hashes and without markers.

    pip judges markers by the Python that runs it, which is not the one that is installed for.

    Args:
        python: as "3.11".
        locks: of `uv pip compile --universal --generate-hashes`.
        names: only these packages; all where left out.
    """
    seen = {
        "python_version": python, "python_full_version": f"{python}.2", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "sys_platform": "linux", "platform_machine": "aarch64",
        "platform_system": "Linux", "os_name": "posix", "extra": "",
    }  # fmt: skip
    taken: dict[str, str] = {}
    for lock in locks:
        text = re.sub(r"^ *#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE)
        for block in re.split(r"\n(?=[a-z0-9])", text.strip()):
            head, _, hashes = block.partition("\\\n")
            requirement, _, marker = head.partition(";")
            if marker.strip() and not Marker(marker.strip()).evaluate(seen):
                continue
            name = requirement.partition("==")[0].strip()
            if names is None or name in names:
                taken[name] = f"{requirement.strip()} \\\n{hashes}\n"
    return "".join(taken.values())


def wheels(python: str, cache: Path) -> Path:
    """Return a folder with the wheels of the node, of its lock and of the tests for AArch64, and the locks themselves.

    Raises:
        ArmError: a package has no wheel for that Python on AArch64, or a hash differs.
    """
    folder = cache / f"wheels-{python}"
    folder.mkdir(parents=True, exist_ok=True)
    node, dev = ROOT / "requirements/cpu.lock", ROOT / "requirements/dev.lock"
    locks = {"node.lock": lock_for(python, [node]), "tests.lock": lock_for(python, [dev], TESTING)}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    for name, text in locks.items():
        (folder / name).write_text(text, "utf-8")
        target = [f"--platform={tag}_aarch64" for tag in PLATFORMS]
        target += ["--implementation=cp", f"--python-version={python}", "--only-binary=:all:"]
        words = ["--require-hashes", "--no-deps", f"--dest={folder}", f"--find-links={folder}"]
        command(*pip, "download", *words, *target, "-r", str(folder / name))
    for old in folder.glob("homeplate-*.whl"):
        old.unlink()
    command(*pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", str(ROOT))
    return folder


def wheel_names(python: str, cache: Path) -> list[str]:
    """Return the names of the wheels that a Python on AArch64 gets, all of the lock's, or fail as `wheels` does."""
    return sorted(path.name for path in wheels(python, cache).glob("*.whl"))


def installed(device: Device, folder: Path) -> dict[str, object]:
    """Install the node into the root as a board's package does, offline and by hashes; return what it said of itself.

    Raises:
        ArmError: it does not install.
    """
    begun = time.monotonic()
    shutil.rmtree(device.root / "opt", ignore_errors=True)
    # Debian's own pip installs into the environment: setting up another one takes longer than the node.
    device.run("python3", "-m", "venv", "--without-pip", "/opt/homeplate")
    pip = ["python", "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-compile", "--no-deps", "--no-index"]
    shared = {folder: "wheels"}
    wheel = next(folder.glob("homeplate-*.whl"))
    lock = (folder / "node.lock").read_text("utf-8")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "all.lock").write_text(f"{lock}/wheels/{wheel.name} --hash=sha256:{digest}\n", "utf-8")
    words = ["install", *offline, "--find-links=/wheels", "--require-hashes", "-r", "/wheels/all.lock"]
    device.run(*pip, *words, shared=shared, PYTHONPATH=DEBIANS_PIP)
    seconds = time.monotonic() - begun
    install_tests(device, folder)
    device.run(*pip, "check", PYTHONPATH=DEBIANS_PIP)
    version = device.run("homeplate", "--version").strip()
    platform = device.run("python", "-c", "import platform as p; print(p.machine(), p.python_version(), *p.libc_ver())")
    return {"version": version, "platform": platform.strip(), "install_s": round(seconds, 1)}


def install_tests(device: Device, folder: Path) -> None:
    """Put what the tests need beside the node, from this machine: it is no part of what is tested."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-compile",
        "--no-deps",
    ]
    target = [f"--platform={tag}_aarch64" for tag in PLATFORMS]
    target += ["--implementation=cp", f"--python-version={device.python}", "--only-binary=:all:"]
    words = ["--no-index", f"--find-links={folder}", f"--target={device.root / 'opt/tests'}"]
    command(*pip, *words, *target, "--require-hashes", "-r", str(folder / "tests.lock"))


def command(*words: str) -> str:
    """Run a command of this machine that has to succeed, and return what it printed.

    Raises:
        ArmError: it is not there, or fails.
    """
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ArmError(f"{words[0]} is missing: apt-get install {words[0]}") from error
    if done.returncode:
        raise ArmError(f"{' '.join(words[:5])} ... failed:\n{done.stderr[-3000:]}")
    return done.stdout
