"""The hot list inside its seal: what entries say, once each, then the plates as numbers (record-format.md, section 8).

A name, a birth date or a charge has no field to be in. There is one accepted encoding. Opening the seal is
`sealing.seal.open_hot_list`'s. No message quotes the list: a parser's error could hold a plate.
"""

from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeplate.domain.agency import Jurisdiction
from homeplate.domain.hotlist import (
    CHARACTER_BITS,
    FOLDED_VALUES,
    PLACE_SHIFTS,
    HotList,
    HotListEntry,
    HotListPurpose,
    HotListTerms,
    PlateKind,
    code_of,
)
from homeplate.domain.plate import ALPHABET
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import TrustError
from homeplate.trust.schema import Entry, Seconds

MAX_AGE_S = 31 * DAY_SECONDS
"""The longest that a list may stand without being signed anew (State Auditor 2019-118, recommendations 34 and 57)."""

MAX_ENTRIES = 1_000_000
MAX_GROUPS = 1536
"""With `MAX_ENTRIES` the most that fits into 8 MiB, the largest size of a sealed list that a bundle takes."""

MAX_LISTS = 16
"""Names of lists that one hot list may bear: enough for whoever keeps lists, too few to say something of each plate."""

_STATES = {*Jurisdiction, "US-AS", "US-GU", "US-MP", "US-PR", "US-VI"}
"""Of the United States: states, the district and the territories, which issue plates (ISO 3166-2)."""

_CODE_BYTES = 8
_PLACE_MASK = (1 << CHARACTER_BITS) - 1
_MAX_HEADER_BYTES = 368 * 1024
_NOT_A_LIST = (
    "the hot list is not what it should be: what entries say (list, purpose, state, kind, end), their plates, and"
    " nothing else; sign it anew"
)

ListName = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,16}(-[a-z]{1,16}){0,2}\Z")]
"""Whose list it is: up to three words and no digits, so that no birth date or case can be written there."""

State = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}-[A-Z0-9]{1,3}\Z")]


class HotListGroup(Entry, frozen=True, kw_only=True):
    """What so many entries (`count`) say beside their plates."""

    list: ListName
    purpose: HotListPurpose
    state: State
    kind: PlateKind
    expires_s: Seconds
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_ENTRIES)]


class HotListFile(Entry, frozen=True, kw_only=True):
    """The header of `hot-lists/PSEUDONYM.sealed`, once opened; the plates' codes follow it, group by group."""

    format: Literal[2] = msgspec.field(default=2)
    issued_s: Seconds
    expires_s: Seconds
    groups: Annotated[list[HotListGroup], msgspec.Meta(max_length=MAX_GROUPS)]


def encode_hot_list(entries: Iterable[HotListEntry], *, issued_s: int, expires_s: int) -> bytes:
    """Return the bytes to seal for a node; an entry that is there twice is written once.

    Raises:
        TrustError: where the list would stand too long, or is too long.
    """
    _check_age(issued_s, expires_s)
    pairs = sorted({(entry.terms, code_of(entry.text)) for entry in entries})
    groups, codes = [], []
    for terms, members in groupby(pairs, key=lambda pair: pair[0]):
        column = [code for _, code in members]
        groups.append(_group(terms, len(column)))
        codes += column
    _check_terms([group.list for group in groups], [group.state for group in groups])
    if len(codes) > MAX_ENTRIES or len(groups) > MAX_GROUPS:
        raise TrustError(
            f"the hot list has {len(codes)} entries that say {len(groups)} different things beside their plates; at"
            f" most {MAX_ENTRIES} and {MAX_GROUPS} fit"
        )
    header = msgspec.json.encode(HotListFile(issued_s=issued_s, expires_s=expires_s, groups=groups), order="sorted")
    body = np.array(codes, dtype=np.uint64).astype(">u8").tobytes()
    encoded = len(header).to_bytes(4, "big") + header + body
    _header(encoded)
    return encoded


def _group(terms: HotListTerms, count: int) -> HotListGroup:
    return HotListGroup(
        list=terms.list_name,
        purpose=terms.purpose,
        state=terms.state,
        kind=terms.kind,
        expires_s=terms.expires_s,
        count=count,
    )


def hot_list_expires_s(opened: bytes) -> int:
    """Return when a list ends, seconds since 1970.

    Raises:
        TrustError: where its header is none.
    """
    return _header(opened)[0].expires_s


