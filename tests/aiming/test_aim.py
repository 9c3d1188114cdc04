"""`homeplate aim` as a technician runs it: figures, a preview through its socket, the ledger, and what ends it."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.aiming.preview import Preview
from homeplate.app import aim as app
from homeplate.camera.claims import claimed
from homeplate.camera.errors import SourceError
from homeplate.store.ledger import read_rows
from homeplate.vision import Models
from homeplate.vision.model import default_model_dir
from tests.e2e.test_canary import found_in, spellings
from tools import stage
from tools.measure_preview import ALIKE, at_plate, read, wrong
from tools.render import clip

BIN = Path(sys.executable).parent / "homeplate"
SECONDS, SEED = 8.0, 11
PATIENCE_S = 60


@pytest.fixture
def fps():
    """The clip has 120 frames."""
    return 20.0


@pytest.fixture
def node(tmp_path, rendered, fps):
    """A node with the rendered clip as a camera."""
    sources = [{"name": "lane-1", "kind": "video", "path": rendered[0], "realtime_fps": fps}]
    built = stage.build(tmp_path / "stage", sources=sources)
    yield built
    built.runtime.cleanup()


@pytest.fixture
def start(node):
    """Return a function that starts a command of the node; whatever still runs is ended."""
    running = []

    def begin(*words):
        command = [str(BIN), "--config", str(node.config), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition, process):
    give_up = time.perf_counter() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.perf_counter() < give_up, "waited in vain"
        time.sleep(0.02)


def rows(node, *events):
    path = node.paths.log("aim")
    return [row for row in read_rows(path) if not events or row.event in events] if path.exists() else []


@pytest.fixture(autouse=True)
def _this_process_keeps_its_network(monkeypatch):
    """What is called in this process must not take the network from the tests that come after."""
    monkeypatch.setattr(app.health, "leave_network", lambda: True)


def called(node, *words):
    return CliRunner().invoke(cli.main, ["--config", str(node.config), *words])


def pictures_of(path):
    """Receive a preview's pictures until it ends."""
    with socket.socket(socket.AF_UNIX) as viewer:
        viewer.settimeout(PATIENCE_S)
        viewer.connect(str(path))
        viewer.sendall(b"GET /lane-1.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        got = b""
        while piece := viewer.recv(65536):
            got += piece
    parts = re.split(rb"--homeplate-picture\r\n.*?\r\n\r\n", got, flags=re.DOTALL)[1:]
    return [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts]


def test_the_canary_is_legible_in_no_picture_that_a_viewer_gets_and_said_nowhere(node, start, rendered):
    process = start("aim", "--json", "--preview", "--by", "badge 7")
    wait_for(lambda: rows(node, "aim.preview-started"), process)
    shown = pictures_of(node.paths.preview)
    said, warned = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, warned
    assert len(shown) >= 10
    assert all(picture.shape == (270, 480, 3) for picture in shown)
    models = Models.open(default_model_dir(), threads=1)
    cars = clip.plan(np.random.default_rng(SEED), SECONDS, 4)
    canary = cars[0]
    assert canary.plate.text == rendered[1][0]
    low = models.detector.asked_for(0.1)
    places = [at_plate(canary, number / clip.FPS, 480 / clip.WIDTH) for number in range(round(SECONDS * clip.FPS))]
    wide = [place for place in places if place is not None and place.box.width > 14]
    assert len(wide) >= 8
    for picture in shown:
        for place in [*low.detect(picture), *wide[::3]]:
            text = read(models, picture, place)
            assert all(wrong(text, plate) > ALIKE for plate in rendered[1])
    needles = spellings(canary.plate.text)
    assert not any(needle in (said + warned).encode() for needle in needles)
    assert not found_in(node.paths.data, needles)
    lines = [json.loads(line) for line in said.splitlines()]
    assert max(line["plates"]["sightings"] for line in lines) > 10
    assert {one["thing"] for line in lines for one in line["advice"]} >= {"width", "tilt", "frames", "light"}


def test_a_preview_has_no_network_and_is_in_the_ledger_before_and_after_with_who_and_how_long(node, start):
    process = start("aim", "lane-1", "--preview", "--by", "badge 7", "--minutes", "3")
    wait_for(lambda: rows(node, "aim.preview-started"), process)
    wait_for(node.paths.preview.exists, process)
    if os.geteuid() == 0:  # leaving the network needs root
        assert rows(node, "aim.started")[0].fields["alone"] is True
        assert Path("/proc/self/ns/net").readlink() != Path(f"/proc/{process.pid}/ns/net").readlink()
        devices = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
    assert stat.S_IMODE(node.paths.preview.lstat().st_mode) == 0o600
    [begun] = rows(node, "aim.preview-started")
    assert begun.fields == {"who": "badge 7", "minutes": 3, "sources": "lane-1"}
    process.send_signal(signal.SIGHUP)  # the technician's ssh broke off
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert not node.paths.preview.exists()
    events = [row.event for row in rows(node)]
    assert events == ["aim.started", "aim.preview-started", "aim.preview-stopped", "aim.stopped"]
    assert rows(node, "aim.preview-stopped")[0].fields == {"reason": "ended", "viewers": 0, "pictures": 0}
    assert "\x1b" not in said, "no terminal, no escapes"


def test_a_preview_of_a_killed_process_ends_in_the_ledger_at_the_next_start(node, start):
    process = start("aim", "--preview", "--by", "badge 7")
    wait_for(lambda: rows(node, "aim.preview-started"), process)
    wait_for(node.paths.preview.exists, process)
    process.kill()
    process.wait()
    assert node.paths.preview.exists(), "nobody could take it away"
    again = start("aim", "--preview", "--by", "badge 8")
    wait_for(lambda: len(rows(node, "aim.preview-started")) == 2, again)
    assert rows(node, "aim.preview-stopped")[0].fields == {"reason": "killed"}
    third = called(node, "aim", "--preview", "--by", "badge 9")
    assert third.exit_code == 2
    assert "served" in third.output
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=PATIENCE_S)
    assert [row.fields["reason"] for row in rows(node, "aim.preview-stopped")] == ["killed", "ended"]


