"""Looks at everything that a start needs and says what is wrong; the bundle in words. It starts nothing."""

import filecmp
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from homeplate.app.bundle import last_refusal
from homeplate.app.cameras import looked_at
from homeplate.app.conditions import require_policy
from homeplate.app.node import PROCESSES, Identity, Paths, load_identity
from homeplate.clock import NANOSECONDS, UNCONFIRMED_OFF_NS, SystemClock, utc_text
from homeplate.config import Config, narrowing, source_settings
from homeplate.domain.profiles import CAPS
from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import Trigger
from homeplate.errors import ConfigError, HomeplateError, ModelError
from homeplate.policy.allowlist import recipients
from homeplate.policy.disclosure import check_narrowing
from homeplate.policy.expiry import WARN_DAYS, endings
from homeplate.policy.recovery import recovery_text
from homeplate.policy.retention import review_due
from homeplate.policy.witnessing import watched
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.sealing.seal import open_hot_list
from homeplate.sealing.slots import require_in_place, require_memory_backed
from homeplate.store.ledger import MAXIMUM_SEGMENTS, WARN_SEGMENTS
from homeplate.store.reading import closed_segments
from homeplate.store.witnessed import last_cosigned_s
from homeplate.trust.bundle import Bundle, has_bundle, load_bundle
from homeplate.trust.hotlist import parse_hot_list

HOT_LIST_WARN_S = DAY_SECONDS
"""A list stands for a week unless it says otherwise, so the warning of what else the bundle holds would be constant."""
_OF_A_LIST = frozenset({Trigger.HIT, Trigger.NEAR_HIT})
UNFINISHED = 12
"""The exit code of a node on which nothing is wrong, and which waits for a step of its provisioning."""
READY = "ready for provisioning: `homeplate init --root ROOT.json --request REQUEST.json` makes its keys"
ENROLMENT = (
    "waits for enrolment: at the custodian's `homeplate-custodian enrol CUSTODY REQUEST.json --out CLIENT.crt` and "
    "`bundle publish CUSTODY`, then here `homeplate bundle install BUNDLE --certificate CLIENT.crt`"
)
_Looks = list[tuple[str, Callable[[], Iterator[str]]]]

