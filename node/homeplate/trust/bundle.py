"""The bundle as a node uses it: pinned once, installed from a folder, read again and verified at every use.

Files are named by version or hash, so that none is overwritten; replacing `timestamp.json` is the one step that makes
a new bundle count. A crash before it leaves the old bundle, and after it the new one. What does not verify is never
installed, and an installed bundle that is over is not read.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from homeplate.domain.agency import Agency, Grant
from homeplate.domain.node import NodeEntry
from homeplate.domain.place import SensitivePlace
from homeplate.domain.profiles import Profile
from homeplate.domain.rules import Rule
from homeplate.domain.usage import UsagePolicy
from homeplate.domain.witness import Witness
from homeplate.errors import TrustError
from homeplate.trust import contents
from homeplate.trust.agencies import agencies
from homeplate.trust.files import Files, FolderFiles, read_bounded, sync_folder, write_durably
from homeplate.trust.metadata import (
    ALLOWLIST_TARGET,
    MAX_METADATA_BYTES,
    MODELS_TARGET,
    NODES_TARGET,
    NOT_SIGNED,
    OPERATOR_TARGETS,
    OPTIONAL_TARGETS,
    PINNED_ROOT,
    PLACES_TARGET,
    POLICY_TARGET,
    REGISTRY_TARGET,
    RULES_TARGET,
    TIMESTAMP,
    Reader,
    SameVersionError,
    Verified,
    hot_list_target,
    refused,
    root_mark,
)
from homeplate.trust.places import PlacesFile, places
from homeplate.trust.reasons import NamedTrustError, naming
from homeplate.trust.schema import (
    AllowlistFile,
    ModelsFile,
    NodesFile,
    PolicyFile,
    RegistryFile,
    RulesFile,
    decode,
)

ONE_BODY = (
    "holds the registry's and the operator's role, or a key of the root: this node cannot prove that its recipients are"
    " in state. An independent body has to hold the registry, and a next root has to say so"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What both signers say, verified.

    Attributes:
        demo: the root is marked `demo`.
        jurisdiction: the node's own ("US-CA"), from the root.
        root_version, version: of the root and of the timestamp.
        registry: agencies; `unregistered`: for each other entry's identifier why it can be none.
        allowlist, rules, purposes, nodes: from the operator.
        policy: the operator's usage policy, blank parts included.
        places: sensitive areas, in which no node reads.
        witnesses: who cosigns the nodes' ledgers, from the registry.
        hot_list_sealed: this node's list as `sealing.seal.open_hot_list` takes it; None where it has none.
        expires_s: the first second (since 1970) at which it no longer counts.
        ends_s: the same for each role's part of it.
        hold_keys: whose signature makes or ends an evidence hold, raw Ed25519; from the operator.
        retention_profile, retention_reviewed_on: what caps the rules, and the day of the operator's review ("": never).
        bundle_sources: recipients whose brokers are asked for the next bundle; from the operator.
        recovery: the recipient that may hold sealed copies of private keys; None where nobody may; from the operator.
        model_manifests: SHA-256 of the manifests of models that may run here; None where the operator names none.
        registry_body, operator_body: who the root says the two signers are.
        independent: False where one body holds both roles, or the operator holds a key of the root, which only a root
            marked `demo` may: the node then cannot prove that its recipients are in state.
    """

    demo: bool
    jurisdiction: str
    root_version: int
    version: int
    registry: tuple[Agency, ...]
    unregistered: Mapping[str, str]
    allowlist: tuple[Grant, ...]
    rules: tuple[Rule, ...]
    purposes: tuple[str, ...]
    hold_keys: tuple[bytes, ...]
    retention_profile: Profile | None
    retention_reviewed_on: str
    bundle_sources: tuple[str, ...]
    recovery: str | None
    model_manifests: frozenset[bytes] | None
    nodes: tuple[NodeEntry, ...]
    policy: UsagePolicy
    places: tuple[SensitivePlace, ...]
    witnesses: tuple[Witness, ...]
    hot_list_sealed: bytes | None = field(repr=False)
    expires_s: int
    ends_s: Mapping[str, int]
    registry_body: str
    operator_body: str
    independent: bool


def pin_root(root_json: bytes, installed: Path) -> None:
    """Make `root_json` what this node trusts. Done once, at `homeplate init`, with a file that a person brought.

    Raises:
        TrustError: where it is no root, is not signed by its own keys, or another root is pinned already.
    """
    require_root(root_json)
    path = installed / PINNED_ROOT
    if path.exists():
        if read_bounded(path, MAX_METADATA_BYTES) != root_json:
            raise TrustError(f"{path} pins another root; a node has one root for life: start with a new data folder")
        return
    write_durably(path, root_json)


