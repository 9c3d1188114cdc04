"""Rules as the operator signs them: what of a passage is kept, for whom, how long. They come from the bundle only."""

from dataclasses import dataclass
from enum import StrEnum

from homeplate.domain.record import DAY_SECONDS, Part, StorageClass

RETENTION_CAP_S = 60 * DAY_SECONDS
"""The longest retention that a rule may carry: 60 days, California Vehicle Code 2413(b)."""

MAXIMUM_RECIPIENTS = 30
"""The most agencies that a node's rules may name together: one row of capture's ledger commits a passage, and names
every record of it (a local and an outgoing one for each recipient and part)."""


class Trigger(StrEnum):
    """Which passages a rule names: exact hits, near hits, what no hot list names, or everything."""

    HIT = "hit"
    NEAR_HIT = "near-hit"
    NON_HIT = "non-hit"
    EVERYTHING = "everything"

    @property
    def takes_all(self) -> bool:
        """True where it names what no hot list does: such a rule is published under a root marked `demo` only."""
        return self in {Trigger.NON_HIT, Trigger.EVERYTHING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One signed rule.

    Attributes:
        name: 1 to 40 characters of a-z, 0-9 and hyphen.
        trigger: which passages. Everything (or non-hits) *and* outgoing is what only a root marked `demo` may carry.
        recipients: identifiers in the registry; each gets records of its own.
        parts: facts, or facts and crop (a crop never travels without its facts).
        storage: local or outgoing.
        retention_s: seconds from capture; the slot is a twelfth of it, at least one second.
        purpose: one of the operator's authorised purposes, sealed inside.
        cameras: sources it covers; empty means every source.
    """

    name: str
    trigger: Trigger
    recipients: tuple[str, ...]
    parts: frozenset[Part]
    storage: StorageClass
    retention_s: int
    purpose: str
    cameras: tuple[str, ...] = ()
