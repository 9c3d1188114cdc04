"""The custody folder: drafts of what registry and operator will sign, and the steps that change them.

`root/ registry/ operator/ online/` hold a key each and can live on machines of their own; `agencies/ID/` holds an
agency's sealing keys, `authority/` the certificates, `bundle/` what nodes install, `root.json` what a node pins.
Drafts are checked as a node would check them, before anything is signed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from homeplate.domain.agency import KemKind
from homeplate.domain.hotlist import HotListEntry, code_of
from homeplate.domain.profiles import Profile
from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, Part, StorageClass
from homeplate.domain.rules import RETENTION_CAP_S, Trigger
from homeplate.domain.witness import Witness
from homeplate.errors import ConfigError
from homeplate.sealing.keys import SealingPrivateKey, generate_sealing_key, save_sealing_key
from homeplate.sealing.seal import seal_hot_list
from homeplate.trust import contents
from homeplate.trust.agencies import agencies, to_agency
from homeplate.trust.bundle import Bundle, pin_root, read_bundle
from homeplate.trust.enrolment import read_request
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.hotlist import encode_hot_list, hot_list_expires_s, parse_hot_list
from homeplate.trust.metadata import (
    ALLOWLIST_TARGET,
    MAX_METADATA_BYTES,
    MAX_TARGET_BYTES,
    MODELS_TARGET,
    NODES_TARGET,
    OPERATOR,
    PLACES_TARGET,
    POLICY_TARGET,
    REGISTRY,
    REGISTRY_TARGET,
    RULES_TARGET,
    hot_list_target,
    root_mark,
)
from homeplate.trust.places import PlacesFile, places
from homeplate.trust.schema import (
    AgencyEntry,
    AllowlistFile,
    EndpointEntry,
    Entry,
    GrantEntry,
    ModelsFile,
    NodeFileEntry,
    NodesFile,
    PolicyFile,
    PositionEntry,
    RegistryFile,
    RootMark,
    RuleEntry,
    RulesFile,
    SealingKeyEntry,
    WitnessEntry,
    decode,
    encode,
    why,
)
from homeplate_custodian.authority import create_authority, issue_client
from homeplate_custodian.bundle import ROLE_FOLDERS, first_root, publish
from homeplate_custodian.expiring import UNTIL
from homeplate_custodian.keyring import make_role_key
from homeplate_custodian.roots import ROOT_ROLE, has_holders, set_threshold

ROOT_FILE = "root.json"
HOT_LIST_FILE = "hot-list.bin"
SEALING_KEY_DAYS = 90
NODE_DAYS = 365
_DRAFTS = {
    REGISTRY_TARGET: REGISTRY,
    ALLOWLIST_TARGET: OPERATOR,
    RULES_TARGET: OPERATOR,
    NODES_TARGET: OPERATOR,
    MODELS_TARGET: OPERATOR,
    POLICY_TARGET: OPERATOR,
    PLACES_TARGET: OPERATOR,
}
_File = TypeVar("_File", bound=Entry)


def init(
    custody: Path,
    *,
    registry_body: str,
    operator_body: str,
    now_s: int,
    jurisdiction: str = "US-CA",
    demo: bool = False,
    root_threshold: int = 1,
) -> None:
    """Make a custody folder: role keys, the root, empty drafts and a certificate authority.

    A `key.pub` that lies in a role's folder already is used, and no private key is made: that role is held elsewhere.
    The root may have several holders, `root/NAME/key.pub` each; `root.json` then counts once enough of them signed it.

    Args:
        custody: the folder to make.
        registry_body: who says what an agency is.
        operator_body: who chooses recipients and rules.
        now_s: seconds since 1970.
        jurisdiction: the nodes' own, "US-CA".
        root_threshold: how many of the root's holders have to sign.
        demo: mark the root `demo`; it then may carry the rule that publishes everything, and no node takes it for real.

    Raises:
        ConfigError: where there is a custody already, or a name is none.
    """
    if (custody / ROOT_FILE).exists():
        raise ConfigError(f"{custody} is a custody already; its root is not replaced. Choose another folder")
    mark = _mark(demo=demo, jurisdiction=jurisdiction, registry_body=registry_body, operator_body=operator_body)
    for role in ROLE_FOLDERS:
        if role != ROOT_ROLE or not has_holders(custody):
            make_role_key(custody / role)
    if root_threshold != 1:
        set_threshold(custody, root_threshold)
    _save(custody, REGISTRY_TARGET, RegistryFile(agencies=[]))
    _save(custody, ALLOWLIST_TARGET, AllowlistFile(grants=[]))
    _save(custody, RULES_TARGET, RulesFile(purposes=[], rules=[]))
    _save(custody, NODES_TARGET, NodesFile(nodes=[]))
    create_authority(custody / "authority", name=f"{operator_body[:40]} record custodian", now_s=now_s)
    root = first_root(custody, mark, now_s=now_s)
    write_durably(custody / "bundle" / "1.root.json", root)
    write_durably(custody / ROOT_FILE, root)


def _mark(**fields: str | bool) -> RootMark:
    try:
        return msgspec.convert(fields, RootMark)
    except msgspec.ValidationError as error:
        raise ConfigError(f"that cannot be in a root: {why(error)}") from error


def add_agency(
    custody: Path,
    *,
    identifier: str,
    legal_name: str,
    kind: str,
    jurisdiction: str,
    network: str,
    port: int,
    tls_name: str,
    pins: Sequence[bytes],
    now_s: int,
    ori: str | None = None,
    authority_pem: str | None = None,
    kem: KemKind = KemKind.X25519,
    unsafe_unchecked: bool = False,
) -> Path:
    """Draft a registry entry with a new sealing key; return the private key's file, which is the agency's alone.

    The arguments are `Agency`'s and `Endpoint`'s; `pins` come from `authority.spki_pin`, and `authority_pem` is this
    custody's own authority where left out. `now_s` is in seconds since 1970; the key is good from the day before.
    With `unsafe_unchecked` the entry is drafted though every node will refuse it: the demo shows that.

    Raises:
        TrustError: where a node would refuse the entry; the message says why.
        ConfigError: where the identifier is taken.
    """
    mark_of(custody)
    pem = _own_authority(custody) if authority_pem is None else authority_pem
    endpoint = _endpoint(network, port, tls_name, pins, pem)
    key = generate_sealing_key(kem)
    entry = AgencyEntry(
        identifier=identifier,
        legal_name=legal_name,
        kind=kind,
        jurisdiction=jurisdiction,
        ori=ori,
        endpoints=[endpoint],
        sealing_keys=[_key_entry(key, now_s - DAY_SECONDS)],
    )
    file = _with_agency(custody, entry, checked=not unsafe_unchecked)
    path = _save_key(custody, identifier, key, entry.sealing_keys[0].not_after_s)
    _save(custody, REGISTRY_TARGET, file)
    return path


def _endpoint(network: str, port: int, tls_name: str, pins: Sequence[bytes], pem: str) -> EndpointEntry:
    shown = [pin.hex() for pin in pins]
    return EndpointEntry(network=network, port=port, tls_name=tls_name, authority_pem=pem, pins=shown)


def _own_authority(custody: Path) -> str:
    return read_bounded(custody / "authority" / "ca.crt", MAX_METADATA_BYTES).decode()


def _with_agency(custody: Path, entry: AgencyEntry, *, checked: bool) -> RegistryFile:
    draft = _load(custody, REGISTRY_TARGET, RegistryFile)
    if any(entry.identifier.casefold() == other.identifier.casefold() for other in draft.agencies):
        raise ConfigError(f"the registry has an entry {entry.identifier} already; remove it first")
    file = _checked(msgspec.structs.replace(draft, agencies=[*draft.agencies, entry]))
    if checked:
        to_agency(entry, mark_of(custody).jurisdiction)
    return file


def add_key(custody: Path, identifier: str, *, now_s: int) -> Path:
    """Draft an agency's next sealing key, to follow its newest; return the private key's file.

    Keys that ended longer ago than any record may live leave the entry. Destroying an old private key ends every copy
    of what was sealed to it.

    Raises:
        ConfigError: where the registry's draft has no such agency.
    """
    draft = _load(custody, REGISTRY_TARGET, RegistryFile)
    entry = next((one for one in draft.agencies if one.identifier == identifier), None)
    if entry is None:
        raise ConfigError(f"the registry has no entry {identifier}; `bundle show` lists them")
    newest = max(entry.sealing_keys, key=lambda one: one.not_after_s)
    key = generate_sealing_key(newest.kem)
    kept = [one for one in entry.sealing_keys if one.not_after_s > now_s - RETENTION_CAP_S]
    keys = [*kept, _key_entry(key, max(now_s, newest.not_after_s - DAY_SECONDS))]
    changed = [msgspec.structs.replace(one, sealing_keys=keys) if one is entry else one for one in draft.agencies]
    checked = _checked(msgspec.structs.replace(draft, agencies=changed))
    path = _save_key(custody, identifier, key, keys[-1].not_after_s)
    _save(custody, REGISTRY_TARGET, checked)
    return path


def _key_entry(key: SealingPrivateKey, not_before_s: int) -> SealingKeyEntry:
    return SealingKeyEntry(
        kem=key.kem,
        public=key.public_bytes.hex(),
        not_before_s=not_before_s,
        not_after_s=not_before_s + SEALING_KEY_DAYS * DAY_SECONDS,
    )


def _save_key(custody: Path, identifier: str, key: SealingPrivateKey, sealed_until_s: int) -> Path:
    path = custody / "agencies" / identifier / f"{key.key_id.hex()}.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path.with_suffix(UNTIL), f"{sealed_until_s}\n".encode())
    save_sealing_key(key, path)
    return path


def remove_agency(custody: Path, identifier: str) -> None:
    """Take an agency out of the registry's draft; its keys stay where they are.

    Raises:
        ConfigError: where it is not there.
    """
    draft = _load(custody, REGISTRY_TARGET, RegistryFile)
    left = [entry for entry in draft.agencies if entry.identifier != identifier]
    _gone(identifier, len(draft.agencies), len(left), "the registry")
    _save(custody, REGISTRY_TARGET, msgspec.structs.replace(draft, agencies=left))


def add_witness(custody: Path, witness: Witness) -> None:
    """Draft a witness in the registry's file: who cosigns ledgers is not the operator's choice alone.

    Raises:
        TrustError: where its name or key is there already, or is one of a node.
    """
    draft = _load(custody, REGISTRY_TARGET, RegistryFile)
    entry = WitnessEntry(name=witness.name, public=witness.public.hex())
    file = _checked(msgspec.structs.replace(draft, witnesses=[*draft.witnesses, entry]))
    contents.witnesses(file, _load(custody, NODES_TARGET, NodesFile))
    _save(custody, REGISTRY_TARGET, file)


def remove_witness(custody: Path, name: str) -> None:
    """Take a witness out of the registry's draft.

    Raises:
        ConfigError: where it is not there.
    """
    draft = _load(custody, REGISTRY_TARGET, RegistryFile)
    left = [entry for entry in draft.witnesses if entry.name != name]
    _gone(name, len(draft.witnesses), len(left), "the registry's list of witnesses")
    _save(custody, REGISTRY_TARGET, msgspec.structs.replace(draft, witnesses=left))


def grant(
    custody: Path,
    *,
    identifier: str,
    need: str,
    purpose: str,
    approver: str,
    approved_on: str,
    expires_s: int,
    attested: bool,
) -> None:
    """Draft a grant: the operator's choice of a recipient, and why. An older grant of the same agency is replaced.

    Args:
        custody: the custody folder.
        identifier: the agency's, as in the registry.
        need: why it needs the records.
        purpose: what it may use them for.
        approver: who decided.
        approved_on: "YYYY-MM-DD".
        expires_s: seconds since 1970.
        attested: that no federal and no out-of-state access follows; without it nothing is sent.

    Raises:
        TrustError: where a field is blank or malformed.
    """
    draft = _load(custody, ALLOWLIST_TARGET, AllowlistFile)
    entry = GrantEntry(
        identifier=identifier,
        need=need,
        purpose=purpose,
        approver=approver,
        approved_on=approved_on,
        expires_s=expires_s,
        attested=attested,
    )
    others = [other for other in draft.grants if other.identifier != identifier]
    checked = _checked(AllowlistFile(grants=[*others, entry]))
    contents.grants(checked)
    _save(custody, ALLOWLIST_TARGET, checked)


def revoke_grant(custody: Path, identifier: str) -> None:
    """Take a grant back; once nodes have the next publication they send nothing more to the agency.

    Raises:
        ConfigError: where there is none.
    """
    draft = _load(custody, ALLOWLIST_TARGET, AllowlistFile)
    left = [entry for entry in draft.grants if entry.identifier != identifier]
    _gone(identifier, len(draft.grants), len(left), "the allowlist")
    _save(custody, ALLOWLIST_TARGET, AllowlistFile(grants=left))


def add_purpose(custody: Path, purpose: str) -> None:
    """Authorise a purpose; rules name one of these.

    Raises:
        TrustError: where it is blank or too long.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    purposes = list(dict.fromkeys([*draft.purposes, purpose]))
    _save(custody, RULES_TARGET, _checked(msgspec.structs.replace(draft, purposes=purposes)))


