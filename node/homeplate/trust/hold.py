"""Signed holds and releases as files: a line that says what it is, one line of JSON, one line of key and signature.

The signature is over the first two lines as they are (Ed25519). The first line keeps a release from passing for a
hold. There is one accepted encoding. Whether the key counts is the bundle's and `policy.hold`'s to say.
"""

import re
from typing import Annotated, TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from homeplate.domain.hold import MOST_RECORDS, Ground, Hold, Release
from homeplate.errors import TrustError
from homeplate.trust.schema import Camera, Entry, Hex16, Seconds, decode, encode

MAX_HOLD_BYTES = 4096
HOLD_LINE = b"homeplate/v1/hold\n"
RELEASE_LINE = b"homeplate/v1/hold-release\n"
_SIGNATURE = re.compile(rb"([0-9a-f]{64}) ([0-9a-f]{128})\n")
# No comma: a ledger row lists several; no letter outside ASCII, that two people might read as another.
Case = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ./_-]{0,39}\Z")]


class HoldEntry(Entry, frozen=True, kw_only=True):
    """A hold as it is written; see `domain.hold.Hold`."""

    hold_id: Hex16
    node: Hex16
    case: Case
    ground: Ground
    camera: Camera
    from_s: Seconds
    to_s: Seconds
    most_records: Annotated[int, msgspec.Meta(ge=1, le=MOST_RECORDS)]
    issued_s: Seconds
    expires_s: Seconds


class ReleaseEntry(Entry, frozen=True, kw_only=True):
    """A release as it is written."""

    hold_id: Hex16
    node: Hex16
    case: Case
    issued_s: Seconds


_Kind = TypeVar("_Kind", bound=Entry)


def sign_hold(hold: Hold, key: Ed25519PrivateKey) -> bytes:
    """Return a signed hold's file.

    Raises:
        TrustError: where a node could not read it.
    """
    entry = HoldEntry(
        hold_id=hold.hold_id.hex(),
        node=hold.node.hex(),
        case=hold.case,
        ground=hold.ground,
        camera=hold.camera,
        from_s=hold.from_s,
        to_s=hold.to_s,
        most_records=hold.most_records,
        issued_s=hold.issued_s,
        expires_s=hold.expires_s,
    )
    data = _signed(HOLD_LINE, entry, key)
    read_hold(data)
    return data


def sign_release(release: Release, key: Ed25519PrivateKey) -> bytes:
    """Return a signed release's file.

    Raises:
        TrustError: where a node could not read it.
    """
    entry = ReleaseEntry(
        hold_id=release.hold_id.hex(), node=release.node.hex(), case=release.case, issued_s=release.issued_s
    )
    data = _signed(RELEASE_LINE, entry, key)
    read_release(data)
    return data


def read_hold(data: bytes) -> tuple[Hold, bytes]:
    """Return a hold and the public key that signed it (raw Ed25519, 32 bytes).

    Raises:
        TrustError: where it is too long, no hold, or its signature is wrong.
    """
    entry, signer = _read(data, HOLD_LINE, HoldEntry, "the hold")
    hold = Hold(
        hold_id=bytes.fromhex(entry.hold_id),
        node=bytes.fromhex(entry.node),
        case=entry.case,
        ground=entry.ground,
        camera=entry.camera,
        from_s=entry.from_s,
        to_s=entry.to_s,
        most_records=entry.most_records,
        issued_s=entry.issued_s,
        expires_s=entry.expires_s,
    )
    return hold, signer


def read_release(data: bytes) -> tuple[Release, bytes]:
    """Return a release and the public key that signed it.

    Raises:
        TrustError: where it is too long, no release, or its signature is wrong.
    """
    entry, signer = _read(data, RELEASE_LINE, ReleaseEntry, "the release")
    release = Release(
        hold_id=bytes.fromhex(entry.hold_id),
        node=bytes.fromhex(entry.node),
        case=entry.case,
        issued_s=entry.issued_s,
    )
    return release, signer


def _signed(line: bytes, entry: Entry, key: Ed25519PrivateKey) -> bytes:
    said = line + encode(entry)
    public = key.public_key().public_bytes_raw()
    return said + f"{public.hex()} {key.sign(said).hex()}\n".encode()


def _read(data: bytes, line: bytes, kind: type[_Kind], name: str) -> tuple[_Kind, bytes]:
    if len(data) > MAX_HOLD_BYTES:
        raise TrustError(f"{name} is longer than the {MAX_HOLD_BYTES} bytes that it may have")
    if not data.startswith(line):
        raise TrustError(f"{name} does not begin with {line.decode().strip()!r}; give the file that was signed")
    body, _, last = data[len(line) :].partition(b"\n")
    match = _SIGNATURE.fullmatch(last)
    if match is None:
        raise TrustError(f"{name} does not end in a key and a signature; copy the file anew")
    public, signature = (bytes.fromhex(part.decode()) for part in match.groups())
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, line + body + b"\n")
    except (InvalidSignature, ValueError) as error:
        raise TrustError(f"{name} was altered: its signature is wrong") from error
    entry = decode(body + b"\n", kind, name)
    if encode(entry) != body + b"\n":
        raise TrustError(f"{name} is not in the one accepted form; make it with `homeplate-custodian hold`")
    return entry, public
