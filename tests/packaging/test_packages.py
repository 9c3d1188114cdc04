"""The Debian packages as they are built: what is in them and what is not, their scripts, the wheels that they choose.

Installing, upgrading and removing them for real is `make device-install`.
"""

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tools.packaging import build as packaging
from tools.packaging import walk
from tools.packaging.targets import RELEASES, TARGETS, requirements_of

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    [ROOT / "tools" / "packaging" / name for name in ("make-environment", "simulate-clips")]
    + [
        path
        for path in (ROOT / "tools" / "packaging" / "debian").iterdir()
        if re.search(r"\.(pre|post)(inst|rm)$", path.name)
    ]
)
BOOKWORM_ARM64 = next(target for target in TARGETS if target.name == "bookworm-arm64")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The two packages of one target without the wheels of others, which take no part in what is asked here."""
    if shutil.which("dh") is None:
        pytest.skip("debhelper is not installed: apt install debhelper")
    files = packaging.build([BOOKWORM_ARM64], version="0.1.0", out=tmp_path_factory.mktemp("out"), with_wheels=False)
    return {file.name.split("_")[0]: file for file in files}


def contents(package, folder):
    """Return the names of a package's files, less directories, and unpack it into a folder."""
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def field(package, name):
    done = subprocess.run(["dpkg-deb", "-f", package, name], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_node_s_package_holds_the_node_and_nothing_of_the_custodian_s(packages, tmp_path):
    names = contents(packages["homeplate"], tmp_path)
    assert not [name for name in names if "custodian" in name]
    (wheel,) = (tmp_path / "usr/share/homeplate/wheels").glob("homeplate-*.whl")
    inside = zipfile.ZipFile(wheel)
    assert not [name for name in inside.namelist() if "custodian" in name]
    (scripts,) = (name for name in inside.namelist() if name.endswith("entry_points.txt"))
    assert inside.read(scripts).decode().split() == ["[console_scripts]", "homeplate", "=", "homeplate.cli:main"]
    assert {"homeplate/cli.py", "homeplate/models/detector.onnx", "homeplate/models/reader.onnx"} <= set(
        inside.namelist()
    )
    assert "usr/bin/homeplate" in names


def test_the_custodian_s_package_is_apart_and_brings_no_unit(packages, tmp_path):
    names = contents(packages["homeplate-custodian"], tmp_path)
    assert not [name for name in names if "systemd" in name or "sysusers" in name or "udev" in name]
    (wheel,) = (tmp_path / "usr/share/homeplate-custodian/wheels").glob("homeplate-*.whl")
    assert "homeplate_custodian/cli.py" in zipfile.ZipFile(wheel).namelist()
    other = set(contents(packages["homeplate"], tmp_path / "other"))
    assert not other & set(names), "both can be installed on one machine"


def test_every_unit_and_table_of_users_and_folders_is_where_systemd_looks(packages, tmp_path):
    names = contents(packages["homeplate"], tmp_path)
    for path in (ROOT / "systemd").iterdir():
        place = packaging.place_of(path)
        assert place is None or place.replace("lib/systemd", "usr/lib/systemd", 1).replace("usr/usr", "usr") in names
    assert {f"opt/homeplate/libexec/homeplate-{name}" for name in ("egress", "prepare", "seal-keys", "board")} <= set(
        names
    )
    assert {f"usr/lib/{place}.d/homeplate.conf" for place in ("sysusers", "tmpfiles")} <= set(names)
    assert "usr/lib/udev/rules.d/70-homeplate.rules" in names
    drop_in = "root/etc/systemd/system/homeplate-capture.service.d/50-jetson.conf"
    assert f"usr/share/homeplate/firmware_configs/jetson/common/{drop_in}" in names
    assert not [name for name in names if name.startswith(("lib/", "etc/"))]
    for name in ("homeplate-egress", "homeplate-prepare", "homeplate-seal-keys"):
        assert (tmp_path / "opt/homeplate/libexec" / name).stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "opt/homeplate/libexec/homeplate-board").readlink().name == "homeplate_board.py"
    files = (path for path in (ROOT / "firmware_configs").rglob("*") if path.is_file() and path.suffix != ".pyc")
    boards = {path.relative_to(ROOT) for path in files}
    assert {f"usr/share/homeplate/{path}" for path in boards} <= set(names)


