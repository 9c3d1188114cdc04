"""Retention slots: the keys whose destruction is the deletion of everything that was wrapped under them.

One `SlotStore` serves one storage class with two preallocated files of fixed cells: one in memory-backed storage for
retentions under a day (power loss destroys them, rightly), one on disk. A key is destroyed by overwriting its cell in
place and syncing: measured on ext4, temp-and-rename, unlink and SQLite's secure_delete all leave the key's bytes on the
disk. Which slots are due is `policy.retention`'s; nothing here reads a clock, and no key is kept between calls.
"""

import fcntl
import hashlib
import mmap
import os
import re
import secrets
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from homeplate.domain.record import DAY_SECONDS, RECORD_ID_BYTES, RecordId, SlotId
from homeplate.sealing.envelope import MAX_RECORD_BYTES
from homeplate.sealing.errors import SlotError, VersionError

WRAP_LINE = b"homeplate/v1/slot\n"
_WRAP_INFO = b"homeplate/v1/slot"
_SLOT_BYTES = 16
_NONCE_BYTES = 12
_TAG_BYTES = 16
_KEY_BYTES = 32
_PREFIX_BYTES = len(WRAP_LINE) + _SLOT_BYTES + RECORD_ID_BYTES
_MAX_WRAPPED_BYTES = _PREFIX_BYTES + _NONCE_BYTES + MAX_RECORD_BYTES + _TAG_BYTES

# A cell is one disk sector, so that no other cell shares the block that a torn write could spoil.
CELL_BYTES = 512
CELLS = 1024
_FILE_BYTES = CELL_BYTES * (CELLS + 1)
_FILE_HEADER = b"homeplate/v1/slots\n".ljust(CELL_BYTES, b"\0")
_EMPTY = bytes(CELL_BYTES)
_MARK = b"slot"
_RULE_BYTES = 40
# Mark, slot id, rule, expiry; then whether a device key wraps the key, nonce, key (32 bytes, and 16 of tag if wrapped).
_NAME = struct.Struct(">4s16s40sQ")
_KEY = struct.Struct(">B12s48s")
_FIELDS_BYTES = _NAME.size + _KEY.size
_CHECK_BYTES = 16
# A signed rule's name, or what `domain.hold.hold_rule` makes of a hold's id.
_RULE = re.compile(r"[a-z0-9-]{1,40}|hold:[0-9a-f]{32}")

_MOUNTS = Path("/proc/self/mountinfo")
_JOURNALLED = "data=journal"
_MEMORY_FILESYSTEMS = frozenset({"tmpfs", "ramfs"})
_IN_PLACE_FILESYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs"}) | _MEMORY_FILESYSTEMS


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotInfo:
    """A live slot: its name, the rule whose records it locks, and when it expires (seconds since 1970)."""

    slot: SlotId
    rule: str
    expiry_s: int