def add_rule(
    custody: Path,
    *,
    name: str,
    trigger: Trigger,
    recipients: Sequence[str],
    parts: Iterable[Part],
    storage: StorageClass,
    retention_s: int,
    purpose: str,
    cameras: Sequence[str] = (),
) -> None:
    """Draft a rule at the end of the list: of two rules for one recipient and storage class the first decides.

    Args:
        custody: the custody folder.
        name: a to z, digits, hyphen.
        trigger: hits, or everything (with `OUTGOING` under a demo root only).
        recipients: identifiers.
        parts: facts, or facts and crop.
        storage: local or outgoing.
        retention_s: seconds, at most 60 days.
        purpose: one that `add_purpose` authorised.
        cameras: sources that it covers; empty means all.

    Raises:
        TrustError: where a node would refuse it.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    entry = RuleEntry(
        name=name,
        trigger=trigger,
        recipients=list(recipients),
        parts=sorted(parts),
        storage=storage,
        retention_s=retention_s,
        purpose=purpose,
        cameras=list(cameras),
    )
    checked = _checked(msgspec.structs.replace(draft, rules=[*draft.rules, entry]))
    contents.rules(checked, demo=mark_of(custody).demo)
    _save(custody, RULES_TARGET, checked)


def remove_rule(custody: Path, name: str) -> None:
    """Take a rule out of the draft.

    Raises:
        ConfigError: where it is not there.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    left = [entry for entry in draft.rules if entry.name != name]
    _gone(name, len(draft.rules), len(left), "the rules")
    _save(custody, RULES_TARGET, msgspec.structs.replace(draft, rules=left))


