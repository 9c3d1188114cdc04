"""Pictures out of GStreamer, through PyGObject's appsink: a Jetson's CSI camera here, a network camera in its grabber.

What differs is the text of the pipeline. Numbers go into it; addresses and passwords are set as properties. PyGObject
comes from the board's own packages and is imported where a camera is opened.
"""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from types import ModuleType
from typing import Any

import numpy as np

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.exposure import scale_px_per_m, shutter_us
from homeplate.camera.live import FIRST_S, TAKE_S, Picture
from homeplate.camera.planes import Layout, PixelFormat, Planes, to_bgr
from homeplate.clock import perf_ns
from homeplate.domain.source import SourceSettings

SECOND = 1_000_000_000
SINK = "appsink name=frames max-buffers=1 drop=true sync=false"
DECODED = f"videoconvert ! video/x-raw,format=(string){{NV12,I420}} ! {SINK}"
"""What follows a source whose frames lie in ordinary memory."""
_LOOK_NS = SECOND // 5
_PADDED = 4
"""GStreamer pads a line to a multiple of four bytes."""
_EVEN_CHROMA = 8
"""In I420 chroma lines are padded too, so that they are half of luma's only where the width is a multiple of eight."""
_MESSAGE_MOST = 200


def load_gst(source: str) -> ModuleType:
    """Import and start GStreamer.

    Raises:
        SourceError: PyGObject or GStreamer is not there.
    """
    try:
        import gi  # noqa: PLC0415 - from the board's own packages

        gi.require_version("Gst", "1.0")
        gi.require_version("GstRtsp", "1.0")
        from gi.repository import Gst, GstRtsp  # noqa: F401, PLC0415 - the second gives RTSP messages their type
    except (ImportError, ValueError) as error:
        what = (
            f"GStreamer cannot be imported ({error}): apt-get install python3-gi gir1.2-gst-plugins-base-1.0 "
            "gstreamer1.0-plugins-good, and make the environment with --system-site-packages"
        )
        raise SourceError(source, Reason.SOFTWARE, what) from error
    Gst.init(None)
    return Gst  # type: ignore[no-any-return]


def require_elements(source: str, description: str) -> None:
    """Check that every element of a pipeline is installed; nothing is opened.

    Raises:
        SourceError: one is missing, by name.
    """
    _parsed(load_gst(source), source, description)


def _parsed(gst: ModuleType, source: str, description: str) -> Any:
    try:
        return gst.parse_launch(description)
    except Exception as error:
        # GLib's error type is only there once PyGObject is; its text names the element that is missing.
        what = f"GStreamer: {_printable(error)}; install the package that has it"
        raise SourceError(source, Reason.SOFTWARE, what) from error


