"""`make packages`: Debian packages of the node and of the custodian, for each release and architecture, wheels inside.

Lays out each package's files, and lets debhelper make the packages of them. The same commit gives the same bytes:
times come from SOURCE_DATE_EPOCH, or from the last commit. Prints one JSON line of files and sizes last.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from email.utils import formatdate
from pathlib import Path

from tools.packaging.targets import TARGETS, Target, requirements_of

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
DIST = ROOT / "dist"
UNIT_SUFFIXES = frozenset({".service", ".timer", ".path", ".target", ".socket", ".slice", ".mount"})
PACKAGES = ("homeplate", "homeplate-custodian")


def main() -> int:
    """Build, and print what came out."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", choices=names, help="only this one; may be given again")
    parser.add_argument("--version", default=project_version(), help="of the packages and their wheels")
    parser.add_argument("--out", type=Path, default=DIST, help="where the packages go")
    arguments = parser.parse_args()
    if shutil.which("dh") is None or shutil.which("dpkg-buildpackage") is None:
        parser.error("debhelper is not installed. Get it with: sudo apt-get install --no-install-recommends debhelper")
    started = time.monotonic()
    wanted = [target for target in TARGETS if target.name in (arguments.target or names)]
    files = build(wanted, version=arguments.version, out=arguments.out)
    figures = {"files": {file.name: file.stat().st_size for file in files}, "epoch": epoch()}
    print(json.dumps(figures | {"ok": True, "seconds": round(time.monotonic() - started, 1)}), flush=True)
    return 0


def build(targets: Iterable[Target], *, version: str, out: Path, with_wheels: bool = True) -> list[Path]:
    """Build the packages of some targets.

    Args:
        targets: which releases and architectures.
        version: of Homeplate, without a release's suffix.
        out: the folder that the packages go to.
        with_wheels: False leaves the wheels of others out: such a package is for looking at only.

    Returns:
        The packages' paths.
    """
    out.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    with tempfile.TemporaryDirectory(prefix="homeplate-packages-") as folder:
        own = {name: project_wheel(Path(folder) / name, version, package=name) for name in PACKAGES}
        for target in targets:
            staging = Path(folder) / target.name
            for package, wheel in own.items():
                lay_out(staging / "tree" / package, package, wheel, target, version, with_wheels=with_wheels)
            files += _debs(staging, target, version, out)
    return files


def project_version() -> str:
    """Return the project's version."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def epoch() -> int:
    """Return the time that every file in a package has: SOURCE_DATE_EPOCH, or the last commit's, or 2026-01-01."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else 1767225600


def _run(command: list[str], *, folder: Path, **environment: str) -> None:
    everything = os.environ | {"SOURCE_DATE_EPOCH": str(epoch())} | environment
    done = subprocess.run(command, cwd=folder, env=everything, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def project_wheel(folder: Path, version: str, *, package: str) -> Path:
    """Build Homeplate's own wheel: for a node without the custodian's code and command.

    Hatchling builds a copy of what the wheel holds, with the project's own metadata less two entries.
    """
    folder.mkdir(parents=True)
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    text = _once(text, f'version = "{project_version()}"', f'version = "{version}"')
    names = ["homeplate", "homeplate_custodian"]
    if package == "homeplate":
        text = _once(text, 'homeplate-custodian = "homeplate_custodian.cli:main"\n', "")
        text = _once(text, '"node/homeplate", "node/homeplate_custodian"', '"node/homeplate"')
        names = ["homeplate"]
    for name in names:
        shutil.copytree(ROOT / "node" / name, folder / "node" / name, ignore=shutil.ignore_patterns("__pycache__"))
    about = folder / "node" / "homeplate" / "__init__.py"
    about.write_text(_once(about.read_text("utf-8"), f'"{project_version()}"', f'"{version}"'), "utf-8")
    shutil.copytree(ROOT / "models", folder / "models", ignore=shutil.ignore_patterns("training", "*.png"))
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "pyproject.toml").write_text(text, "utf-8")
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "wheel"], folder=folder)
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def _once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise SystemExit(f"error: {old!r} stands {text.count(old)} times in a file of the project, not once")
    return text.replace(old, new)