class SlotStore:
    """The slot keys of one storage class; implements `ports.SlotWrapper`.

    Capture creates slots and purge destroys them, under a lock; uplink reads through `open_existing`. Readers take no
    lock, so that a process that may only read cannot hold up a deletion. For one thread at a time.
    """

    def __init__(
        self, disk_path: Path, memory_path: Path, device_key: bytes | None = None, *, mode: int = 0o600
    ) -> None:
        """Open both files for creating and destroying slots; make them, empty, where they are missing.

        Args:
            disk_path: the file for retentions of a day and more, on a file system that overwrites in place.
            memory_path: the file for shorter ones, in memory-backed storage (see `require_memory_backed`).
            device_key: 32 bytes that wrap the keys on disk (TPM or systemd credential); None where there is none.
            mode: permissions of new files: 0o640 for the outgoing class, which uplink's group reads.

        Raises:
            SlotError: where a file cannot be made or opened or is no slot file.
        """
        self._memory = _SlotFile(memory_path, mode=mode)
        self._disk = _SlotFile(disk_path, mode=mode)
        self._device_key = _checked(device_key)

    @classmethod
    def open_existing(cls, disk_path: Path, memory_path: Path, device_key: bytes | None = None) -> Self:
        """Open both files for reading. A missing one is an error, not an empty one: nothing else was destroyed by it.

        Raises:
            SlotError: where a file is missing, unreadable or no slot file.
        """
        store = cls.__new__(cls)
        store._memory = _SlotFile(memory_path, mode=None)  # noqa: SLF001 - an alternative constructor
        store._disk = _SlotFile(disk_path, mode=None)  # noqa: SLF001
        store._device_key = _checked(device_key)  # noqa: SLF001
        return store

    def close(self) -> None:
        """Close both files."""
        self._memory.close()
        self._disk.close()

    def slot_for(self, rule: str, expiry_s: int, retention_s: int) -> SlotId:
        """Return the live slot of a rule and expiry; create it, durably, where there is none.

        Raises:
            SlotError: where the store is read-only, full (purge has not run), or cannot be written.
        """
        if _RULE.fullmatch(rule) is None or not 0 <= expiry_s < 1 << 63:
            raise SlotError(f"a slot needs a rule's name and an expiry in seconds, not {rule!r} and {expiry_s}")
        file, device_key = (self._memory, None) if retention_s < DAY_SECONDS else (self._disk, self._device_key)
        with file.locked():
            for _, info in file.live():
                if (info.rule, info.expiry_s) == (rule, expiry_s):
                    return info.slot
            info = SlotInfo(slot=SlotId(value=secrets.token_bytes(_SLOT_BYTES)), rule=rule, expiry_s=expiry_s)
            file.overwrite({file.free_index(): _encode_cell(info, device_key)})
        return info.slot

    def live(self) -> tuple[SlotInfo, ...]:
        """Return every slot whose key exists, in no particular order."""
        return tuple(info for file in (self._memory, self._disk) for _, info in file.live())

    def destroy(self, slots: Collection[SlotId]) -> int:
        """Overwrite these slots' keys in place; they are gone from the files once this returns.

        What a crash tore is overwritten too. Ids without a slot are ignored.

        Returns:
            How many keys were destroyed.

        Raises:
            SlotError: where the store is read-only or cannot be written: then the keys may still be there.
        """
        wanted, destroyed = frozenset(slots), 0
        for file in (self._memory, self._disk):
            with file.locked():
                doomed = [index for index, info in file.live() if info.slot in wanted]
                # Synced even where nothing is due: an earlier purge may have died between writing and syncing.
                file.overwrite(dict.fromkeys((*doomed, *file.torn()), _EMPTY))
                destroyed += len(doomed)
        return destroyed

    def wrap(self, slot: SlotId, record_id: RecordId, sealed: bytes) -> bytes:
        """Encrypt a sealed record's bytes under its slot, with a key of their own derived from the slot's.

        Raises:
            SlotError: where the slot's key is gone, or the record is longer than the format allows.
        """
        key = self._key(slot)
        if key is None:
            raise SlotError(f"the slot {slot} is gone: what it should lock is past its date")
        if len(sealed) > MAX_RECORD_BYTES:
            raise SlotError(f"a record of {len(sealed)} bytes is too long to store")
        prefix, nonce = WRAP_LINE + slot.value + record_id.value, secrets.token_bytes(_NONCE_BYTES)
        return prefix + nonce + _record_cipher(key, record_id.value).encrypt(nonce, sealed, prefix)

    def unwrap(self, blob: bytes, now_s: int | None = None) -> bytes | None:
        """Return what `wrap` was given; None where the slot's key was destroyed.

        Args:
            blob: what `wrap` returned.
            now_s: node time in seconds since 1970; a slot that is over by then counts as destroyed, purged or not.

        Raises:
            VersionError: where the bytes are of another version.
            SlotError: where they were altered.
        """
        slot = slot_of(blob)
        key = self._key(slot, now_s)
        if key is None:
            return None
        prefix, nonce = blob[:_PREFIX_BYTES], blob[_PREFIX_BYTES : _PREFIX_BYTES + _NONCE_BYTES]
        try:
            cipher = _record_cipher(key, prefix[-RECORD_ID_BYTES:])
            return cipher.decrypt(nonce, blob[_PREFIX_BYTES + _NONCE_BYTES :], prefix)
        except InvalidTag:
            raise SlotError(f"a stored record under the slot {slot} was altered; it is not passed on") from None

    def _key(self, slot: SlotId, now_s: int | None = None) -> bytes | None:
        for file in (self._memory, self._disk):
            for index, info in file.live():
                if info.slot == slot:
                    over = now_s is not None and info.expiry_s <= now_s
                    return None if over else _decode_key(bytes(file.cell(index)), slot, self._device_key)
        for file in (self._memory, self._disk):
            file.require_in_use()  # a slot that is missing in today's files alone counts as destroyed
        return None