def set_profile(custody: Path, profile: Profile | None) -> None:
    """Draft the profile that caps the rules' retention.

    Raises:
        TrustError: where a rule of the draft is longer.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    checked = _checked(msgspec.structs.replace(draft, retention_profile=profile))
    contents.rules(checked, demo=mark_of(custody).demo)
    _save(custody, RULES_TARGET, checked)


def set_reviewed(custody: Path, day: str) -> None:
    """Draft the day ("YYYY-MM-DD") on which the operator reviewed the retention.

    Raises:
        TrustError: where it is none.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    checked = _checked(msgspec.structs.replace(draft, retention_reviewed_on=day))
    contents.rules(checked, demo=mark_of(custody).demo)
    _save(custody, RULES_TARGET, checked)


def add_hold_key(custody: Path, public: bytes) -> None:
    """Name a key (raw Ed25519, 32 bytes) whose holder may sign evidence holds for this custody's nodes.

    Raises:
        TrustError: where there are too many already.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    keys = list(dict.fromkeys([*draft.hold_keys, public.hex()]))
    _save(custody, RULES_TARGET, _checked(msgspec.structs.replace(draft, hold_keys=keys)))


def remove_hold_key(custody: Path, public: bytes) -> None:
    """Take a hold key out of the draft; holds that it signed and that are in force stay until their expiry.

    Raises:
        ConfigError: where it is not there.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    left = [key for key in draft.hold_keys if key != public.hex()]
    _gone(public.hex(), len(draft.hold_keys), len(left), "the hold keys")
    _save(custody, RULES_TARGET, msgspec.structs.replace(draft, hold_keys=left))


