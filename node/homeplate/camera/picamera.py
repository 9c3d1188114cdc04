"""A camera of a Raspberry Pi, through picamera2 on libcamera: one stream to read, a small one for the motion gate.

picamera2 comes from the board's own packages and starts libcamera on being imported, so it is imported where a camera
is opened. What libcamera gives is read back, because it changes what it cannot do without a word; a control that a
camera does not have is named in the log and left out.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import structlog

from homeplate.camera.daynight import DayNight, Light, judged
from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.exposure import SensorMode, full_field, lens_position, lores_size, scale_px_per_m, shutter_us
from homeplate.camera.live import FIRST_S, TAKE_S, Picture
from homeplate.camera.planes import Layout, PixelFormat, luma, to_bgr
from homeplate.camera.switching import Switch
from homeplate.clock import boot_ns, perf_ns
from homeplate.domain.source import CameraSettings, SourceSettings

Controls = dict[str, Any]
_FORMATS = {"YUV420": PixelFormat.I420, "NV12": PixelFormat.NV12}
BUFFERS = 4
_MANUAL, _AUTO = 1, 0  # libcamera's ExposureTimeMode and AnalogueGainMode
_AF_MANUAL = 0  # libcamera's AfMode
# What libcamera, its bindings and picamera2 raise where a camera is absent, taken or breaks.
_RAISED = (RuntimeError, OSError, IndexError, ValueError)

_log = structlog.get_logger()


def load_picamera2(source: str) -> ModuleType:
    """Import picamera2.

    Raises:
        SourceError: it is not there, or its C modules were built for another NumPy.
    """
    try:
        import picamera2  # noqa: PLC0415 - it starts libcamera
    except ImportError as error:
        what = (
            f"picamera2 cannot be imported ({error.name or error}): apt-get install python3-picamera2, then "
            "dpkg-reconfigure homeplate, which makes the environment that sees it"
        )
        raise SourceError(source, Reason.SOFTWARE, what) from error
    except (ValueError, RuntimeError) as error:
        # bookworm's simplejpeg was built for NumPy 1 (picamera2 issue 1088): "numpy.dtype size changed".
        what = (
            f"picamera2 cannot be imported ({error}): its modules were built for another NumPy; install the homeplate "
            "package of this release, which has a simplejpeg inside that fits"
        )
        raise SourceError(source, Reason.SOFTWARE, what) from error
    return picamera2  # type: ignore[no-any-return]


def wanted_controls(settings: CameraSettings, plate_width_px: float, light: Light) -> Controls:
    """Return the controls that a camera is to be given, by libcamera's names.

    The exposure is fixed and the gain follows the light: a plate that is dark can be read, one that smeared cannot.

    Args:
        settings: of the camera.
        plate_width_px: pixels of the narrowest plate that is read.
        light: at night colour is left out, since the lamp's infrared has none.
    """
    scale = scale_px_per_m(plate_width_px)
    period_us = round(1e6 / settings.fps)
    wanted: Controls = {
        "ExposureTime": shutter_us(blur_px=settings.blur_px, scale_px_per_m=scale, speed_kmh=settings.speed_kmh),
        "FrameDurationLimits": (period_us, period_us),
        "Saturation": 1.0 if light is Light.DAY else 0.0,
    }
    if settings.distance_m is not None:
        wanted |= {"AfMode": _AF_MANUAL, "LensPosition": settings.distance_m}
    return wanted


def advertised_controls(
    wanted: Mapping[str, Any], advertised: Mapping[str, tuple[Any, Any, Any]]
) -> tuple[Controls, list[str]]:
    """Return the controls that a camera can be given, and the names of those that it does not have.

    Args:
        wanted: what `wanted_controls` returned.
        advertised: a camera's controls with least, most and default, as picamera2 tells them.
    """
    given = {name: value for name, value in wanted.items() if name in advertised}
    if "LensPosition" in given:
        least, most, _ = advertised["LensPosition"]
        given["LensPosition"] = lens_position(given["LensPosition"], least, most)
    if "ExposureTime" in given:
        # From libcamera 0.5 a fixed exposure is a mode of its own; before, giving one fixed it.
        modes = {"ExposureTimeMode": _MANUAL, "AnalogueGainMode": _AUTO}
        given |= modes if "ExposureTimeMode" in advertised else {"AeEnable": True} if "AeEnable" in advertised else {}
    return given, sorted(wanted.keys() - given.keys())


def sensor_modes(found: list[dict[str, Any]]) -> list[SensorMode]:
    """Return picamera2's list of modes as values; those that do not say what they cover (USB cameras) are left out."""
    return [
        SensorMode(
            width=mode["size"][0],
            height=mode["size"][1],
            bits=mode["bit_depth"],
            fps=mode["fps"],
            field=tuple(mode["crop_limits"]),
        )
        for mode in found
        if {"size", "bit_depth", "fps", "crop_limits"} <= mode.keys()
    ]


