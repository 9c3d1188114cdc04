"""Evidence holds: what keeps records past their slot, and what ends that. Both are signed by a custodian's hold key."""

from dataclasses import dataclass
from enum import StrEnum

from homeplate.domain.record import DAY_SECONDS

HOLD_ID_BYTES = 16
HOLD_CAP_S = 366 * DAY_SECONDS
"""The longest that a hold may live from its signing; what is needed for longer is signed again."""
HOLD_WINDOW_S = 7 * DAY_SECONDS
"""The longest stretch of time that one hold may name, so that none becomes a second, longer retention."""
APPLY_WITHIN_S = 30 * DAY_SECONDS
"""How long after its signing a hold may be applied."""
MOST_RECORDS = 4096
"""The most records that one hold may name."""
MOST_HOLDS = 32
"""The most holds in force on a node at once: a purge certificate names all their cases."""

_RULE_PREFIX = "hold:"


def hold_rule(hold_id: bytes) -> str:
    """Return the name that stands in a slot's cell where a hold's key lies; no signed rule can have it."""
    return _RULE_PREFIX + hold_id.hex()


def hold_of(rule: str) -> bytes:
    """Return the hold whose key lies under `hold_rule`'s name; no bytes where it is another's."""
    return bytes.fromhex(rule.removeprefix(_RULE_PREFIX)) if rule.startswith(_RULE_PREFIX) else b""


class Ground(StrEnum):
    """Why something is kept past its retention. The list is closed: California Vehicle Code 2413(b) has these two."""

    EVIDENCE = "evidence"
    FELONY = "felony"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A hold.

    Attributes:
        hold_id: 16 random bytes; a hold is applied once.
        node: pseudonym of the one node that it is for, 16 bytes.
        case: the case number, 1 to 40 characters; never a plate.
        ground: why.
        camera: the source's name.
        from_s, to_s: first and last second of capture, seconds since 1970.
        most_records: a hold that would take more is refused as a whole.
        issued_s: when it was signed.
        expires_s: the first second at which its key is gone.
    """

    hold_id: bytes
    node: bytes
    case: str
    ground: Ground
    camera: str
    from_s: int
    to_s: int
    most_records: int
    issued_s: int
    expires_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The end of a hold before its expiry. Attributes: as `Hold`'s."""

    hold_id: bytes
    node: bytes
    case: str
    issued_s: int