def parse_hot_list(opened: bytes, now_s: int) -> HotList:
    """Return the hot list in what `open_hot_list` returned.

    Args:
        opened: the plaintext.
        now_s: node time in seconds since 1970; matching judges each entry's end again.

    Raises:
        TrustError: where it is not a hot list, holds anything but what entries may say, or is over.
    """
    file, start = _header(opened)
    _check_age(file.issued_s, file.expires_s)
    if file.expires_s <= now_s:
        raise TrustError("the hot list is over; install a bundle with a newer one")
    counts = [group.count for group in file.groups]
    if sum(counts) > MAX_ENTRIES or len(opened) - start != _CODE_BYTES * sum(counts):
        raise TrustError(_NOT_A_LIST)
    codes = np.frombuffer(opened, dtype=">u8", offset=start).astype(np.uint64)
    owners = np.repeat(np.arange(len(counts), dtype=np.uint16), counts)
    folded = _folded(codes)
    _check_order(codes, owners)
    order = np.argsort(codes, kind="stable")
    codes, owners, folded = codes[order], owners[order], folded[order]
    places = np.argsort(folded, kind="stable").astype(np.uint32)
    return HotList(
        issued_s=file.issued_s,
        expires_s=file.expires_s,
        terms=tuple(_terms(group) for group in file.groups),
        codes=codes,
        owners=owners,
        folded=folded[places],
        folded_places=places,
    )


def _header(opened: bytes) -> tuple[HotListFile, int]:
    """Return the header and where the codes begin; its groups are in order, and none is there twice."""
    length = int.from_bytes(opened[:4], "big")
    encoded = opened[4 : 4 + length]
    if length > _MAX_HEADER_BYTES or len(encoded) != length:
        raise TrustError(_NOT_A_LIST)
    try:
        file = msgspec.json.decode(encoded, type=HotListFile)
        canonical = msgspec.json.encode(file, order="sorted")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise TrustError(_NOT_A_LIST) from None
    _check_terms([group.list for group in file.groups], [group.state for group in file.groups])
    terms = [_terms(group) for group in file.groups]
    if canonical != encoded or any(one >= other for one, other in pairwise(terms)):
        raise TrustError(_NOT_A_LIST)
    return file, 4 + length


def _check_terms(names: Iterable[str], states: Iterable[str]) -> None:
    """Refuse more lists than `MAX_LISTS`, and a state of the United States that there is none of.

    Raises:
        TrustError: names the bound or the state.
    """
    if len(set(names)) > MAX_LISTS:
        raise TrustError(f"the hot list names more than {MAX_LISTS} lists; a list's name says who keeps it, no more")
    for state in set(states):
        if state.startswith("US-") and state not in _STATES:
            raise TrustError(f"the hot list names {state}, which is no state; write a state as US-CA")


def _terms(group: HotListGroup) -> HotListTerms:
    return HotListTerms(
        list_name=group.list,
        purpose=group.purpose,
        state=group.state,
        kind=group.kind,
        expires_s=group.expires_s,
    )


def _folded(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return each code with characters that look alike made one.

    Raises:
        TrustError: where one is no plate's: a value over 36, a gap, no character at all.
    """
    table = np.array(FOLDED_VALUES, dtype=np.uint64)
    folded = np.zeros_like(codes)
    before = np.ones(len(codes), dtype=bool)
    good = bool((codes >> np.uint64(CHARACTER_BITS * len(PLACE_SHIFTS)) == 0).all())
    for place, shift in enumerate(PLACE_SHIFTS):
        values = (codes >> np.uint64(shift)) & np.uint64(_PLACE_MASK)
        there = values != 0
        good = good and bool((values <= len(ALPHABET)).all() and (before | ~there).all())
        good = good and (place > 0 or bool(there.all()))
        folded |= table[values] << np.uint64(shift)
        before = there
    if not good:
        raise TrustError(_NOT_A_LIST)
    return folded


def _check_order(codes: NDArray[np.uint64], owners: NDArray[np.uint16]) -> None:
    """Refuse a group whose codes do not ascend, so that each is there once."""
    if not ((codes[1:] > codes[:-1]) | (owners[1:] != owners[:-1])).all():
        raise TrustError(_NOT_A_LIST)


def _check_age(issued_s: int, expires_s: int) -> None:
    if not 0 < expires_s - issued_s <= MAX_AGE_S:
        raise TrustError(
            f"the hot list stands for {expires_s - issued_s} s; it is signed anew after {MAX_AGE_S} s at most"
        )