def add_bundle_source(custody: Path, identifier: str) -> None:
    """Name a recipient whose broker nodes ask for the next bundle.

    Raises:
        TrustError: where there are too many already, or the identifier is none.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    sources = list(dict.fromkeys([*draft.bundle_sources, identifier]))
    _save(custody, RULES_TARGET, _checked(msgspec.structs.replace(draft, bundle_sources=sources)))


def remove_bundle_source(custody: Path, identifier: str) -> None:
    """Take a source out of the draft.

    Raises:
        ConfigError: where it is not there.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    left = [name for name in draft.bundle_sources if name != identifier]
    _gone(identifier, len(draft.bundle_sources), len(left), "the bundle's sources")
    _save(custody, RULES_TARGET, msgspec.structs.replace(draft, bundle_sources=left))


def set_recovery(custody: Path, identifier: str | None) -> None:
    """Name the recovery recipient; None takes it away.

    Raises:
        TrustError: where the identifier is none.
    """
    draft = _load(custody, RULES_TARGET, RulesFile)
    _save(custody, RULES_TARGET, _checked(msgspec.structs.replace(draft, recovery=identifier)))


def set_models(custody: Path, manifests: Sequence[bytes]) -> None:
    """Name the models that nodes may run, in place of those named before.

    Args:
        custody: the custody folder.
        manifests: SHA-256 of each `manifest.json`; none takes the draft away, and nodes then run what they have.

    Raises:
        TrustError: where there are too many.
    """
    mark_of(custody)
    if manifests:
        file = ModelsFile(manifests=[digest.hex() for digest in dict.fromkeys(manifests)])
        _save(custody, MODELS_TARGET, _checked(file))
    else:
        (custody / OPERATOR / MODELS_TARGET).unlink(missing_ok=True)


