"""The usage and privacy policy as its operator signs it: what people promise, beside what the bundle's rules enforce.

Source: California Civil Code 1798.90.51(b), parts A to G, and 1798.90.55(a). What a part may leave blank, and until
when capture waits for it, is judged in `policy.usage`.
"""

from dataclasses import dataclass
from enum import StrEnum


class OperatorKind(StrEnum):
    """Who runs the node; only a public agency owes a public meeting (Civil Code 1798.90.55(a))."""

    PUBLIC_AGENCY = "public_agency"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePolicy:
    """The policy target. A text that is "" or blank is not written yet.

    Attributes:
        operator_kind: who runs the node.
        purposes: part A, the authorised purposes in the operator's words.
        users: part B, job titles or designations of those who may use the system.
        training: part B, what training they need.
        monitoring: part C, how use is monitored.
        sharing: part D, purposes of, process for and restrictions on sharing.
        custodian_title: part E, the title of the official custodian.
        accuracy: part F, how accuracy is ensured and errors are corrected.
        retention: part G, how long and by which process things are destroyed, in the operator's words.
        url: where the text is posted, https.
        sha256: of the posted text's bytes, 32 bytes; b"" for none.
        meeting_on: the day ("YYYY-MM-DD") of the public meeting that took comments before the start; "" for none.
        meeting_address: where that meeting was.
    """

    operator_kind: OperatorKind
    purposes: str
    users: str
    training: str
    monitoring: str
    sharing: str
    custodian_title: str
    accuracy: str
    retention: str
    url: str
    sha256: bytes
    meeting_on: str
    meeting_address: str
