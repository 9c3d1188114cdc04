"""Sealed records at the agency: kept as files, opened only after an access record is on disk.

`Inbox` stores what `receive` accepted, once a record id. `Opener` opens; `access` writes who opens what and why, and
syncs it, before the first private key is read.
Nothing opens at or past its keep-until; its file is removed instead. What a node gave out for a hold opens until that
hold's expiry.
"""

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from homeplate.domain.hold import Hold
from homeplate.domain.node import NodeEntry
from homeplate.domain.plate import PlateText, has_form_of_plate
from homeplate.domain.record import DAY_SECONDS, Part, RecordHeader, RecordId
from homeplate.errors import ConfigError, SealingError, StoreError
from homeplate.policy.hold import in_window
from homeplate.ports import Clock
from homeplate.sealing.envelope import MAX_RECORD_BYTES, decode
from homeplate.sealing.facts import Facts, check_crop, check_header, decode_facts, unpad_crop
from homeplate.sealing.keys import SealingPrivateKey
from homeplate.sealing.seal import open_sealed

NANOSECONDS = 1_000_000_000
_SUFFIX = ".rec"
_FREE_TEXT = ("user", "organisation", "case")
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]{0,63}\Z")


class Stored(StrEnum):
    """What storing a record came to. A conflict is the same id with other bytes: both are kept, and somebody must ask.

    An honest node never makes one, because a record is sealed once and sent again as it is.
    """

    NEW = "new"
    DOUBLE = "double"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of the inbox; `conflict` is True for every version after the first of an id."""

    record_id: RecordId
    path: Path
    conflict: bool


class Inbox:
    """The folder of received records, still sealed: `ID.rec`, and `ID.conflict-HASH.rec` for other bytes of an id."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; make it where it is missing.

        Raises:
            StoreError: where it cannot be made.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{folder} cannot be made: {error.strerror}; name another custody folder") from error

    def store(self, record_id: RecordId, sealed: bytes) -> Stored:
        """Keep a record; it is on disk once this returns.

        Raises:
            StoreError: where it cannot be written or read.
        """
        path = self._folder / f"{record_id}{_SUFFIX}"
        if not path.exists():
            self._write(path, sealed)
            return Stored.NEW
        if self.read(path) == sealed:
            return Stored.DOUBLE
        other = self._folder / f"{record_id}.conflict-{hashlib.sha256(sealed).hexdigest()[:16]}{_SUFFIX}"
        if not other.exists():
            self._write(other, sealed)
        return Stored.CONFLICT

    def files(self) -> list[StoredFile]:
        """Return every record's files, oldest first.

        Raises:
            StoreError: where the folder cannot be read.
        """
        try:
            paths = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be read: {error.strerror}") from error
        return list(self._named(paths))

    def _named(self, paths: Iterable[Path]) -> Iterator[StoredFile]:
        for path in paths:
            identifier, _, rest = path.name.removesuffix(_SUFFIX).partition(".")
            try:
                record_id = RecordId(bytes.fromhex(identifier))
            except ValueError:
                continue  # not ours: a temporary file, or one that somebody put there
            yield StoredFile(record_id=record_id, path=path, conflict=bool(rest))

    def read(self, path: Path) -> bytes:
        """Return a file's bytes, at most one more than a record may have.

        Raises:
            StoreError: where it cannot be read.
        """
        try:
            with path.open("rb") as file:
                return file.read(MAX_RECORD_BYTES + 1)
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error

    def remove(self, path: Path) -> None:
        """Remove a file; a missing one is fine.

        Raises:
            StoreError: where it cannot be removed.
        """
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be removed: {error.strerror}") from error

    def _write(self, path: Path, sealed: bytes) -> None:
        temporary = path.with_name(f".{path.name}.new")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(sealed)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}; free some space") from error


