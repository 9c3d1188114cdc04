"""The grabber of a network camera against a real RTSP server: loss, wrong password, restart, other hosts."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trustme

from homeplate.app.grab import network_of, password_path
from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.live import LiveSource, Patience
from homeplate.camera.planes import Layout, PixelFormat, Planes
from homeplate.camera.shared import FrameFile, FrameWriter, frames_path
from homeplate.clock import perf_ns
from homeplate.config import parse_config, source_settings
from homeplate.domain.passage import CameraChange, ChangeKind, Frame
from homeplate.domain.source import NetworkSettings
from homeplate.errors import ConfigError
from homeplate.grabber import Grabber, open_stream, read_password

PASSWORD = "corr3ct-horse"
USER = ("--user", "homeplate", "--password", PASSWORD)
HASTE = Patience(opening=10, stall=10, backoff=0.05, backoff_most=0.1)


@pytest.fixture
def site(tmp_path, gobject):
    """A configuration with one network camera, its password file, and a function that starts its grabber."""
    (tmp_path / "run" / "frames").mkdir(parents=True)
    password = tmp_path / "gate.password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o400)
    running = []

    def grab(port, *, secret=PASSWORD):
        password.chmod(0o600)
        password.write_text(secret)
        config = tmp_path / "homeplate.toml"
        config.write_text(
            f"[node]\nruntime_dir = {json.dumps(str(tmp_path / 'run'))}\nallow_swap = true\n"
            '[[source]]\nname = "gate"\nkind = "rtsp"\n[source.network]\n'
            f'url = "rtsp://127.0.0.1:{port}/stream"\nuser = "homeplate"\npassword_file = {json.dumps(str(password))}\n'
        )
        words = [sys.executable, "-m", "homeplate.cli", "--config", str(config), "grab", "gate"]
        log = (tmp_path / "grab.log").open("w")
        process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(gobject)})
        log.close()
        running.append(process)
        return process

    grab.path, grab.log = frames_path(tmp_path / "run", "gate"), tmp_path / "grab.log"
    yield grab
    for process in running:
        process.kill()
        process.wait()


def watched(grab, until, patience=HASTE):
    """Look at the grabber's pictures as capture does until `until` of all that came; return that."""
    [section] = parse_config(
        b"[[source]]\nname='gate'\nkind='rtsp'\n[source.network]\nurl='rtsp://127.0.0.1/'", name="x"
    ).source
    source = LiveSource(
        source_settings(section),
        partial(FrameFile, "gate", grab.path),
        now_ns=perf_ns,
        perf_ns=perf_ns,
        patience=patience,
    )
    came = []
    giving_up = threading.Timer(60, source.close)
    giving_up.start()
    for item in source.frames():
        came.append(item)
        if until(came):
            source.close()
    giving_up.cancel()
    return came


def pictures(came):
    return [c for c in came if isinstance(c, Frame)]


def lost(came):
    return [c.reason for c in came if isinstance(c, CameraChange) and c.kind is ChangeKind.LOST]


def test_the_pictures_of_a_network_camera_reach_capture_and_its_password_nobody_else(site, rtsp):
    _, port = rtsp(*USER)
    process = site(port)
    came = watched(site, lambda came: len(pictures(came)) >= 5)
    assert pictures(came)[-1].image.shape == (240, 320, 3)
    assert pictures(came)[-1].image.std() > 30
    seen = [site.log.read_text(), *(Path(f"/proc/{process.pid}/{name}").read_text() for name in ("cmdline", "environ"))]
    assert "grabber.camera-running" in seen[0]
    assert not any(PASSWORD in text for text in seen)
    process.terminate()
    assert process.wait(10) == 0


def test_a_wrong_password_is_named_and_not_tried_again_at_once(site, rtsp):
    _, port = rtsp(*USER)
    site(port, secret="guessed-badly")
    came = watched(site, lambda came: "unauthorized" in lost(came))
    assert pictures(came) == []
    log = site.log.read_text()
    assert log.count("unauthorized") == 1
    assert "guessed-badly" not in log


def test_a_camera_that_dies_and_comes_back_is_read_again_without_a_restart_of_grabber_or_capture(site, rtsp):
    server, port = rtsp(*USER)
    process = site(port)
    first = watched(site, lambda came: len(pictures(came)) >= 3)
    server.kill()
    server.wait()
    gone = watched(site, lambda came: any(reason == "unreachable" for reason in lost(came)))
    rtsp(*USER, port=port)
    again = watched(site, lambda came: len(pictures(came)) >= 3)
    assert pictures(first)
    assert lost(gone)
    assert pictures(again)
    assert process.poll() is None


def test_a_grabber_that_is_killed_is_a_loss_and_its_next_start_is_the_return(site, rtsp):
    _, port = rtsp(*USER)
    process = site(port)

    def kill_once(came):
        if len(pictures(came)) == 3 and process.poll() is None:
            process.kill()
            process.wait()
            threading.Timer(0, lambda: site(port)).start()
        return len(pictures(came)) >= 6

    came = watched(site, kill_once)
    times = [frame.captured_ns for frame in pictures(came)]
    assert len(times) == 6
    assert times == sorted(times)