class GStreamerStream:
    """A pipeline that runs, and its appsink. One thread uses it.

    Args:
        source: the source's name.
        description: the pipeline, ending in `SINK`.
        properties: values by property by element's name; for what must not stand in a text.
        handlers: what answers an element's signals, by signal by element's name.

    Raises:
        SourceError: an element is missing, or the pipeline does not start.
    """

    def __init__(
        self,
        source: str,
        description: str,
        properties: Mapping[str, Mapping[str, object]] | None = None,
        handlers: Mapping[str, Mapping[str, Callable[..., object]]] | None = None,
    ) -> None:
        self._source, self._gst = source, load_gst(source)
        self._pipeline = _parsed(self._gst, source, description)
        for name, values in (properties or {}).items():
            self._set(self._pipeline.get_by_name(name), values)
        for name, answers in (handlers or {}).items():
            for signal, answer in answers.items():
                self._pipeline.get_by_name(name).connect(signal, answer)
        self._sink = self._pipeline.get_by_name("frames")
        self._wait_s = FIRST_S
        if self._pipeline.set_state(self._gst.State.PLAYING) == self._gst.StateChangeReturn.FAILURE:
            error = self._broken() or self._error(Reason.DRIVER, "GStreamer does not start the camera")
            self.close()
            raise error

    def pull(self) -> Planes:
        """Wait for the next picture.

        Raises:
            SourceError: none comes, or the pipeline breaks off; the reason says why.
        """
        until_ns = perf_ns() + int(self._wait_s * SECOND)
        while (sample := self._sink.emit("try-pull-sample", _LOOK_NS)) is None:
            if (error := self._broken()) is not None:
                raise error
            if perf_ns() >= until_ns:
                raise self._error(Reason.STALLED, f"no picture for {self._wait_s:g} s; check cable and power")
        self._wait_s = TAKE_S
        return self._planes(sample)

    def close(self) -> None:
        """Stop the pipeline."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _set(self, element: Any, values: Mapping[str, object]) -> None:
        for key, value in values.items():
            if isinstance(value, PurePath):  # a file of certificates
                element.set_property(key, _certificates(self._source, value))
            else:
                element.set_property(key, value)

    def _planes(self, sample: Any) -> Planes:
        layout = self._layout(sample.get_caps().get_structure(0))
        buffer = sample.get_buffer()
        good, mapped = buffer.map(self._gst.MapFlags.READ)
        if not good:
            raise self._error(Reason.DRIVER, "a picture cannot be read; restart the camera's service")
        try:
            if mapped.size < layout.size:
                raise self._error(Reason.FORMAT, f"a picture of {mapped.size} bytes is none of {layout}")
            data = np.frombuffer(mapped.data, np.uint8, count=layout.size).copy()
        finally:
            buffer.unmap(mapped)
        age_ns = self._pipeline.get_clock().get_time() - self._pipeline.get_base_time() - buffer.pts
        return Planes(data=data, layout=layout, age_ns=age_ns)

    def _layout(self, caps: Any) -> Layout:
        width, height, pixels = caps.get_value("width"), caps.get_value("height"), caps.get_value("format")
        if pixels == PixelFormat.I420 and width % _EVEN_CHROMA:
            what = f"is {width} pixels wide; choose a width that is a multiple of {_EVEN_CHROMA}"
            raise self._error(Reason.FORMAT, what)
        try:
            stride = -(-width // _PADDED) * _PADDED
            return Layout(width=width, height=height, stride=stride, pixels=PixelFormat(pixels))
        except ValueError as error:
            raise self._error(Reason.FORMAT, f"{error}; choose another stream of the camera") from error

    def _broken(self) -> SourceError | None:
        """Return why the pipeline broke off, where it did."""
        kinds = self._gst.MessageType.ERROR | self._gst.MessageType.EOS
        message = self._pipeline.get_bus().pop_filtered(kinds)
        if message is None:
            return None
        if message.type == self._gst.MessageType.EOS:
            return self._error(Reason.TRUNCATED, "the camera ended its stream")
        error, _ = message.parse_error()
        return self._error(_reason(self._gst, error), f"GStreamer: {_printable(error.message)}")

    def _error(self, reason: Reason, what: str) -> SourceError:
        return SourceError(self._source, reason, what)


def _reason(gst: ModuleType, error: Any) -> Reason:
    """Return the reason for an error of GStreamer, which has a domain and a code."""
    resource, stream = gst.ResourceError, gst.StreamError
    kinds = {
        (resource, resource.NOT_AUTHORIZED): Reason.UNAUTHORIZED,
        (resource, resource.NOT_FOUND): Reason.REFUSED,
        (resource, resource.OPEN_READ): Reason.UNREACHABLE,
        (resource, resource.OPEN_READ_WRITE): Reason.UNREACHABLE,
        (resource, resource.READ): Reason.UNREACHABLE,
        (resource, resource.WRITE): Reason.UNREACHABLE,
        (resource, resource.BUSY): Reason.BUSY,
        (stream, stream.FORMAT): Reason.FORMAT,
        (stream, stream.DECODE): Reason.FORMAT,
        (stream, stream.WRONG_TYPE): Reason.FORMAT,
        (stream, stream.TYPE_NOT_FOUND): Reason.FORMAT,
        (stream, stream.CODEC_NOT_FOUND): Reason.SOFTWARE,
        (gst.CoreError, gst.CoreError.MISSING_PLUGIN): Reason.SOFTWARE,
    }
    found = (reason for (domain, code), reason in kinds.items() if error.matches(domain.quark(), code))
    return next(found, Reason.DRIVER)


def _certificates(source: str, path: PurePath) -> Any:
    """Return the authorities of a file, as GLib wants them.

    Raises:
        SourceError: they cannot be read.
    """
    from gi.repository import Gio  # noqa: PLC0415 - `load_gst` found PyGObject

    try:
        return Gio.TlsFileDatabase.new(str(path))
    except Exception as error:  # GLib's error type, as above
        what = f"{path}: {_printable(error)}; it holds the camera's certificate or authority in PEM"
        raise SourceError(source, Reason.UNREADABLE, what) from error


def _printable(text: object) -> str:
    """Return a text that may be a camera's on one line, bounded."""
    return "".join(c if c.isprintable() else " " for c in str(text))[:_MESSAGE_MOST]


class GStreamerCamera:
    """Implements `live.Camera` for a pipeline."""

    def __init__(self, source: str, description: str) -> None:
        """Start the pipeline.

        Raises:
            SourceError: see `GStreamerStream`.
        """
        self._stream = GStreamerStream(source, description)

    def take(self) -> Picture:
        """Wait for the next picture.

        Raises:
            SourceError: see `GStreamerStream.pull`.
        """
        planes = self._stream.pull()
        return Picture(image=to_bgr(planes.data, planes.layout), age_ns=planes.age_ns)

    def close(self) -> None:
        """Stop the pipeline."""
        self._stream.close()


def csi_description(source: SourceSettings) -> str:
    """Return the pipeline of a Jetson's CSI camera: the exposure is fixed, the gain follows the light."""
    assert source.camera is not None
    camera = source.camera
    scale = scale_px_per_m(source.minimum_plate_width)
    exposure_ns = 1000 * shutter_us(blur_px=camera.blur_px, scale_px_per_m=scale, speed_kmh=camera.speed_kmh)
    size = f"width=(int){camera.width},height=(int){camera.height}"
    caps = f"{size},framerate=(fraction){round(camera.fps)}/1,format=(string)NV12"
    return (
        f'nvarguscamerasrc sensor-id={camera.number} exposuretimerange="{exposure_ns} {exposure_ns}" '
        f"! video/x-raw(memory:NVMM),{caps} ! nvvidconv ! video/x-raw,format=(string)NV12 ! {SINK}"
    )


def open_csi(source: SourceSettings) -> GStreamerCamera:
    """Open a Jetson's CSI camera.

    Raises:
        SourceError: see `GStreamerStream`.
    """
    return GStreamerCamera(source.name, csi_description(source))