def refuse_plate(option: str, text: str) -> None:
    """Refuse a text that is stored in clear and has the form of a plate; the message does not hold it.

    Raises:
        ConfigError: where it has.
    """
    if has_form_of_plate(text):
        raise ConfigError(
            f"{option} has the form of a plate, and it would stand in a log in clear: write no plate there"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accessor:
    """Who opens, for whom, why, in which case. None may be blank; the purpose has to be authorised.

    They stand in the access log in clear, so what is written like a plate is none of them.

    Raises:
        ConfigError: where one of them is blank or has the form of a plate, or the case number is none.
    """

    user: str
    organisation: str
    purpose: str
    case: str

    def __post_init__(self) -> None:
        for name in ("user", "organisation", "purpose", "case"):
            if not getattr(self, name).strip():
                raise ConfigError(f"--{name} is blank: the access record needs it")
        if not _CASE.match(self.case):
            raise ConfigError("--case is a case number: 1 to 64 letters, digits, spaces and . / _ -; it is no plate")
        for name in _FREE_TEXT:
            refuse_plate(f"--{name}", getattr(self, name))

    def names_no(self, plate: PlateText) -> None:
        """Refuse a plate that is searched for where it stands in clear in the record of that search.

        Raises:
            ConfigError: where a field, or a word of it, is that plate; the message does not hold it.
        """
        for name in _FREE_TEXT:
            text = getattr(self, name).upper()
            words = [*text.split(), text.replace(" ", "")]
            if plate.reveal() in {word.replace("-", "") for word in words}:
                raise ConfigError(f"--{name} is the plate that is searched for, which is written sealed only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One opened record of facts, with its plate crop (JPEG bytes) where there is one."""

    header: RecordHeader
    facts: Facts
    sealed_bytes: int
    crop: bytes | None = field(repr=False)
    conflict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    """A record that was not opened, and why."""

    record_id: RecordId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What opening came to; `opened` is in order of capture."""

    opened: tuple[Opened, ...]
    unopened: tuple[Unopened, ...]


def check_purpose(purpose: str, authorised: Collection[str]) -> None:
    """Refuse a purpose that is not on the operator's signed list.

    Raises:
        ConfigError: where it is not there; the message gives the list.
    """
    if purpose not in authorised:
        known = "; ".join(sorted(authorised)) or "none"
        raise ConfigError(f"--purpose {purpose!r} is not authorised; the operator's list has: {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsealed:
    """What an opened file says outside: where it lies, its header, its length."""

    file: StoredFile
    header: RecordHeader
    sealed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _FactsFile(_Unsealed):
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class _CropFile(_Unsealed):
    jpeg: bytes = field(repr=False)


class Opener:
    """Opens an inbox's records with the agency's private keys. The access record is the caller's to write before.

    Args:
        inbox: what was received.
        keys: private sealing keys by key id.
        nodes: the bundle's nodes, revoked ones and those past their dates too: `receive` judged them when they sent.
        clock: what judges the exact keep-until.
        hold: the verified hold whose exported copies these are; only what it names opens then.
    """

    def __init__(
        self,
        inbox: Inbox,
        keys: Mapping[bytes, SealingPrivateKey],
        nodes: Iterable[NodeEntry],
        clock: Clock,
        hold: Hold | None = None,
    ) -> None:
        self._inbox, self._keys, self._clock, self._hold = inbox, keys, clock, hold
        self._publics = {node.pseudonym: node.record_public for node in nodes}

    def open(self, files: Iterable[StoredFile]) -> Opening:
        """Open these files. A crop is shown with the facts that name it and in no other way.

        Raises:
            StoreError: where a file cannot be read or removed.
            ClockError: where this machine's clock was never set.
        """
        facts: list[_FactsFile] = []
        crops: list[_CropFile] = []
        results: list[Opened | Unopened] = []
        for file in files:
            try:
                unsealed = self._unseal(file)
            except SealingError as error:
                results.append(Unopened(record_id=file.record_id, reason=str(error)))
                continue
            if isinstance(unsealed, _FactsFile):
                facts.append(unsealed)
            else:
                crops.append(unsealed)
        results += [self._join(item, crops) for item in facts]
        named = {item.facts.crop.record for item in facts if item.facts.crop}
        orphans = [crop for crop in crops if str(crop.header.record_id) not in named]
        results += [
            Unopened(record_id=crop.header.record_id, reason="no opened facts name this crop") for crop in orphans
        ]
        opened = [result for result in results if isinstance(result, Opened)]
        opened.sort(key=lambda record: (record.facts.first_captured_ns, record.header.record_id))
        return Opening(
            opened=tuple(opened), unopened=tuple(result for result in results if isinstance(result, Unopened))
        )

    def _unseal(self, file: StoredFile) -> _FactsFile | _CropFile:
        sealed = self._inbox.read(file.path)
        record = decode(sealed)
        header = record.header
        public, key = self._publics.get(header.node), self._keys.get(header.recipient_key)
        if header.record_id != file.record_id:
            raise SealingError(f"the file of record {file.record_id} holds another record")
        if public is None:
            raise SealingError(f"record {file.record_id} is of a node that the bundle does not name")
        if key is None:
            raise SealingError(f"record {file.record_id} is sealed to a key that is not here: destroyed, or not ours")
        part, plaintext = open_sealed(record, key, public)
        if part is Part.CROP:
            return _CropFile(file=file, header=header, sealed_bytes=len(sealed), jpeg=unpad_crop(plaintext))
        facts = decode_facts(plaintext)
        check_header(facts, header)
        return _FactsFile(file=file, header=header, sealed_bytes=len(sealed), facts=facts)

    def _join(self, item: _FactsFile, crops: Sequence[_CropFile]) -> Opened | Unopened:
        """Return a record with its crop; where it is past its date remove both."""
        facts, record_id = item.facts, item.header.record_id
        named = [crop for crop in crops if facts.crop and facts.crop.record == str(crop.header.record_id)]
        if self._hold is not None and not _held(self._hold, item):
            return Unopened(record_id=record_id, reason="the hold does not name it")
        until_s = facts.keep_until_s if self._hold is None else self._hold.expires_s
        # At its last second it is over: `policy.retention` judges the same way.
        if self._clock.now_ns() >= until_s * NANOSECONDS:
            for past in (item, *named):
                self._inbox.remove(past.file.path)
            return Unopened(record_id=record_id, reason="past its keep-until: removed unread")
        crop = next((crop for crop in named if _belongs(facts, crop)), None)
        if named and crop is None:
            return Unopened(record_id=record_id, reason="the crop that came with it is not the one that it names")
        return Opened(
            header=item.header,
            facts=facts,
            sealed_bytes=item.sealed_bytes + (crop.sealed_bytes if crop else 0),
            crop=crop.jpeg if crop else None,
            conflict=item.file.conflict or (crop is not None and crop.file.conflict),
        )


def _held(hold: Hold, item: _FactsFile) -> bool:
    captured_s = item.facts.first_captured_ns // NANOSECONDS
    return item.header.node == hold.node and in_window(hold, item.facts.camera, captured_s)


def _belongs(facts: Facts, crop: _CropFile) -> bool:
    try:
        check_crop(facts, crop.header.record_id, crop.jpeg)
    except SealingError:
        return False
    return True


def forget_past_days(inbox: Inbox, clock: Clock) -> int:
    """Remove received records whose keep-until day is over, unopened; return how many.

    Raises:
        StoreError: where one cannot be read or removed.
        ClockError: where this machine's clock was never set.
    """
    today = clock.now_ns() // NANOSECONDS // DAY_SECONDS
    removed = 0
    for file in inbox.files():
        try:
            past = decode(inbox.read(file.path)).header.keep_until_day < today
        except SealingError:
            continue  # `open` names it; a damaged file is no reason to stop
        if past:
            inbox.remove(file.path)
            removed += 1
    return removed
