"""Whether a log is watched from outside: who may cosign, and how old the last cosignature may be."""

from collections.abc import Collection

from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.witness import Witness
from homeplate.policy.verdict import Refused

COSIGNED_WITHIN_S = 8 * DAY_SECONDS
"""A week between two visits to the witness, and a day for being late."""


def watched(
    witnesses: Collection[Witness],
    log: str,
    last_s: int | None,
    now_s: int,
    *,
    ask: str = "homeplate ledger request FILE",
) -> Refused | None:
    """Return why nobody outside watches a log; None where somebody does.

    Args:
        witnesses: those that the registry names.
        log: the log's name.
        last_s: when a witness cosigned it last, seconds since 1970; None for never.
        now_s: node time, seconds since 1970.
        ask: the command that writes what a witness is asked.
    """
    if not witnesses:
        return Refused("no-witness: the registry names none, so nobody outside would notice a log that was set back")
    if last_s is None:
        return Refused(f"never-cosigned: no witness has cosigned the {log} log; run `{ask}`")
    if now_s - last_s > COSIGNED_WITHIN_S:
        days = (now_s - last_s) // DAY_SECONDS
        return Refused(f"cosigned-long-ago: a witness saw the {log} log {days} days ago; bring it a new request")
    return None
