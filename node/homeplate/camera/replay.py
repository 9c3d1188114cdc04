"""Frames of a folder of pictures, in the order of their names; each may be a sighting of its own (stills)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.masks import apply_masks
from homeplate.domain.passage import Frame, Image
from homeplate.domain.source import SourceSettings

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
            SourceError: the folder is missing or holds no picture; or, after those that could be read, some could not.
        """
        step_ns = STILL_STEP_NS if self._settings.stills else PICTURE_STEP_NS
        bad: list[tuple[int, Reason, str]] = []
        for index, path in enumerate(self._pictures()):
            if self._closed:
                return
            image = load_picture(path)
            if isinstance(image, Unusable):
                bad.append((index + 1, image.reason, image.what))
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
            number, reason, what = bad[0]
            where = f"{self._settings.path}: {len(bad)} pictures could not be read"
            raise SourceError(self.name, reason, f"{where}; number {number} in the order of names {what}")

    def expected(self) -> int:
        """Return how many pictures there are.

        Raises:
            SourceError: the folder is missing or holds no picture.
        """
        return len(self._pictures())

    def close(self) -> None:
        """End `frames` before the next one."""
        self._closed = True

    def _pictures(self) -> list[Path]:
        folder = Path(self._settings.path)
        try:
            found = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES and p.is_file()]
        except OSError as error:
            reason = Reason.MISSING if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
            raise SourceError(self.name, reason, f"{folder}: {error.strerror}; name a folder of pictures") from error
        if not found:
            raise SourceError(self.name, Reason.EMPTY, f"{folder}: holds no {', '.join(sorted(SUFFIXES))} picture")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """Why a file is no picture that can be used."""

    reason: Reason
    what: str


def load_picture(path: Path) -> Image | Unusable:
    """Return a picture as [H, W, 3] BGR, or why there is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return Unusable(reason=Reason.REFUSED, what=f"is larger than {MOST_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        return Unusable(reason=Reason.UNREADABLE, what=f"cannot be read: {error.strerror}")
    return _decoded(content) if content else Unusable(reason=Reason.EMPTY, what="is empty")


def _decoded(content: bytes) -> Image | Unusable:
    if truncated(content):
        return Unusable(reason=Reason.TRUNCATED, what="is truncated; copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        return Unusable(reason=Reason.FORMAT, what="cannot be decoded; convert it to JPEG, PNG or WebP")
    if not all(SIDE_LEAST <= side <= SIDE_MOST for side in image.shape[:2]):
        size = f"{image.shape[1]}x{image.shape[0]}"
        return Unusable(reason=Reason.REFUSED, what=f"has {size} pixels; a side has {SIDE_LEAST} to {SIDE_MOST}")
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
