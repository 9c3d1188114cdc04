"""Tests the Raspberry Pi's camera code on the real libcamera: `make device-camera`, as root, in a root of its own.

The root has Debian trixie's libcamera and the locked packages with picamera2 from the package index; it is made once (a
minute) and kept. Pictures of rendered cars are what libcamera's virtual camera shows. The last line is JSON; where the
root cannot be made here (no root rights, no mmdebstrap, no way to the archive), it says why and nothing else ran.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from tools.render.clip import frames, plan

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "tools/train/runs/device/camera"
SUITE = "trixie"
DEBIAN = (
    "ca-certificates", "python3-libcamera", "python3-venv", "python3-dev", "gcc", "libc6-dev", "libcap-dev",
    "linux-libc-dev",
)  # fmt: skip
PICAMERA2 = "picamera2==0.3.38"
NEEDED = {"mmdebstrap": "mmdebstrap", "chroot": "coreutils", "unshare": "util-linux"}
SECONDS, PLATES, SEED = 4.0, 2, 11
CONFIG = """%YAML 1.1
---
"Virtual0":
  supported_formats:
  - {{ width: {width}, height: {height}, frame_rates: [15] }}
  - {{ width: 320, height: 180, frame_rates: [15] }}
  frames: {{ path: "/pictures/" }}
  location: "CameraLocationBack"
  model: "virt-plates"
"""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


# What apt, mmdebstrap and pip say where nobody answers; and pip where what it was answered does not go together.
_UNREACHABLE = re.compile(
    r"Temporary failure (in name resolution|resolving)|Could not resolve|Name or service not known|NewConnectionError"
    r"|Failed to establish a new connection|Could not connect|Unable to connect|Connection (refused|timed out|reset)"
    r"|ConnectTimeout|Read timed out|ReadTimeoutError|ProxyError|Network is unreachable|No route to host"
)
_CONFLICT = re.compile(r"ResolutionImpossible|conflicting dependencies|DO NOT MATCH THE HASHES")


class UnavailableError(Exception):
    """This machine cannot make or run the root; the text says why."""


class FailedError(Exception):
    """What this stage is for does not hold: packages that do not go together, or code that does not compile."""


def made(root: Path) -> float:
    """Make the root where it is not there; return the seconds that it took.

    Raises:
        UnavailableError: it cannot be made here: no root rights, a program or a way to the archive or index is missing.
        FailedError: a step fails for another reason.
    """
    if os.geteuid() != 0:
        raise UnavailableError("needs root, for a root file system of its own")
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is missing: apt-get install {package}")
    stamp = root / "homeplate-made.json"
    wanted = json.dumps([SUITE, DEBIAN, PICAMERA2, (ROOT / "requirements/cpu.lock").read_text("utf-8")])
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return 0.0
    started = time.monotonic()
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    options = ["--variant=minbase", "--skip=check/empty", f"--include={','.join(DEBIAN)}"]
    call("mmdebstrap", *options, SUITE, str(root))
    for file in (CERTIFICATES, Path("/etc/resolv.conf")):
        if file.exists():
            shutil.copyfile(file, root / file.relative_to("/"))
    shutil.copyfile(ROOT / "requirements/cpu.lock", root / "cpu.lock")
    shutil.copyfile(ROOT / "tools/device/heap.c", root / "heap.c")
    inside(root, "gcc", "-O1", "-shared", "-fPIC", "-o", "/heap.so", "/heap.c", "-ldl")
    inside(root, "python3", "-m", "venv", "--system-site-packages", "/venv")
    # As a node is set up: the locked packages, then what its board adds; that must not replace the locked ones.
    inside(root, "/venv/bin/pip", "install", "--quiet", "--require-hashes", "-r", "/cpu.lock")
    lines = (root / "cpu.lock").read_text("utf-8").splitlines()
    (root / "names").write_text("\n".join(line.rstrip(" \\") for line in lines if "==" in line), "utf-8")
    inside(root, "/venv/bin/pip", "install", "--quiet", "--constraint", "/names", PICAMERA2)
    stamp.write_text(wanted, "utf-8")
    return time.monotonic() - started


def inside(root: Path, *command: str) -> None:
    """Run a command in the root that has to succeed."""
    environment = {"PATH": "/usr/bin:/usr/sbin", "PIP_CERT": str(CERTIFICATES), "HOME": "/root"}
    call("chroot", str(root), *command, environment=environment)


def call(*command: str, environment: dict[str, str] | None = None) -> None:
    """Run a command that has to succeed.

    Raises:
        UnavailableError: it failed since the archive or the package index cannot be reached.
        FailedError: it failed otherwise.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if not done.returncode:
        return
    said = f"{done.stdout}\n{done.stderr}"
    text = f"{' '.join(command[:6])} failed: {(done.stderr or done.stdout).strip()[-600:]}"
    if _UNREACHABLE.search(said) and not _CONFLICT.search(said):
        raise UnavailableError(text)
    raise FailedError(text)


