"""Tests the V4L2 camera in an emulated machine (`make device-v4l2`) with `vivid`, a camera that can be broken.

Debian's kernel starts from a file system in memory with Python, OpenCV and the node's camera code, loads vivid and runs
`tools.device.vivid`, which loses the camera in the ways that cameras are lost. The last line is JSON.
"""

import argparse
import json
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tools.comparing import EngineError
from tools.emulated.machine import Entry, Task, answers, archive, code_files, entries_of, task_entries

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "tools/train/runs/device/v4l2"
EMULATOR, MODULE = "qemu-system-x86_64", "vivid"
NEEDED = {EMULATOR: "qemu-system-x86", "mmdebstrap": "mmdebstrap", "modprobe": "kmod"}
SUITE, PYTHON = "bookworm", "3.11"
DEBIAN = ("base-files", "base-passwd", "bash", "coreutils", "libc-bin", "libstdc++6", "python3", "linux-image-amd64")
PACKAGES = ("numpy", "opencv-python-headless", "msgspec", "structlog")
LEFT_OUT = ("usr/lib/modules", "lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "var", "boot")
LONGEST_S = 600


def modules(root: Path) -> Iterator[Path]:
    """Yield vivid and what it needs, in the order in which they are loaded."""
    version = next((root / "lib/modules").iterdir()).name
    call("depmod", "--basedir", str(root), version)
    options = ["--dirname", str(root), "--set-version", version, "--show-depends"]
    for line in call("modprobe", *options, MODULE).splitlines():
        words = line.split()
        if words[0] == "insmod":
            yield Path(words[1])


def ready(cache: Path) -> None:
    """See that the machine is there, or make it (a minute, 600 MB).

    Raises:
        EngineError: a program is missing, or it cannot be made.
    """
    for program, package in NEEDED.items():
        if shutil.which(program, path="/usr/bin:/usr/sbin:/sbin:/usr/local/bin") is None:
            raise EngineError(f"{program} is missing: apt-get install {package}")
    if (cache / "base.cpio").is_file() and (cache / "kernel").is_file():
        return
    root, site = cache / "root", cache / "site"
    for folder in (root, site):
        shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    call("mmdebstrap", "--variant=extract", hooks, f"--include={','.join(DEBIAN)}", SUITE, str(root))
    wheels = [f"--target={site}", "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_27_x86_64"]
    wheels += ["--platform=manylinux2014_x86_64", f"--python-version={PYTHON}", "--only-binary=:all:"]
    wanted = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    call(sys.executable, "-m", "pip", "install", "--quiet", *wheels, *wanted)
    shutil.copyfile(next(root.glob("boot/vmlinuz-*")), cache / "kernel")
    with (cache / "base.part").open("wb") as out:
        archive(out, everything(root, site))
    (cache / "base.part").rename(cache / "base.cpio")
    for folder in (root, site):
        shutil.rmtree(folder)


def everything(root: Path, site: Path) -> Iterator[Entry]:
    """Yield the machine's file system; of the kernel's modules only those that vivid needs, numbered."""
    yield from entries_of(root, without=LEFT_OUT)
    for folder in ("site", "modules"):
        yield folder, stat.S_IFDIR | 0o755, b""
    yield from entries_of(site, "site/")
    for number, path in enumerate(modules(root)):
        yield f"modules/{number:02}-{path.name}", stat.S_IFREG | 0o644, path.read_bytes()


def call(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:5])} failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def run(cache: Path) -> dict[str, object]:
    """Start the machine and return what the test in it says.

    Raises:
        EngineError: the machine did not start, or the test failed.
    """
    tasks = [Task(name="vivid", words=("-m", "tools.device.vivid"))]
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in (ROOT / "tools/device").glob("*.py")}
    whole = cache / "task.cpio"
    with whole.open("wb") as out:
        with (cache / "base.cpio").open("rb") as base:
            shutil.copyfileobj(base, out)
        archive(out, task_entries(tasks, {**code_files(), **files}))
    command = [EMULATOR, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2048", "-nographic", "-nic", "none"]
    command += ["-kernel", str(cache / "kernel"), "-initrd", str(whole), "-no-reboot"]
    command += ["-append", "console=ttyS0 rdinit=/init quiet panic=-1"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=LONGEST_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"not done after {LONGEST_S} s: {str(error.stdout)[-2000:]}") from error
    finally:
        whole.unlink()
    lines = answers(done.stdout + done.stderr, tasks)["vivid"]
    figures = json.loads(lines[-1])
    assert isinstance(figures, dict)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the machine lies")
    given = parser.parse_args()
    started = time.monotonic()
    try:
        ready(given.cache)
        made_s = round(time.monotonic() - started, 1)
        figures = run(given.cache)
    except EngineError as why:
        print(json.dumps({"device_v4l2": "failed", "why": str(why)}))
        return 1
    seconds = {"setup_s": made_s, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps({"device_v4l2": "failed" if figures["wrong"] else "good", **figures, **seconds}))
    return int(bool(figures["wrong"]))


if __name__ == "__main__":
    raise SystemExit(main())
