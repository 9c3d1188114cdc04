"""Whether the signed bundle lets this node read at all: a whole usage policy, and no sensitive place."""

from collections.abc import Sequence

from homeplate.policy.places import may_read_here
from homeplate.policy.usage import missing
from homeplate.policy.verdict import Refused
from homeplate.trust.bundle import Bundle
from homeplate.trust.reasons import NamedTrustError


def conditions(bundle: Bundle, pseudonym: bytes, cameras: Sequence[str], now_s: int) -> list[Refused]:
    """Return all that keeps capture from reading at `now_s` (seconds since 1970); nothing where it may.

    A root marked `demo` needs no usage policy: it reads pictures and nobody's street. Sensitive places hold for it too.
    """
    node = next((entry for entry in bundle.nodes if entry.pseudonym == pseudonym), None)
    return [*([] if bundle.demo else missing(bundle.policy, now_s)), *may_read_here(bundle.places, node, cameras)]


def require_policy(bundle: Bundle, pseudonym: bytes, cameras: Sequence[str], now_s: int) -> None:
    """Refuse to read where a condition is not met.

    Raises:
        NamedTrustError: all that is missing, each by name; its reason is the first one's.
    """
    refused = conditions(bundle, pseudonym, cameras, now_s)
    if refused:
        reason = refused[0].reason.split(":", 1)[0]
        raise NamedTrustError(reason, "capture does not read: " + "; ".join(one.reason for one in refused))
