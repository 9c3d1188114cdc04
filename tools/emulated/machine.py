"""An emulated Raspberry Pi processor: makes the machine's file system once and runs tasks in it.

Under `-icount shift=0` the guest's clock counts instructions, a nanosecond each, so that any timing that a task takes
is a count, the same within a thousandth from run to run. Debian's kernel starts from a file system in memory
(cpio, "newc" format: man 5 cpio); ours and the task's files are archives one after the other, which it unpacks in turn.
"""

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from tools.comparing import PACKAGES as PEER_PACKAGES
from tools.comparing import ROOT, EngineError

CACHE = Path("tools/train/runs/emulated")
PROCESSORS = {"cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5"}
EMULATOR = "qemu-system-aarch64"
NEEDED = {EMULATOR: "qemu-system-arm", "mmdebstrap": "mmdebstrap"}
"""Programs and the Debian packages that have them."""
SUITE, PYTHON = "bookworm", "3.11"
DEBIAN = ("base-files", "base-passwd", "bash", "coreutils", "libc-bin", "libstdc++6", "python3", "linux-image-arm64")
PEER = ("fast-alpr", "open-image-models", "fast-plate-ocr")
OURS = ("numpy", "onnxruntime", "opencv-python-headless", "msgspec", "rich")
LEFT_OUT = ("usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man", "var", "boot")
MEMORY_MB = 3072
LONGEST_S = 3600

Entry = tuple[str, int, bytes]
"""A file of an archive: its path from the root, its mode, its content or where a link leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A Python command in the machine.

    Attributes:
        name: one word.
        words: what follows `python3`.
        input: its standard input.
    """

    name: str
    words: Sequence[str]
    input: str = ""


def archive(out: BinaryIO, entries: Iterable[Entry]) -> None:
    """Write an archive as the kernel unpacks it, all files root's."""
    for number, (path, mode, content) in enumerate((*entries, ("TRAILER!!!", 0, b"")), start=1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out.write(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))


def entries_of(root: Path, under: str = "", without: Sequence[str] = ()) -> Iterator[Entry]:
    """Yield what lies in a folder as entries below `under`, folders before their files.

    Args:
        root: the folder.
        under: path in the archive, with a slash at its end, or nothing.
        without: paths in the folder that are left out with all that is in them.
    """
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).as_posix()
        if any(inside == one or inside.startswith(f"{one}/") for one in without) or path.name == "__pycache__":
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield under + inside, mode, str(path.readlink()).encode()
        elif stat.S_ISDIR(mode):
            yield under + inside, mode, b""
        elif stat.S_ISREG(mode):
            yield under + inside, mode, path.read_bytes()


def task_entries(tasks: Sequence[Task], files: Mapping[str, bytes]) -> Iterator[Entry]:
    """Yield the tasks and their files (by path below /task), every folder before what is in it."""
    listed = [{"name": task.name, "words": list(task.words), "input": task.input} for task in tasks]
    whole = {f"task/{name}": content for name, content in files.items()}
    whole["task/tasks.json"] = json.dumps(listed).encode()
    folders = {parent.as_posix() for name in whole for parent in Path(name).parents} - {"."}
    for folder in sorted(folders):
        yield folder, stat.S_IFDIR | 0o755, b""
    for name, content in whole.items():
        yield name, stat.S_IFREG | 0o644, content
    yield "init", stat.S_IFREG | 0o755, (ROOT / "tools/emulated/guest.py").read_bytes()


def code_files() -> dict[str, bytes]:
    """Return the project's modules that tasks import, by path."""
    found = [
        *(ROOT / "node/homeplate").rglob("*.py"),
        *(ROOT / "tools").glob("*.py"),
        *ROOT.glob("tools/emulated/*.py"),
    ]
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in found}


def model_files(models: Path) -> list[str]:
    """Return the names of the manifest and the int8 models that it names, the detector before the reader."""
    manifest = json.loads((models / "manifest.json").read_text(encoding="utf-8"))
    return ["manifest.json", *(manifest[part]["file"] for part in ("detector", "reader"))]