def set_usage(custody: Path, file: PolicyFile) -> None:
    """Draft the usage policy, in place of the one before.

    Raises:
        TrustError: where a field is none.
    """
    mark_of(custody)
    checked = _checked(file)
    contents.usage(checked)
    _save(custody, POLICY_TARGET, checked)


def usage_draft(custody: Path) -> PolicyFile:
    """Return the drafted usage policy; a blank one where there is none."""
    mark_of(custody)
    if not (custody / OPERATOR / POLICY_TARGET).exists():
        return PolicyFile()
    return _load(custody, POLICY_TARGET, PolicyFile)


def set_places(custody: Path, file: PlacesFile) -> int:
    """Draft the sensitive places, in place of those before; return how many there are.

    Raises:
        TrustError: where a place is none, by name.
    """
    mark_of(custody)
    checked = _checked(file)
    count = len(places(checked))
    _save(custody, PLACES_TARGET, checked)
    return count


def set_position(
    custody: Path, pseudonym: str, *, latitude_deg: float, longitude_deg: float, camera: str | None = None
) -> None:
    """Draft where a node stands, or where a camera of it stands that is elsewhere. Degrees, WGS84.

    Raises:
        ConfigError: where the node is not enrolled.
        TrustError: where it has no such camera, or that is no position.
    """
    draft = _load(custody, NODES_TARGET, NodesFile)
    if all(entry.pseudonym != pseudonym for entry in draft.nodes):
        raise ConfigError(f"no node {pseudonym} is enrolled; `bundle show` lists them")
    where = PositionEntry(latitude_deg=latitude_deg, longitude_deg=longitude_deg)
    nodes = [
        entry
        if entry.pseudonym != pseudonym
        else msgspec.structs.replace(entry, position=where)
        if camera is None
        else msgspec.structs.replace(entry, camera_positions=entry.camera_positions | {camera: where})
        for entry in draft.nodes
    ]
    checked = _checked(NodesFile(nodes=nodes))
    contents.nodes(checked)
    _save(custody, NODES_TARGET, checked)


