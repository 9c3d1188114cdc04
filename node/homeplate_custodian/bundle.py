"""Makes the signed bundle: the TUF metadata over the drafts of registry and operator. `homeplate.trust` judges it.

Each role signs with the key in its own folder; where that key is elsewhere, the role's last signed metadata is taken
as it is, byte for byte. The timestamp is written last: it is what makes a publication count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ConfigError
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.metadata import (
    MARK_FIELD,
    MAX_METADATA_BYTES,
    ONLINE_DAYS,
    OPERATOR,
    PATHS,
    REGISTRY,
    TARGETS_FOLDER,
    TIMESTAMP,
    root_mark,
    stored_name,
)
from homeplate.trust.schema import RootMark
from homeplate_custodian.keyring import public_key, signer
from homeplate_custodian.roots import ROOT_ROLE, UNSIGNED, Holders, add_signatures, holders, missing, pending, waits

ONLINE_ROLE = "online"
ROLE_FOLDERS = (ROOT_ROLE, REGISTRY, OPERATOR, ONLINE_ROLE)

ROOT_DAYS = 365
ROLE_DAYS = 90
"""How long a frozen bundle goes unnoticed: after this a node that is given no newer one stops sending."""

_RENEW_DAYS = 90
_HASHES = ["sha256"]
_Signed = TypeVar("_Signed", Root, Timestamp, Snapshot, Targets)


@dataclass(slots=True)
class _Publication:
    """One publication in the making: the root that it follows, new files by name, what the snapshot lists.

    `waiting` says of what lacks signatures how many; nothing is written where there is any.
    """

    custody: Path
    now_s: int
    here: Holders
    root: Root
    files: dict[str, bytes] = field(default_factory=dict)
    meta: dict[str, MetaFile] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.custody / "bundle"

    def after(self, days: int) -> datetime:
        return datetime.fromtimestamp(self.now_s + days * DAY_SECONDS, tz=UTC)

    def add(self, role: str, version: int, data: bytes) -> None:
        self.files[f"{version}.{role}.json"] = data
        self.meta[f"{role}.json"] = MetaFile.from_data(version, data, _HASHES)


def first_root(custody: Path, mark: RootMark, *, now_s: int) -> bytes:
    """Return the root that a custody begins with, signed by the holders whose keys are here, be it none.

    Raises:
        ConfigError: where registry and operator have one key, or the holders do not fit their threshold.
    """
    here = holders(custody)
    return add_signatures(Metadata(_root(custody, mark, here, version=1, now_s=now_s)).to_bytes(), here.signers)


def make_root(custody: Path, mark: RootMark, *, version: int, now_s: int) -> bytes:
    """Return a root over the public keys in the role folders, signed by the holders whose keys are here.

    Raises:
        ConfigError: where none of them is, or registry and operator have one key.
    """
    here = holders(custody)
    if not here.signers:
        raise ConfigError(f"{custody / ROOT_ROLE} holds no key.pem; a root is made where the root's key is kept")
    return add_signatures(Metadata(_root(custody, mark, here, version=version, now_s=now_s)).to_bytes(), here.signers)


def _root(custody: Path, mark: RootMark, here: Holders, *, version: int, now_s: int) -> Root:
    registry, operator, online = (public_key(custody / role) for role in (REGISTRY, OPERATOR, ONLINE_ROLE))
    if registry.keyval == operator.keyval:
        raise ConfigError("registry and operator have one key; they are two signers, never one")
    root = Root(
        version=version,
        expires=datetime.fromtimestamp(now_s + ROOT_DAYS * DAY_SECONDS, tz=UTC),
        consistent_snapshot=True,
        unrecognized_fields={MARK_FIELD: msgspec.to_builtins(mark)},
    )
    for role in ("root", "targets"):
        for key in here.keys:
            root.add_key(key, role)
        root.roles[role].threshold = here.threshold
    for role in ("snapshot", "timestamp"):
        root.add_key(online, role)
    return root


def publish(custody: Path, now_s: int, registry: Mapping[str, bytes], operator: Mapping[str, bytes]) -> Path:
    """Sign and write a publication into `custody/bundle`, and return that folder.

    Where the online key is elsewhere, only what the keys here can sign is written; it counts once the folder has
    travelled to the online key's holder, who publishes it with the rest.

    Args:
        custody: the custody folder.
        now_s: seconds since 1970; what is signed ends so many days after it.
        registry: the registry's targets by path.
        operator: the operator's targets by path.

    Raises:
        ConfigError: where a role's key is elsewhere and it has signed nothing yet, or a key changed and signatures of
            the root's holders are missing: what they have to sign lies in `unsigned/` then.
        TrustError: where something cannot be read or written.
    """
    new = _begun(custody, now_s)
    online = signer(custody / ONLINE_ROLE)
    _next_root(new)
    _top(new)
    if new.waiting:
        raise waits(custody, new.waiting)
    _role(new, REGISTRY, registry)
    _role(new, OPERATOR, operator)
    missing = [role for role in ("targets", REGISTRY, OPERATOR) if f"{role}.json" not in new.meta]
    if missing and online is not None:
        raise ConfigError(f"{missing[0]} is signed elsewhere and is not in {new.folder} yet; publish there first")
    timestamp = _seal(new, online) if online is not None else None
    for name, data in new.files.items():
        write_durably(new.folder / name, data)
        (custody / UNSIGNED / name).unlink(missing_ok=True)
    if timestamp is not None:
        write_durably(new.folder / TIMESTAMP, timestamp)
        _forget(new)
    return new.folder


def _seal(new: _Publication, online: CryptoSigner) -> bytes:
    """Add the snapshot of all roles and return the timestamp over it."""
    version = 1 + (_newest(new.folder, "snapshot") or 0)
    snapshot = _sign(Snapshot(version=version, expires=new.after(ONLINE_DAYS), meta=dict(new.meta)), online)
    new.files[f"{version}.snapshot.json"] = snapshot
    path = new.folder / TIMESTAMP
    timestamp = Timestamp(
        version=1 + (_parse(read_bounded(path, MAX_METADATA_BYTES), Timestamp).version if path.exists() else 0),
        expires=new.after(ONLINE_DAYS),
        snapshot_meta=MetaFile.from_data(version, snapshot, _HASHES),
    )
    return _sign(timestamp, online)


def _newest(folder: Path, role: str) -> int | None:
    """Return the highest version of a role's metadata in the folder; None where it has none."""
    found = [path.name.removesuffix(f".{role}.json") for path in folder.glob(f"*.{role}.json")]
    return max((int(text) for text in found if text.isdigit()), default=None)


