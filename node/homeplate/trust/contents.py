"""From the operator's files to values of the domain: grants, rules, nodes and the usage policy. Pure.

A mistake here refuses the whole file, and so the whole bundle: the operator is one body and mends it before it signs.
"""

from collections.abc import Collection, Iterable
from datetime import date

from homeplate.domain.agency import Grant
from homeplate.domain.node import NodeEntry
from homeplate.domain.place import Position
from homeplate.domain.profiles import cap_s
from homeplate.domain.record import Part, StorageClass
from homeplate.domain.rules import MAXIMUM_RECIPIENTS, RETENTION_CAP_S, Rule, Trigger
from homeplate.domain.usage import UsagePolicy
from homeplate.domain.witness import Witness
from homeplate.errors import TrustError
from homeplate.trust.schema import (
    AllowlistFile,
    GrantEntry,
    NodeFileEntry,
    NodesFile,
    PolicyFile,
    PositionEntry,
    RegistryFile,
    RuleEntry,
    RulesFile,
)


def grants(file: AllowlistFile) -> tuple[Grant, ...]:
    """Return the allowlist's grants; none is a list that allows nothing, and may be meant.

    Raises:
        TrustError: where an agency is granted twice, or a date is none.
    """
    _no_doubles([entry.identifier.casefold() for entry in file.grants], "allowlist.json: grants")
    return tuple(_grant(entry) for entry in file.grants)


def _grant(entry: GrantEntry) -> Grant:
    for field in ("need", "purpose", "approver"):
        if not getattr(entry, field).strip():
            raise TrustError(f"allowlist.json: the grant of {entry.identifier} has a blank {field}; write it down")
    try:
        date.fromisoformat(entry.approved_on)
    except ValueError as error:
        raise TrustError(f"allowlist.json: {entry.identifier}: {entry.approved_on} is no date (YYYY-MM-DD)") from error
    return Grant(
        identifier=entry.identifier,
        need=entry.need,
        purpose=entry.purpose,
        approver=entry.approver,
        approved_on=entry.approved_on,
        expires_s=entry.expires_s,
        attested=entry.attested,
    )


def rules(file: RulesFile, *, demo: bool) -> tuple[Rule, ...]:
    """Return the rules in the signed order.

    Raises:
        TrustError: where a name is given twice, a retention is above the cap or the profile's, a crop would travel
            without its facts, a purpose is not authorised, the day of the review is none, everything would be published
            under a root that is not marked `demo`, or more recipients are named than one row of a ledger can.
    """
    _no_doubles([entry.name for entry in file.rules], "rules.json: rules")
    named = {identifier for entry in file.rules for identifier in entry.recipients}
    if len(named) > MAXIMUM_RECIPIENTS:
        raise TrustError(f"rules.json: {len(named)} recipients; a node's rules name {MAXIMUM_RECIPIENTS} at most")
    _check_day(file.retention_reviewed_on, "rules.json: retention_reviewed_on")
    for entry in file.rules:
        most_s = cap_s(file.retention_profile, entry.trigger)
        if entry.retention_s > most_s:
            raise TrustError(
                f"rules.json: rule {entry.name}: over-the-profile: a retention of {entry.retention_s} s; the profile "
                f"{file.retention_profile} allows {most_s} s for {entry.trigger}"
            )
    _check_non_hits(file.rules)
    return tuple(_rule(entry, file.purposes, demo=demo) for entry in file.rules)


def check_purposes(granted: Iterable[Grant], ruled: Iterable[Rule], authorised: Collection[str]) -> None:
    """Refuse what would disclose for one purpose and say another: a rule, its recipients' grants and the list agree.

    Raises:
        TrustError: where a grant's purpose is not authorised, or a rule's is not that of a recipient's grant.
    """
    purposes = {grant.identifier: grant.purpose for grant in granted}
    for identifier, purpose in purposes.items():
        if purpose not in authorised:
            raise TrustError(
                f"allowlist.json: the grant of {identifier} is for {purpose!r}, which is not one of the authorised "
                "purposes; add it there, or grant it anew"
            )
    for rule in ruled:
        for identifier in rule.recipients:
            if purposes.get(identifier, rule.purpose) != rule.purpose:
                raise TrustError(
                    f"rules.json: rule {rule.name} is for {rule.purpose!r}, the grant of its recipient {identifier} "
                    f"for {purposes[identifier]!r}; give the rule the grant's purpose, or grant it anew"
                )


def _check_non_hits(entries: Collection[RuleEntry]) -> None:
    """Refuse a rule that keeps non-hits for longer than one keeps hits: nobody looked for these people."""
    shortest_s = min((entry.retention_s for entry in entries if entry.trigger is Trigger.HIT), default=RETENTION_CAP_S)
    for entry in entries:
        if entry.trigger is Trigger.NON_HIT and entry.retention_s > shortest_s:
            raise TrustError(
                f"rules.json: rule {entry.name}: keeps non-hits for {entry.retention_s} s, longer than hits"
                f" ({shortest_s} s); shorten it"
            )