def lay_out(tree: Path, package: str, wheel: Path, target: Target, version: str, *, with_wheels: bool) -> None:
    """Put a package's files where they are installed."""
    share = tree / "usr" / "share" / package
    wheels, locks = share / "wheels", share / "locks"
    for folder in (wheels, locks, tree / "usr" / "bin"):
        folder.mkdir(parents=True)
    lock = lock_of(package, target)
    shutil.copy(lock, locks / lock.name)
    for file in downloaded(lock, target) if with_wheels else ():
        shutil.copy(file, wheels / file.name)
    shutil.copy(wheel, wheels / wheel.name)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (locks / "project.lock").write_text(f"homeplate=={version} --hash=sha256:{digest}\n", "utf-8")
    (share / "version").write_text(f"{version}{target.release.suffix}\n", "utf-8")
    _install(HERE / "make-environment", share / "make-environment", 0o755)
    (tree / "usr" / "bin" / package).symlink_to(f"/opt/{package}/bin/{package}")
    (tree / "opt" / package).mkdir(parents=True)
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tree / "opt" / package / name).symlink_to(f"current/{name}")
    if package == "homeplate":
        lay_out_system(tree)


def lay_out_system(tree: Path) -> None:
    """Put units, users, folders, udev rules and the boards' settings where systemd and a technician look for them."""
    share, libexec = tree / "usr" / "share" / "homeplate", tree / "opt" / "homeplate" / "libexec"
    firmware = share / "firmware_configs"
    shutil.copytree(ROOT / "firmware_configs", firmware, ignore=shutil.ignore_patterns("__pycache__"))
    (firmware / "homeplate_board.py").chmod(0o755)
    libexec.mkdir(parents=True)
    (libexec / "homeplate-board").symlink_to("/usr/share/homeplate/firmware_configs/homeplate_board.py")
    _install(HERE / "homeplate.toml", share / "homeplate.toml", 0o644)
    for path in sorted((ROOT / "systemd").iterdir()):
        place = place_of(path)
        if place is not None:
            _install(path, tree / place, 0o755 if "libexec" in place else 0o644)


def place_of(path: Path) -> str | None:
    """Return where a file of systemd/ is installed; None for what is for reading only.

    Units go to lib/ here: debhelper looks for them there, and debian/rules moves them.
    """
    kinds = {".sysusers.conf": "usr/lib/sysusers.d", ".tmpfiles.conf": "usr/lib/tmpfiles.d"}
    for ending, folder in kinds.items():
        if path.name.endswith(ending):
            return f"{folder}/{path.name.removesuffix(ending)}.conf"
    if path.suffix in UNIT_SUFFIXES:
        return f"lib/systemd/system/{path.name}"
    if path.suffix == ".rules":
        return f"usr/lib/udev/rules.d/70-{path.name.removesuffix('.udev.rules')}.rules"
    if path.is_file() and not path.suffix:
        return f"opt/homeplate/libexec/{path.name}"
    if path.suffix == ".md":
        return None
    raise SystemExit(f"error: {path}: no place is known for such a file; say one in tools/packaging/build.py")


def _install(source: Path, place: Path, mode: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)
    place.chmod(mode)


def lock_of(package: str, target: Target) -> Path:
    """Return the lock whose wheels a package has inside; a board's has what apt's picamera2 needs besides."""
    name = "custodian" if package == "homeplate-custodian" else {"amd64": "cpu", "arm64": "pi"}[target.architecture]
    return ROOT / "requirements" / f"{name}.lock"


def downloaded(lock: Path, target: Target) -> list[Path]:
    """Return the wheels of a lock for a target, downloaded where they are not there yet; pip checks their hashes."""
    text = requirements_of(lock.read_text("utf-8"), target)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = DIST / "wheels" / f"{target.release.python}-{target.architecture}-{lock.stem}-{digest}"
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        (new / "requirements.txt").write_text(text, "utf-8")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--dest", str(new)]
        pip += ["--no-deps", "--only-binary=:all:", "--require-hashes", *target.pip_options]
        _run([*pip, "--requirement", str(new / "requirements.txt")], folder=ROOT)
        new.rename(folder)
    return sorted(folder.glob("*.whl"))


def _debs(staging: Path, target: Target, version: str, out: Path) -> list[Path]:
    shutil.copytree(HERE / "debian", staging / "debian")
    full = f"{version}{target.release.suffix}"
    (staging / "debian" / "changelog").write_text(
        f"homeplate ({full}) {target.release.name}; urgency=medium\n\n  * See CHANGELOG.md of the project.\n\n"
        f" -- The Homeplate authors <authors@homeplate.invalid>  {formatdate(epoch())}\n",
        "utf-8",
    )
    _run(
        ["dpkg-buildpackage", "-b", "-uc", "-us", "-d", f"-a{target.architecture}"],
        folder=staging,
        HOMEPLATE_PYTHON=target.release.depends,
        DEB_BUILD_OPTIONS="nocheck",
        LC_ALL="C.UTF-8",
    )
    made = [staging.parent / f"{package}_{full}_{target.architecture}.deb" for package in PACKAGES]
    return [Path(shutil.move(path, out / path.name)) for path in made]


if __name__ == "__main__":
    raise SystemExit(main())