def cameras(module: ModuleType) -> list[str]:
    """Return the models of the cameras that libcamera finds, by number."""
    return [str(info.get("Model", "unknown")) for info in module.Picamera2.global_camera_info()]


def require_camera(source: str, settings: CameraSettings, found: list[str]) -> None:
    """Check that a camera is there and is the one that the configuration names.

    Raises:
        SourceError: it is not.
    """
    if settings.number >= len(found):
        there = ", ".join(f"{number} {model}" for number, model in enumerate(found)) or "none"
        what = f"there is no camera {settings.number} (found: {there}); check the cable and the overlay in config.txt"
        raise SourceError(source, Reason.MISSING, what)
    model = found[settings.number]
    if settings.model is not None and settings.model.lower() not in model.lower():
        what = f"camera {settings.number} is {model}, not {settings.model}; mend camera.model or camera.number"
        raise SourceError(source, Reason.REFUSED, what)


class PiCamera:
    """Implements `live.Camera` for a camera that picamera2 has open.

    Args:
        source: the source's settings; `camera` is set.
        device: a `Picamera2` that nobody else uses.
        make_switch: makes a lamp's or filter's switch from its name.
    """

    def __init__(self, source: SourceSettings, device: Any, make_switch: Callable[[str, str], Switch] = Switch) -> None:
        assert source.camera is not None
        self._source, self._settings, self._device = source, source.camera, device
        self._state = DayNight()
        night = self._settings.night
        self._lamp = make_switch(source.name, night.lamp) if night and night.lamp else None
        self._filter = make_switch(source.name, night.cut_filter) if night and night.cut_filter else None
        self._dark = False
        self._layouts: dict[str, Layout] = {}
        self._wait_s = FIRST_S

    def start(self) -> None:
        """Configure the camera, read back what it became, and start it.

        Raises:
            SourceError: libcamera refuses, or gives pictures of another kind.
        """
        device, settings = self._device, self._settings
        size = (settings.width, settings.height)
        mode = full_field(sensor_modes(device.sensor_modes), width=size[0], height=size[1], fps=settings.fps)
        controls = self._controls()
        config = device.create_video_configuration(
            main={"size": size, "format": "YUV420"},
            lores={"size": lores_size(*size), "format": "YUV420"},
            sensor={} if mode is None else {"output_size": (mode.width, mode.height), "bit_depth": mode.bits},
            buffer_count=BUFFERS,
        )
        # picamera2 adds controls of its own, which a camera may not have either.
        config["controls"] = {n: v for n, v in config["controls"].items() if n in device.camera_controls} | controls
        device.configure(config)
        given = device.camera_configuration()
        self._layouts = {name: self._layout(name, given[name]) for name in ("main", "lores")}
        device.start()
        self._switch()
        _log.info(
            "camera.started",
            source=self._source.name,
            main=_described(given["main"]),
            lores=_described(given["lores"]),
            sensor=None if mode is None else f"{mode.width}x{mode.height}",
            controls={name: str(value) for name, value in controls.items()},
        )

    def take(self) -> Picture:
        """Wait for the next picture and convert both streams; set the camera anew where day or night begins.

        Raises:
            SourceError: none comes, or libcamera breaks.
        """
        try:
            request = self._device.capture_request(wait=self._wait_s)
        except TimeoutError as error:
            what = f"no picture for {self._wait_s:g} s; check the ribbon cable and the power"
            raise SourceError(self._source.name, Reason.STALLED, what) from error
        except _RAISED as error:
            raise self._broken(error) from error
        try:
            main, small = (np.asarray(request.make_buffer(name), np.uint8) for name in ("main", "lores"))
            metadata = request.get_metadata()
            stamp_ns = metadata.get("SensorTimestamp")
        except _RAISED as error:
            raise self._broken(error) from error
        finally:
            request.release()
        self._wait_s = TAKE_S
        self._judge(metadata.get("Lux"))
        try:
            image, grey = to_bgr(main, self._layouts["main"]), luma(small, self._layouts["lores"])
        except ValueError as error:
            raise self._broken(error) from error
        return Picture(image=image, grey=grey, age_ns=0 if stamp_ns is None else boot_ns() - int(stamp_ns))

    def close(self) -> None:
        """Stop and release the camera; the lamp goes out."""
        if self._lamp is not None:
            self._set(self._lamp, on=False)
        try:
            self._device.close()
        except _RAISED as error:
            raise self._broken(error) from error

    def _judge(self, lux: float | None) -> None:
        night = self._settings.night
        if night is None:
            return
        if lux is None:
            if not self._dark:
                _log.warning("camera.light-unknown", source=self._source.name, next_step="it stays set for the day")
            self._dark = True
            return
        before, self._state = self._state, judged(self._state, night, lux, perf_ns())
        if self._state.light is not before.light:
            self._device.set_controls(self._controls())
            self._switch()
            _log.info("camera.light", source=self._source.name, light=self._state.light.value, lux=round(lux, 1))

    def _controls(self) -> Controls:
        wanted = wanted_controls(self._settings, self._source.minimum_plate_width, self._state.light)
        given, missing = advertised_controls(wanted, self._device.camera_controls)
        if missing:
            _log.warning("camera.controls-not-advertised", source=self._source.name, controls=missing)
        return given

    def _switch(self) -> None:
        night = self._state.light is Light.NIGHT
        if self._lamp is not None:
            self._set(self._lamp, on=night)
        if self._filter is not None:
            self._set(self._filter, on=not night)

    def _set(self, switch: Switch, *, on: bool) -> None:
        """Switch; a lamp that fails is in the log and ends nothing: by day the camera reads without it."""
        try:
            switch.set(on=on)
        except SourceError as error:
            _log.error("camera.switch-failed", source=self._source.name, message=str(error))

    def _layout(self, name: str, given: Mapping[str, Any]) -> Layout:
        if given["format"] not in _FORMATS:
            what = f"the {name} stream became {given['format']}, not one of {', '.join(_FORMATS)}; update libcamera"
            raise SourceError(self._source.name, Reason.FORMAT, what)
        width, height = given["size"]
        try:
            return Layout(width=width, height=height, stride=given["stride"], pixels=_FORMATS[given["format"]])
        except ValueError as error:
            raise SourceError(self._source.name, Reason.FORMAT, f"the {name} stream became {error}") from error

    def _broken(self, error: Exception) -> SourceError:
        return SourceError(self._source.name, Reason.DRIVER, f"libcamera: {type(error).__name__}: {error}")


def _described(stream: Mapping[str, Any]) -> str:
    width, height = stream["size"]
    return f"{width}x{height} {stream['format']}"


def open_picamera(source: SourceSettings) -> PiCamera:
    """Open and start a camera of the board.

    Raises:
        SourceError: picamera2 or the camera is not there, another process has it, or libcamera refuses.
    """
    assert source.camera is not None
    module = load_picamera2(source.name)
    require_camera(source.name, source.camera, cameras(module))
    try:
        device = module.Picamera2(source.camera.number)
    except _RAISED as error:
        what = f"camera {source.camera.number} cannot be opened ({error}); does another process have it?"
        raise SourceError(source.name, Reason.BUSY, what) from error
    return started(PiCamera(source, device))


def started(camera: PiCamera) -> PiCamera:
    """Start a camera; where that fails it is closed again.

    Raises:
        SourceError: libcamera refuses, or gives pictures of another kind.
    """
    try:
        camera.start()
    except SourceError:
        camera.close()
        raise
    except _RAISED as error:
        camera.close()
        raise camera._broken(error) from error  # noqa: SLF001 - of this module
    return camera
