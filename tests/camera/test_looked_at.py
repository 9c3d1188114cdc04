"""What `homeplate check` says of cameras: each missing thing by name, without a camera being opened."""

import pytest

from homeplate.app.cameras import looked_at
from homeplate.camera import shared
from homeplate.camera.shared import FrameWriter, State, frames_path
from homeplate.config import parse_config, source_settings
from homeplate.errors import CameraError, ConfigError


def said(text, runtime="/run/homeplate"):
    config = parse_config(f"[node]\nruntime_dir='{runtime}'\n[[source]]\nname='lane'\n{text}".encode(), name="x.toml")
    return list(looked_at(source_settings(config.source[0]), config))


def test_a_path_that_is_no_file_and_no_folder_is_named():
    for kind, wanted in (("video", "file"), ("folder", "folder")):
        with pytest.raises(ConfigError, match=f"/nowhere is no {wanted}"):
            said(f"kind='{kind}'\npath='/nowhere'")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [("/nowhere", "no such device"), ("/dev/null", "is no video device"), ("/etc/hostname", "is no video device")],
)
def test_a_device_is_judged_as_on_being_opened(path, wrong):
    with pytest.raises(CameraError, match=f"{path}: {wrong}"):
        said(f"kind='v4l2'\npath='{path}'")


def test_a_board_without_picamera2_is_told_what_to_install():
    try:
        import picamera2  # noqa: F401
    except ImportError:
        with pytest.raises(CameraError, match="apt-get install python3-picamera2"):
            said("kind='picamera'")
    else:
        pytest.skip("this machine has picamera2")


@pytest.mark.usefixtures("gobject")
def test_a_network_camera_waits_for_its_grabber_and_a_jetsons_for_its_plugins(tmp_path):
    text = "kind='rtsp'\n[source.network]\nurl='rtsp://192.0.2.20/stream'"
    assert said(text, tmp_path) == [
        "note: lane: no grabber has run yet: start `homeplate grab lane` beside capture",
    ]
    with pytest.raises(CameraError, match="nvarguscamerasrc"):
        said("kind='csi'")


@pytest.fixture
def grabbing(tmp_path):
    """A grabber's end of a file, and what check says of it."""
    path = frames_path(tmp_path, "lane")
    path.parent.mkdir()
    writer = FrameWriter("lane", path)
    yield writer, lambda: said("kind='rtsp'\n[source.network]\nurl='rtsp://192.0.2.20/stream'", tmp_path)
    writer.close()


@pytest.mark.usefixtures("gobject")
def test_a_grabber_is_judged_by_what_it_told_lately(grabbing, tmp_path, monkeypatch):
    writer, look = grabbing
    assert look() == ["note: lane: its grabber has no picture yet"]
    writer.tell(State.RUNNING)
    assert look() == [f"lane: its grabber writes {frames_path(tmp_path, 'lane')}"]
    writer.tell(State.UNAUTHORIZED)
    with pytest.raises(CameraError, match="refuses user or password"):
        look()
    writer.tell(State.RUNNING)
    now_ns = shared.boot_ns()
    for apart_ns in (shared.SILENT_NS + 1, -shared.SILENT_NS):
        monkeypatch.setattr(shared, "boot_ns", lambda apart_ns=apart_ns: now_ns + apart_ns)
        (text,) = look()
        assert text.startswith("note: ")
        assert "its grabber says nothing; does `homeplate grab lane` run?" in text


@pytest.mark.usefixtures("gobject")
def test_a_file_in_the_place_of_a_grabbers_is_named(grabbing, tmp_path):
    frames_path(tmp_path, "lane").write_bytes(b"")
    with pytest.raises(CameraError, match="is no grabber's file"):
        grabbing[1]()
