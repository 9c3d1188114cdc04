"""When the stage with the real libcamera may be skipped: where it cannot be made here, and not where it fails."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tools.device.camera import FailedError, UnavailableError, call

PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet", "--dry-run")
UNRESOLVED = "W: Failed to fetch http://deb.debian.org/: Temporary failure resolving 'deb.debian.org'"


def wheel(folder, name, *, needs=()):
    version = "2.0"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in needs)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def test_a_lock_that_a_board_package_conflicts_with_is_a_failure(tmp_path):
    wheel(tmp_path, "locked")
    wheel(tmp_path, "camera", needs=["locked<2"])
    (tmp_path / "names").write_text("locked==2.0\n")
    options = ("--no-index", "--find-links", str(tmp_path), "--constraint", str(tmp_path / "names"))
    with pytest.raises(FailedError, match="conflict"):
        call(*PIP, *options, "camera")


def test_a_release_that_the_index_lacks_is_a_failure(tmp_path):
    wheel(tmp_path, "camera")
    with pytest.raises(FailedError, match="camera==3"):
        call(*PIP, "--no-index", "--find-links", str(tmp_path), "camera==3")


def test_an_index_that_nobody_answers_for_is_unavailable():
    options = ("--index-url", "http://127.0.0.1:1/simple", "--retries", "1", "--timeout", "1")
    with pytest.raises(UnavailableError, match="failed"):
        call(*PIP, *options, "camera", environment={"PATH": os.environ["PATH"], "NO_PROXY": "*"})


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_what_does_not_compile_is_a_failure(tmp_path):
    (tmp_path / "heap.c").write_text("int main(void) { return nothing; }")
    with pytest.raises(FailedError, match="undeclared"):
        call("gcc", "-o", str(tmp_path / "heap"), str(tmp_path / "heap.c"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without, the stage is skipped for that")
@pytest.mark.parametrize(
    ("said", "code", "outcome"),
    [("E: Unable to locate package python3-libcamera", 1, "failed"), (UNRESOLVED, 0, "skipped")],
)
def test_the_stage_ends_with_a_failure_unless_the_archive_cannot_be_reached(tmp_path, said, code, outcome):
    program = tmp_path / "bin" / "mmdebstrap"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 25\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "tools.device.camera", "--root", str(tmp_path / "root")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, figures["device_camera"]) == (code, outcome), done.stderr
    assert said[:20] in figures["why"]
