"""Destroying dated private keys: the end of every copy that was sealed to them, wherever it lies.

A key is due once the last record that it could seal is past the longest retention. Before that only a named person with
a reason may, because unauthorised destruction is a wrong too. The access log says so before and after.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import RETENTION_CAP_S
from homeplate.errors import ConfigError, SealingError, StoreError
from homeplate.sealing.envelope import decode
from homeplate.trust.files import read_bounded, sync_folder
from homeplate_custodian.records import Inbox

EXPIRING, EXPIRED = "key.expiring", "key.expired"
UNTIL = ".until"
RECOVERY = ".recovery"
_KEY = ".key"
_SECONDS = re.compile(rb"([0-9]{1,12})\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedKey:
    """A private sealing key on this machine.

    Attributes:
        key_id: hexadecimal, as records name it.
        path: its file.
        sealed_until_s: the last second (since 1970) at which a node may have sealed to it; None where nobody wrote it.
        records: how many received records it would still open.
    """

    key_id: str
    path: Path
    sealed_until_s: int | None
    records: int

    @property
    def due_s(self) -> int | None:
        """The second from which on nothing that was sealed to it may be kept; None where its end is not known."""
        return None if self.sealed_until_s is None else self.sealed_until_s + RETENTION_CAP_S

    def why_not(self, now_s: int) -> str | None:
        """Return why it is not to be destroyed yet; None where it is due."""
        if self.due_s is None:
            return f"not-dated: {self.path.name} has no {UNTIL} file that says until when nodes sealed to it"
        if now_s < self.due_s:
            return f"not-due: what was sealed to it may be kept for {-(-(self.due_s - now_s) // DAY_SECONDS)} days more"
        if self.records:
            return f"in-use: {self.records} received records are sealed to it"
        return None


def dated_keys(folder: Path, inbox: Inbox) -> list[DatedKey]:
    """Return the private keys in an agency's folder, oldest end first.

    Raises:
        ConfigError: where a date is damaged.
        StoreError: where the inbox cannot be read.
    """
    sealed = list(_sealed_to(inbox))
    keys = [
        DatedKey(
            key_id=path.stem, path=path, sealed_until_s=_until(path.with_suffix(UNTIL)), records=sealed.count(path.stem)
        )
        for path in folder.glob(f"*{_KEY}")
    ]
    return sorted(keys, key=lambda key: (key.sealed_until_s or 0, key.key_id))


def _sealed_to(inbox: Inbox) -> Iterable[str]:
    for file in inbox.files():
        try:
            yield decode(inbox.read(file.path)).header.recipient_key.hex()
        except SealingError:
            continue  # `open` names it


def _until(path: Path) -> int | None:
    if not path.exists():
        return None
    match = _SECONDS.fullmatch(read_bounded(path, 64))
    if match is None:
        raise ConfigError(f"{path} holds no date; restore it from a copy, or destroy the key with --early")
    return int(match[1])


def destroy(key: DatedKey) -> int:
    """Overwrite a key's file in place, sync it, and remove it, with its recovery copy and its date; return how many.

    Overwriting comes first because a removed file's bytes stay on the disk (measured on ext4). The date goes last, so
    that a run that was cut off can be done again.

    Raises:
        StoreError: where a file cannot be overwritten or removed.
    """
    done = 0
    for path in (key.path.with_suffix(RECOVERY), key.path, key.path.with_suffix(UNTIL)):
        try:
            if path.exists():
                _overwrite(path)
                path.unlink()
                sync_folder(path.parent)
                done += path.suffix != UNTIL
        except OSError as error:
            raise StoreError(f"{path} cannot be destroyed: {error.strerror}; destroy it by hand") from error
    return done


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = os.fstat(descriptor).st_size
        while left:
            left -= os.write(descriptor, bytes(left))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
