"""A bundle's folder as one file, to be handed in or sent in chunks. Nothing in it is believed: `bundle` verifies it.

The form is MessagePack, `{"format": 1, "files": {name: bytes}}`. Names are bounded and cannot lead out of a folder, and
no file of a packed bundle is ever written under its name: it is read from memory.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from homeplate.trust.files import missing, read_at_most, too_large
from homeplate.trust.metadata import MAX_METADATA_BYTES, MAX_ROOTS, MAX_TARGET_BYTES, TARGETS_FOLDER
from homeplate.trust.reasons import NamedTrustError
from homeplate.trust.schema import why

MAX_PACKED_BYTES = 64 * 1024 * 1024
"""Seven of the largest targets (hot lists of a million entries); a node holds it in memory while it judges it."""

MAX_FILES = 4096 + MAX_ROOTS + 16
"""A hot list for each node that `nodes.json` can name, the roots, and the rest."""

SUFFIX = ".bundle"

_Name = Annotated[str, msgspec.Meta(pattern=r"^(targets/(hot-lists/)?)?[A-Za-z0-9][A-Za-z0-9._-]{0,159}\Z")]


class _Packed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Literal[1] = 1
    files: Annotated[dict[_Name, bytes], msgspec.Meta(max_length=MAX_FILES)]


class HeldFiles:
    """`files.Files` of a packed bundle, in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def __contains__(self, name: object) -> bool:
        """Tell whether it holds a file."""
        return name in self._files

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's bytes; see `files.Files.read`."""
        data = self._files.get(name)
        if data is None:
            raise missing(name)
        if len(data) > limit:
            raise too_large(name, limit)
        return data


def pack(folder: Path) -> bytes:
    """Return a bundle's folder as one file.

    What is no regular file, or has a name that no bundle's file has, is left out: the verdict on the packed bundle then
    says that it is missing. Of a file that is longer than any may be, one byte too many is packed, for the same reason.

    Raises:
        TrustError: where the folder cannot be read or is larger than any bundle.
    """
    files: dict[str, bytes] = {}
    names = msgspec.json.Decoder(_Name)
    try:
        for path in _regular_files(folder):
            name = path.relative_to(folder).as_posix()
            with suppress(msgspec.ValidationError):
                names.decode(msgspec.json.encode(name))
                limit = MAX_TARGET_BYTES if name.startswith(f"{TARGETS_FOLDER}/") else MAX_METADATA_BYTES
                files[name] = read_at_most(path, limit + 1)
            if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_PACKED_BYTES:
                raise too_large(str(folder), MAX_PACKED_BYTES)
    except OSError as error:
        raise NamedTrustError("unreadable", f"{folder} cannot be read: {error.strerror}") from error
    packed = msgspec.msgpack.encode(_Packed(files=files), order="sorted")
    if len(packed) > MAX_PACKED_BYTES:
        raise too_large(str(folder), MAX_PACKED_BYTES)
    return packed


def _regular_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for inner in (".", TARGETS_FOLDER, f"{TARGETS_FOLDER}/hot-lists"):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / inner) as entries:
            found += [folder / inner / entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    return sorted(found)


def unpack(data: bytes) -> HeldFiles:
    """Return the files of a packed bundle of at most `MAX_PACKED_BYTES`, which the caller's reading has bounded.

    Raises:
        NamedTrustError: `not-packed`, where the bytes are none.
    """
    try:
        return HeldFiles(msgspec.msgpack.decode(data, type=_Packed).files)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NamedTrustError("not-packed", f"the file is no packed bundle: {why(error)}") from error