def slot_of(blob: bytes) -> SlotId:
    """Return the slot that a stored record is wrapped under, which stands in front of it.

    Raises:
        VersionError: where the bytes are not a wrapped record of this version.
        SlotError: where they are too short or too long for one.
    """
    if not blob.startswith(WRAP_LINE):
        raise VersionError("a stored record is of a version that this program does not know")
    if not _PREFIX_BYTES + _NONCE_BYTES + _TAG_BYTES <= len(blob) <= _MAX_WRAPPED_BYTES:
        raise SlotError(f"a stored record of {len(blob)} bytes is truncated or too long")
    return SlotId(value=blob[len(WRAP_LINE) : len(WRAP_LINE) + _SLOT_BYTES])


def require_memory_backed(path: Path) -> None:
    """Check that a file or folder lies in memory-backed storage, where losing power loses it.

    Raises:
        SlotError: where it lies on a disk, or the system does not tell.
    """
    if filesystem_of(path) not in _MEMORY_FILESYSTEMS:
        raise SlotError(f"{path} is not memory-backed; name a folder under /run or /dev/shm as runtime_dir")


def require_in_place(path: Path) -> None:
    """Check that a file or folder lies on a file system that overwrites in place, as destroying a slot needs.

    Raises:
        SlotError: where it copies on write or keeps a log (btrfs, zfs, f2fs, ...), or the system does not tell.
    """
    kind = filesystem_of(path)
    if kind not in _IN_PLACE_FILESYSTEMS:
        raise SlotError(
            f"{path} is on {kind or 'an unknown file system'}; slot keys need ext4 to be destroyed in place"
        )


def filesystem_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the type of the file system that `path` lies on ("ext4", "tmpfs"); "" where the system does not tell.

    One whose journal holds the contents of files, and so copies of what was overwritten, has another name.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    target, best, kind = path.resolve(), -1, ""
    for line in table.splitlines():
        fields, _, rest = line.partition(" - ")
        mount = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split(" ")[4]))
        # The last of equally long mount points is on top of the others.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            name, _, options = rest.split(" ", 2)
            best, kind = len(mount.parts), f"{name} with {_JOURNALLED}" if _JOURNALLED in options.split(",") else name
    return kind


def _encode_cell(info: SlotInfo, device_key: bytes | None) -> bytes:
    """Return a cell with a new key in it."""
    key, nonce = secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)
    stored = key + bytes(_TAG_BYTES)
    if device_key is not None:
        stored = AESGCM(device_key).encrypt(nonce, key, info.slot.value)
    rule = info.rule.encode().ljust(_RULE_BYTES, b"\0")
    name = _NAME.pack(_MARK, info.slot.value, rule, info.expiry_s)
    fields = name + _KEY.pack(device_key is not None, nonce, stored)
    return (fields + _checksum(fields)).ljust(CELL_BYTES, b"\0")


def _decode_name(cell: bytes | memoryview) -> SlotInfo | None:
    """Return what a cell says of its slot, without copying its key; None where the cell is empty or torn."""
    if cell[: len(_MARK)] != _MARK or cell[_FIELDS_BYTES : _FIELDS_BYTES + _CHECK_BYTES] != _checksum(
        cell[:_FIELDS_BYTES]
    ):
        return None
    _, slot, rule, expiry_s = _NAME.unpack_from(cell)
    return SlotInfo(slot=SlotId(value=slot), rule=rule.rstrip(b"\0").decode("ascii"), expiry_s=expiry_s)


def _decode_key(cell: bytes, slot: SlotId, device_key: bytes | None) -> bytes | None:
    """Return the key in a copy of a cell; None where the cell is another slot's or none."""
    # Purge may have overwritten the cell since it was found: without this look the key would be all zeros.
    info = _decode_name(cell)
    if info is None or info.slot != slot:
        return None
    wrapped, nonce, stored = _KEY.unpack_from(cell, _NAME.size)
    if not wrapped:
        return bytes(stored[:_KEY_BYTES])
    if device_key is None:
        raise SlotError(f"the key of slot {slot} is wrapped; start with this device's key (systemd credential)")
    try:
        return AESGCM(device_key).decrypt(nonce, stored, slot.value)
    except InvalidTag:
        raise SlotError(f"the key of slot {slot} belongs to another device's key") from None


