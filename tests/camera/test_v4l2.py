"""Only a video device is opened as one; `make device-v4l2` loses a real one in an emulated machine."""

from pathlib import PurePath

import pytest

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.v4l2 import open_v4l2
from homeplate.domain.source import CameraSettings, SourceKind, SourceSettings


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/dev/video63", Reason.MISSING),
        ("/dev/null", Reason.REFUSED),
        ("/etc/hostname", Reason.REFUSED),
        ("/dev", Reason.REFUSED),
        ("http://127.0.0.1/film.avi", Reason.MISSING),
        ("rtsp://127.0.0.1/stream", Reason.MISSING),
    ],
)
def test_what_is_no_video_device_is_refused_before_opencv_sees_it(path, reason):
    settings = SourceSettings(name="usb", kind=SourceKind.V4L2, path=PurePath(path), camera=CameraSettings())
    with pytest.raises(SourceError) as caught:
        open_v4l2(settings)
    assert caught.value.reason is reason


def test_a_link_leads_to_what_is_judged(tmp_path):
    link = tmp_path / "camera"
    link.symlink_to("/dev/zero")
    settings = SourceSettings(name="usb", kind=SourceKind.V4L2, path=PurePath(link), camera=CameraSettings())
    with pytest.raises(SourceError, match="no video device"):
        open_v4l2(settings)
