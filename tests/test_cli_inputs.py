"""What the commands say to input that cannot work, and with which exit code they end (docs/operations.md)."""

import errno
import os

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate_custodian import cli as custodian
from homeplate_custodian import commands_records
from tools import demo, stage


def call(main, *words, code):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("fps", ["0", "-3", "inf"])
def test_a_rate_that_no_camera_has_is_refused(simulation_node, tmp_path, fps):
    said = call(cli.main, "--config", simulation_node.config, "simulate", "--realtime", fps, tmp_path, code=2)
    assert "--realtime" in said


def test_a_broker_that_cannot_be_reached_ends_one_look_with_its_exit_code(simulation_node, rendered, tmp_path):
    config = stage.write_config(
        simulation_node.folder,
        [{"name": "lane-1", "kind": "video", "path": rendered[0]}],
        simulation_node.paths.runtime,
    )
    call(cli.main, "--config", config, "capture", code=0)
    said = call(cli.main, "--config", config, "uplink", "--once", code=8)
    assert "confirmed 0" in said
    assert "ledger show uplink" in said


def test_a_folder_of_another_user_is_named(simulation_node, monkeypatch):
    def refuse(*_words, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/keys/uplink/tls.crt")

    monkeypatch.setattr("homeplate.app.uplink.run_uplink", refuse)
    said = call(cli.main, "--config", simulation_node.config, "uplink", "--once", code=2)
    assert "/keys/uplink/tls.crt: Permission denied" in said


def test_a_node_without_a_bundle_says_how_to_install_one(simulation_node):
    (simulation_node.paths.bundle / "timestamp.json").unlink()
    said = call(cli.main, "--config", simulation_node.config, "check", code=6)
    assert "homeplate bundle install" in said


def test_a_request_or_certificate_that_is_not_there_is_an_argument_that_is_wrong(simulation_node, tmp_path):
    gone = tmp_path / "gone"
    said = call(custodian.main, "enrol", simulation_node.custody, gone, "--out", tmp_path / "out", code=2)
    assert f"{gone}' does not exist" in said


def test_open_without_the_package_for_tables_says_how_to_get_it_and_opens_nothing(simulation_node, monkeypatch):
    monkeypatch.setattr(commands_records, "find_spec", lambda _name: None)
    words = ["open", simulation_node.custody, "--agency", stage.AGENCY, "--user", "u", "--organisation", "o"]
    said = call(custodian.main, *words, "--purpose", stage.PURPOSE, "--case", "26-1", code=2)
    assert "homeplate[custodian]" in said
    assert not (simulation_node.custody / "access.log").exists()


def test_receive_for_an_unknown_agency_makes_no_inbox(simulation_node):
    call(custodian.main, "receive", simulation_node.custody, "--agency", "nobody", code=2)
    assert not (simulation_node.custody / "received" / "nobody").exists()


def test_the_demo_deletes_no_custody_that_is_not_its_own(simulation_node, monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo", "--folder", str(simulation_node.folder)])
    assert demo.main() == 2
    assert (simulation_node.custody / "root.json").is_file()


def test_each_broken_source_has_a_line_of_its_own_in_the_summary(simulation_node, tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    clips = [tmp_path / "words.mp4", tmp_path / "empty.mp4"]
    said = call(cli.main, "--config", simulation_node.config, "simulate", "--no-publish", *clips, code=4).splitlines()
    assert any("clip-001 broken, clip-002 broken" in line for line in said)
    for number, clip in enumerate(clips, 1):
        assert any(line.startswith(f"source clip-00{number}: {clip}: ") for line in said)


@pytest.mark.parametrize("package", ["cv2", "onnxruntime"])
def test_a_node_without_the_vision_packages_says_how_to_get_them(simulation_node, monkeypatch, package):
    def refuse(*_words, **_options):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("homeplate.app.capture.run_capture", refuse)
    said = call(cli.main, "--config", simulation_node.config, "capture", code=3)
    assert f"{package} is not installed" in said
    assert "homeplate[cpu]" in said