NOT_PROVEN = (
    "this node cannot prove that its recipients are in state: one body holds the registry's and the operator's role"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of `homeplate check`: a mark (ok, note, next, WRONG), the thing, and what to say of it."""

    mark: str
    thing: str
    text: str
    exit_code: int = 0


def findings(config: Config, *, warn_days: int = WARN_DAYS) -> list[Finding]:
    """Return what a start would find, in the order in which it would find it; nothing is made where no node is.

    Args:
        config: the node's.
        warn_days: how early it warns of what ends.
    """
    paths = Paths.of(config)
    made: _Looks = [
        ("keys", lambda: _keys(paths)),
        ("storage", lambda: _storage(paths)),
        ("clock", lambda: _clock(paths)),
    ]
    installed: _Looks = [
        ("bundle", lambda: _bundle(config, paths, warn_days)),
        ("bundle", lambda: (f"note: {text}" for text in last_refusal(paths))),
        ("hot list", lambda: _hot_list(config, paths)),
        ("egress", lambda: _egress(paths)),
        ("ledger", lambda: _filling(paths)),
        ("ledger", lambda: _witnessed(config, paths)),
    ]
    rest: _Looks = [("models", lambda: _models(config)), ("sources", lambda: _sources(config))]
    if not paths.identity.exists():
        return _with_next(_looked([("storage", lambda: _room(paths)), *rest]), READY)
    node = _looked([("node", lambda: _node(load_identity(paths)))])
    if any(finding.exit_code for finding in node):
        return node + _looked(rest)
    if paths.bundle.is_dir() and not has_bundle(paths.bundle):
        refused: _Looks = [("bundle", lambda: (f"note: {text}" for text in last_refusal(paths)))]
        return node + _with_next(_looked([*made, *refused, *rest]), ENROLMENT)
    return node + _looked([*made, *installed, *rest])


def _with_next(found: list[Finding], step: str) -> list[Finding]:
    """Return what was found, and what a node that is not provisioned waits for where nothing is wrong."""
    if any(finding.exit_code for finding in found):
        return [*found, Finding(mark="note", thing="node", text="is not provisioned; first mend what is WRONG")]
    return [*found, Finding(mark="next", thing="node", text=step, exit_code=UNFINISHED)]


def _room(paths: Paths) -> Iterator[str]:
    """Yield whether a node can be made in its folders."""
    require_memory_backed(paths.runtime)
    require_in_place(paths.data)
    yield f"{paths.data} overwrites in place, {paths.runtime} is memory-backed"


def _looked(looks: _Looks) -> list[Finding]:
    found: list[Finding] = []
    for thing, look in looks:
        try:
            found += [_finding(thing, text) for text in look()]
        except HomeplateError as error:
            found.append(Finding(mark="WRONG", thing=thing, text=str(error), exit_code=error.exit_code))
    return found


def _finding(thing: str, text: str) -> Finding:
    note = text.startswith("note: ")
    return Finding(mark="note" if note else "ok", thing=thing, text=text.removeprefix("note: "))


def _node(identity: Identity) -> Iterator[str]:
    yield f"pseudonym {identity.pseudonym}"
    if identity.simulation:
        yield "note: a simulation's folder; it never records a road"


def _keys(paths: Paths) -> Iterator[str]:
    read = {
        paths.record_key: load_signing_key,
        paths.hot_list_key: load_sealing_key,
        paths.ledger_key: load_signing_key,
    }
    sealed = [path for path in read if not path.exists() and paths.sealed(path).exists()]
    for path in read.keys() - set(sealed):
        read[path](path)
    yield "record, hot-list and ledger key"
    if sealed:
        yield f"note: sealed for their units, so not looked at: {', '.join(path.name for path in sealed)}"
    if paths.tls_certificate.exists():
        yield "TLS client certificate"
    else:
        yield "note: not enrolled yet (no TLS client certificate): uplink will not start"


def _storage(paths: Paths) -> Iterator[str]:
    if load_identity(paths).simulation:
        yield "note: a simulation may keep slot keys anywhere"
        return
    if not paths.runtime.is_dir():
        raise ConfigError(f"node.runtime_dir: {paths.runtime} is no folder; make it on a tmpfs (systemd-tmpfiles does)")
    require_memory_backed(paths.runtime)
    require_in_place(paths.data)
    yield f"{paths.data} overwrites in place, {paths.runtime} is memory-backed"


def _clock(paths: Paths) -> Iterator[str]:
    clock = SystemClock(paths.clock, "check")
    days, most = clock.unconfirmed_ns / (DAY_SECONDS * NANOSECONDS), UNCONFIRMED_OFF_NS // (DAY_SECONDS * NANOSECONDS)
    off = f"{days:.1f} of {most} days of time off rest on the wall clock alone"
    yield f"node time {utc_text(clock.now_ns())}; {off}"
    if 2 * days >= most:
        yield f"note: {off}, and past that the node stops: install a newly signed bundle"


def _loaded(config: Config) -> tuple[Bundle, int]:
    paths = Paths.of(config)
    now_ns = SystemClock(paths.clock, "check").now_ns()
    return load_bundle(paths.bundle, now_ns, pseudonym=load_identity(paths).raw), now_ns // NANOSECONDS


def _bundle(config: Config, paths: Paths, warn_days: int) -> Iterator[str]:
    bundle, now_s = _loaded(config)
    pseudonym = load_identity(paths).raw
    yield f"version {bundle.version}, in force until {utc_text(bundle.expires_s * NANOSECONDS)}"
    for ending in endings(bundle.ends_s, bundle.allowlist, now_s, within_days=warn_days):
        days = max(0, ending.ends_s - now_s) // DAY_SECONDS
        yield f"note: {ending.what} ends on {ending.day} (in {days} days): {ending.next_step}"
    if bundle.demo:
        yield "note: the root is marked demo: never for a roadside node"
    if not bundle.independent:
        yield f"note: {NOT_PROVEN}"
    if all(node.pseudonym != pseudonym for node in bundle.nodes):
        yield "note: the bundle does not name this node yet: receivers will refuse its records"
    try:
        check_narrowing(bundle.rules, narrowing(config.narrow))
    except ValueError as error:
        raise ConfigError(f"narrow: {error}") from error
    who = recipients(bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered)
    yield f"{len(who.allowed)} recipients, {len(bundle.rules)} rules"
    if bundle.retention_profile is not None:
        yield f"retention profile {bundle.retention_profile}: {CAPS[bundle.retention_profile].source}"
    if bundle.rules and (due := review_due(bundle.retention_reviewed_on, now_s)):
        yield f"note: {due}: review it, then `homeplate-custodian bundle rule reviewed`"
    if who.nobody:
        yield f"note: nobody may receive: {who.nobody}"
    require_policy(bundle, pseudonym, [section.name for section in config.source], now_s)


def _hot_list(config: Config, paths: Paths) -> Iterator[str]:
    """Yield until when the node's hot list stands; one that is over stops the next start, and nothing is a hit now."""
    try:
        bundle, now_s = _loaded(config)
        key = load_sealing_key(paths.hot_list_key)
    except HomeplateError:  # said above, with what is wrong
        return
    if bundle.hot_list_sealed is None:
        if any(rule.trigger in _OF_A_LIST for rule in bundle.rules):
            yield "note: the bundle brings this node none, so nothing is a hit: `homeplate-custodian bundle hot-list`"
        return
    ends_s = parse_hot_list(open_hot_list(bundle.hot_list_sealed, key), now_s).expires_s
    yield f"in force until {utc_text(ends_s * NANOSECONDS)}"
    if ends_s - now_s <= HOT_LIST_WARN_S:
        yield "note: it ends within a day: install a bundle with a newer one"


def _filling(paths: Paths) -> Iterator[str]:
    """Yield each log that nears the bound of its files: at the bound its process takes no more rows, so it stops."""
    for name in PROCESSES:
        count = len(closed_segments(paths.log(name)))
        if count >= WARN_SEGMENTS:
            yield (
                f"note: the {name} log has {count} of {MAXIMUM_SEGMENTS} closed files, then it takes no more rows:"
                " run `homeplate ledger sign`, then `homeplate ledger archive DIR`"
            )


def _witnessed(config: Config, paths: Paths) -> Iterator[str]:
    """Yield whether somebody outside the operator watches each log that has rows."""
    bundle, now_s = _loaded(config)
    for name in (name for name in PROCESSES if paths.log(name).exists()):
        last_s = last_cosigned_s(paths.checkpoints, name, bundle.witnesses)
        refused = watched(bundle.witnesses, name, last_s, now_s)
        yield f"note: {refused.reason}" if refused else f"a witness cosigned the {name} log"
        if not bundle.witnesses:
            return


def _egress(paths: Paths) -> Iterator[str]:
    """Yield whether the kernel's rules for uplink are the bundle's, where something applies them."""
    rules = paths.egress / "uplink.nft"
    if not paths.egress_applied.exists():
        yield "note: nothing applies the kernel's rules for uplink here (systemd/homeplate-egress does)"
    elif rules.exists() and filecmp.cmp(rules, paths.egress_applied, shallow=False):
        yield "the kernel's rules for uplink are applied"
    else:
        yield "note: the kernel's rules for uplink changed and are not applied: see `systemctl status homeplate-egress`"


def _models(config: Config) -> Iterator[str]:
    if find_spec("onnxruntime") is None:
        raise ModelError(
            "onnxruntime is not installed: pip install 'homeplate[cpu]', or the vendor's build on a Jetson"
        )
    from homeplate.app.models import opened_models, require_named  # noqa: PLC0415 - after the check that it can be loaded

    models = opened_models(config)
    running = models.running
    yield (
        f"run on {running.provider} in {running.precision}: detector {running.detector}, reader {running.reader}, "
        "hashes as in the manifest"
    )
    try:
        bundle, _ = _loaded(config)
    except HomeplateError:  # said above, with what is wrong
        return
    require_named(bundle, models.manifest_sha256)
    if bundle.model_manifests is not None:
        yield f"manifest {models.manifest_sha256.hex()[:12]} is one that the bundle names"


def _sources(config: Config) -> Iterator[str]:
    if not config.source:
        yield "note: none configured: capture has nothing to look at"
    for section in config.source:
        yield from looked_at(source_settings(section), config)


def describe_bundle(config: Config) -> Iterator[str]:
    """Yield the bundle in words: signers, rules, recipients, and who is refused and why.

    Raises:
        TrustError: where no bundle is in force.
    """
    bundle, now_s = _loaded(config)
    yield f"jurisdiction {bundle.jurisdiction}; registry: {bundle.registry_body}; operator: {bundle.operator_body}"
    if not bundle.independent:
        yield NOT_PROVEN
    for rule in bundle.rules:
        parts = "+".join(sorted(rule.parts))
        yield f"rule {rule.name}: {rule.trigger}, {parts}, {rule.storage}, {rule.retention_s} s, {rule.purpose}"
    yield f"the next bundle comes {' or '.join(['by hand', *(f'from {name}' for name in bundle.bundle_sources)])}"
    who = recipients(bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered)
    for identifier, recipient in sorted(who.allowed.items()):
        yield f"recipient {identifier}: {recipient.agency.legal_name} ({recipient.grant.need})"
    yield recovery_text(bundle.recovery, who)
    for identifier, reason in sorted(who.refused.items()):
        yield f"refused {identifier}: {reason}"