def _begun(custody: Path, now_s: int) -> _Publication:
    """Begin with the last root; the first one is taken from `root.json`, where its holders add their signatures.

    Raises:
        ConfigError: where the first root lacks signatures.
    """
    folder = custody / "bundle"
    last = _newest(folder, ROOT_ROLE) or 1
    data = read_bounded(custody / "root.json" if last == 1 else folder / f"{last}.root.json", MAX_METADATA_BYTES)
    root = _parse(data, Root)
    if last == 1 and (count := missing(root, ROOT_ROLE, data)):
        raise ConfigError(
            f"{custody / 'root.json'} lacks {count} signatures of the root's holders: `homeplate-custodian sign FILE"
            " KEYFOLDER` adds one; then publish again"
        )
    new = _Publication(custody=custody, now_s=now_s, here=holders(custody), root=root)
    if last == 1:
        new.files["1.root.json"] = data
    return new


def _next_root(new: _Publication) -> None:
    """Add the next root where keys or threshold changed, or the last one nears its end; nodes follow the chain."""
    last, mark = new.root, root_mark(new.root)
    version = last.version + 1

    def make() -> Root:
        return _root(new.custody, mark, new.here, version=version, now_s=new.now_s)

    changed = not _same_keys(last, make())
    name = f"{version}.root.json"
    unsigned = new.custody / UNSIGNED / name
    if not changed and (last.expires > new.after(_RENEW_DAYS) or not (new.here.signers or unsigned.exists())):
        return
    data = pending(
        new.custody, name, lambda: Metadata(make()).to_bytes(), lambda found: _same_keys(found, make()), new.here
    )
    root = _parse(data, Root)
    count = max(missing(last, ROOT_ROLE, data), missing(root, ROOT_ROLE, data))
    if count and not changed:
        return  # a renewal: the last one is in force for weeks
    if count:
        new.waiting[name] = count
    new.files[name], new.root = data, root