def enrol(custody: Path, request_json: bytes, *, now_s: int, days: int = NODE_DAYS) -> str:
    """Draft a node's entry from its request, and return its client certificate as PEM.

    The same request again renews: it moves the end of the entry and gives a new certificate for the same keys.
    Compare `trust.enrolment.fingerprint` with the node's before: the request travelled by hand.

    Raises:
        TrustError: where the request is none, or the node was revoked, or one of its keys is another node's.
    """
    request = read_request(request_json)
    entry = NodeFileEntry(
        pseudonym=request.pseudonym,
        record_public=request.record_public,
        ledger_public=request.ledger_public,
        hot_list_public=request.hot_list_public,
        cameras=request.cameras,
        not_before_s=now_s - DAY_SECONDS,
        not_after_s=now_s + days * DAY_SECONDS,
    )
    draft = _load(custody, NODES_TARGET, NodesFile)
    others = []
    for node in draft.nodes:
        stands = {camera: where for camera, where in node.camera_positions.items() if camera in entry.cameras}
        renewed = msgspec.structs.replace(
            entry, not_before_s=node.not_before_s, position=node.position, camera_positions=stands
        )
        kept = msgspec.structs.replace(
            node, not_after_s=entry.not_after_s, cameras=entry.cameras, camera_positions=stands
        )
        if kept == renewed:
            entry = renewed  # what it signed since it was enrolled first goes on counting
        else:
            others.append(node)
    checked = _checked(NodesFile(nodes=[*others, entry]))
    contents.nodes(checked)
    certificate = issue_client(
        custody / "authority", request.csr_pem, common_name=request.pseudonym, now_s=now_s, days=days
    )
    _save(custody, NODES_TARGET, checked)
    return certificate


def revoke_node(custody: Path, pseudonym: str) -> None:
    """Mark a node (32 hexadecimal digits) revoked: nothing it signs counts once the next publication is there.

    Raises:
        ConfigError: where it is not enrolled.
    """
    draft = _load(custody, NODES_TARGET, NodesFile)
    if all(entry.pseudonym != pseudonym for entry in draft.nodes):
        raise ConfigError(f"no node {pseudonym} is enrolled; `bundle show` lists them")
    nodes = [
        msgspec.structs.replace(entry, revoked=True) if entry.pseudonym == pseudonym else entry for entry in draft.nodes
    ]
    _save(custody, NODES_TARGET, NodesFile(nodes=nodes))


def set_hot_list(custody: Path, entries: Iterable[HotListEntry], *, now_s: int, valid_s: int = 7 * DAY_SECONDS) -> int:
    """Replace the hot list's draft; `publish_bundle` seals it to every node that counts.

    Returns:
        How many entries are written: one that is there twice counts once.

    Raises:
        ConfigError: where an entry's last day is over.
        TrustError: where it would stand for longer than a list may, or is too long.
    """
    entries = list(entries)
    if over := sum(entry.terms.expires_s <= now_s for entry in entries):
        raise ConfigError(f"the last day of {over} of {len(entries)} entries is over; take them out, then try again")
    data = encode_hot_list(entries, issued_s=now_s, expires_s=now_s + valid_s)
    parse_hot_list(data, now_s)
    write_durably(custody / OPERATOR / HOT_LIST_FILE, data, mode=0o600)
    return len({(entry.terms, code_of(entry.text)) for entry in entries})


