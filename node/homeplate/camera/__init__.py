"""Sources of frames. `open_source` picks one; the others go on where one fails."""

from homeplate.camera.errors import SourceError
from homeplate.camera.identity import identity
from homeplate.camera.opencv import VideoFileSource
from homeplate.camera.pacing import PacedSource
from homeplate.camera.replay import FolderSource
from homeplate.clock import perf_ns
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.ports import FrameSource

__all__ = ["FolderSource", "PacedSource", "VideoFileSource", "expected_frames", "identity", "open_source"]


def open_source(settings: SourceSettings, start_ns: int) -> FrameSource:
    """Return the source that the settings name. Nothing is opened before its `frames` are asked for.

    Args:
        settings: what the configuration says.
        start_ns: node time of its first frame, nanoseconds since 1970; a clip of one second is one second of it.
    """
    source: FrameSource = FolderSource(settings, start_ns)
    if settings.kind is SourceKind.VIDEO:
        source = VideoFileSource(settings, start_ns)
    if settings.realtime_fps is not None:
        return PacedSource(source, fps=settings.realtime_fps, start_ns=start_ns, perf_ns=perf_ns)
    return source


def expected_frames(settings: SourceSettings) -> int:
    """Return how many frames a source claims to have, for a progress bar alone; 0 where it does not say or fails."""
    kind = VideoFileSource if settings.kind is SourceKind.VIDEO else FolderSource
    try:
        return kind(settings, 0).expected()
    except SourceError:
        return 0