def _same_keys(one: Root, other: Root) -> bool:
    def roles(root: Root) -> dict[str, tuple[frozenset[str], int]]:
        return {name: (frozenset(role.keyids), role.threshold) for name, role in root.roles.items()}

    return roles(one) == roles(other)


def _top(new: _Publication) -> None:
    """Add the top role's delegations; they last for years, so they are signed anew only when that is needed."""
    found, wanted = _newest(new.folder, "targets"), _delegations(new.custody)
    version = 1 + (found or 0)
    name = f"{version}.targets.json"
    last = read_bounded(new.folder / f"{found}.targets.json", MAX_METADATA_BYTES) if found is not None else None
    good = last is not None and _delegates(_parse(last, Targets), wanted) and not missing(new.root, "targets", last)
    if last is not None and found is not None and good and _parse(last, Targets).expires > new.after(_RENEW_DAYS):
        new.add("targets", found, last)
        return
    # A first one is drafted where it can be signed, or where the online key's holder asks the root's for it.
    drafts = new.here.signers or signer(new.custody / ONLINE_ROLE) is not None
    if last is not None or drafts or (new.custody / UNSIGNED / name).exists():

        def make() -> bytes:
            return Metadata(Targets(version=version, expires=new.after(ROOT_DAYS), delegations=wanted)).to_bytes()

        data = pending(new.custody, name, make, lambda signed: _delegates(signed, wanted), new.here)
        count = missing(new.root, "targets", data)
        if count and not good:
            new.waiting[name] = count
        elif not count:
            new.add("targets", version, data)
        elif last is not None and found is not None:
            new.add("targets", found, last)


def _delegations(custody: Path) -> Delegations:
    keys: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for role, paths in PATHS.items():
        key = public_key(custody / role)
        keys[key.keyid] = key
        roles[role] = DelegatedRole(role, [key.keyid], 1, terminating=True, paths=list(paths))
    return Delegations(keys, roles)


def _delegates(signed: Targets, wanted: Delegations) -> bool:
    return signed.delegations is not None and signed.delegations.to_dict() == wanted.to_dict()


def _role(new: _Publication, role: str, targets: Mapping[str, bytes]) -> None:
    """Add a delegated role: signed anew where its key is here, else as its holder signed it last."""
    found, signs = _newest(new.folder, role), signer(new.custody / role)
    if signs is not None:
        files = {path: TargetFile.from_data(path, data, _HASHES) for path, data in targets.items()}
        version = 1 + (found or 0)
        new.add(role, version, _sign(Targets(version=version, expires=new.after(ROLE_DAYS), targets=files), signs))
        new.files |= {stored_name(path, files[path]): data for path, data in targets.items()}
    elif found is not None:
        data = read_bounded(new.folder / f"{found}.{role}.json", MAX_METADATA_BYTES)
        new.add(role, found, data)
        for path, target in _parse(data, Targets).targets.items():
            name = stored_name(path, target)
            new.files[name] = read_bounded(new.folder / name, target.length)


def _forget(new: _Publication) -> None:
    """Remove what an earlier publication wrote and this one does not use; roots stay."""
    for path in sorted(new.folder.glob("*.json")) + sorted((new.folder / TARGETS_FOLDER).rglob("*")):
        name = path.relative_to(new.folder).as_posix()
        if path.is_file() and name not in new.files and name != TIMESTAMP and not name.endswith("root.json"):
            path.unlink()


def _sign(signed: _Signed, key: CryptoSigner) -> bytes:
    metadata = Metadata(signed)
    metadata.sign(key)
    return metadata.to_bytes()


def _parse(data: bytes, kind: type[_Signed]) -> _Signed:
    try:
        signed = Metadata[_Signed].from_bytes(data).signed
    except RepositoryError as error:
        raise ConfigError("the custody's bundle folder is damaged; restore it from a copy") from error
    if not isinstance(signed, kind):
        raise ConfigError("the custody's bundle folder holds metadata under another name; restore it from a copy")
    return signed
