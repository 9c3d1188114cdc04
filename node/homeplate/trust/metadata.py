"""Who signed what: verifies a bundle's TUF metadata and hands out the bytes of its targets. Nothing is written here.

The rules of root rotation, versions (rollback), expiry (freeze), thresholds and hashes are python-tuf's
`TrustedMetadataSet`. This adds what makes it Homeplate's: time comes in from outside; every file has a bound that is
judged before it is parsed; `registry` and `operator` are two roles without a common key, each with paths of its own;
the root says whether it is a demo's, and a later root cannot change that.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import (
    BadVersionNumberError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Delegations, MetaFile, Role, Root, Signed, TargetFile, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from homeplate.domain.record import NANOSECONDS
from homeplate.errors import TrustError
from homeplate.trust.files import Files, FolderFiles, read_bounded
from homeplate.trust.reasons import NamedTrustError, naming
from homeplate.trust.schema import RootMark

REGISTRY = "registry"
OPERATOR = "operator"
REGISTRY_TARGET = "registry.json"
ALLOWLIST_TARGET = "allowlist.json"
RULES_TARGET = "rules.json"
NODES_TARGET = "nodes.json"
OPERATOR_TARGETS = (ALLOWLIST_TARGET, RULES_TARGET, NODES_TARGET)
MODELS_TARGET = "models.json"
POLICY_TARGET = "policy.json"
PLACES_TARGET = "places.json"
OPTIONAL_TARGETS = (MODELS_TARGET, POLICY_TARGET, PLACES_TARGET)
"""Those that a bundle may lack: it then says nothing of models or places, and its usage policy is blank."""
HOT_LIST_PATTERN = "hot-lists/*.sealed"
PATHS = {REGISTRY: [REGISTRY_TARGET], OPERATOR: [*OPERATOR_TARGETS, *OPTIONAL_TARGETS, HOT_LIST_PATTERN]}
"""Which paths each delegated role signs; a root that delegates others is refused."""

MARK_FIELD = "x-homeplate"
PINNED_ROOT = "pinned.root.json"
TIMESTAMP = "timestamp.json"
NOT_SIGNED = "not-signed"
TARGETS_FOLDER = "targets"

ONLINE_DAYS = 30
"""How long a publication counts. So one that expires then was signed this long before, or later."""

MAX_METADATA_BYTES = 1024 * 1024
MAX_TARGET_BYTES = 8 * 1024 * 1024 + 4096
"""A hot list of a million entries, padded and sealed."""
MAX_ROOTS = 256
"""Root rotations that are followed at one reading."""

_HOT_LIST = re.compile(r"hot-lists/[0-9a-f]{32}\.sealed")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PUBLIC = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle whose signatures, versions and dates hold.

    Attributes:
        mark: what the root says of itself.
        root_version: version of the last root.
        version: version of the timestamp; it grows with every publication.
        expires_s: the first second (since 1970) at which some part of it is over.
        ends_s: by role, the second at which its metadata is over.
        shared_keys: True where a key of the operator is also one of the root's.
        targets: the targets' bytes by path.
        files: every file that was read, by its name in the folder, the root chain and the timestamp included.
    """

    mark: RootMark
    root_version: int
    version: int
    expires_s: int
    ends_s: Mapping[str, int]
    shared_keys: bool
    targets: Mapping[str, bytes]
    files: Mapping[str, bytes]


class SameVersionError(NamedTrustError):
    """The folder's timestamp is the installed one already."""

    def __init__(self, message: str) -> None:
        super().__init__("same-version", message)


def hot_list_target(pseudonym: bytes) -> str:
    """Return the path of a node's sealed hot list; `pseudonym` has 16 bytes."""
    return f"hot-lists/{pseudonym.hex()}.sealed"