def publish_bundle(custody: Path, *, now_s: int) -> Path:
    """Sign the drafts with the keys that are here, and return the folder that nodes install.

    Raises:
        TrustError: where a node would refuse the drafts as a whole; nothing is signed then.
        ConfigError: where a role is held elsewhere and has signed nothing yet.
    """
    mark = mark_of(custody)
    registry = _load(custody, REGISTRY_TARGET, RegistryFile)
    allowlist = _load(custody, ALLOWLIST_TARGET, AllowlistFile)
    rules = _load(custody, RULES_TARGET, RulesFile)
    nodes = _load(custody, NODES_TARGET, NodesFile)
    agencies(registry.agencies, mark.jurisdiction)
    contents.check_purposes(contents.grants(allowlist), contents.rules(rules, demo=mark.demo), rules.purposes)
    contents.nodes(nodes)
    contents.witnesses(registry, nodes)
    operator = {
        ALLOWLIST_TARGET: encode(allowlist),
        RULES_TARGET: encode(rules),
        NODES_TARGET: encode(nodes),
        **_optional(custody, MODELS_TARGET, ModelsFile),
        **_optional(custody, POLICY_TARGET, PolicyFile),
        **_optional(custody, PLACES_TARGET, PlacesFile),
        **_hot_lists(custody, nodes, now_s),
    }
    return publish(custody, now_s, {REGISTRY_TARGET: encode(registry)}, operator)


def published(custody: Path, *, now_s: int) -> Bundle:
    """Return the published bundle as a node that pins this custody's root would read it.

    Raises:
        TrustError: where nothing is published yet, or it is over.
    """
    mark_of(custody)
    pins = custody / "pins"
    pin_root(read_bounded(custody / ROOT_FILE, MAX_METADATA_BYTES), pins)
    return read_bundle(custody / "bundle", pins, now_s * NANOSECONDS)


def mark_of(custody: Path) -> RootMark:
    """Return what the custody's root says of itself.

    Raises:
        ConfigError: where there is no custody, or its root is damaged.
    """
    if not (custody / ROOT_FILE).exists():
        raise ConfigError(f"{custody} is no custody yet: make one with `homeplate-custodian init`")
    data = read_bounded(custody / ROOT_FILE, MAX_METADATA_BYTES)
    try:
        root = Metadata[Root].from_bytes(data).signed
    except RepositoryError as error:
        raise ConfigError(f"{custody / ROOT_FILE} is damaged; restore it from a copy") from error
    return root_mark(root)


def _optional(custody: Path, name: str, kind: type[Entry]) -> dict[str, bytes]:
    return {name: encode(_load(custody, name, kind))} if (custody / OPERATOR / name).exists() else {}


def _hot_lists(custody: Path, nodes: NodesFile, now_s: int) -> dict[str, bytes]:
    """Return the hot list sealed to each node; a list that is over is left out, as nodes would refuse it."""
    path = custody / OPERATOR / HOT_LIST_FILE
    if not path.exists():
        return {}
    plaintext = read_bounded(path, MAX_TARGET_BYTES)
    if hot_list_expires_s(plaintext) <= now_s:
        return {}
    return {
        hot_list_target(bytes.fromhex(node.pseudonym)): seal_hot_list(plaintext, bytes.fromhex(node.hot_list_public))
        for node in nodes.nodes
        if not node.revoked and node.not_before_s <= now_s <= node.not_after_s
    }


def _load(custody: Path, name: str, kind: type[_File]) -> _File:
    mark_of(custody)
    return decode(read_bounded(custody / _DRAFTS[name] / name, MAX_TARGET_BYTES), kind, name)


def _save(custody: Path, name: str, file: Entry) -> None:
    write_durably(custody / _DRAFTS[name] / name, encode(file), mode=0o600)


def _checked(file: _File) -> _File:
    """Return `file` after the checks that decoding makes: constructing a struct makes none."""
    return decode(encode(file), type(file), "the draft")


def _gone(name: str, before: int, after: int, where: str) -> None:
    if before == after:
        raise ConfigError(f"{where} has no entry {name}; `bundle show` lists them")
