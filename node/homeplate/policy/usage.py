"""What the signed usage policy still lacks for capture to start (Civil Code 1798.90.51(b), .55(a)). Pure.

A missing policy alone was held to be harm (Bartholomew v. Parking Concepts, 2026): so the node does not read before
there is one, whole, posted, and where a public agency runs it, heard. Whether the posted text says what the bundle
enforces is for the custodian's `policy check`.
"""

from datetime import UTC, datetime

from homeplate.domain.usage import OperatorKind, UsagePolicy
from homeplate.policy.verdict import Refused

PARTS = {
    "A": ("authorised purposes", ("purposes",)),
    "B": ("who may use it and their training", ("users", "training")),
    "C": ("monitoring", ("monitoring",)),
    "D": ("sharing and its restrictions", ("sharing",)),
    "E": ("the custodian's title", ("custodian_title",)),
    "F": ("accuracy and correction", ("accuracy",)),
    "G": ("retention and destruction", ("retention",)),
}
"""The parts of a usage policy: what each is about, and the fields of `UsagePolicy` that carry the operator's words."""

_MEND = "write it with `homeplate-custodian policy set`, and publish"


def missing(policy: UsagePolicy, now_s: int) -> list[Refused]:
    """Return what the policy lacks at `now_s` (seconds since 1970), each by name; nothing where capture may start."""
    refused = [
        Refused(f"policy-part-{letter}: part {letter} of the usage policy ({about}) lacks {name}; {_MEND}")
        for letter, (about, names) in PARTS.items()
        for name in names
        if not getattr(policy, name).strip()
    ]
    if not policy.url:
        refused.append(Refused(f"policy-url: the usage policy does not say where it is posted (url); {_MEND}"))
    if not policy.sha256:
        refused.append(
            Refused(
                "policy-sha256: the usage policy does not say which text is posted (sha256); "
                "record it with `homeplate-custodian policy posted`, and publish"
            )
        )
    if policy.operator_kind is OperatorKind.PUBLIC_AGENCY:
        refused += _unheard(policy, now_s)
    return refused


def _unheard(policy: UsagePolicy, now_s: int) -> list[Refused]:
    """Return what is missing of the public meeting that an agency holds before it starts."""
    refused = []
    today = datetime.fromtimestamp(now_s, tz=UTC).date().isoformat()
    if not policy.meeting_on:
        refused.append(
            Refused(
                f"policy-meeting-date: no day of a public meeting (meeting_on), which a public agency owes; {_MEND}"
            )
        )
    elif policy.meeting_on >= today:
        refused.append(
            Refused(
                f"policy-meeting-to-come: the public meeting of {policy.meeting_on} is not over; "
                "capture starts the day after"
            )
        )
    if not policy.meeting_address.strip():
        refused.append(Refused(f"policy-meeting-address: no place of the public meeting (meeting_address); {_MEND}"))
    return refused