def require_root(root_json: bytes) -> None:
    """Check that a file is a root that a node can be made to trust; nothing is written.

    Raises:
        TrustError: where it is no root, or is not signed by its own keys.
    """
    if len(root_json) > MAX_METADATA_BYTES:
        raise TrustError(f"the root is larger than {MAX_METADATA_BYTES} bytes")
    try:
        metadata = Metadata[Root].from_bytes(root_json)
        root = metadata.signed
        if not isinstance(root, Root):
            raise TrustError("the file to pin is TUF metadata, but no root; give the custodian's root.json")
        root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise refused("the root", error) from error
    root_mark(root)


def has_bundle(installed: Path) -> bool:
    """Tell whether a node ever had a bundle: anything that it keeps beside the pinned root."""
    return any(path.name != PINNED_ROOT for path in installed.iterdir())


def load_bundle(installed: Path, now_ns: int, *, pseudonym: bytes | None = None) -> Bundle:
    """Verify and return the installed bundle.

    Args:
        installed: the node's bundle folder, with its pinned root.
        now_ns: node time in nanoseconds since 1970.
        pseudonym: whose hot list to read, 16 bytes; None reads none.

    Raises:
        TrustError: where there is none, or it does not verify, or is over.
    """
    if not (installed / TIMESTAMP).exists():
        message = f"{installed} holds no bundle yet: install one with `homeplate bundle install FOLDER`"
        raise NamedTrustError("missing", message)
    return _bundle(_read_installed(installed, now_ns, _wanted(pseudonym)), pseudonym)


def _read_installed(installed: Path, now_ns: int, wanted: list[str] | None = None) -> Verified:
    """Verify what is installed under the last root, else under the one with which it was put in force.

    A crash between a next root and the timestamp that came with it leaves the old bundle beside a root that may have
    rotated its keys. It stays in force until the installation is done again; a candidate is judged by the last root.
    """
    reader = Reader(None, installed, now_ns)
    pinned = reader.trusted.root.version
    try:
        return reader.read(wanted)
    except NamedTrustError as error:
        if error.reason != NOT_SIGNED:
            raise
        unsigned = error
    for version in range(reader.trusted.root.version - 1, pinned - 1, -1):
        with suppress(NamedTrustError):
            return Reader(None, installed, now_ns, last_root=version).read(wanted)
    raise unsigned