def pictures(root: Path) -> list[str]:
    """Render what the virtual camera shows; return the plates in it."""
    rng = np.random.default_rng(SEED)
    cars = plan(rng, SECONDS, PLATES)
    folder = root / "pictures"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, image in enumerate(frames(rng, cars, SECONDS)):
        cv2.imwrite(str(folder / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    height, width = image.shape[:2]
    config = root / "usr/share/libcamera/pipeline/virtual/virtual.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(width=width, height=height), "utf-8")
    return [car.plate.text for car in cars]


def run(root: Path, truth: list[str]) -> dict[str, object]:
    """Run the node in the root; return its figures.

    Raises:
        RuntimeError: it failed; its last words are in the message.
    """
    for name in ("project", "node"):
        shutil.rmtree(root / name, ignore_errors=True)
    for part in ("node", "models", "tools"):
        shutil.copytree(ROOT / part, root / "project" / part, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    # Mounts of a name space of its own: they are gone when it ends.
    script = 'mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/dev/shm"; exec chroot "$@"'
    words = ["/venv/bin/python", "-m", "tools.device.virtual_camera", "/node", "--plates", ",".join(truth)]
    environment = {
        "PATH": "/usr/bin:/usr/sbin", "HOME": "/root", "LD_PRELOAD": "/heap.so", "LIBCAMERA_LOG_LEVELS": "*:WARN",
        "PYTHONPATH": "/project/node:/project",
    }  # fmt: skip
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(root), "env"]
    command += [f"{name}={value}" for name, value in environment.items()] + words
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    sys.stderr.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"the node ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}")
    figures = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(figures, dict)
    return figures


def wrong(figures: dict[str, object]) -> list[str]:
    """Return what is not as it has to be."""
    expected = {
        "check names the camera": str(figures["check"]).startswith("ok    lane-1: camera 0 is virt-plates"),
        "a camera that was lost comes back": figures["losses"] == figures["restarts"] == 1,
        "it is opened anew": figures["opened_cameras"] == 2,
        "every plate is read": figures["read_exactly"] == figures["plates"],
        "no plate is read that is not there": figures["read_otherwise"] == 0,
    }
    return [what for what, holds in expected.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=CACHE, help="where the root file system lies")
    given = parser.parse_args()
    started = time.monotonic()
    try:
        setup_s = made(given.root)
    except UnavailableError as why:
        print(json.dumps({"device_camera": "skipped", "why": str(why)}))
        return 0
    except FailedError as why:
        print(json.dumps({"device_camera": "failed", "why": str(why)}))
        return 1
    truth = pictures(given.root)
    figures = run(given.root, truth)
    failed = wrong(figures)
    seconds = {"setup_s": round(setup_s, 1), "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps({"device_camera": "failed" if failed else "good", "wrong": failed, **figures, **seconds}))
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
