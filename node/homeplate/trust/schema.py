"""The files that are signed, as strict structs: an unknown field, another type or a longer list is an error.

They are what the bytes may say, not yet what is believed: `agencies` and `contents` turn them into values of the
domain, and refuse what no value can hold. The custodian writes the same structs.
"""

import json
import re
from typing import Annotated, Literal, TypeVar

import msgspec

from homeplate.domain.agency import Jurisdiction, KemKind
from homeplate.domain.profiles import Profile
from homeplate.domain.record import Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.domain.usage import OperatorKind
from homeplate.errors import TrustError

# \Z and not $: $ would let a newline through at the end.
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,59}\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,39}\Z")]
Camera = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")]
# Neither control characters nor what turns the direction of writing: a log or a terminal would show another text.
_PRINTED = r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
Printed = Annotated[str, msgspec.Meta(pattern=rf"^{_PRINTED}{{1,253}}\Z")]
Sentence = Annotated[str, msgspec.Meta(pattern=rf"^{_PRINTED}{{1,200}}\Z")]
Body = Annotated[str, msgspec.Meta(pattern=rf"^(?=\S){_PRINTED}{{1,200}}\Z")]
Word = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,40}\Z")]
# A few paragraphs, or none yet.
Prose = Annotated[str, msgspec.Meta(pattern=rf"^({_PRINTED}|\n){{0,4000}}\Z")]
Line = Annotated[str, msgspec.Meta(pattern=rf"^{_PRINTED}{{0,200}}\Z")]
Day = Annotated[str, msgspec.Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z")]
Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
PublicHex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){32,1216}\Z")]
Pem = Annotated[str, msgspec.Meta(max_length=8192)]
Seconds = Annotated[int, msgspec.Meta(ge=0, lt=2**40)]


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all of them are: frozen and strict."""


class EndpointEntry(Entry, frozen=True, kw_only=True):
    """An agency's broker, as the registry writes it."""

    network: Annotated[str, msgspec.Meta(max_length=64)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    tls_name: Printed
    authority_pem: Pem
    pins: Annotated[list[Hex32], msgspec.Meta(max_length=4)]


class SealingKeyEntry(Entry, frozen=True, kw_only=True):
    """A sealing key, as the registry writes it; its id follows from the bytes and is never written."""

    kem: KemKind
    public: PublicHex
    not_before_s: Seconds
    not_after_s: Seconds


class AgencyEntry(Entry, frozen=True, kw_only=True):
    """An agency, as the registry writes it; names, `kind` and `jurisdiction` are judged in `agencies`."""

    identifier: Identifier
    legal_name: Printed
    kind: Word
    jurisdiction: Word
    ori: Word | None = None
    endpoints: Annotated[list[EndpointEntry], msgspec.Meta(max_length=16)]
    sealing_keys: Annotated[list[SealingKeyEntry], msgspec.Meta(max_length=16)]


class WitnessEntry(Entry, frozen=True, kw_only=True):
    """Who cosigns the nodes' ledgers, as the registry writes it: an operator's own witness would show nothing."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}\Z")]
    public: Hex32


class RegistryFile(Entry, frozen=True, kw_only=True):
    """`registry.json`, signed by the registry."""

    format: Literal[1] = msgspec.field(default=1)
    agencies: Annotated[list[AgencyEntry], msgspec.Meta(max_length=4096)]
    witnesses: Annotated[list[WitnessEntry], msgspec.Meta(max_length=16)] = []


class GrantEntry(Entry, frozen=True, kw_only=True):
    """A grant, as the operator writes it."""

    identifier: Identifier
    need: Sentence
    purpose: Sentence
    approver: Sentence
    approved_on: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
    expires_s: Seconds
    attested: bool


class AllowlistFile(Entry, frozen=True, kw_only=True):
    """`allowlist.json`, signed by the operator."""

    format: Literal[1] = msgspec.field(default=1)
    grants: Annotated[list[GrantEntry], msgspec.Meta(max_length=4096)]


class RuleEntry(Entry, frozen=True, kw_only=True):
    """A rule, as the operator writes it."""

    name: Name
    trigger: Trigger
    recipients: Annotated[list[Identifier], msgspec.Meta(min_length=1, max_length=256)]
    parts: Annotated[list[Part], msgspec.Meta(min_length=1, max_length=2)]
    storage: StorageClass
    retention_s: Seconds
    purpose: Sentence
    cameras: Annotated[list[Camera], msgspec.Meta(max_length=256)] = []


class RulesFile(Entry, frozen=True, kw_only=True):
    """`rules.json`, signed by the operator: the authorised purposes, and the rules in the order that decides."""

    format: Literal[1] = msgspec.field(default=1)
    purposes: Annotated[list[Sentence], msgspec.Meta(max_length=64)]
    rules: Annotated[list[RuleEntry], msgspec.Meta(max_length=256)]
    hold_keys: Annotated[list[Hex32], msgspec.Meta(max_length=8)] = []
    """Public keys (raw Ed25519) whose holder may sign evidence holds and releases; none: nobody may."""
    bundle_sources: Annotated[list[Identifier], msgspec.Meta(max_length=8)] = []
    """Recipients whose brokers nodes ask for the next bundle; none: a person brings it."""
    recovery: Identifier | None = None
    """A recipient that may hold copies of the agencies' private keys, sealed to it; None: nobody may."""
    retention_profile: Profile | None = None
    """Caps every rule's retention; None leaves the cap that all rules have."""
    retention_reviewed_on: Annotated[str, msgspec.Meta(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?\Z")] = ""
    """When the operator last reviewed the retention; "" for never."""


class PositionEntry(Entry, frozen=True, kw_only=True):
    """A point, WGS84, as the operator writes it."""

    latitude_deg: Annotated[float, msgspec.Meta(ge=-90, le=90)]
    longitude_deg: Annotated[float, msgspec.Meta(ge=-180, le=180)]


class NodeFileEntry(Entry, frozen=True, kw_only=True):
    """A node, as the operator writes it at enrolment."""

    pseudonym: Hex16
    record_public: Hex32
    ledger_public: Hex32
    hot_list_public: Hex32
    cameras: Annotated[list[Camera], msgspec.Meta(max_length=256)]
    not_before_s: Seconds
    not_after_s: Seconds
    revoked: bool = False
    position: PositionEntry | None = None
    camera_positions: Annotated[dict[Camera, PositionEntry], msgspec.Meta(max_length=256)] = {}


class NodesFile(Entry, frozen=True, kw_only=True):
    """`nodes.json`, signed by the operator."""

    format: Literal[1] = msgspec.field(default=1)
    nodes: Annotated[list[NodeFileEntry], msgspec.Meta(max_length=4096)]


class ModelsFile(Entry, frozen=True, kw_only=True):
    """`models.json`, signed by the operator: SHA-256 of each `models/manifest.json` that nodes may run."""

    format: Literal[1] = msgspec.field(default=1)
    manifests: Annotated[list[Hex32], msgspec.Meta(min_length=1, max_length=8)]


class PolicyFile(Entry, frozen=True, kw_only=True):
    """`policy.json`, signed by the operator: the fields of `domain.usage.UsagePolicy`. What is left out is blank."""

    format: Literal[1] = msgspec.field(default=1)
    operator_kind: OperatorKind = OperatorKind.PUBLIC_AGENCY
    purposes: Prose = ""
    users: Prose = ""
    training: Prose = ""
    monitoring: Prose = ""
    sharing: Prose = ""
    custodian_title: Line = ""
    accuracy: Prose = ""
    retention: Prose = ""
    url: Annotated[str, msgspec.Meta(pattern=r"^(https://[a-z0-9.-]{1,253}(:[0-9]{1,5})?(/[!-~]{0,500})?)?\Z")] = ""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""
    meeting_on: Day = ""
    meeting_address: Line = ""


class RootMark(Entry, frozen=True, kw_only=True):
    """What the root says of itself and of its two signers, in its signed field `x-homeplate`."""

    demo: bool
    jurisdiction: Jurisdiction
    registry_body: Body
    operator_body: Body


EntryT = TypeVar("EntryT", bound=Entry)


def decode(data: bytes, kind: type[EntryT], name: str) -> EntryT:
    """Return the struct in `data`.

    Raises:
        TrustError: where the bytes are not that struct; the message gives the key's path in `name`.
    """
    try:
        decoded = msgspec.json.decode(data, type=kind)
        # msgspec keeps the last of two values; another reader of the same signed bytes may keep the first.
        json.loads(data, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TrustError(f"{name} is not what it should be: {why(error)}") from error
    return decoded


def _once(pairs: list[tuple[str, object]]) -> None:
    names = [name for name, _ in pairs]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the key {min(doubled)} is there twice in one object; say which value is meant")


def why(error: Exception) -> str:
    """Return a parser's message without the pattern, which tells a person less than the key's path does."""
    return re.sub(r"matching regex '.*'", "written as such a thing is written", str(error))


def encode(entry: Entry) -> bytes:
    """Return the one JSON form of `entry`: keys sorted, no spaces, a newline at the end."""
    return msgspec.json.encode(entry, order="sorted") + b"\n"