def stored_name(path: str, target: TargetFile) -> str:
    """Return a target's name in the bundle's folder: the file's name carries its SHA-256, so that none is overwritten.

    Raises:
        TrustError: where the metadata gives no SHA-256 for it.
    """
    digest = target.hashes.get("sha256", "")
    if not _SHA256.fullmatch(digest):
        raise TrustError(f"the bundle signs {path} without a SHA-256; publish it with this project's custodian")
    folder, _, name = f"{TARGETS_FOLDER}/{path}".rpartition("/")
    return f"{folder}/{digest}.{name}"


def root_mark(root: Root) -> RootMark:
    """Return what a root says of itself.

    Raises:
        TrustError: where it has no mark, or one of another form.
    """
    try:
        return msgspec.convert(root.unrecognized_fields.get(MARK_FIELD), RootMark, strict=True)
    except msgspec.ValidationError as error:
        raise TrustError(f"the root does not say what it is in {MARK_FIELD!r}: {error}") from error


class Reader:
    """Reads one bundle's metadata in TUF's order against what a node already trusts.

    Args:
        candidate: the bundle to read; None where the node reads what it has.
        installed: the node's own folder, with its pinned root.
        now_ns: node time; expiry is judged by it alone.
        last_root: follow the chain of roots no further than to this version; None follows it to its end.
    """

    def __init__(self, candidate: Files | None, installed: Path, now_ns: int, *, last_root: int | None = None) -> None:
        self._own = FolderFiles(installed)
        self._files: Files = self._own if candidate is None else candidate
        self._last_root = last_root
        self._installed = installed
        self.files: dict[str, bytes] = {}
        pinned = read_bounded(installed / PINNED_ROOT, MAX_METADATA_BYTES)
        try:
            self.trusted = TrustedMetadataSet(pinned, EnvelopeType.METADATA)
        except (RepositoryError, ValueError) as error:
            raise refused(PINNED_ROOT, error) from error
        # Its constructor takes the machine's clock; only node time judges what is over.
        self.trusted.reference_time = datetime.fromtimestamp(now_ns // NANOSECONDS, tz=UTC)
        self.mark = root_mark(self.trusted.root)

    def read(self, wanted: Iterable[str] | None = None) -> Verified:
        """Verify everything, and return it with the bytes of the targets in `wanted` (where they are signed), or all.

        Raises:
            SameVersionError: where the installed timestamp has this version already.
            TrustError: where anything is missing, too large, unsigned, altered, expired or rolled back.
        """
        self._roots()
        previous = None if self._files is self._own else self._previous()
        self._apply("timestamp", TIMESTAMP, None)
        if previous is not None:
            name = f"{previous}.snapshot.json"
            self._known(lambda: self.trusted.update_snapshot(self._kept(name), trusted=True))
        snapshot = self.trusted.timestamp.snapshot_meta
        self._apply("snapshot", f"{snapshot.version}.snapshot.json", snapshot)
        for role in ("targets", REGISTRY, OPERATOR):
            meta = self.trusted.snapshot.meta.get(f"{role}.json")
            if meta is None:
                raise TrustError(f"the snapshot does not name {role}.json; publish the bundle again")
            self._apply(role, f"{meta.version}.{role}.json", meta)
        with naming("roles"):
            shared = check_roles(self.trusted)
        targets = self._targets(wanted)
        names = ("root", "timestamp", "snapshot", "targets", REGISTRY, OPERATOR)
        ends_s = {name: int(self.trusted[name].expires.timestamp()) for name in names}
        return Verified(
            mark=self.mark,
            root_version=self.trusted.root.version,
            version=self.trusted.timestamp.version,
            expires_s=min(ends_s.values()),
            ends_s=ends_s,
            shared_keys=shared,
            targets=targets,
            files=self.files,
        )

    def _roots(self) -> None:
        """Follow the chain of roots, the node's own first; each is signed by the one before and keeps its mark."""
        for _ in range(MAX_ROOTS):
            if self.trusted.root.version == self._last_root:
                return
            name = f"{self.trusted.root.version + 1}.root.json"
            files = self._own if name in self._own else self._files
            if name not in files:
                return
            data = self.files[name] = files.read(name, MAX_METADATA_BYTES)
            try:
                root = self.trusted.update_root(data)
            except (RepositoryError, ValueError) as error:
                raise refused(name, error) from error
            mark = root_mark(root)
            if (mark.demo, mark.jurisdiction) != (self.mark.demo, self.mark.jurisdiction):
                message = f"{name} changes what the pinned root is (demo, jurisdiction); enrol the node anew"
                raise NamedTrustError("other-root", message)
            self.mark = mark
        raise TrustError(f"the bundle has more than {MAX_ROOTS} roots to follow; enrol the node anew")

    def _previous(self) -> int | None:
        """Load the installed timestamp, against which a rollback shows; return its snapshot's version."""
        if not (self._installed / TIMESTAMP).exists():
            return None
        self._known(lambda: self.trusted.update_timestamp(self._kept(TIMESTAMP)))
        with suppress(KeyError):
            return self.trusted.timestamp.snapshot_meta.version
        return None

    def _known(self, load: Callable[[], Signed]) -> None:
        """Load installed metadata as a floor for versions: it may be over, or signed by keys that were rotated out."""
        try:
            load()
        except (ExpiredMetadataError, BadVersionNumberError, UnsignedMetadataError):
            return
        except (RepositoryError, ValueError) as error:
            raise TrustError(f"the installed bundle in {self._installed} is damaged: {error}") from error

    def _kept(self, name: str) -> bytes:
        return read_bounded(self._installed / name, MAX_METADATA_BYTES)

    def _apply(self, role: str, name: str, meta: MetaFile | None) -> None:
        """Read a metadata file with its bound and hand it to the trusted set."""
        limit = MAX_METADATA_BYTES if meta is None or meta.length is None else min(meta.length, MAX_METADATA_BYTES)
        data = self.files[name] = self._files.read(name, limit)
        try:
            if role == "timestamp":
                signed: Signed = self.trusted.update_timestamp(data)
            elif role == "snapshot":
                signed = self.trusted.update_snapshot(data)
            elif role == "targets":
                signed = self.trusted.update_targets(data)
            else:
                signed = self.trusted.update_delegated_targets(data, role, "targets")
        except EqualVersionNumberError as error:
            raise SameVersionError(f"{name} has the installed version") from error
        except (RepositoryError, ValueError) as error:
            raise refused(name, error) from error
        if signed.unrecognized_fields:
            names = ", ".join(sorted(signed.unrecognized_fields))
            raise NamedTrustError("unknown-fields", f"{name} has unknown fields: {names}")

    def _targets(self, wanted: Iterable[str] | None) -> dict[str, bytes]:
        signed = {**self._role(REGISTRY).targets, **self._role(OPERATOR).targets}
        found: dict[str, bytes] = {}
        for path in signed if wanted is None else wanted:
            target = signed.get(path)
            if target is None:
                continue
            if target.length > MAX_TARGET_BYTES:
                message = f"{path} has {target.length} bytes; at most {MAX_TARGET_BYTES} are read"
                raise NamedTrustError("too-large", message)
            name = stored_name(path, target)
            data = self._files.read(name, target.length)
            try:
                target.verify_length_and_hashes(data)
            except LengthOrHashMismatchError as error:
                raise refused(path, error) from error
            found[path] = self.files[name] = data
        return found

    def _role(self, name: str) -> Targets:
        role = self.trusted[name]
        assert isinstance(role, Targets)
        return role


_WHY: tuple[tuple[type[Exception], str, str], ...] = (
    (ExpiredMetadataError, "expired", "{name} is expired by node time ({error}); install a newly published bundle"),
    (BadVersionNumberError, "rolled-back", "{name} is rolled back ({error}); install the newest bundle"),
    (
        UnsignedMetadataError,
        NOT_SIGNED,
        "{name} is not signed by the keys that may sign it ({error}); do not use this bundle",
    ),
    (
        LengthOrHashMismatchError,
        "altered",
        "{name} was altered or is of another publication ({error}); copy the whole folder anew",
    ),
    (DeserializationError, "not-metadata", "{name} is not TUF metadata; copy the whole folder anew"),
)


def refused(name: str, error: Exception) -> NamedTrustError:
    """Return the project's error for one of tuf's, saying what is wrong with the file `name` and what to do."""
    for kind, reason, message in _WHY:
        if isinstance(error, kind):
            return NamedTrustError(reason, message.format(name=name, error=error))
    return NamedTrustError("metadata", f"{name} is refused: {error}")


def check_roles(trusted: TrustedMetadataSet) -> bool:
    """Make sure that registry and operator are two signers, each with its own keys and paths, and nobody else signs.

    Returns:
        True where a key of the operator is also one of the root's or of the top role's, who say who is the registry.

    Raises:
        TrustError: where it is otherwise.
    """
    top, root = trusted.targets, trusted.root
    if set(root.unrecognized_fields) != {MARK_FIELD}:
        raise TrustError(
            f"the root has unknown fields: {', '.join(sorted({*root.unrecognized_fields} - {MARK_FIELD}))}"
        )
    if top.targets:
        raise TrustError("targets.json signs targets itself; only registry and operator may")
    delegated = _delegated(top.delegations)
    keys = top.delegations.keys if top.delegations is not None else {}
    publics = {name: _publics(name, role, keys) for name, role in delegated.items()}
    top_publics = {name: _publics(name, role, root.keys) for name, role in root.roles.items()}
    if publics[REGISTRY] & publics[OPERATOR]:
        raise TrustError("registry and operator share a key; they are two signers, never one")
    for name in (REGISTRY, OPERATOR):
        _check_paths(name, trusted[name])
    return bool(publics[OPERATOR] & (top_publics["root"] | top_publics["targets"]))


def _delegated(delegations: Delegations | None) -> Mapping[str, Role]:
    roles = delegations.roles if delegations is not None else None
    if roles is None or set(roles) != {REGISTRY, OPERATOR}:
        raise TrustError("targets.json must delegate to registry and operator, and to nobody else")
    for name, role in roles.items():
        if role.paths != PATHS[name] or not role.terminating:
            raise TrustError(f"targets.json delegates other paths to {name} than {', '.join(PATHS[name])}")
    return roles


def _publics(name: str, role: Role, keys: Mapping[str, Key]) -> set[str]:
    """Return a role's public keys. A key under two ids would count twice towards a threshold."""
    publics: set[str] = set()
    for keyid in role.keyids:
        key = keys.get(keyid)
        public = key.keyval.get("public") if key is not None else None
        if key is None or key.keytype != "ed25519" or not isinstance(public, str) or not _PUBLIC.fullmatch(public):
            raise TrustError(f"a key of the role {name} is no Ed25519 key in lower-case hexadecimal")
        publics.add(public)
    if len(publics) != len(role.keyids):
        raise TrustError(f"the role {name} has one key under two ids")
    return publics


def _check_paths(name: str, signed: Signed) -> None:
    assert isinstance(signed, Targets)
    if signed.delegations is not None:
        raise TrustError(f"{name}.json delegates further; it may not")
    fixed = {path for path in PATHS[name] if path not in {HOT_LIST_PATTERN, *OPTIONAL_TARGETS}}
    extra = set(signed.targets) - fixed - (set(OPTIONAL_TARGETS) if name == OPERATOR else set())
    foreign = sorted(path for path in extra if name != OPERATOR or not _HOT_LIST.fullmatch(path))
    if foreign:
        raise TrustError(f"{name}.json signs {foreign[0]}, which it may not sign")
    if fixed - set(signed.targets):
        raise TrustError(f"{name}.json does not sign {', '.join(sorted(fixed - set(signed.targets)))}")
