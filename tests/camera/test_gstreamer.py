"""GStreamer's appsink as a camera: a Jetson's pipeline differs in its text alone."""

from pathlib import PurePath

import numpy as np
import pytest

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.gstreamer import DECODED, GStreamerCamera, csi_description, open_csi, require_elements
from homeplate.camera.live import LiveSource, Patience
from homeplate.clock import perf_ns
from homeplate.domain.passage import CameraChange, Frame
from homeplate.domain.source import CameraSettings, SourceKind, SourceSettings

pytestmark = pytest.mark.usefixtures("gobject")
CSI = SourceSettings(
    name="lane",
    kind=SourceKind.CSI,
    path=PurePath(),
    camera=CameraSettings(number=1, width=1920, height=1080, fps=29.97, speed_kmh=50),
)


def pattern(size="320x240", *, pixels="NV12", more=""):
    width, height = size.split("x")
    caps = f"video/x-raw,format={pixels},width={width},height={height},framerate=30/1"
    return f"videotestsrc is-live=true pattern=red {more} ! {caps} ! {DECODED}"


@pytest.mark.parametrize("pixels", ["NV12", "I420", "BGRx"])
def test_pictures_of_any_format_come_as_bgr_with_their_age(pixels):
    camera = GStreamerCamera("lane", pattern(pixels=pixels))
    pictures = [camera.take() for _ in range(3)]
    camera.close()
    assert pictures[-1].image.shape == (240, 320, 3)
    blue, green, red = pictures[-1].image.reshape(-1, 3).mean(0)
    assert red > 200
    assert max(blue, green) < 60
    assert all(abs(p.age_ns) < 10**9 for p in pictures)


def test_a_film_is_decoded_to_its_end_which_is_named(video):
    path = video(frames=12)
    camera = GStreamerCamera("lane", f'filesrc location="{path}" ! decodebin ! {DECODED.replace("drop=true", "")}')
    means = [camera.take().image.mean() for _ in range(12)]
    with pytest.raises(SourceError) as caught:
        camera.take()
    camera.close()
    assert caught.value.reason is Reason.TRUNCATED
    assert means == sorted(means)


def test_an_odd_width_of_planes_that_gstreamer_pads_is_refused_by_name():
    camera = GStreamerCamera("lane", pattern("322x240", pixels="I420"))
    with pytest.raises(SourceError, match="multiple of 8") as caught:
        camera.take()
    camera.close()
    assert caught.value.reason is Reason.FORMAT


def test_a_camera_that_breaks_is_opened_again_by_the_same_code():
    """The element that raises its error after three buffers is GStreamer's own."""
    descriptions = iter([pattern(more="! identity error-after=3"), pattern()])
    source = LiveSource(
        CSI,
        lambda: GStreamerCamera("lane", next(descriptions)),
        now_ns=perf_ns,
        perf_ns=perf_ns,
        patience=Patience(backoff=0.05),
    )
    came = []
    for item in source.frames():
        came.append(item)
        if len(came) > 2 and isinstance(came[-2], CameraChange) and isinstance(item, Frame):
            source.close()
    lost, back = (c for c in came if isinstance(c, CameraChange))
    assert (lost.reason, back.attempts) == ("driver", 1)
    times = [c.captured_ns for c in came if isinstance(c, Frame)]
    assert times == sorted(times)
    assert np.all(np.diff(times) > 0)


def test_the_pipeline_of_a_jetson_fixes_the_exposure_and_asks_for_the_size():
    text = csi_description(CSI)
    assert text.startswith('nvarguscamerasrc sensor-id=1 exposuretimerange="731000 731000"')
    assert "width=(int)1920,height=(int)1080,framerate=(fraction)30/1" in text


def test_a_missing_element_is_named_with_what_to_do():
    with pytest.raises(SourceError, match="nvarguscamerasrc") as caught:
        open_csi(CSI)
    assert caught.value.reason is Reason.SOFTWARE
    with pytest.raises(SourceError, match="nvarguscamerasrc"):
        require_elements("lane", csi_description(CSI))
    require_elements("lane", pattern())
