"""A USB or other camera that the kernel shows as /dev/video*, through OpenCV's V4L2.

Only a video device is ever opened. OpenCV's `read` gives up after 10 s, later than the supervisor, says nothing of why,
and takes what the driver makes of a setting without a word: what was given is read back.
"""

import os
import stat
from pathlib import Path

import cv2
import numpy as np
import structlog

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.exposure import scale_px_per_m, shutter_us
from homeplate.camera.live import Picture
from homeplate.camera.planes import SIDE_LEAST, SIDE_MOST
from homeplate.clock import perf_ns
from homeplate.domain.source import SourceSettings

VIDEO_MAJOR = 81
"""The kernel's number of video devices (Documentation/admin-guide/devices.txt)."""
_MANUAL_EXPOSURE = 1  # V4L2_EXPOSURE_MANUAL
_UNIT_US = 100  # of V4L2_CID_EXPOSURE_ABSOLUTE
_COMPRESSED = cv2.VideoWriter.fourcc(*"MJPG")

_log = structlog.get_logger()


class V4l2Camera:
    """Implements `live.Camera` for a video device.

    Args:
        source: the source's settings; `path` is the device, `camera` is set.

    Raises:
        SourceError: it is not there, is no video device, or cannot be opened.
    """

    def __init__(self, source: SourceSettings) -> None:
        assert source.camera is not None
        self._source, self._settings = source, source.camera
        device = checked_device(source)
        # Not with its settings at once: OpenCV refuses to open where a driver does not know one of them.
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise self._error(Reason.BUSY, "cannot be opened; does another process have it?")
        self._set_up()

    def take(self) -> Picture:
        """Wait for the next picture.

        Raises:
            SourceError: none comes.
        """
        try:
            good, image = self._capture.read()
        except cv2.error as error:
            raise self._error(Reason.DRIVER, "a picture cannot be decoded; try another cable") from error
        if not good or image is None:
            there = Path(self._source.path).exists()
            what = "gives no picture; check the cable" if there else "is gone; check the cable"
            raise self._error(Reason.STALLED if there else Reason.MISSING, what)
        height, width = image.shape[:2]
        if not all(SIDE_LEAST <= side <= SIDE_MOST for side in (height, width)):
            raise self._error(Reason.FORMAT, f"gives pictures of {width}x{height} pixels")
        # The driver's stamp, by the clock that `perf_ns` counts on Linux; 0 where it has none.
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return Picture(image=np.asarray(image, np.uint8), age_ns=perf_ns() - stamp_ns if stamp_ns > 0 else 0)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()

    def _set_up(self) -> None:
        scale = scale_px_per_m(self._source.minimum_plate_width)
        settings = self._settings
        capture = self._capture
        for name, value in (
            (cv2.CAP_PROP_FOURCC, _COMPRESSED),  # raw pictures of this size fill a USB 2 bus at a few a second
            (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
            (cv2.CAP_PROP_FPS, round(settings.fps)),
        ):
            capture.set(name, value)
        exposure = shutter_us(blur_px=settings.blur_px, scale_px_per_m=scale, speed_kmh=settings.speed_kmh)
        fixed = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL_EXPOSURE) and capture.set(
            cv2.CAP_PROP_EXPOSURE, max(1, exposure // _UNIT_US)
        )
        if not fixed:
            _log.warning("camera.controls-not-advertised", source=self._source.name, controls=["ExposureTime"])
        width, height = (round(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if (width, height) != (settings.width, settings.height):
            asked = f"{settings.width}x{settings.height}"
            _log.warning("camera.other-size", source=self._source.name, asked=asked, given=f"{width}x{height}")
        code = round(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")
        rate = round(capture.get(cv2.CAP_PROP_FPS), 2)
        _log.info("camera.started", source=self._source.name, main=f"{width}x{height} {code}", fps=rate)

    def _error(self, reason: Reason, what: str) -> SourceError:
        return SourceError(self._source.name, reason, f"{self._source.path}: {what}")


def checked_device(source: SourceSettings) -> Path:
    """Return the device that a path leads to: OpenCV would open files and addresses too.

    Raises:
        SourceError: there is none, or it is no video device.
    """

    def refused(reason: Reason, what: str) -> SourceError:
        return SourceError(source.name, reason, f"{source.path}: {what}")

    try:
        device = Path(source.path).resolve(strict=True)
        found = device.stat()
    except FileNotFoundError as error:
        raise refused(Reason.MISSING, "no such device; check the cable (ls /dev/v4l/by-id)") from error
    except OSError as error:
        raise refused(Reason.UNREADABLE, f"{error.strerror}") from error
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != VIDEO_MAJOR:
        raise refused(Reason.REFUSED, "is no video device; name one of /dev/v4l/by-id or /dev/v4l/by-path")
    return device


def open_v4l2(source: SourceSettings) -> V4l2Camera:
    """Open a video device.

    Raises:
        SourceError: see `V4l2Camera`.
    """
    return V4l2Camera(source)
