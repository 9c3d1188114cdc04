"""What a file source is by its content, so that a second run over the same input is known as such."""

import hashlib
from pathlib import Path

from homeplate.camera.errors import Reason, SourceError
from homeplate.domain.source import SourceKind, SourceSettings

IDENTITY_DIGITS = 16
"""Hexadecimal digits of SHA-256 that name an input (64 bits: a node sees far fewer than 2**32 inputs)."""


def identity(settings: SourceSettings) -> str:
    """Return 16 hexadecimal digits over a video's bytes, or over the names and bytes of a folder's pictures.

    Raises:
        SourceError: where it is missing or unreadable.
    """
    path = Path(settings.path)
    try:
        digest = _folder(path) if settings.kind is SourceKind.FOLDER else _file(path)
    except OSError as error:
        reason = Reason.MISSING if isinstance(error, FileNotFoundError) else Reason.UNREADABLE
        raise SourceError(settings.name, reason, f"{path}: {error.strerror}; name one that can be read") from error
    return digest.hex()[:IDENTITY_DIGITS]


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _folder(path: Path) -> bytes:
    whole = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        if entry.is_file():
            whole.update(hashlib.sha256(entry.name.encode(errors="surrogateescape")).digest() + _file(entry))
    return whole.digest()
