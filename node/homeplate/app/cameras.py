"""What `homeplate check` says of each source: whether what opens it is there. No camera is opened: capture has it."""

from collections.abc import Iterator
from pathlib import Path

from homeplate.config import Config
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import ConfigError


def looked_at(source: SourceSettings, config: Config) -> Iterator[str]:
    """Yield what is to be said of a source.

    Raises:
        ConfigError: a path that is not what it should be.
        CameraError: a package, a plugin or the camera is missing, or the grabber says what is wrong with it.
    """
    if source.kind is SourceKind.PICAMERA:
        yield from _picamera(source)
    elif source.kind is SourceKind.CSI:
        yield from _csi(source)
    elif source.kind is SourceKind.RTSP:
        yield from _rtsp(source, config)
    elif source.kind is SourceKind.V4L2:
        yield _v4l2(source)
    else:
        yield _path(source)


def _path(source: SourceSettings) -> str:
    path = Path(source.path)
    wanted, there = ("file", path.is_file) if source.kind is SourceKind.VIDEO else ("folder", path.is_dir)
    if not there():
        raise ConfigError(f"source {source.name!r}: {path} is no {wanted}")
    return f"{source.name}: {path}"


# What needs OpenCV is loaded only where a camera asks for it: check runs beside uplink too.
# ruff: noqa: PLC0415


def _v4l2(source: SourceSettings) -> str:
    from homeplate.camera.v4l2 import checked_device

    checked_device(source)
    return f"{source.name}: {source.path}"


def _picamera(source: SourceSettings) -> Iterator[str]:
    """Yield what libcamera finds; picamera2 is imported with the NumPy that runs here, which is the self-test."""
    from homeplate.camera.exposure import scale_px_per_m, shutter_us
    from homeplate.camera.picamera import cameras, load_picamera2, require_camera
    from homeplate.camera.switching import LEDS

    assert source.camera is not None
    settings = source.camera
    found = cameras(load_picamera2(source.name))
    require_camera(source.name, settings, found)
    scale = scale_px_per_m(source.minimum_plate_width)
    shutter = shutter_us(blur_px=settings.blur_px, scale_px_per_m=scale, speed_kmh=settings.speed_kmh)
    size = f"{settings.width}x{settings.height}"
    yield f"{source.name}: camera {settings.number} is {found[settings.number]}, {size}, shutter {shutter} us"
    night = settings.night
    for led in (night.lamp, night.cut_filter) if night else ():
        if led is not None and not (LEDS / led).is_dir():
            raise ConfigError(f"source {source.name!r}: {LEDS / led} is not there; add its overlay (docs/cameras.md)")


def _csi(source: SourceSettings) -> Iterator[str]:
    from homeplate.camera.gstreamer import csi_description, require_elements

    require_elements(source.name, csi_description(source))
    assert source.camera is not None
    yield f"{source.name}: camera {source.camera.number}, {source.camera.width}x{source.camera.height}"


def _rtsp(source: SourceSettings, config: Config) -> Iterator[str]:
    from homeplate.camera.errors import Reason, SourceError
    from homeplate.camera.gstreamer import require_elements
    from homeplate.camera.shared import FrameFile, State, frames_path
    from homeplate.grabber import DESCRIPTION

    require_elements(source.name, DESCRIPTION)
    path = frames_path(config.node.runtime_dir, source.name)
    if not path.exists():
        yield f"note: {source.name}: no grabber has run yet: start `homeplate grab {source.name}` beside capture"
        return
    file = FrameFile(source.name, path)
    try:
        state = file.state()
    except SourceError as error:
        if error.reason is not Reason.GRABBER:
            raise
        yield f"note: {error}"
        return
    finally:
        file.close()
    if state is State.RUNNING:
        yield f"{source.name}: its grabber writes {path}"
    else:
        yield f"note: {source.name}: its grabber has no picture yet"
