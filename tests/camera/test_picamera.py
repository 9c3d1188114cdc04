"""What a Raspberry Pi's camera is told, against declared controls; `make device-camera` has the real libcamera."""

import sys

import pytest

from homeplate.camera.daynight import Light
from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.picamera import (
    advertised_controls,
    load_picamera2,
    require_camera,
    sensor_modes,
    wanted_controls,
)
from homeplate.camera.switching import Switch
from homeplate.domain.source import CameraSettings

SETTINGS = CameraSettings(model="imx708", fps=25, distance_m=8)
# Least, most, default, as picamera2 tells them; libcamera 0.3 and, from 0.5 on, with modes of exposure and gain.
IMX708 = {
    "AeEnable": (False, True, None),
    "AfMode": (0, 2, 0),
    "AnalogueGain": (1.0, 16.0, None),
    "ExposureTime": (26, 112_015_443, None),
    "FrameDurationLimits": (17_849, 220_417_486, None),
    "LensPosition": (0.0, 32.0, 1.0),
    "Saturation": (0.0, 32.0, 1.0),
}
NEWER = IMX708 | {"ExposureTimeMode": (0, 1, 0), "AnalogueGainMode": (0, 1, 0)}
IMX296 = {name: span for name, span in IMX708.items() if name not in {"AfMode", "LensPosition"}}
VIRTUAL = {"FrameDurationLimits": (33_333, 66_666, 66_666)}


def given(advertised, light=Light.DAY):
    return advertised_controls(wanted_controls(SETTINGS, 60, light), advertised)


def test_the_exposure_is_fixed_the_gain_follows_and_the_lens_stands_at_its_distance():
    controls, missing = given(IMX708)
    assert missing == []
    assert controls == {
        "AeEnable": True,
        "AfMode": 0,
        "ExposureTime": 731,
        "FrameDurationLimits": (40_000, 40_000),
        "LensPosition": 0.125,
        "Saturation": 1.0,
    }


def test_where_libcamera_has_modes_the_exposure_is_manual_and_the_gain_is_not():
    controls, missing = given(NEWER)
    assert missing == []
    assert (controls["ExposureTimeMode"], controls["AnalogueGainMode"]) == (1, 0)
    assert "AeEnable" not in controls


def test_at_night_the_picture_is_grey_and_the_exposure_the_same():
    day, night = given(IMX708)[0], given(IMX708, Light.NIGHT)[0]
    assert night == day | {"Saturation": 0.0}


@pytest.mark.parametrize(
    ("advertised", "missing"),
    [(IMX296, ["AfMode", "LensPosition"]), (VIRTUAL, ["AfMode", "ExposureTime", "LensPosition", "Saturation"])],
)
def test_a_control_that_a_camera_does_not_have_is_left_out_and_named(advertised, missing):
    controls, named = given(advertised)
    assert named == missing
    assert controls.keys() <= advertised.keys()


def test_a_lens_goes_no_further_than_it_can():
    controls, _ = given(IMX708 | {"LensPosition": (0.0, 0.1, 0.0)})
    assert controls["LensPosition"] == 0.1


def test_a_mode_that_does_not_say_what_it_covers_is_no_mode():
    """A USB camera behind libcamera lists formats alone."""
    full = {"size": (2304, 1296), "bit_depth": 10, "fps": 56.03, "crop_limits": (0, 0, 4608, 2592), "format": "x"}
    [mode] = sensor_modes([{"format": "MJPEG"}, full])
    assert (mode.width, mode.bits, mode.field) == (2304, 10, (0, 0, 4608, 2592))


def test_a_missing_and_another_camera_are_named_with_what_is_there():
    require_camera("lane", SETTINGS, ["imx708_wide_noir"])
    with pytest.raises(SourceError, match=r"found: 0 imx296\)") as caught:
        require_camera("lane", CameraSettings(number=1), ["imx296"])
    assert caught.value.reason is Reason.MISSING
    with pytest.raises(SourceError, match="found: none"):
        require_camera("lane", SETTINGS, [])
    with pytest.raises(SourceError, match="camera 0 is imx477, not imx708") as caught:
        require_camera("lane", SETTINGS, ["imx477"])
    assert caught.value.reason is Reason.REFUSED


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (
            "raise ModuleNotFoundError(\"No module named 'libcamera'\", name='libcamera')",
            "apt-get install python3-picamera2",
        ),
        # What simplejpeg 1.6.6, built for NumPy 1, says under NumPy 2.5.
        (
            "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility')",
            "the homeplate package of this release",
        ),
    ],
)
def test_a_picamera2_that_cannot_be_imported_says_what_to_install(tmp_path, monkeypatch, breaks, said):
    (tmp_path / "picamera2.py").write_text(breaks)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    with pytest.raises(SourceError, match=said) as caught:
        load_picamera2("lane")
    assert caught.value.reason is Reason.SOFTWARE


def test_a_lamp_is_switched_to_its_brightest_and_off(tmp_path):
    led = tmp_path / "infrared"
    led.mkdir()
    (led / "max_brightness").write_text("255\n")
    (led / "brightness").write_text("0\n")
    lamp = Switch("lane", "infrared", tmp_path)
    lamp.set(on=True)
    assert (led / "brightness").read_text() == "255"
    lamp.set(on=False)
    assert (led / "brightness").read_text() == "0"


def test_a_lamp_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="infrared: No such file or directory; add its overlay") as caught:
        Switch("lane", "infrared", tmp_path).set(on=True)
    assert caught.value.reason is Reason.SWITCH
