"""What the kernel lets uplink reach, as text for systemd and nftables. Pure: a bundle's word and `now` in, text out.

The kernel is the second lock behind `policy.allowlist`, and is closed before the first: an entry's rule ends
`CLOSE_EARLY_S` before the entry does. One set of openings has one text, so that a change of text is a change of rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from homeplate.domain.agency import Agency, Grant
from homeplate.policy.allowlist import recipients

CLOSE_EARLY_S = 60
"""Longer than the bundle service's period and a reload of rules together, by far."""

UPLINK_USER = "homeplate-uplink"
TABLE = "homeplate_egress"
_MARK = "0x686f6d65"  # "home": tells uplink's connections once their socket has no owner any more
_HEAD = "# What uplink may reach: written from the signed bundle by `homeplate bundle serve`. Do not edit.\n"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A range of addresses (canonical text) and the one TCP port that is open there."""

    network: str
    port: int


def openings(
    registry: Iterable[Agency],
    allowlist: Iterable[Grant],
    jurisdiction: str,
    now_s: int,
    *,
    ends_s: int,
    unregistered: Mapping[str, str],
) -> frozenset[Opening]:
    """Return what is open at `now_s`: the endpoints of who may receive for `CLOSE_EARLY_S` more.

    Args:
        registry: agencies as the registry signed them.
        allowlist: grants as the operator signed them.
        jurisdiction: the node's own.
        now_s: node time, seconds since 1970.
        ends_s: the second at which the bundle is over.
        unregistered: entries of the registry that cannot be agencies.
    """
    soon_s = now_s + CLOSE_EARLY_S
    if ends_s <= soon_s:
        return frozenset()
    known = recipients(registry, allowlist, jurisdiction, soon_s, unregistered=unregistered)
    return frozenset(
        Opening(network=endpoint.network, port=endpoint.port)
        for recipient in known.allowed.values()
        for endpoint in recipient.agency.endpoints
    )


def common(one: Iterable[Opening], other: Iterable[Opening]) -> frozenset[Opening]:
    """Return what both allow. Two ranges that share an address are one inside the other, so the inner one is common."""
    others = list(other)
    return frozenset(
        inner
        for left in one
        for right in others
        if left.port == right.port and (inner := _inner(left, right)) is not None
    )


def _inner(left: Opening, right: Opening) -> Opening | None:
    first, second = ip_network(left.network), ip_network(right.network)
    if first.version != second.version or not first.overlaps(second):
        return None
    return left if first.prefixlen >= second.prefixlen else right


def systemd_drop_in(opened: Iterable[Opening]) -> str:
    """Return a drop-in for uplink's unit. systemd knows addresses alone; the ports are nftables' affair."""
    networks = _collapsed(ip_network(opening.network) for opening in opened)
    # The empty lines drop what the unit or another drop-in gave before.
    lines = ["[Service]", "IPAddressAllow=", "IPAddressDeny=", "IPAddressDeny=any"]
    return _HEAD + "\n".join([*lines, *(f"IPAddressAllow={_text(network)}" for network in networks)]) + "\n"


def nftables(opened: Iterable[Opening], *, user: str = UPLINK_USER) -> str:
    """Return a file for `nft -f` that replaces the table in one transaction: there is no moment without rules.

    What the user sends is marked by connection too: a packet that the kernel still has of a socket that was closed
    belongs to no user any more, and would pass a rule that looks at the user alone.

    Args:
        opened: what may be reached.
        user: uplink's, by name or number.
    """
    found = list(opened)
    return (
        f"{_HEAD}table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n"
        + _set("brokers4", "ipv4_addr", _elements(found, 4))
        + _set("brokers6", "ipv6_addr", _elements(found, 6))
        + "\tchain output {\n\t\ttype filter hook output priority filter; policy accept;\n"
        + f"\t\tmeta skuid {user} ct mark set {_MARK}\n"
        + f"\t\tmeta skuid {user} jump uplink\n\t\tct direction original ct mark {_MARK} jump uplink\n\t}}\n"
        + "\tchain uplink {\n\t\tip daddr . tcp dport @brokers4 accept\n\t\tip6 daddr . tcp dport @brokers6 accept\n"
        + "\t\tcounter drop\n\t}\n}\n"
    )


def _set(name: str, kind: str, elements: list[str]) -> str:
    listed = f"\t\telements = {{ {', '.join(elements)} }}\n" if elements else ""
    return f"\tset {name} {{\n\t\ttype {kind} . inet_service\n\t\tflags interval\n{listed}\t}}\n"


def _elements(opened: Iterable[Opening], version: int) -> list[str]:
    """Return the elements of a set, without overlaps, which nftables refuses."""
    by_port: dict[int, list[Network]] = {}
    for opening in opened:
        network = ip_network(opening.network)
        if network.version == version:
            by_port.setdefault(opening.port, []).append(network)
    found = [(network, port) for port, networks in by_port.items() for network in _collapsed(networks)]
    found.sort(key=lambda pair: (int(pair[0].network_address), pair[0].prefixlen, pair[1]))
    return [f"{_text(network)} . {port}" for network, port in found]


def _collapsed(networks: Iterable[Network]) -> list[Network]:
    """Return the fewest ranges that hold the same addresses: IPv4 before IPv6, in order."""
    found = set(networks)
    fours = collapse_addresses(network for network in found if isinstance(network, IPv4Network))
    sixes = collapse_addresses(network for network in found if isinstance(network, IPv6Network))
    return [*fours, *sixes]


def _text(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
