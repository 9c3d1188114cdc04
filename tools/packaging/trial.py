"""`make device-install`: the packages installed, upgraded, removed and purged for real, in Debians from its archive.

On amd64, for each release: installed without a network; a node is made, enrolled and reads a clip; the package is
replaced by the next version, taken away, put back, and purged, and the node's files are compared byte by byte, at the
end on the raw disk. From bookworm to trixie a node goes with its data. On arm64 (under emulation) the package is
installed. Ends with one JSON line of figures.
"""

import argparse
import hashlib
import json
import mmap
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from homeplate.app.check import UNFINISHED
from tools.packaging import ansible_trial
from tools.packaging.build import build, project_version
from tools.packaging.provisioning import DESK, enrol, make_custody, render
from tools.packaging.roots import Root, emulated_arm64, expect, extracted, root, run, tarball, why_not
from tools.packaging.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

NEXT = "0.1.999"
DATA = "var/lib/homeplate"
APT = ("apt-get", "-o", "Dpkg::Use-Pty=0", "-o", "APT::Sandbox::User=root", "-y", "-q")


def main() -> int:
    """Run the stages that are asked for; print one JSON line last."""
    stages: dict[str, Callable[[Path, Path], dict[str, object]]] = {
        "bookworm": lambda work, debs: life(work, debs, "bookworm"),
        "trixie": lambda work, debs: life(work, debs, "trixie"),
        "release-upgrade": release_upgrade,
        "bookworm-arm64": lambda work, debs: arm64(work, debs, "bookworm"),
        "trixie-arm64": lambda work, debs: arm64(work, debs, "trixie"),
        "ansible": lambda work, debs: ansible_trial.trial(work, package(debs, "bookworm-amd64", project_version())),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", action="append", choices=[*stages], help="only this one; may be given again")
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        parser.error(reason)
    started = time.monotonic()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="homeplate-trial-", dir="/var/tmp") as work:
        debs = Path(work) / "debs"
        for name in arguments.stage or stages:
            print(f"stage {name}", flush=True)
            began = time.monotonic()
            figures[name] = stages[name](Path(work) / name, debs) | {"seconds": round(time.monotonic() - began)}
            print(json.dumps({name: figures[name]}), flush=True)
    print(json.dumps(figures | {"ok": True, "seconds": round(time.monotonic() - started)}), flush=True)
    return 0


def package(debs: Path, target: str, version: str) -> Path:
    """Return the node's package of a target, built where it is not there yet."""
    chosen = next(t for t in TARGETS if t.name == target)
    file = debs / f"homeplate_{version}{chosen.release.suffix}_{chosen.architecture}.deb"
    if not file.exists():
        build([chosen], version=version, out=debs)
    return file


def install(place: Root, deb: Path, *more: str, online: bool = False) -> tuple[str, float]:
    """Install a package in a root; return what was said and the seconds it took."""
    shutil.copy(deb, place / "root")
    started = time.monotonic()
    said = place.call(*APT, "--no-install-recommends", *(more or ("install",)), f"/root/{deb.name}", online=online)
    (place / "root" / deb.name).unlink()
    return said, round(time.monotonic() - started, 1)


def require_ready(place: Root, said: str) -> None:
    """Check what a fresh package leaves: a node that is ready for provisioning, as nobody's but its users'."""
    expect("next  node: ready for provisioning" in said, said)
    checked = place.call("homeplate", "check", code=UNFINISHED)
    expect("WRONG" not in checked, checked)
    users = [line.split(":")[0] for line in (place / "etc/passwd").read_text().splitlines()]
    expect({f"homeplate-{name}" for name in ("capture", "uplink", "bundle", "signer")} <= set(users), users)
    enabled = place / "etc/systemd/system/multi-user.target.wants/homeplate.target"
    expect(enabled.is_symlink(), "homeplate.target is not enabled")
    # The environment is one, has no pip and nothing of the custodian's, and every module of the node loads.
    script = (
        "import importlib, pkgutil, homeplate\n"
        "for m in pkgutil.walk_packages(homeplate.__path__, 'homeplate.'): importlib.import_module(m.name)\n"
        "import importlib.util as u; print([u.find_spec(n) for n in ('pip', 'homeplate_custodian')])"
    )
    loaded = place.call("/opt/homeplate/bin/python", "-c", script)
    expect(loaded.strip().endswith("[None, None]"), loaded)