@pytest.mark.parametrize("fps", [60.0])
def test_a_preview_is_over_after_its_time_while_the_figures_go_on(node, monkeypatch):
    class Sooner(Preview):
        """One whose minutes are 0.3 seconds."""

        def __init__(self, path, names, *, minutes, perf_ns):
            super().__init__(path, names, minutes=minutes / 200, perf_ns=perf_ns)

    monkeypatch.setattr(app, "Preview", Sooner)
    monkeypatch.setattr(app.health, "harden_process", lambda **_: None)  # this very process goes on afterwards
    monkeypatch.setattr(app.health, "leave_network", lambda: True)
    done = called(node, "aim", "--json", "--preview", "--by", "badge 7", "--minutes", "1")
    assert done.exit_code == 0, done.output
    assert rows(node, "aim.preview-stopped")[0].fields["reason"] == "time-out"
    stopped, ended = rows(node, "aim.preview-stopped", "aim.stopped")
    assert ended.time_ns - stopped.time_ns > 100_000_000
    assert not node.paths.preview.exists()


@pytest.mark.parametrize("fps", [1.0])
def test_one_process_a_camera_and_the_second_hears_who_has_it(node, start):
    lock = node.paths.claims / "lane-1.lock"
    capture = start("capture")
    wait_for(lambda: lock.exists() and lock.read_bytes(), capture)
    second = start("aim")
    said = "".join(second.communicate(timeout=PATIENCE_S))
    assert second.returncode == 4, said
    assert f"is read by capture (process {capture.pid})" in said
    capture.kill()
    capture.wait()
    third = start("aim")
    wait_for(lambda: f"aim {third.pid}".encode() == lock.read_bytes(), third)
    # The very same lock is what capture asks for first.
    with (
        pytest.raises(SourceError, match=rf"is read by aim \(process {third.pid}\)"),
        claimed(node.paths.claims, "lane-1", "me"),
    ):
        pass


def test_what_is_asked_in_a_wrong_way_is_refused_with_the_next_step(node):
    assert "--by NAME" in called(node, "aim", "--preview").output
    assert "--by: 1 to 60" in called(node, "aim", "--preview", "--by", "x" * 61).output
    plate = called(node, "aim", "--preview", "--by", "7ABC123")
    assert plate.exit_code == 2
    assert "form of a plate" in plate.output
    assert "7ABC123" not in plate.output + called(node, "aim", "--preview", "--by", "7ABC123!").output
    assert not rows(node)
    unknown = called(node, "aim", "lane-9")
    assert unknown.exit_code == 2
    assert "there is lane-1" in unknown.output


def test_a_roads_node_serves_no_preview_while_the_process_has_a_network(node, monkeypatch):
    identity = json.loads(node.paths.identity.read_text())
    node.paths.identity.chmod(0o644)
    node.paths.identity.write_text(json.dumps(identity | {"simulation": False}))
    monkeypatch.setattr(app.health, "leave_network", lambda: False)
    done = called(node, "aim", "--preview", "--by", "badge 7")
    assert done.exit_code == 2
    assert "sudo homeplate aim" in done.output
    assert not node.paths.preview.exists()


def test_a_terminal_gets_a_view_that_is_drawn_again(node):
    leader, follower = os.openpty()
    command = [str(BIN), "--config", str(node.config), "aim"]
    process = subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL)
    os.close(follower)
    got = b""
    while b"plates: " not in got or got.count(b"\x1b[H") < 2:
        got += os.read(leader, 65536)
    process.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in got:
        got += os.read(leader, 65536)
    assert process.wait(PATIENCE_S) == 0
    os.close(leader)
    assert got.startswith(b"\x1b[?1049h")
    assert b"lane-1: 1280 x 720" in got
