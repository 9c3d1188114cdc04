"""Whether a node's signature counts: receivers and verifiers trust the bundle's `nodes` and nothing else."""

from collections.abc import Iterable

from homeplate.domain.node import NodeEntry
from homeplate.policy.verdict import Refused


def enrolled(nodes: Iterable[NodeEntry], pseudonym: bytes, at_s: int) -> NodeEntry | Refused:
    """Return the entry of `pseudonym` (16 bytes) if what it signs at `at_s` (seconds since 1970) counts."""
    entry = next((node for node in nodes if node.pseudonym == pseudonym), None)
    if entry is None:
        return Refused(f"unknown-node: the bundle names no node {pseudonym.hex()}")
    if entry.revoked:
        return Refused(f"revoked-node: {pseudonym.hex()} is revoked")
    if not entry.not_before_s <= at_s <= entry.not_after_s:
        return Refused(f"node-out-of-dates: {pseudonym.hex()} is not enrolled at this time")
    return entry