@pytest.fixture
def open_once(gobject):
    """Returns a function that connects, takes one picture, and returns it or the reason why there is none."""

    def attempt(url, **more):
        stream = None
        try:
            stream = open_stream("gate", NetworkSettings(url=url, **more), None)
            return stream.pull().layout.width
        except SourceError as error:
            return error.reason
        finally:
            if stream is not None:
                stream.close()

    return attempt


def test_nobody_and_a_stream_that_is_not_there_have_their_own_reasons(open_once, rtsp):
    _, port = rtsp()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    assert open_once(f"rtsp://127.0.0.1:{port}/stream") == 320
    assert open_once(f"rtsp://127.0.0.1:{port}/nothing") is Reason.REFUSED
    assert open_once(f"rtsp://127.0.0.1:{free}/stream") is Reason.UNREACHABLE


def test_tls_is_believed_from_the_named_authority_alone(open_once, rtsp, tmp_path):
    ca, other = trustme.CA(), trustme.CA()
    leaf, pem = ca.issue_cert("127.0.0.1"), tmp_path / "server.pem"
    pem.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    _, port = rtsp("--certificate", str(pem))
    url = f"rtsps://127.0.0.1:{port}/stream"
    assert open_once(url, authority=tmp_path / "ca.pem") == 320
    assert open_once(url, authority=tmp_path / "other.pem") is Reason.UNREACHABLE
    assert open_once(url) is Reason.UNREACHABLE
    assert open_once(url, authority=tmp_path / "none.pem") is Reason.UNREADABLE


def test_a_camera_that_sends_the_grabber_to_another_address_gets_nothing_sent_there(site):
    """Not even the asking for a stream, which GStreamer by itself would send; see `grabber.to_host`."""
    with socket.create_server(("127.0.0.2", 0)) as elsewhere, socket.create_server(("127.0.0.1", 0)) as camera:
        to = f"rtsp://127.0.0.2:{elsewhere.getsockname()[1]}/stream".encode()
        came = []

        def move():
            with camera.accept()[0] as connection:
                while request := connection.recv(65536):
                    number = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"cseq"))
                    if request.startswith(b"OPTIONS"):
                        answer = b"RTSP/1.0 200 OK\r\n" + number + b"\r\nPublic: DESCRIBE, SETUP, PLAY"
                    else:
                        answer = b"RTSP/1.0 302 Moved\r\n" + number + b"\r\nLocation: " + to
                    connection.sendall(answer + b"\r\n\r\n")

        def listen():
            elsewhere.settimeout(5)
            with contextlib.suppress(TimeoutError), elsewhere.accept()[0] as connection:
                came.append(connection.recv(65536))

        threads = [threading.Thread(target=work) for work in (move, listen)]
        for thread in threads:
            thread.start()
        process = site(camera.getsockname()[1])
        for thread in threads:
            thread.join()
        process.terminate()
        assert process.wait(20) == 0
    assert came in ([], [b""])


def test_a_stream_that_is_larger_than_a_slot_is_refused_by_name(tmp_path):
    class Large:
        def pull(self):
            stop.set()
            layout = Layout(width=8192, height=4096, stride=8192, pixels=PixelFormat.NV12)
            return Planes(data=np.zeros(layout.size, np.uint8), layout=layout, age_ns=0)

        def close(self):
            pass

    stop, beats, path = threading.Event(), [], tmp_path / "gate.frames"
    writer = FrameWriter("gate", path)
    Grabber("gate", Large, writer, lambda: beats.append(1)).run(stop)
    reader = FrameFile("gate", path)
    assert reader._why(reader._head()).reason is Reason.FORMAT
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o400, "one line"),
        (b"a\nb\n", 0o400, "one line"),
        (b"x" * 1025, 0o400, "one line"),
        (b"\xff\xfe", 0o400, "UTF-8"),
        (b"good", 0o444, "anybody may read"),
    ],
)
def test_a_password_file_that_is_none_is_refused_and_never_quoted(tmp_path, content, mode, said):
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=said) as caught:
        read_password(path)
    assert "good" not in str(caught.value)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_password_is_its_files_line_and_a_name_is_one_of_systemds_credentials(tmp_path):
    path = tmp_path / "password"
    path.write_text('p ä\\"$w\n')
    path.chmod(0o400)
    assert read_password(path) == 'p ä\\"$w'
    assert password_path(path, {}) == path
    assert password_path(Path("gate"), {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}) == Path(
        "/run/credentials/x/gate"
    )
    with pytest.raises(ConfigError, match="LoadCredential"):
        password_path(Path("gate"), {})
    with pytest.raises(ConfigError, match="No such"):
        read_password(tmp_path / "none")


def test_a_name_that_is_no_network_camera_is_refused_with_those_that_are():
    config = parse_config(b"[[source]]\nname='gate'\nkind='rtsp'\n[source.network]\nurl='rtsp://127.0.0.1/'", name="x")
    assert network_of(config, "gate").url == "rtsp://127.0.0.1/"
    with pytest.raises(ConfigError, match="the configuration has: gate"):
        network_of(config, "lane")