def provision(place: Root, work: Path) -> Path:
    """Make a whole node, as a technician and a custodian do, and let it read a clip; return the custody."""
    custody, stick = make_custody(work / "custody"), place / "root"
    shutil.copy(render(work / "clip"), place / "srv/lane-1.avi")
    config = place / "etc/homeplate/homeplate.toml"
    config.write_text(config.read_text() + '\n[[source]]\nname = "lane-1"\nkind = "video"\npath = "/srv/lane-1.avi"\n')
    shutil.copy(custody / "root.json", stick)
    place.call("homeplate", "init", "--root", "/root/root.json", "--request", "/root/request.json")
    waiting = place.call("homeplate", "check", code=UNFINISHED)
    expect("next  node: waits for enrolment" in waiting, waiting)
    enrol(custody, stick / "request.json", stick / "client.crt")
    shutil.copytree(custody / "bundle", stick / "bundle")
    place.call("homeplate", "bundle", "install", "/root/bundle", "--certificate", "/root/client.crt")
    place.call("systemd-tmpfiles", "--create", "homeplate.conf")
    checked = place.call("homeplate", "check")
    expect("WRONG" not in checked, checked)
    place.call("runuser", "-u", "homeplate-capture", "--", "homeplate", "capture")
    # Its broker is not reached here, which its ledger says.
    place.call("timeout", "30", "runuser", "-u", "homeplate-uplink", "--", "homeplate", "uplink", code=None)
    expect((place / DATA / "ledger/uplink.log").exists(), "uplink did not begin its ledger")
    place.call("runuser", "-u", "homeplate-capture", "--", "homeplate", "purge")
    place.call("runuser", "-u", "homeplate-signer", "--", "homeplate", "ledger", "sign")
    place.call("systemd-tmpfiles", "--create", "homeplate.conf")  # as before each start
    expect(list((place / DATA / "spool").rglob("*.rec")), "the clip left no sealed record")
    return custody


def state(place: Root) -> dict[str, tuple[int, int, int, str]]:
    """Return owner, group, mode and hash of every file of the node and its configuration, but marks of time."""
    found = {}
    for top in (DATA, "etc/homeplate"):
        for path in sorted((place / top).rglob("*")):
            if path.is_file() and path.parent.name != "clock":
                about = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(place.folder))] = (about.st_uid, about.st_gid, about.st_mode, digest)
    return found


def unchanged(place: Root, before: dict[str, tuple[int, int, int, str]]) -> None:
    """Stop where a file of the node is not as it was."""
    now = state(place)
    differ = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    expect(not differ, f"changed: {differ}")


def life(work: Path, debs: Path, release: str) -> dict[str, object]:
    """Install, provision, upgrade, remove, put back and purge in one root."""
    old = package(debs, f"{release}-amd64", project_version())
    new = package(debs, f"{release}-amd64", NEXT)
    figures: dict[str, object] = {}
    with root(work / "root", tarball(release, "amd64")) as place:
        said, figures["install_s"] = install(place, old)
        require_ready(place, said)
        figures["environment_mib"] = int(run("du", "-sm", place / "opt/homeplate").split()[0])
        custody = provision(place, work)
        before = state(place)
        figures["node_files"] = len(before)

        figures["upgrade_s"] = install(place, new)[1]
        unchanged(place, before)
        expect(NEXT in place.call("homeplate", "--version"), "the new version does not run")
        expect(len(list((place / "opt/homeplate/environments").iterdir())) == 1, "the old environment is still there")

        place.call(*APT, "remove", "homeplate")
        unchanged(place, before)
        left = [
            str(path)
            for top in ("opt/homeplate", "usr/bin/homeplate")
            for path in [place / top]
            if path.is_symlink() or path.exists()
        ]
        expect(not left, f"left behind: {left}")
        install(place, new)
        unchanged(place, before)
        expect("WRONG" not in place.call("homeplate", "check"), "the node that was put back is not whole")
        figures |= purge(place, custody)
    return figures