def test_a_file_that_no_place_is_known_for_ends_the_build(tmp_path):
    with pytest.raises(SystemExit, match="no place is known"):
        packaging.place_of(tmp_path / "homeplate.surprise")


def test_what_is_installed_is_held_by_hashes_our_own_wheel_too(packages, tmp_path):
    contents(packages["homeplate"], tmp_path)
    share = tmp_path / "usr/share/homeplate"
    (wheel,) = (share / "wheels").glob("homeplate-*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (share / "locks/project.lock").read_text() == f"homeplate==0.1.0 --hash=sha256:{digest}\n"
    assert (share / "locks/pi.lock").read_bytes() == (ROOT / "requirements/pi.lock").read_bytes()
    assert {path.name for path in (share / "locks").iterdir()} == {"pi.lock", "project.lock"}


def test_a_board_s_lock_is_the_others_and_what_apt_s_camera_needs_besides():
    cpu, pi = ((ROOT / "requirements" / f"{name}.lock").read_text() for name in ("cpu", "pi"))
    pins = [
        dict(re.findall(r"^([\w-]+)==(\S+)", requirements_of(text, BOOKWORM_ARM64), re.MULTILINE)) for text in (cpu, pi)
    ]
    assert pins[1].keys() - pins[0].keys() == {"simplejpeg"}
    assert pins[0].items() <= pins[1].items()


def test_a_package_is_for_its_release_s_python_alone(packages):
    assert field(packages["homeplate"], "Version") == "0.1.0+deb12"
    assert "python3 (>= 3.11~), python3 (<< 3.12)" in field(packages["homeplate"], "Depends")


def test_a_later_release_s_package_is_the_newer_one():
    bookworm, trixie = (f"0.1.0{release.suffix}" for release in RELEASES[:2])
    assert subprocess.run(["dpkg", "--compare-versions", trixie, "gt", bookworm], check=False).returncode == 0


def test_the_same_commit_gives_the_same_bytes(packages, tmp_path):
    again = packaging.build([BOOKWORM_ARM64], version="0.1.0", out=tmp_path, with_wheels=False)
    for file in again:
        assert file.read_bytes() == packages[file.name.split("_")[0]].read_bytes()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_package_s_script_is_good_shell(script):
    subprocess.run(["sh", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt install shellcheck")
    done = subprocess.run(["shellcheck", "--shell=sh", script], check=False, capture_output=True, text=True)
    assert done.stdout == ""


LOCK = """\
# a comment
one==1.0 ; python_full_version < '3.12' \\
    --hash=sha256:aa
    # via something
one==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
windows==1.0 ; sys_platform == 'win32' \\
    --hash=sha256:cc
all==3.0 \\
    --hash=sha256:dd \\
    --hash=sha256:ee
"""


@pytest.mark.parametrize(("name", "chosen"), [("bookworm-amd64", "one==1.0"), ("trixie-arm64", "one==2.0")])
def test_a_target_takes_the_versions_that_its_own_python_needs(name, chosen):
    target = next(target for target in TARGETS if target.name == name)
    text = requirements_of(LOCK, target)
    assert re.findall(r"^\S+==\S+", text, re.MULTILINE) == [chosen, "all==3.0"]
    assert text.count("--hash=") == 3


def test_the_lock_says_for_each_target_what_pip_would_choose_on_it():
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    target = next((t for t in TARGETS if t.release.python == here and t.architecture == "amd64"), None)
    if target is None or platform.machine() != "x86_64":
        pytest.skip(f"no package is for Python {here} on this machine")
    text = requirements_of((ROOT / "requirements/cpu.lock").read_text(), target)
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    assert {name: version(name) for name in pins} == pins


def test_both_deployment_pages_are_the_same_five_commands_but_for_the_package():
    pi, jetson = (
        walk.steps_of((ROOT / "docs" / f"deploy-{name}.md").read_text()) for name in ("raspberry-pi", "jetson")
    )
    assert pi[1:] == jetson[1:]
    suffixes = {"raspberry-pi": "+deb13", "jetson": "+ubuntu24.04"}
    for command, suffix in zip((pi[0], jetson[0]), suffixes.values(), strict=True):
        assert re.search(
            rf"/media/stick/homeplate_{packaging.project_version()}{re.escape(suffix)}_arm64\.deb", command
        )
