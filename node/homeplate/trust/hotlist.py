"""The hot list inside its seal: plates and when each ends. A name, a birth date or a charge has no field to be in.

Opening the seal is `sealing.seal.open_hot_list`'s. No message quotes the list: a parser's error could hold a plate.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from homeplate.domain.hotlist import HotList, HotListEntry
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import TrustError
from homeplate.trust.schema import Entry, Seconds, encode

MAX_AGE_S = 31 * DAY_SECONDS
"""The longest that a list may stand without being signed anew (State Auditor 2019-118, recommendations 34 and 57)."""

MAX_ENTRIES = 200_000


class HotListFileEntry(Entry, frozen=True, kw_only=True):
    """One plate, as the operator writes it."""

    plate: Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9]{1,10}\Z")]
    expires_s: Seconds


class HotListFile(Entry, frozen=True, kw_only=True):
    """`hot-lists/PSEUDONYM.sealed`, once opened."""

    format: Literal[1] = msgspec.field(default=1)
    issued_s: Seconds
    expires_s: Seconds
    entries: Annotated[list[HotListFileEntry], msgspec.Meta(max_length=MAX_ENTRIES)]


def encode_hot_list(entries: Iterable[HotListEntry], *, issued_s: int, expires_s: int) -> bytes:
    """Return the bytes to seal for a node.

    Raises:
        TrustError: where the list would stand too long.
    """
    _check_age(issued_s, expires_s)
    listed = [HotListFileEntry(plate=entry.text.reveal(), expires_s=entry.expires_s) for entry in entries]
    return encode(HotListFile(issued_s=issued_s, expires_s=expires_s, entries=listed))


def parse_hot_list(opened: bytes, now_s: int) -> HotList:
    """Return the hot list in what `open_hot_list` returned.

    Args:
        opened: the plaintext.
        now_s: node time in seconds since 1970; entries that are over are left out.

    Raises:
        TrustError: where it is not a hot list, holds anything but plates and ends, or is over.
    """
    try:
        file = msgspec.json.decode(opened, type=HotListFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise TrustError(
            "the hot list is not what it should be: entries of a plate and an end, and nothing else; sign it anew"
        ) from None
    _check_age(file.issued_s, file.expires_s)
    if file.expires_s <= now_s:
        raise TrustError("the hot list is over; install a bundle with a newer one")
    entries = [HotListEntry(text=PlateText(entry.plate), expires_s=entry.expires_s) for entry in file.entries]
    return HotList(
        issued_s=file.issued_s,
        expires_s=file.expires_s,
        entries={entry.text: entry for entry in entries if entry.expires_s > now_s},
    )


def _check_age(issued_s: int, expires_s: int) -> None:
    if not 0 < expires_s - issued_s <= MAX_AGE_S:
        raise TrustError(
            f"the hot list stands for {expires_s - issued_s} s; it is signed anew after {MAX_AGE_S} s at most"
        )