def purge(place: Root, custody: Path) -> dict[str, object]:
    """Purge: refused under a hold; then no key is left on the raw disk, and the ledgers still verify."""
    held = place / DATA / "held" / ("0" * 32) / "0.rec"
    held.parent.mkdir(parents=True)
    held.write_bytes(b"held")
    before = state(place)
    said = place.call(*APT, "purge", "homeplate", code=None)
    expect("under evidence holds" in said, said)
    unchanged(place, before)
    shutil.rmtree(held.parent)

    secrets = key_bytes(place)
    missing = [name for name, secret in secrets.items() if not on_disk(place, secret)]
    expect(not missing, f"the search itself is wrong: {missing} should be on the disk before")
    said = place.call(*APT, "purge", "homeplate")
    left = [name for name, secret in secrets.items() if on_disk(place, secret)]
    expect(not left, f"keys that are left on the raw disk: {left}")
    expect("key files overwritten in place" in said, said)
    expect(not (place / "etc/homeplate").exists(), "the configuration is still there")
    (former,) = (place / DATA / "former").iterdir()
    expect({path.name for path in (place / DATA).iterdir()} <= {"former", "lost+found"}, list((place / DATA).iterdir()))
    signed = ("--bundle", custody / "bundle", "--root", custody / "root.json")
    verified = run(DESK, "verify", former / "ledger", *signed)
    match = re.search(r"homeplate: (\d+) key files overwritten in place, (\d+) sealed records", said)
    expect(match, said)
    return {
        "keys_searched_on_raw_disk": len(secrets),
        "keys_left": len(left),
        "key_files_overwritten": int(match[1]) if match else 0,
        "records_removed": int(match[2]) if match else 0,
        "ledgers_verified_after": verified.count("rows are good"),
    }


def key_bytes(place: Root) -> dict[str, bytes]:
    """Return bytes of each key that lies on the data's disk: the middle of a key file, each slot key that is in use."""
    found = {}
    for path in sorted((place / DATA / "keys").rglob("*")):
        if path.is_file() and path.suffix != ".crt":
            raw = path.read_bytes()
            found[path.name] = raw[len(raw) // 2 : len(raw) // 2 + 20]
    for path in sorted((place / DATA / "slots").glob("*.slots")):
        raw = path.read_bytes()
        for match in re.finditer(rb"[^\0]{20,}", raw[64:]):
            found[f"{path.name}@{match.start()}"] = match.group()[:20]
    return found


def on_disk(place: Root, secret: bytes) -> bool:
    """Tell whether bytes lie anywhere on the raw disk of the node's data."""
    run("sync")
    with place.image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as disk:
        return disk.find(secret) >= 0


def release_upgrade(work: Path, debs: Path) -> dict[str, object]:
    """Take a node from bookworm to trixie by apt's own full upgrade, with the package for trixie beside it."""
    with root(work / "root", tarball("bookworm", "amd64")) as place:
        install(place, package(debs, "bookworm-amd64", project_version()))
        provision(place, work)
        before = state(place)
        sources = place / "etc/apt/sources.list"
        sources.write_text(sources.read_text().replace("bookworm", "trixie"))
        place.call(*APT, "update", online=True)
        deb = package(debs, "trixie-amd64", project_version())
        _, seconds = install(place, deb, "-o", "Dpkg::Options::=--force-confold", "full-upgrade", online=True)
        unchanged(place, before)
        python = place.call("/opt/homeplate/bin/python", "--version").strip()
        expect("3.13" in python, python)
        expect("WRONG" not in place.call("homeplate", "check"), "the node is not whole after the upgrade")
        return {"full_upgrade_s": seconds, "python": python, "node_files": len(before)}


def arm64(work: Path, debs: Path, release: str) -> dict[str, object]:
    """Install a release's arm64 package: dpkg unpacks it, its scripts and programs run under emulation."""
    with emulated_arm64() as qemu, root(work / "root", extracted(release, "arm64")) as place:
        deb = package(debs, f"{release}-arm64", project_version())
        began = time.monotonic()
        # What it depends on is there, but in no list of dpkg's: nothing was configured.
        forced = ("--force-architecture", "--force-depends")
        said = run("unshare", "--net", "--", "dpkg", f"--root={place.folder}", *forced, "--install", deb)
        seconds = round(time.monotonic() - began, 1)
        require_ready(place, said)
        machine = place.call("/opt/homeplate/bin/python", "-c", "import platform; print(platform.machine())").strip()
        expect(machine == "aarch64", machine)
        mib = int(run("du", "-sm", place / "opt/homeplate").split()[0])
        return {"qemu": qemu, "emulated_install_s": seconds, "environment_mib": mib}


if __name__ == "__main__":
    raise SystemExit(main())
