"""Small videos and pictures, made on the spot and named by what is wrong with them."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from homeplate.camera.errors import SourceError
from homeplate.camera.gstreamer import load_gst


def picture(value: int, size=(48, 64)):
    image = np.full((*size, 3), value, np.uint8)
    image[:, : size[1] // 2] //= 2
    return image


@pytest.fixture
def video(tmp_path):
    """Returns a function that writes an MJPG AVI of grey frames, each brighter than the one before."""

    def make(name: str = "good.avi", *, frames: int = 20, fps: float = 10.0, codec: str = "MJPG") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
        assert writer.isOpened()
        for i in range(frames):
            writer.write(picture(10 + 5 * i))
        writer.release()
        return path

    return make


DEBIAN_PYTHON = Path("/usr/bin/python3")
DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")


@pytest.fixture(scope="session")
def gobject(tmp_path_factory):
    """A folder that makes Debian's PyGObject, and nothing else of Debian's, importable; it is on the path already.

    On a board the whole environment sees the system's packages (`--system-site-packages`).
    """
    folder = tmp_path_factory.mktemp("gobject")
    (folder / "gi").symlink_to(DEBIAN_PACKAGES / "gi")
    sys.path.insert(0, str(folder))
    try:
        with warnings.catch_warnings(action="ignore"):  # PyGObject of Debian 12 imports in the old way
            load_gst("a test")
            importlib.import_module("gi.repository.Gio")
    except SourceError as error:
        pytest.skip(f"GStreamer is not on this machine for this Python: {error}")
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def rtsp(gobject):
    """Returns a function that starts a real RTSP server on loopback and returns it with its port."""
    asked = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([DEBIAN_PYTHON, "-c", asked], check=False, capture_output=True).returncode:
        pytest.skip("GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0) is not on this machine")
    servers = []

    def start(*words, port="0"):
        command = [DEBIAN_PYTHON, Path(__file__).with_name("rtsp_server.py"), "--port", str(port), *words]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        servers.append(server)
        return server, int(server.stdout.readline())

    yield start
    for server in servers:
        server.kill()
        server.wait()
        server.stdout.close()