def answers(console: str, tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Return the lines that each task printed.

    Raises:
        EngineError: a task did not end well; the console's end is in the message.
    """
    lines = console.replace("\r", "").splitlines()
    for task in tasks:
        if f"@@{task.name} 0" not in lines:
            end = "\n".join(lines[-20:])
            raise EngineError(f"{task.name} did not end well in the emulated machine; its console ends so:\n{end}")
    return {
        task.name: [line.removeprefix(f"@{task.name} ") for line in lines if line.startswith(f"@{task.name} ")]
        for task in tasks
    }


def run(processor: str, tasks: Sequence[Task], files: Mapping[str, bytes], cache: Path) -> dict[str, list[str]]:
    """Start the machine, let it run the tasks and return what each printed, by name.

    Args:
        processor: one of PROCESSORS.
        tasks: run in turn, in /task.
        files: by path below /task; `code_files` are added.
        cache: where `ready` found or made the machine.

    Raises:
        EngineError: the machine did not start, or a task failed.
    """
    whole = cache / "task.cpio"
    with whole.open("wb") as out:
        with (cache / "base.cpio").open("rb") as base:
            shutil.copyfileobj(base, out)
        archive(out, task_entries(tasks, {**code_files(), **files}))
    command = [EMULATOR, "-M", "virt", "-cpu", processor, "-smp", "1", "-m", str(MEMORY_MB)]
    command += ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-nographic", "-nic", "none"]
    command += ["-kernel", str(cache / "kernel"), "-initrd", str(whole), "-no-reboot"]
    command += ["-append", "console=ttyAMA0 rdinit=/init quiet panic=-1"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=LONGEST_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{processor}: not done after {LONGEST_S} s of emulation") from error
    finally:
        whole.unlink()
    return answers(done.stdout + done.stderr, tasks)


def ready(cache: Path, *, setup: bool) -> None:
    """See that the machine is there, or make it where that is asked (a minute, 1 GB).

    Raises:
        EngineError: it is not, and what is missing; or it cannot be made.
    """
    for program, package in NEEDED.items():
        if shutil.which(program) is None:
            raise EngineError(f"{program} is missing: apt-get install {package}")
    if (cache / "base.cpio").is_file() and (cache / "kernel").is_file():
        return
    if not setup:
        raise EngineError(f"{cache} has no emulated machine; --setup makes one")
    root, site = cache / "root", cache / "site"
    for folder in (root, site):
        shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    hooks = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"
    debian = ["--arch=arm64", "--variant=extract", "--skip=check/qemu", hooks, f"--include={','.join(DEBIAN)}"]
    _make("mmdebstrap", *debian, SUITE, str(root))
    # The newest that both Debian's Python and the wheels know; the versions are those that run here.
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("_2_28", "_2_27", "2014")]
    wheels = [f"--target={site}", *platforms, f"--python-version={PYTHON}", "--only-binary=:all:"]
    packages = [f"{name}=={metadata.version(name)}" for name in OURS]
    _make(sys.executable, "-m", "pip", "install", "--quiet", *wheels, *packages, PEER_PACKAGES[0])
    shutil.copyfile(next(root.glob("boot/vmlinuz-*")), cache / "kernel")
    versions = {one.name: one.version for one in metadata.distributions(path=[str(site)])}
    (cache / "packages.json").write_text(json.dumps({name: versions[name] for name in (*OURS, *PEER)}), "utf-8")
    with (cache / "base.part").open("wb") as out:
        archive(
            out, (*entries_of(root, without=LEFT_OUT), ("site", stat.S_IFDIR | 0o755, b""), *entries_of(site, "site/"))
        )
    (cache / "base.part").rename(cache / "base.cpio")
    for folder in (root, site):
        shutil.rmtree(folder)


def _make(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"{' '.join(command[:4])} ... failed:\n{done.stderr[-2000:]}")
