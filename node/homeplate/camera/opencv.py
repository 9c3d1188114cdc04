"""Frames of a video file, through OpenCV's FFmpeg.

FFmpeg would open URLs, `concat:` lists and playlists that name other files or hosts, so only a regular file that begins
like a container of pictures is ever handed to it, by its absolute path. V4L2 and network cameras are other sources.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.masks import apply_masks
from homeplate.camera.planes import SIDE_LEAST, SIDE_MOST
from homeplate.domain.passage import Frame, Image
from homeplate.domain.source import SourceSettings

SECOND = 1_000_000_000
OPEN_TIMEOUT_MS = READ_TIMEOUT_MS = 10_000
"""After this FFmpeg gives up on a medium that does not answer."""
FPS_LEAST, FPS_MOST = 1.0, 240.0
"""Frame rates that a camera has; containers claim anything (0, 1000, 90000), and stream time depends on it."""
MISSING_LEAST, MISSING_SHARE = 2, 0.02
"""Frames that may be missing of what the container claims: claims of durations are rounded."""
HEAD_BYTES = 512
TS_PACKET, TS_SYNC = 188, 0x47
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")


class VideoFileSource:
    """Implements `ports.FrameSource` for one file."""

    def __init__(self, settings: SourceSettings, clock_start_ns: int) -> None:
        """Name the file; `clock_start_ns` is node time at its first frame. Nothing is opened yet."""
        self._settings = settings
        self._start_ns = clock_start_ns
        self._closed = False

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._settings.name

    def frames(self) -> Iterator[Frame]:
        """Yield the file's frames in order; stream time follows from the frame rate.

        Raises:
            SourceError: the file is missing, empty, not a video, or cannot be decoded; or, after the frames that could
                be read, it is truncated.
        """
        capture = self._open()
        try:
            step_ns = SECOND / self._frame_rate(capture)
            claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            index = 0
            while not self._closed and (image := self._read(capture)) is not None:
                apply_masks(image, self._settings.masks)
                yield self._frame(index, round(index * step_ns), image)
                index += 1
            if not self._closed:
                self._check_end(index, claimed)
        finally:
            capture.release()

    def expected(self) -> int:
        """Return how many frames the container claims, for a progress bar alone; 0 where it does not say.

        Raises:
            SourceError: as `frames` does before its first frame.
        """
        capture = self._open()
        try:
            claimed = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            return max(0, int(claimed)) if math.isfinite(claimed) else 0
        finally:
            capture.release()

    def close(self) -> None:
        """End `frames` before the next one."""
        self._closed = True

    def _frame(self, index: int, stream_ns: int, image: Image) -> Frame:
        captured_ns = self._start_ns + stream_ns
        return Frame(source=self.name, index=index, stream_ns=stream_ns, captured_ns=captured_ns, image=image)

    def _open(self) -> cv2.VideoCapture:
        path = self._checked_path()
        given = [
            # FFmpeg takes a thread and some frames a core otherwise, for each of many files.
            cv2.CAP_PROP_N_THREADS,
            1,
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            OPEN_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            READ_TIMEOUT_MS,
        ]
        try:
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, given)
        except cv2.error as error:
            raise self._error(Reason.FORMAT, "cannot be opened as a video; convert it to MP4 or AVI") from error
        if not capture.isOpened():
            raise self._error(
                Reason.FORMAT, "cannot be opened as a video (truncated, or of an unknown format); convert it again"
            )
        return capture

    def _checked_path(self) -> Path:
        text = str(self._settings.path)
        if _SCHEME.match(text):
            raise self._error(Reason.REFUSED, "is an address, not a path; only plain files are opened")
        path = Path(text).absolute()
        try:
            if path.exists() and not path.is_file():
                raise self._error(Reason.REFUSED, "is no regular file")
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except FileNotFoundError as error:
            raise self._error(Reason.MISSING, "no such file") from error
        except OSError as error:
            raise self._error(Reason.UNREADABLE, f"cannot be read: {error.strerror}") from error
        if not head:
            raise self._error(Reason.EMPTY, "is empty")
        if not container(head):
            raise self._error(Reason.FORMAT, "is no AVI, MP4, Matroska or MPEG-TS video; convert it to MP4 or AVI")
        return path

    def _frame_rate(self, capture: cv2.VideoCapture) -> float:
        fps = capture.get(cv2.CAP_PROP_FPS)
        if not math.isfinite(fps) or not FPS_LEAST <= fps <= FPS_MOST:
            raise self._error(
                Reason.FORMAT, f"claims {fps:g} frames a second; convert it to a constant rate of 1 to 240"
            )
        return fps

    def _read(self, capture: cv2.VideoCapture) -> Image | None:
        """Return the next frame [H, W, 3] BGR, or None at the end."""
        try:
            good, image = capture.read()
        except cv2.error as error:
            raise self._error(Reason.FORMAT, "a frame cannot be decoded; convert it again") from error
        if not good or image is None:
            return None
        height, width = image.shape[:2]
        if not (SIDE_LEAST <= height <= SIDE_MOST and SIDE_LEAST <= width <= SIDE_MOST):
            raise self._error(
                Reason.FORMAT, f"has frames of {width}x{height} pixels; a side has {SIDE_LEAST} to {SIDE_MOST}"
            )
        return np.asarray(image, np.uint8)

    def _check_end(self, delivered: int, claimed: float) -> None:
        """Tell the end of a file from a file that breaks off: FFmpeg reports both as the end."""
        if delivered == 0:
            raise self._error(
                Reason.FORMAT, "no frame can be decoded (truncated, or of an unknown codec); convert it to MP4 or AVI"
            )
        if math.isfinite(claimed) and claimed - delivered > max(MISSING_LEAST, MISSING_SHARE * claimed):
            raise self._error(
                Reason.TRUNCATED, f"breaks off: {delivered} of {claimed:.0f} frames could be read; copy the file again"
            )

    def _error(self, reason: Reason, what: str) -> SourceError:
        return SourceError(self.name, reason, f"{self._settings.path}: {what}")


def container(head: bytes) -> bool:
    """Tell whether a file's first bytes are of AVI, ISO media (MP4, MOV), Matroska (WebM) or MPEG-TS.

    Playlists and scripts that FFmpeg would follow to other files or hosts (HLS, ffconcat, SDP) are text and are not.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return True
    if head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}:
        return True
    if head[:4] == b"\x1aE\xdf\xa3":
        return True
    return len(head) > TS_PACKET and head[0] == TS_SYNC == head[TS_PACKET]
