"""What a file source is by its content, so that a second run over the same input is known as such."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from homeplate.camera.errors import Reason, SourceError
from homeplate.domain.source import SourceKind, SourceSettings

IDENTITY_DIGITS = 16
"""Hexadecimal digits of SHA-256 that name an input (64 bits: a node sees far fewer than 2**32 inputs)."""
_CHUNK_BYTES = 1 << 20


def identity(settings: SourceSettings, heard: Callable[[], None] = lambda: None) -> str:
    """Return 16 hexadecimal digits over a video's bytes, or over the names and bytes of a folder's pictures.

    Args:
        settings: the source's.
        heard: called for every megabyte, because a long film takes longer than a stalled source is waited for.

    Raises:
        SourceError: where it is missing or unreadable.
    """
    path = Path(settings.path)
    try:
        digest = _folder(path, heard) if settings.kind is SourceKind.FOLDER else _file(path, heard)
    except OSError as error:
        reason = Reason.MISSING if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
        raise SourceError(settings.name, reason, f"{path}: {error.strerror}; name one that can be read") from error
    return digest.hex()[:IDENTITY_DIGITS]


def _file(path: Path, heard: Callable[[], None]) -> bytes:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            whole.update(chunk)
            heard()
    return whole.digest()


def _folder(path: Path, heard: Callable[[], None]) -> bytes:
    whole = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        if entry.is_file():
            name = hashlib.sha256(entry.name.encode(errors="surrogateescape")).digest()
            whole.update(name + _file(entry, heard))
    return whole.digest()