def _rule(entry: RuleEntry, purposes: Collection[str], *, demo: bool) -> Rule:
    where = f"rules.json: rule {entry.name}"
    if not 1 <= entry.retention_s <= RETENTION_CAP_S:
        raise TrustError(f"{where}: a retention of {entry.retention_s} s; it is 1 to {RETENTION_CAP_S} s")
    if Part.FACTS not in entry.parts:
        raise TrustError(f"{where}: keeps a crop without its facts; add facts")
    if entry.purpose not in purposes:
        raise TrustError(f"{where}: the purpose is not one of the authorised purposes; add it there, or change it")
    if entry.trigger.takes_all and entry.storage is StorageClass.OUTGOING and not demo:
        raise TrustError(f"{where}: publishes everything; only a root marked demo may carry such a rule")
    _no_doubles(entry.recipients, f"{where}: recipients")
    return Rule(
        name=entry.name,
        trigger=entry.trigger,
        recipients=tuple(entry.recipients),
        parts=frozenset(entry.parts),
        storage=entry.storage,
        retention_s=entry.retention_s,
        purpose=entry.purpose,
        cameras=tuple(entry.cameras),
    )


def nodes(file: NodesFile) -> tuple[NodeEntry, ...]:
    """Return the enrolled nodes.

    Raises:
        TrustError: where two share a pseudonym or a key, dates are in the wrong order, or a camera that the node does
            not have is given a position.
    """
    _no_doubles([entry.pseudonym for entry in file.nodes], "nodes.json: pseudonyms")
    keys = [key for entry in file.nodes for key in (entry.record_public, entry.ledger_public, entry.hot_list_public)]
    _no_doubles(keys, "nodes.json: public keys")
    return tuple(_node(entry) for entry in file.nodes)


def _node(entry: NodeFileEntry) -> NodeEntry:
    if entry.not_after_s <= entry.not_before_s:
        raise TrustError(f"nodes.json: {entry.pseudonym} ends before it begins")
    foreign = sorted(entry.camera_positions.keys() - set(entry.cameras))
    if foreign:
        raise TrustError(f"nodes.json: {entry.pseudonym} has no camera {foreign[0]} to give a position to")
    return NodeEntry(
        pseudonym=bytes.fromhex(entry.pseudonym),
        record_public=bytes.fromhex(entry.record_public),
        ledger_public=bytes.fromhex(entry.ledger_public),
        hot_list_public=bytes.fromhex(entry.hot_list_public),
        cameras=tuple(entry.cameras),
        not_before_s=entry.not_before_s,
        not_after_s=entry.not_after_s,
        revoked=entry.revoked,
        position=None if entry.position is None else position(entry.position),
        camera_positions={camera: position(where) for camera, where in entry.camera_positions.items()},
    )


def position(entry: PositionEntry) -> Position:
    """Return a point as a value of the domain."""
    return Position(latitude_deg=entry.latitude_deg, longitude_deg=entry.longitude_deg)


def usage(file: PolicyFile) -> UsagePolicy:
    """Return the operator's usage policy. A blank part is no error here: it stops capture, and nothing else.

    Raises:
        TrustError: where a day is none.
    """
    _check_day(file.meeting_on, "policy.json: meeting_on")
    fields = {name: getattr(file, name) for name in file.__struct_fields__ if name not in {"format", "sha256"}}
    return UsagePolicy(**fields, sha256=bytes.fromhex(file.sha256))


def _check_day(text: str, name: str) -> None:
    try:
        if text:
            date.fromisoformat(text)
    except ValueError as error:
        raise TrustError(f"{name}: {text} is no date (YYYY-MM-DD)") from error


def witnesses(file: RegistryFile, nodes_file: NodesFile) -> tuple[Witness, ...]:
    """Return who cosigns the ledgers; none is a registry that names none.

    Raises:
        TrustError: where two share a name or a key, or a node's own key is named.
    """
    _no_doubles([entry.name for entry in file.witnesses], "registry.json: witnesses")
    keys = [key for node in nodes_file.nodes for key in (node.record_public, node.ledger_public)]
    _no_doubles([*(entry.public for entry in file.witnesses), *dict.fromkeys(keys)], "registry.json: witness keys")
    return tuple(Witness(name=entry.name, public=bytes.fromhex(entry.public)) for entry in file.witnesses)


def _no_doubles(values: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise TrustError(f"{what}: {value} is there twice; say which is meant")
        seen.add(value)
