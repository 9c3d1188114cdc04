"""Frames of a folder of pictures, in the order of their names; each may be a sighting of its own (stills)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from homeplate.camera.masks import apply_masks
from homeplate.domain.passage import Frame, Image
from homeplate.domain.source import SourceSettings
from homeplate.errors import CameraError

SECOND = 1_000_000_000
STILL_STEP_NS = SECOND
"""Stream time between two stills."""
PICTURE_STEP_NS = SECOND // 10
"""Stream time between two pictures that are one stream: the folder names no rate."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MOST_BYTES = 64 * 1024 * 1024
SIDE_LEAST, SIDE_MOST = 16, 16_384


class FolderSource:
    """Implements `ports.FrameSource` for the pictures of one folder."""

    def __init__(self, settings: SourceSettings, clock_start_ns: int) -> None:
        """Name the folder; `clock_start_ns` is node time at its first picture. Nothing is opened yet."""
        self._settings = settings
        self._start_ns = clock_start_ns
        self._closed = False

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._settings.name

    def frames(self) -> Iterator[Frame]:
        """Yield the pictures in the order of their names. An index is a place in that order, so gaps are bad pictures.

        Raises:
            CameraError: the folder is missing or holds no picture; or, after those that could be read, some could not.
        """
        step_ns = STILL_STEP_NS if self._settings.stills else PICTURE_STEP_NS
        bad: list[str] = []
        for index, path in enumerate(self._pictures()):
            if self._closed:
                return
            try:
                image = load_picture(path)
            except CameraError as error:
                bad.append(str(error))
                continue
            apply_masks(image, self._settings.masks)
            yield Frame(
                source=self.name,
                index=index,
                stream_ns=index * step_ns,
                captured_ns=self._start_ns + index * step_ns,
                image=image,
                still=self._settings.stills,
            )
        if bad:
            raise CameraError(f"source {self.name}: {len(bad)} pictures could not be read, the first: {bad[0]}")

    def close(self) -> None:
        """End `frames` before the next one."""
        self._closed = True

    def _pictures(self) -> list[Path]:
        folder = Path(self._settings.path)
        try:
            found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
        except OSError as error:
            raise CameraError(f"source {self.name}: {folder}: {error.strerror}; name a folder of pictures") from error
        if not found:
            raise CameraError(f"source {self.name}: {folder}: holds no {', '.join(sorted(SUFFIXES))} picture")
        return found


def load_picture(path: Path) -> Image:
    """Return a picture as [H, W, 3] BGR.

    Raises:
        CameraError: it is unreadable, empty, too large, truncated or no picture.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CameraError(f"{path}: larger than {MOST_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise CameraError(f"{path}: {error.strerror}") from error
    if not content:
        raise CameraError(f"{path}: is empty")
    if truncated(content):
        raise CameraError(f"{path}: is truncated; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise CameraError(f"{path}: cannot be decoded") from error
    if image is None:
        raise CameraError(f"{path}: cannot be decoded; convert it to JPEG, PNG or WebP")
    if not all(SIDE_LEAST <= side <= SIDE_MOST for side in image.shape[:2]):
        raise CameraError(f"{path}: has {image.shape[1]}x{image.shape[0]} pixels; a side has 16 to 16384")
    return np.asarray(image, np.uint8)


def truncated(content: bytes) -> bool:
    """Tell whether a JPEG, PNG or WebP breaks off. OpenCV fills what is missing with grey and reports nothing."""
    if content[:2] == b"\xff\xd8":
        # Neither marker occurs inside a scan, and a thumbnail's end comes before the picture's own scan.
        return content.rfind(b"\xff\xd9") < max(0, content.rfind(b"\xff\xda"))
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" not in content[-1024:]
    if content[:4] == b"RIFF":
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return False