class _SlotFile:
    """A preallocated file of cells, read through a memory map and written with pwrite and fsync."""

    def __init__(self, path: Path, *, mode: int | None) -> None:
        """Open it, read-only where `mode` is None, else made with that mode where it is missing."""
        self._path = path
        self._lock = self._descriptor = -1
        try:
            if mode is not None:
                _make(path, mode)
                self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            access = os.O_RDONLY if mode is None else os.O_RDWR
            self._descriptor = os.open(path, access | os.O_CLOEXEC | os.O_NOFOLLOW)
            if os.fstat(self._descriptor).st_size != _FILE_BYTES:
                raise SlotError(f"{path} is not a slot file of {_FILE_BYTES} bytes; restore or remove it")
            self._map = mmap.mmap(self._descriptor, _FILE_BYTES, prot=mmap.PROT_READ)
        except OSError as error:
            hint = "start capture or purge once" if mode is None else "check the folder and its owner"
            raise SlotError(f"{path} cannot be opened: {error.strerror}; {hint}") from error
        self._view = memoryview(self._map)
        if self._view[:CELL_BYTES] != _FILE_HEADER:
            raise SlotError(f"{path} is not a slot file of version 1; restore or remove it")

    def close(self) -> None:
        self._view.release()
        self._map.close()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out. The lock is a file of its own that readers cannot open."""
        if self._lock < 0:
            raise SlotError(f"{self._path} is open for reading only")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self.require_in_use()  # purge would never find a key that is written into a file that is gone
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def require_in_use(self) -> None:
        """Refuse a file that was removed or replaced while it was open: it tells nothing about today's slots."""
        if os.fstat(self._descriptor).st_nlink == 0:
            raise SlotError(f"{self._path} was removed or replaced while it was open; start again")

    def cell(self, index: int) -> memoryview:
        return self._view[index * CELL_BYTES : (index + 1) * CELL_BYTES]

    def live(self) -> Iterator[tuple[int, SlotInfo]]:
        at = self._map.find(_MARK, CELL_BYTES)  # most cells are empty, and purge looks at all of them several times
        while at >= 0:
            index, inside = divmod(at, CELL_BYTES)
            info = None if inside else _decode_name(self.cell(index))
            if info is not None:
                yield index, info
            at = self._map.find(_MARK, at + 1)

    def torn(self) -> list[int]:
        """Return the cells that are neither empty nor live."""
        live = {index for index, _ in self.live()}
        return [index for index in range(1, CELLS + 1) if index not in live and bytes(self.cell(index)) != _EMPTY]

    def free_index(self) -> int:
        free = next((index for index in range(1, CELLS + 1) if self.cell(index) == _EMPTY), None)
        if free is None:
            raise SlotError(f"{self._path} is full with {CELLS} slots; run `homeplate purge`")
        return free

    def overwrite(self, cells: dict[int, bytes]) -> None:
        """Write cells in place and sync them."""
        try:
            for index, data in cells.items():
                os.pwrite(self._descriptor, data, index * CELL_BYTES)
            os.fsync(self._descriptor)
        except OSError as error:
            raise SlotError(f"{self._path} cannot be written: {error.strerror}; check the disk") from error


def _make(path: Path, mode: int) -> None:
    """Make an empty slot file, whole or not at all; leave one that is there as it is."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask of who makes the node: uplink's group reads one class
            file.write(_FILE_HEADER.ljust(_FILE_BYTES, b"\0"))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:  # the other writer was first
            return
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def _record_cipher(slot_key: bytes, record_id: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=record_id, info=_WRAP_INFO).derive(slot_key))


def _checksum(fields: bytes | memoryview) -> bytes:
    return hashlib.sha256(fields).digest()[:_CHECK_BYTES]


def _checked(device_key: bytes | None) -> bytes | None:
    if device_key is not None and len(device_key) != _KEY_BYTES:
        raise SlotError(f"a device key has {_KEY_BYTES} bytes, not {len(device_key)}")
    return device_key
