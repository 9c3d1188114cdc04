"""A purge by hand: who destroys records before their time, and why. The clock's own purge needs neither."""

import re
from dataclasses import dataclass
from enum import StrEnum

from homeplate.domain.plate import has_form_of_plate

# Neither control characters nor letters that two people might read as another.
_WHO = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./_-]{0,39}")


class Why(StrEnum):
    """Why something is destroyed before its time. A closed list: free text in a ledger would hold a plate one day."""

    CAPTURED_IN_ERROR = "captured-in-error"
    RULE_WITHDRAWN = "rule-withdrawn"
    ORDERED = "ordered"
    END_OF_SERVICE = "end-of-service"


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """A purge by hand.

    Attributes:
        who: user name or badge number, 1 to 60 characters.
        why: the ground.
        reference: the paper that says so, 1 to 40 characters; never a plate.
        rule: whose records go, by the signed rule's name; None for every rule's.

    Raises:
        ValueError: where `who` or `reference` is none, or has the form of a plate.
    """

    who: str
    why: Why
    reference: str
    rule: str | None

    def __post_init__(self) -> None:
        if _WHO.fullmatch(self.who) is None:
            raise ValueError(f"--by: 1 to 60 letters, digits, spaces, dots, hyphens; not {self.who!r}")
        if _REFERENCE.fullmatch(self.reference) is None:
            raise ValueError(f"--reference: 1 to 40 letters, digits, spaces, . / _ -; not {self.reference!r}")
        for option, text in (("--by", self.who), ("--reference", self.reference)):
            if has_form_of_plate(text):
                raise ValueError(f"{option} has the form of a plate, and it would stand in the ledger: write no plate")

    def names(self, rule: str) -> bool:
        """Tell whether a rule's records go."""
        return self.rule is None or self.rule == rule
