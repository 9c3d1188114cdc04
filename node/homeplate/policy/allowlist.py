"""Who may receive: the intersection of what the registry says an agency is and whom the operator chose. Default deny.

Two signers, never one (ARCHITECTURE 4). An agency that only one of them names, whose grant is over or not attested, or
that is not of the node's jurisdiction, is refused with a reason of its own. Nothing here opens a connection.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from homeplate.domain.agency import Agency, Endpoint, Grant, Recipient, SealingKey
from homeplate.policy.verdict import Refused

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """Who may receive, and who not, each with a reason; both by identifier.

    Attributes:
        allowed: what both signers name.
        refused: whom one of them names, with why that is not enough.
        nobody: why nobody at all may receive; None where somebody may.
    """

    allowed: Mapping[str, Recipient]
    refused: Mapping[str, str]
    nobody: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Yes: to whom, and at which of the agency's endpoints."""

    recipient: Recipient
    endpoint: Endpoint = field(repr=False)


def recipients(
    registry: Iterable[Agency],
    allowlist: Iterable[Grant],
    jurisdiction: str,
    now_s: int,
    *,
    unregistered: Mapping[str, str] = _NOTHING,
) -> Recipients:
    """Return the intersection of registry and allowlist at `now_s` (seconds since 1970).

    Args:
        registry: agencies as the registry signed them.
        allowlist: grants as the operator signed them.
        jurisdiction: the node's own, as the root signed it ("US-CA").
        now_s: node time.
        unregistered: entries of the registry that cannot be agencies, with the loader's reasons.
    """
    agencies = {agency.identifier: agency for agency in registry if agency.identifier not in unregistered}
    refused = dict.fromkeys(agencies, "not-granted: the operator's allowlist does not name it") | dict(unregistered)
    grants: dict[str, list[Grant]] = {}
    for grant in allowlist:
        grants.setdefault(grant.identifier, []).append(grant)
    allowed: dict[str, Recipient] = {}
    for identifier, given in grants.items():
        agency = agencies.get(identifier)
        if agency is None:
            refused.setdefault(identifier, "not-registered: the registry does not name it")
        elif (reason := _why_not(agency, given, jurisdiction, now_s)) is not None:
            refused[identifier] = reason
        else:
            allowed[identifier] = Recipient(agency=agency, grant=given[0])
            del refused[identifier]
    return Recipients(allowed=allowed, refused=refused, nobody=None if allowed else _nobody(agencies, refused))


def _why_not(agency: Agency, grants: list[Grant], jurisdiction: str, now_s: int) -> str | None:
    if len(grants) != 1:
        return f"granted-twice: the allowlist holds {len(grants)} grants; one of them must be meant"
    grant = grants[0]
    if agency.jurisdiction != jurisdiction:
        return f"other-state: {agency.legal_name} is of {agency.jurisdiction}, this node is of {jurisdiction}"
    if not grant.attested:
        return "not-attested: the grant does not attest that no federal or out-of-state access follows"
    if grant.expires_s <= now_s:
        return "grant-expired: the operator's grant is over; review it and sign a new one"
    return None


def _nobody(agencies: Mapping[str, Agency], refused: Mapping[str, str]) -> str:
    if not refused:
        return "empty: registry and allowlist name nobody, so nobody may receive anything"
    if not agencies:
        return "empty-registry: the registry names no agency, so nobody may receive anything"
    return "no-recipient: no agency is named by both signers, so nobody may receive anything"


def may_connect(address: str, identifier: str, known: Recipients, now_s: int) -> Allowed | Refused:
    """Decide whether uplink may open a connection to `address` to hand `identifier` its records.

    Args:
        address: a literal IPv4 or IPv6 address; a name is refused, because the node resolves none.
        identifier: the agency's identifier in the registry.
        known: what `recipients` returned.
        now_s: node time in seconds since 1970; the grant is judged again, because time has passed since.
    """
    recipient = known.allowed.get(identifier)
    if recipient is None:
        return Refused(known.refused.get(identifier, "not-listed: neither signer names it"))
    if recipient.grant.expires_s <= now_s:
        return Refused("grant-expired: the operator's grant is over; review it and sign a new one")
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return Refused("not-an-address: connections go to literal addresses only; the node resolves no name")
    for endpoint in recipient.agency.endpoints:
        if wanted in ipaddress.ip_network(endpoint.network):
            return Allowed(recipient=recipient, endpoint=endpoint)
    return Refused(f"other-address: {wanted} is in none of the endpoints that the registry signed for {identifier}")


def address_of(recipient: Recipient) -> str | None:
    """Return the first of a recipient's endpoints that is one address, not a range; None where there is none."""
    networks = (ipaddress.ip_network(endpoint.network) for endpoint in recipient.agency.endpoints)
    return next((str(network.network_address) for network in networks if network.num_addresses == 1), None)


def recipient_of_key(key_id: bytes, known: Recipients) -> Recipient | None:
    """Return whose sealing key `key_id` is, among the allowed; a key past its sealing dates still names its owner."""
    return next(
        (who for who in known.allowed.values() if any(key.key_id == key_id for key in who.agency.sealing_keys)), None
    )


def sealing_key(agency: Agency, now_s: int) -> SealingKey | None:
    """Return the key to seal to at `now_s`: of those within their dates the newest; None where there is none."""
    usable = [key for key in agency.sealing_keys if key.not_before_s <= now_s <= key.not_after_s]
    return max(usable, key=lambda key: (key.not_before_s, key.key_id), default=None)
