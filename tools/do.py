#!/usr/bin/env python3
"""Set Homeplate up and do its jobs: `python3 tools/do.py demo|test|check|packages|setup`. Standard library only.

  demo   set up, then run the main job: a clip, a broker, a node, a custodian; ends with the records opened
  test   set up, then run the checks and every test
  check  set up, then run the linters, the type checker and the import rules
  packages  set up, then build the Debian packages, wheels inside, into dist/ (needs debhelper)
  setup  make .venv from the hashed locks, nothing else

Each makes .venv when it is missing or when a lock has changed, names what the machine lacks with the exact command
that gets it, and prints one JSON line of figures last. System packages are installed only with --apt.
`demo` passes what it does not know on: `python3 tools/do.py demo --clip my.mp4` (see `demo --help`).
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements" / "dev.lock"
STAMP = VENV / "homeplate-setup.json"

# Debian packages by what they give, and what is lost without them.
PACKAGES = {
    "gir1.2-gst-rtsp-server-1.0": (
        "/usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib",
        "a real RTSP server: without it the tests of network cameras skip",
    ),
    "gstreamer1.0-plugins-good": (
        "/usr/lib/*/gstreamer-1.0/libgstrtsp.so",
        "network cameras, and a Jetson's: without it those tests skip",
    ),
    "mmdebstrap": ("mmdebstrap", "a Debian of its own for `make device-camera`: without it that is skipped"),
    "python3-gi": ("/usr/lib/python3/dist-packages/gi/__init__.py", "GStreamer in Python: as the two above"),
    "mosquitto": ("mosquitto", "the real broker: without it the demo uses iotcore and the integration tests skip"),
    "iproute2": ("ip", "network namespaces: without them the adversarial tests skip"),
    "nftables": ("nft", "the kernel's second lock: without it those tests skip"),
    "systemd": ("systemd-analyze", "units and drop-ins are verified with it: without it those tests skip"),
    "e2fsprogs": ("mkfs.ext4", "file systems of their own for tests: without it those tests skip"),
    "openssh-server": ("sshd", "a real sshd on loopback: without it the tests of the hardware-in-the-loop runner skip"),
    "debhelper": ("dh", "the Debian packages are made with it: without it its tests skip"),
    "shellcheck": ("shellcheck", "reads the packages' scripts: without it that test skips"),
    "strace": ("strace", "injected disk faults: without it those tests skip"),
}


def main() -> int:
    """Run one verb; return the exit code."""
    arguments = sys.argv[1:]
    apt = "--apt" in arguments
    arguments = [a for a in arguments if a != "--apt"]
    verbs = {"setup": setup, "check": check, "test": test, "demo": demo, "packages": packages}
    if not arguments or arguments[0] not in verbs:
        print(__doc__)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    verb, rest = arguments[0], arguments[1:]
    started = time.monotonic()
    refuse_unsupported()
    if rest[:1] not in (["-h"], ["--help"]):
        name_what_is_missing(apt=apt)
    figures = {"verb": verb, "setup_s": round(make_environment(apt=apt), 1)}
    code, more = verbs[verb](rest)
    figures |= more | {"ok": code == 0, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(figures), flush=True)
    return code


def refuse_unsupported() -> None:
    """Stop on a machine that Homeplate does not run on, by name."""
    system, machine = platform.system(), platform.machine()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything has checked the version
        fail(
            f"Python {platform.python_version()} is too old: Homeplate needs 3.11 or newer "
            "(Debian 12, Raspberry Pi OS bookworm and Ubuntu 24.04 have it as python3)"
        )
    if system == "Linux" and machine in {"x86_64", "aarch64"}:
        if platform.libc_ver()[0] != "glibc":
            fail("this Linux has no glibc (Alpine?): onnxruntime and OpenCV need it; use Debian or Ubuntu")
        return
    if system == "Darwin" and machine == "arm64":
        return
    fail(f"{system} on {machine} is not supported: use Linux on x86-64 or aarch64, or macOS on Apple silicon")


def name_what_is_missing(*, apt: bool) -> None:
    """Say which system packages are missing and how to get them; with `apt`, get them."""
    missing = {name: why for name, (program, why) in PACKAGES.items() if find_program(program) is None}
    if not missing:
        return
    if apt:
        install_packages(sorted(missing))
        return
    get = "brew install" if platform.system() == "Darwin" else "sudo apt-get install --no-install-recommends"
    for name, why in missing.items():
        print(f"not installed: {name} ({why}). Get it with: {get} {name}", flush=True)


def find_program(name: str) -> str | None:
    """Return a program's or (by a pattern from the root) a file's path; Debian keeps servers in /usr/sbin, off PATH."""
    if name.startswith("/"):
        return next((str(path) for path in Path("/").glob(name[1:])), None)
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def install_packages(names: list[str]) -> None:
    """Install Debian packages; stops where apt is not there or fails."""
    apt = shutil.which("apt-get")
    if apt is None:
        fail(f"--apt was asked for, but this machine has no apt-get; install by hand: {' '.join(names)}")
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Debian starts a broker on installing it; a node has no inbound port, so that one is kept from starting.
    if not Path("/run/systemd/system").is_dir():
        environment["RUNLEVEL"] = "1"
    for command in ([apt, "update", "-qq"], [apt, "install", "-y", "-qq", "--no-install-recommends", *names]):
        run([*sudo, *command], environment=environment, why=f"apt could not install {' '.join(names)}")


def make_environment(*, apt: bool) -> float:
    """Make .venv from the lock where it is missing or out of date; return the seconds it took."""
    started = time.monotonic()
    wanted = {
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "project": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": platform.python_version(),
        "root": str(ROOT),
    }
    if PYTHON.exists() and STAMP.exists() and json.loads(STAMP.read_text("utf-8")) == wanted:
        return 0.0
    print(f"setting up {VENV} from {LOCK.relative_to(ROOT)} (about a minute)", flush=True)
    if not PYTHON.exists() or not STAMP.exists() or json.loads(STAMP.read_text("utf-8"))["python"] != wanted["python"]:
        create_venv(apt=apt)
    pip = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(
        [*pip, "--require-hashes", "-r", str(LOCK)],
        why="the packages of the lock could not be installed: is there a way to the package index, and 1 GB of disk?",
    )
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)], why="Homeplate itself did not install")
    STAMP.write_text(json.dumps(wanted), "utf-8")
    return time.monotonic() - started


def create_venv(*, apt: bool) -> None:
    """Make an empty virtual environment; Debian splits what that needs into python3-venv."""
    try:
        import ensurepip  # noqa: F401, PLC0415 - only to see whether it is there
    except ImportError:
        if not apt:
            fail("this Python cannot make virtual environments. Get it with: sudo apt-get install python3-venv")
        install_packages(["python3-venv"])
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], why=f"{VENV} could not be made")


def setup(_: list[str]) -> tuple[int, dict[str, object]]:
    """Do nothing more than the environment."""
    print(f"ready: {PYTHON.relative_to(ROOT)}; next: python3 tools/do.py demo")
    return 0, {}


def check(_: list[str]) -> tuple[int, dict[str, object]]:
    """Run the linters, the type checker and the import rules; stop at none, so that one run shows all."""
    bin_ = VENV / "bin"
    commands = {
        "ruff": [bin_ / "ruff", "check", "."],
        "format": [bin_ / "ruff", "format", "--check", "--quiet", "."],
        "mypy": [bin_ / "mypy"],
        "imports": [bin_ / "lint-imports", "--no-cache"],
    }
    results = {}
    for name, command in commands.items():
        print(f"check: {name}", flush=True)
        results[name] = call(command)
    return int(any(results.values())), {"failed": [name for name, code in results.items() if code]}


def test(rest: list[str]) -> tuple[int, dict[str, object]]:
    """Run the checks and every test; what follows `test` goes to pytest."""
    checked, figures = check([])
    report = ROOT / ".pytest_cache" / "last.xml"
    tested = call([PYTHON, "-m", "pytest", "-q", f"--junitxml={report}", *rest])
    return checked or tested, figures | count(report)


def count(report: Path) -> dict[str, object]:
    """Return the figures of pytest's own report."""
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - only after the tests

    if not report.exists():
        return {"tests": 0}
    suite = ET.parse(report).getroot()[0]  # noqa: S314 - our own pytest wrote it
    numbers = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    return {**numbers, "test_s": round(float(suite.get("time", "0")), 1)}


def demo(rest: list[str]) -> tuple[int, dict[str, object]]:
    """Run the main job; it prints its own table, its figures come back through a file."""
    figures = VENV / "demo-figures.json"
    figures.unlink(missing_ok=True)
    code = call([PYTHON, "-m", "tools.demo", "--figures", figures, "--from", Path.cwd(), *rest])
    return code, json.loads(figures.read_text("utf-8")) if figures.exists() else {}


def packages(rest: list[str]) -> tuple[int, dict[str, object]]:
    """Build the Debian packages; what follows `packages` goes to the build. Its last line is its figures."""
    command = [PYTHON, "-m", "tools.packaging.build", *rest]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    last = done.stdout.strip().rpartition("\n")[2]
    return done.returncode, json.loads(last) if last.startswith("{") else {}


def call(command: list[object]) -> int:
    """Run a command from the project's root with our environment first on PATH; return its exit code."""
    environment = os.environ | {"PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin"}
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=environment, check=False).returncode


def run(command: list[str], *, why: str, environment: dict[str, str] | None = None) -> None:
    """Run a command that has to succeed."""
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        fail(f"{why}\n  the command was: {' '.join(command)}")


def fail(message: str) -> None:
    """Say what is wrong and end."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