def read_bundle(folder: Path, installed: Path, now_ns: int, *, pseudonym: bytes | None = None) -> Bundle:
    """Verify the bundle in `folder` as a node with `installed` would, without installing it.

    Raises:
        SameVersionError: where it is the installed one already.
        TrustError: where the node would refuse it.
    """
    return _bundle(Reader(FolderFiles(folder), installed, now_ns).read(_wanted(pseudonym)), pseudonym)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A bundle that was read once and verified; these bytes are put in force, whatever becomes of the files.

    Attributes:
        bundle: what it says.
        files: its files by name; none where it is the installed one already.
    """

    bundle: Bundle
    files: Mapping[str, bytes] = field(repr=False)


def judge_bundle(source: Files, installed: Path, now_ns: int, *, pseudonym: bytes | None = None) -> Candidate:
    """Verify the bundle in `source` against what is installed, with all its targets; nothing is written.

    Raises:
        TrustError: where anything in it is missing, too large, unsigned, altered, expired, rolled back, or says what
            cannot be accepted.
    """
    try:
        verified = Reader(source, installed, now_ns).read()
    except SameVersionError as error:
        if source.read(TIMESTAMP, MAX_METADATA_BYTES) != read_bounded(installed / TIMESTAMP, MAX_METADATA_BYTES):
            message = "the candidate has the installed version with other contents; publish a newer one"
            raise NamedTrustError("other-contents", message) from error
        return Candidate(bundle=load_bundle(installed, now_ns, pseudonym=pseudonym), files={})
    return Candidate(bundle=_bundle(verified, pseudonym), files=verified.files)


def commit_bundle(candidate: Candidate, installed: Path, now_ns: int) -> None:
    """Put a verified candidate in force; the caller is the only writer of `installed`.

    Raises:
        TrustError: where it cannot be written; the old bundle is in force then.
    """
    files = candidate.files
    if not files:
        return
    before = _files_in_use(installed, now_ns)
    # Roots next to last: a next root may have rotated the key of the timestamp that still lies there.
    for name in sorted(files.keys() - {TIMESTAMP}, key=lambda name: (name.endswith("root.json"), name)):
        write_durably(installed / name, files[name])
    write_durably(installed / TIMESTAMP, files[TIMESTAMP])
    _forget(installed, keep={*files, *before})


def install_bundle(source: Path, installed: Path, now_ns: int, *, pseudonym: bytes | None = None) -> Bundle:
    """Verify the bundle in `source`, put it in force, and return it; see `judge_bundle` and `commit_bundle`.

    Raises:
        TrustError: where it is not acceptable or cannot be written; what was installed is untouched.
    """
    candidate = judge_bundle(FolderFiles(source), installed, now_ns, pseudonym=pseudonym)
    commit_bundle(candidate, installed, now_ns)
    return candidate.bundle


def _wanted(pseudonym: bytes | None) -> list[str]:
    lists = [] if pseudonym is None else [hot_list_target(pseudonym)]
    return [REGISTRY_TARGET, *OPERATOR_TARGETS, *OPTIONAL_TARGETS, *lists]


def _bundle(verified: Verified, pseudonym: bytes | None) -> Bundle:
    with naming("contents"):
        return _believed(verified, pseudonym)


def _believed(verified: Verified, pseudonym: bytes | None) -> Bundle:
    mark, targets = verified.mark, verified.targets
    registry_file = decode(targets[REGISTRY_TARGET], RegistryFile, REGISTRY_TARGET)
    nodes = decode(targets[NODES_TARGET], NodesFile, NODES_TARGET)
    registry, unregistered = agencies(registry_file.agencies, mark.jurisdiction)
    rules = decode(targets[RULES_TARGET], RulesFile, RULES_TARGET)
    independent = _is_independent(verified)
    if not (independent or mark.demo):
        raise NamedTrustError("one-body", f"{mark.operator_body} {ONE_BODY}")
    grants = contents.grants(decode(targets[ALLOWLIST_TARGET], AllowlistFile, ALLOWLIST_TARGET))
    ruled = contents.rules(rules, demo=mark.demo)
    contents.check_purposes(grants, ruled, rules.purposes)
    return Bundle(
        demo=mark.demo,
        jurisdiction=mark.jurisdiction,
        root_version=verified.root_version,
        version=verified.version,
        registry=registry,
        unregistered=unregistered,
        allowlist=grants,
        rules=ruled,
        purposes=tuple(rules.purposes),
        hold_keys=tuple(bytes.fromhex(key) for key in rules.hold_keys),
        retention_profile=rules.retention_profile,
        retention_reviewed_on=rules.retention_reviewed_on,
        bundle_sources=tuple(dict.fromkeys(rules.bundle_sources)),
        recovery=rules.recovery,
        model_manifests=_manifests(targets),
        policy=_policy(targets),
        places=_places(targets),
        nodes=contents.nodes(nodes),
        witnesses=contents.witnesses(registry_file, nodes),
        hot_list_sealed=None if pseudonym is None else targets.get(hot_list_target(pseudonym)),
        expires_s=verified.expires_s,
        ends_s=verified.ends_s,
        registry_body=mark.registry_body,
        operator_body=mark.operator_body,
        independent=independent,
    )


def _is_independent(verified: Verified) -> bool:
    bodies = (verified.mark.registry_body, verified.mark.operator_body)
    return len({" ".join(body.split()).casefold() for body in bodies}) == len(bodies) and not verified.shared_keys


def _manifests(targets: Mapping[str, bytes]) -> frozenset[bytes] | None:
    if MODELS_TARGET not in targets:
        return None
    return frozenset(
        bytes.fromhex(text) for text in decode(targets[MODELS_TARGET], ModelsFile, MODELS_TARGET).manifests
    )


def _policy(targets: Mapping[str, bytes]) -> UsagePolicy:
    if POLICY_TARGET not in targets:
        return contents.usage(PolicyFile())
    return contents.usage(decode(targets[POLICY_TARGET], PolicyFile, POLICY_TARGET))


def _places(targets: Mapping[str, bytes]) -> tuple[SensitivePlace, ...]:
    return places(decode(targets[PLACES_TARGET], PlacesFile, PLACES_TARGET)) if PLACES_TARGET in targets else ()


def _files_in_use(installed: Path, now_ns: int) -> Iterable[str]:
    """Return the files of the bundle that is about to be replaced: another process may be reading them right now."""
    try:
        return _read_installed(installed, now_ns).files
    except TrustError:
        return ()  # nothing installed yet, or it is over, so that nobody reads it


def _forget(installed: Path, keep: set[str]) -> None:
    """Remove what neither this bundle nor the one before it uses; roots stay, because they are the chain of trust."""
    # The new bundle counts already; what cannot be removed now does no harm and goes at the next installation.
    with suppress(OSError):
        for path in sorted(installed.rglob("*")):
            name = path.relative_to(installed).as_posix()
            if path.is_file() and name not in keep and not name.endswith("root.json"):
                path.unlink(missing_ok=True)
        sync_folder(installed)
