"""Sources of frames. `open_source` picks one; the others go on where one fails."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from homeplate.camera.claims import ClaimedSource
from homeplate.camera.errors import SourceError
from homeplate.camera.gstreamer import open_csi
from homeplate.camera.identity import identity
from homeplate.camera.live import Camera, LiveSource
from homeplate.camera.opencv import VideoFileSource
from homeplate.camera.pacing import PacedSource
from homeplate.camera.picamera import open_picamera
from homeplate.camera.replay import FolderSource
from homeplate.camera.shared import FrameFile, frames_path
from homeplate.camera.v4l2 import open_v4l2
from homeplate.clock import perf_ns
from homeplate.domain.source import LIVE_KINDS, SourceKind, SourceSettings
from homeplate.ports import FrameSource
from homeplate.ports import LiveSource as AnySource

__all__ = [
    "ClaimedSource",
    "FolderSource",
    "PacedSource",
    "VideoFileSource",
    "expected_frames",
    "identity",
    "open_source",
]


def open_source(settings: SourceSettings, start_ns: int, *, now_ns: Callable[[], int], runtime: Path) -> AnySource:
    """Return the source that the settings name. Nothing is opened before its `frames` are asked for.

    Args:
        settings: what the configuration says.
        start_ns: node time of a file's first frame, nanoseconds since 1970; a clip of one second is one second of it.
        now_ns: node time, by which a camera's pictures are dated.
        runtime: the folder where grabbers leave the pictures of network cameras.
    """
    if settings.kind in LIVE_KINDS:
        return LiveSource(settings, _opener(settings, runtime), now_ns=now_ns, perf_ns=perf_ns)
    source: FrameSource = FolderSource(settings, start_ns)
    if settings.kind is SourceKind.VIDEO:
        source = VideoFileSource(settings, start_ns)
    if settings.realtime_fps is not None:
        return PacedSource(source, fps=settings.realtime_fps, start_ns=start_ns, perf_ns=perf_ns)
    return source


def _opener(settings: SourceSettings, runtime: Path) -> Callable[[], Camera]:
    """Return what opens a camera. That of a network is not opened here: its grabber's pictures are."""
    if settings.kind is SourceKind.RTSP:
        return partial(FrameFile, settings.name, frames_path(runtime, settings.name))
    board: dict[SourceKind, Callable[[SourceSettings], Camera]] = {
        SourceKind.PICAMERA: open_picamera,
        SourceKind.CSI: open_csi,
        SourceKind.V4L2: open_v4l2,
    }
    return partial(board[settings.kind], settings)


def expected_frames(settings: SourceSettings) -> int:
    """Return how many frames a source claims to have, for a progress bar alone; 0 where it does not say or fails."""
    kind = VideoFileSource if settings.kind is SourceKind.VIDEO else FolderSource
    try:
        return kind(settings, 0).expected()
    except SourceError:
        return 0
