"""What of a bundle ends soon, by name, with the day and the next step. Pure; what has ended is refused elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from homeplate.domain.agency import Grant
from homeplate.domain.record import DAY_SECONDS

WARN_DAYS = 14

_PUBLISH = "`homeplate-custodian bundle publish` where its key is, then install the bundle on the nodes"
_PARTS = {
    "root": ("root", f"the root's holder signs the next one: {_PUBLISH}"),
    "targets": ("top-role", f"the root's holder signs the delegations anew: {_PUBLISH}"),
    "registry": ("registry", f"the registry signs anew: {_PUBLISH}"),
    "operator": ("allowlist", f"the operator signs allowlist, rules and nodes anew: {_PUBLISH}"),
    "snapshot": ("snapshot", f"the online key's holder publishes again: {_PUBLISH}"),
    "timestamp": ("timestamp", f"the online key's holder publishes again: {_PUBLISH}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A part of the bundle, or an allowlist entry (`grant ID`), that ends soon.

    Attributes:
        what: its name.
        ends_s: the first second (since 1970) at which it is over.
        next_step: who has to do what.
    """

    what: str
    ends_s: int
    next_step: str

    @property
    def day(self) -> str:
        """The day on which it ends, "YYYY-MM-DD" (UTC)."""
        return datetime.fromtimestamp(self.ends_s, tz=UTC).date().isoformat()


def endings(
    ends_s: Mapping[str, int], allowlist: Iterable[Grant], now_s: int, *, within_days: int = WARN_DAYS
) -> tuple[Ending, ...]:
    """Return what ends within so many days of `now_s`, the first to end first.

    Args:
        ends_s: by TUF role, the second at which its metadata is over.
        allowlist: the operator's grants; one that is over already is named too, because nobody may have noticed.
        now_s: node time, seconds since 1970.
        within_days: how early.
    """
    found = [
        Ending(what=name, ends_s=ends_s[role], next_step=step)
        for role, (name, step) in _PARTS.items()
        if role in ends_s
    ]
    found += [
        Ending(
            what=f"grant {grant.identifier}",
            ends_s=grant.expires_s,
            next_step=f"review it, then `homeplate-custodian bundle grant CUSTODY {grant.identifier} ...` or `revoke`",
        )
        for grant in allowlist
    ]
    last_s = now_s + within_days * DAY_SECONDS
    return tuple(sorted((one for one in found if one.ends_s <= last_s), key=lambda one: (one.ends_s, one.what)))
