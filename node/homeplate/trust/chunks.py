"""A packed bundle in messages for a broker's topic, each small and checked by hash, and how a node puts it together.

Messages are MessagePack: first a `List` (the whole's size and hash, a hash for each chunk), then the chunks, in any
order and as often as wanted. A hash here says that the bytes are the sender's, and nothing of who the sender is: what
is put together lands in the inbox, where the bundle's own signatures are judged like any other candidate's.
"""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from homeplate.trust.files import make_folder, read_bounded, sync_folder, write_durably
from homeplate.trust.inbox import hand_in
from homeplate.trust.packed import MAX_PACKED_BYTES, SUFFIX
from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError
from homeplate.trust.schema import why

TOPIC = "homeplate/bundles"
CHUNK_BYTES = 64 * 1024
MAX_CHUNKS = MAX_PACKED_BYTES // CHUNK_BYTES
MAX_MESSAGE_BYTES = CHUNK_BYTES + 1024
"""A chunk with its head; a list of `MAX_CHUNKS` hashes is 35 KiB."""

PREFIX = "arrived-"
_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class List(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="list"):
    """What a packed bundle consists of."""

    format: Literal[1] = 1
    bundle: _Hash
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_PACKED_BYTES)]
    chunk_bytes: Annotated[int, msgspec.Meta(ge=1, le=CHUNK_BYTES)]
    chunks: Annotated[list[_Hash], msgspec.Meta(min_length=1, max_length=MAX_CHUNKS)]


class Chunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="chunk"):
    """One piece of it, counted from 0."""

    bundle: _Hash
    number: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNKS)]
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CHUNK_BYTES)]


def split(packed: bytes, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Yield a packed bundle's messages: its list, then its chunks."""
    pieces = [packed[start : start + chunk_bytes] for start in range(0, len(packed), chunk_bytes)]
    bundle = hashlib.sha256(packed).digest()
    hashes = [hashlib.sha256(piece).digest() for piece in pieces]
    yield msgspec.msgpack.encode(List(bundle=bundle, size=len(packed), chunk_bytes=chunk_bytes, chunks=hashes))
    for number, piece in enumerate(pieces):
        yield msgspec.msgpack.encode(Chunk(bundle=bundle, number=number, data=piece))


def decode(message: bytes) -> List | Chunk:
    """Return what a message says.

    Raises:
        NamedTrustError: `not-a-message` or `too-large`, where it is none.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise NamedTrustError("too-large", f"a message of {len(message)} bytes; one has {MAX_MESSAGE_BYTES} at most")
    try:
        found = msgspec.msgpack.decode(message, type=List | Chunk)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NamedTrustError("not-a-message", f"a message is no part of a bundle: {why(error)}") from error
    if isinstance(found, List) and len(found.chunks) != -(-found.size // found.chunk_bytes):
        raise NamedTrustError("not-a-message", "a list of chunks has another number of them than its size asks for")
    return found


class Arrivals:
    """Chunks as they arrive, in a folder of the inbox; a bundle that is whole is handed in.

    One bundle at a time is gathered: a newer list drops what was gathered of another one, so that the disk holds one
    packed bundle at most, besides one that was handed in and waits to be judged. What was gathered survives a crash,
    and what is there already is not asked for again. Not for two threads or processes.

    Args:
        inbox: the node's; nothing is written elsewhere.
    """

    def __init__(self, inbox: Path) -> None:
        self._inbox, self._folder = inbox, inbox / ".arriving"
        self._list = self._kept()
        self._have = self._checked() if self._list is not None else set()
        if self._list is None and self._folder.is_dir():
            with suppress(NamedTrustError):  # what a crash left; a list that comes tries again, and says what is wrong
                self._drop()

    def take(self, message: bytes) -> bool:
        """Take a message in, durably; tell whether it completed a bundle.

        Raises:
            NamedTrustError: where the message is refused, or cannot be written.
        """
        found = decode(message)
        if isinstance(found, List):
            self._begin(found, message)
        else:
            self._add(found)
        return self.hand_in()

    def hand_in(self) -> bool:
        """Hand in what is whole, unless an earlier one still waits there; tell whether it was.

        Raises:
            NamedTrustError: where it cannot be written, or the whole is not what its list says.
        """
        if self._list is None or len(self._have) < len(self._list.chunks):
            return False
        name = f"{PREFIX}{self._list.bundle.hex()[:32]}"
        waiting = {path.name for path in self._inbox.glob(f"{PREFIX}*{SUFFIX}")}
        if f"{name}{SUFFIX}" in waiting:  # a crash came between handing it in and saying so
            self._done(self._list)
            return True
        if waiting:
            return False
        packed = b"".join(self._chunk(number) for number in range(len(self._list.chunks)))
        if hashlib.sha256(packed).digest() != self._list.bundle or len(packed) != self._list.size:
            self._drop()
            raise NamedTrustError(
                "other-whole", "the chunks of a list are not the bundle that it names; it was dropped"
            )
        hand_in(self._inbox, packed, name)
        self._done(self._list)
        return True

    def _done(self, found: List) -> None:
        write_durably(self._folder / "handed-in", found.bundle.hex().encode())
        self._drop()

    def _begin(self, found: List, message: bytes) -> None:
        if found == self._list or self._is_handed_in(found.bundle):
            return
        self._drop()
        write_durably(self._folder / "list", message)
        self._list = found

    def _add(self, found: Chunk) -> None:
        known = self._list
        if self._is_handed_in(found.bundle) or found.number in self._have:
            return
        if known is None or found.bundle != known.bundle or found.number >= len(known.chunks):
            raise NamedTrustError("not-listed", "a chunk of no bundle that a list has announced; send the bundle again")
        if hashlib.sha256(found.data).digest() != known.chunks[found.number]:
            raise NamedTrustError("altered", "a chunk is not the one that its list names")
        write_durably(self._folder / str(found.number), found.data)
        self._have.add(found.number)

    def _is_handed_in(self, bundle: bytes) -> bool:
        with suppress(NamedTrustError):
            return read_bounded(self._folder / "handed-in", 64) == bundle.hex().encode()
        return False

    def _chunk(self, number: int) -> bytes:
        return read_bounded(self._folder / str(number), CHUNK_BYTES)

    def _kept(self) -> List | None:
        """Return the list that was being gathered; one that is damaged is forgotten."""
        with suppress(NamedTrustError):
            found = decode(read_bounded(self._folder / "list", MAX_MESSAGE_BYTES))
            return found if isinstance(found, List) else None
        return None

    def _checked(self) -> set[int]:
        """Return which chunks are there and are what the list names."""
        assert self._list is not None
        have = set()
        for number, digest in enumerate(self._list.chunks):
            with suppress(NamedTrustError):
                if hashlib.sha256(self._chunk(number)).digest() == digest:
                    have.add(number)
        return have

    def _drop(self) -> None:
        """Forget what was gathered, the list first: chunks without one are nothing."""
        self._list, self._have = None, set()
        try:
            make_folder(self._folder)
            (self._folder / "list").unlink(missing_ok=True)
            for path in self._folder.iterdir():
                if path.name != "handed-in":
                    path.unlink()
            sync_folder(self._folder)
        except OSError as error:
            message = f"{self._folder} cannot be emptied: {error.strerror}; check its owner"
            raise NamedTrustError(NOT_WRITTEN, message) from error
