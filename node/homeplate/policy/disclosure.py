"""What is kept of a passage, for whom and how long: the signed rules, narrowed by the configuration, and no more.

What no rule names is counted by the caller and kept by nobody. Every refusal comes back with its rule, its recipient
and its reason, so that the ledger can hold it. Sealing and writing are left to capture.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from homeplate.domain.profiles import Profile, cap_s
from homeplate.domain.record import Disposition, HitKind, StorageClass
from homeplate.domain.rules import Rule, Trigger
from homeplate.policy.allowlist import Recipients, sealing_key
from homeplate.policy.retention import keep_until

ANY_RECIPIENT = "*"
"""Stands for every recipient where the rule as a whole is refused."""

_TRIGGERS = {
    HitKind.EXACT: {Trigger.HIT, Trigger.EVERYTHING},
    HitKind.NEAR: {Trigger.NEAR_HIT, Trigger.EVERYTHING},
    HitKind.NONE: {Trigger.NON_HIT, Trigger.EVERYTHING},
}
"""Which rules name a passage. A near hit is no hit: where no rule of its own keeps it, it is only counted."""

NOT_DEMO = "not-demo: everything is published only under a root marked demo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrowing:
    """What the local configuration takes away from the signed rules. It has no way to add.

    Attributes:
        drop_rules: names of rules that do not apply here.
        drop_recipients: identifiers that get nothing from here.
        retention_s: a shorter retention, seconds, by rule name.
        profile: a retention profile that caps every rule.
    """

    drop_rules: frozenset[str] = frozenset()
    drop_recipients: frozenset[str] = frozenset()
    retention_s: Mapping[str, int] = field(default_factory=dict)
    profile: Profile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a passage: what is kept, and (rule, recipient, reason) of what was refused."""

    dispositions: tuple[Disposition, ...] = ()
    refused: tuple[tuple[str, str, str], ...] = ()


def check_narrowing(rules: Iterable[Rule], narrowing: Narrowing) -> None:
    """Make sure that the configuration narrows the signed rules and nothing else.

    Raises:
        ValueError: names the key that widens, or the rule or recipient that does not exist (a misspelt one would
            silently narrow nothing).
    """
    by_name = {rule.name: rule for rule in rules}
    for name in sorted({*narrowing.drop_rules, *narrowing.retention_s} - by_name.keys()):
        raise ValueError(f"the bundle has no rule {name!r} to narrow; it has: {', '.join(sorted(by_name)) or 'none'}")
    named = {identifier for rule in by_name.values() for identifier in rule.recipients}
    for identifier in sorted(narrowing.drop_recipients - named):
        raise ValueError(f"no rule of the bundle names the recipient {identifier!r} that is to be dropped")
    for name, shorter_s in narrowing.retention_s.items():
        signed_s = by_name[name].retention_s
        if not 1 <= shorter_s <= signed_s:
            raise ValueError(
                f"rule {name!r}: retention {shorter_s} s widens the signed {signed_s} s; give 1 to {signed_s}"
            )


def narrowed(rule: Rule, narrowing: Narrowing) -> Rule:
    """Return what is left of a rule: it keeps for fewer (for nobody where it is dropped) and for no longer."""
    dropped = rule.recipients if rule.name in narrowing.drop_rules else narrowing.drop_recipients
    return replace(
        rule,
        recipients=tuple(who for who in rule.recipients if who not in dropped),
        retention_s=min(
            rule.retention_s,
            narrowing.retention_s.get(rule.name, rule.retention_s),
            cap_s(narrowing.profile, rule.trigger),
        ),
    )


def decide(
    *,
    rules: Sequence[Rule],
    narrowing: Narrowing,
    recipients: Recipients,
    hit: HitKind,
    camera: str,
    captured_s: int,
    now_s: int,
    demo: bool,
) -> Decision:
    """Return what the rules keep of one passage.

    A recipient gets one disposition a storage class: the first rule in the signed order decides. Otherwise a hit that
    two rules name would show to the broker as two records. A rule that the configuration narrows still decides: if the
    next one did instead, dropping a rule could keep more, and for longer.

    Args:
        rules: as the operator signed them, in order.
        narrowing: from the configuration, checked by `check_narrowing`.
        recipients: who may receive.
        hit: whether a hot list names the plate, exactly or nearly.
        camera: the source's name.
        captured_s: node time of capture, whole seconds since 1970, rounded down.
        now_s: node time now.
        demo: whether the bundle's root is marked `demo`.
    """
    # A file read faster than its frames' times is captured "later than now"; nothing may live longer for that.
    captured_s = min(captured_s, now_s)
    kept: dict[tuple[str, StorageClass], Disposition | None] = {}
    refused: list[tuple[str, str, str]] = []
    for rule in (one for one in rules if _names(one, hit, camera)):
        if rule.trigger.takes_all and rule.storage is StorageClass.OUTGOING and not demo:
            refused.append((rule.name, ANY_RECIPIENT, NOT_DEMO))
            continue
        left = narrowed(rule, narrowing)
        for identifier in rule.recipients:
            place = (identifier, rule.storage)
            reason = _why_not(rule, identifier, recipients, captured_s, now_s)
            if reason is None and place not in kept:
                kept[place], reason = _kept(left, identifier, recipients, captured_s, now_s, hit=hit)
            if reason is not None and identifier in left.recipients:
                refused.append((rule.name, identifier, reason))
    return Decision(dispositions=tuple(one for one in kept.values() if one is not None), refused=tuple(refused))


def _names(rule: Rule, hit: HitKind, camera: str) -> bool:
    return rule.trigger in _TRIGGERS[hit] and (not rule.cameras or camera in rule.cameras)


def _kept(
    left: Rule, identifier: str, recipients: Recipients, captured_s: int, now_s: int, *, hit: HitKind
) -> tuple[Disposition | None, str | None]:
    """Return what remains, for a recipient, of the rule that decides; or None, and the reason where there is one."""
    reason = _why_not(left, identifier, recipients, captured_s, now_s)
    if reason is not None or identifier not in left.recipients:
        return None, reason
    return _disposition(left, identifier, hit, captured_s), None


def _why_not(rule: Rule, identifier: str, recipients: Recipients, captured_s: int, now_s: int) -> str | None:
    recipient = recipients.allowed.get(identifier)
    if recipient is None:
        return recipients.refused.get(identifier, "not-listed: neither signer names it")
    if recipient.grant.expires_s <= now_s:
        return "grant-expired: the operator's grant is over; review it and sign a new one"
    if sealing_key(recipient.agency, now_s) is None:
        return "no-sealing-key: none of the agency's sealing keys is within its dates"
    if keep_until(captured_s, rule.retention_s) <= now_s:
        return "past-its-date: the rule's retention was over before the record could be sealed"
    return None


def _disposition(rule: Rule, identifier: str, hit: HitKind, captured_s: int) -> Disposition:
    return Disposition(
        rule=rule.name,
        recipient=identifier,
        parts=rule.parts,
        storage=rule.storage,
        keep_until_s=keep_until(captured_s, rule.retention_s),
        retention_s=rule.retention_s,
        hit=hit,
        purpose=rule.purpose,
    )
