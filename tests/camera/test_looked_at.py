"""What `homeplate check` says of cameras: each missing thing by name, without a camera being opened."""

import pytest

from homeplate.app.cameras import looked_at
from homeplate.camera.shared import frames_path
from homeplate.config import parse_config, source_settings
from homeplate.errors import CameraError, ConfigError


def said(text, runtime="/run/homeplate"):
    config = parse_config(f"[node]\nruntime_dir='{runtime}'\n[[source]]\nname='lane'\n{text}".encode(), name="x.toml")
    return list(looked_at(source_settings(config.source[0]), config))


def test_a_path_that_is_no_device_no_file_and_no_folder_is_named():
    assert said("kind='v4l2'\npath='/dev/null'") == ["lane: /dev/null"]
    for kind, wanted in (("v4l2", "video device"), ("video", "file"), ("folder", "folder")):
        with pytest.raises(ConfigError, match=f"/nowhere is no {wanted}"):
            said(f"kind='{kind}'\npath='/nowhere'")


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
    path = frames_path(tmp_path, "lane")
    path.parent.mkdir()
    path.touch()
    assert said(text, tmp_path) == [f"lane: its grabber writes {path}"]
    with pytest.raises(CameraError, match="nvarguscamerasrc"):
        said("kind='csi'")
