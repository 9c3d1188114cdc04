"""Sources of frames. `open_source` picks one; the others go on where one fails."""

from homeplate.camera.opencv import VideoFileSource
from homeplate.camera.replay import FolderSource
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.ports import FrameSource

__all__ = ["FolderSource", "VideoFileSource", "open_source"]


def open_source(settings: SourceSettings, start_ns: int) -> FrameSource:
    """Return the source that the settings name. Nothing is opened before its `frames` are asked for.

    Args:
        settings: what the configuration says.
        start_ns: node time of its first frame, nanoseconds since 1970; a clip of one second is one second of it.
    """
    if settings.kind is SourceKind.VIDEO:
        return VideoFileSource(settings, start_ns)
    return FolderSource(settings, start_ns)
