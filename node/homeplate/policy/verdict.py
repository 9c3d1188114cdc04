"""What a decision returns when the answer is no."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """No, and why: a short code, a colon, and the thing that was refused. Fit for the ledger: never a plate."""

    reason: str
