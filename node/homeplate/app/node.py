"""A node's folder: where its files lie, who it is, how it is made and how it takes a bundle in."""

import os
import pwd
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from homeplate.app.credentials import device_key
from homeplate.bundler import BundleLog, Bundler, EgressFiles
from homeplate.clock import SystemClock
from homeplate.config import Config
from homeplate.domain.agency import KemKind
from homeplate.domain.record import StorageClass
from homeplate.errors import ConfigError
from homeplate.sealing.keys import (
    generate_sealing_key,
    generate_signing_key,
    save_sealing_key,
    save_signing_key,
    write_new,
)
from homeplate.sealing.slots import SlotStore, require_in_place, require_memory_backed
from homeplate.trust.bundle import load_bundle, pin_root, require_root
from homeplate.trust.certificates import UNREADABLE
from homeplate.trust.enrolment import fingerprint, make_request
from homeplate.trust.inbox import await_answer, hand_in, is_served, withdraw
from homeplate.trust.packed import pack

PSEUDONYM_BYTES = 16
MAX_INPUT_BYTES = 1024 * 1024
PROCESSES = ("capture", "uplink", "purge", "bundle", "hold", "aim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where a node's files lie (docs/operations.md)."""

    data: Path
    runtime: Path

    @classmethod
    def of(cls, config: Config) -> "Paths":
        """Return the paths of a configuration."""
        return cls(data=config.node.data_dir, runtime=config.node.runtime_dir)

    @property
    def identity(self) -> Path:
        """Who the node is."""
        return self.data / "node.json"

    @property
    def record_key(self) -> Path:
        """The Ed25519 key that signs records; capture's."""
        return self.data / "keys" / "capture" / "record.pem"

    @property
    def hot_list_key(self) -> Path:
        """The X25519 key that hot lists are sealed to; capture's."""
        return self.data / "keys" / "capture" / "hot-list.key"

    @property
    def tls_key(self) -> Path:
        """The TLS client key; uplink's."""
        return self.data / "keys" / "uplink" / "tls.pem"

    @property
    def tls_certificate(self) -> Path:
        """The TLS client certificate, once enrolled; uplink's."""
        return self.data / "keys" / "uplink" / "tls.crt"

    @property
    def ledger_key(self) -> Path:
        """The Ed25519 key that signs checkpoints; the signer's."""
        return self.data / "keys" / "ledger" / "ledger.pem"

    def sealed(self, key: Path) -> Path:
        """Return where systemd's sealed form of a key lies, where it was sealed."""
        return self.data / "credentials" / f"{key.name}.cred"

    @property
    def bundle(self) -> Path:
        """The installed bundle."""
        return self.data / "bundle"

    @property
    def inbox(self) -> Path:
        """Candidates for the next bundle; whoever brings one puts it here, and the bundle service takes it out."""
        return self.data / "inbox"

    @property
    def egress(self) -> Path:
        """The kernel's rules for uplink."""
        return self.data / "egress"

    @property
    def egress_applied(self) -> Path:
        """The rules that are in force; what applies them writes this."""
        return self.data / "egress-applied" / "uplink.nft"

    @property
    def spool(self) -> Path:
        """Sealed records."""
        return self.data / "spool"

    @property
    def delivery(self) -> Path:
        """Uplink's log of attempts."""
        return self.data / "uplink" / "delivery.sqlite"

    @property
    def clock(self) -> Path:
        """The marks of node time."""
        return self.data / "clock"

    @property
    def ledger(self) -> Path:
        """The logs of all processes."""
        return self.data / "ledger"

    @property
    def checkpoints(self) -> Path:
        """Signed checkpoints of the logs."""
        return self.data / "ledger" / "checkpoints"

    @property
    def engines(self) -> Path:
        """What `models build` made of the models for this machine's GPU."""
        return self.data / "engines"

    @property
    def certificates(self) -> Path:
        """Purge certificates."""
        return self.data / "certificates"

    @property
    def held(self) -> Path:
        """Copies under evidence holds."""
        return self.data / "held"

    @property
    def hold_slots(self) -> tuple[Path, Path]:
        """The slot files of holds; the one in memory-backed storage stays empty."""
        return self.data / "slots" / "held.slots", self.runtime / "held.slots"

    @property
    def claims(self) -> Path:
        """The locks of the cameras that a process reads."""
        return self.runtime / "cameras"

    @property
    def preview(self) -> Path:
        """The socket of `homeplate aim --preview`."""
        return self.runtime / "aim.sock"

    def log(self, process: str) -> Path:
        """Return a process's own ledger."""
        return self.ledger / f"{process}.log"

    def slots(self, storage: StorageClass) -> tuple[Path, Path]:
        """Return the slot files of a class: on disk, and in memory-backed storage."""
        name = f"{storage}.slots"
        return self.data / "slots" / name, self.runtime / name


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`node.json`: the node's pseudonym (hexadecimal), and whether its folder is a simulation's."""

    version: Literal[1]
    pseudonym: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    simulation: bool

    @property
    def raw(self) -> bytes:
        """The pseudonym, 16 bytes."""
        return bytes.fromhex(self.pseudonym)


def load_identity(paths: Paths) -> Identity:
    """Return who the node is.

    Raises:
        ConfigError: where the folder holds no node, or its file is damaged.
    """
    try:
        identity = msgspec.json.decode(read_bounded(paths.identity), type=Identity)
    except FileNotFoundError as error:
        raise ConfigError(f"{paths.data} holds no node yet: make one with `homeplate init`") from error
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{paths.identity} is damaged; restore it from a copy or make the node anew") from error
    return identity


def require_road(paths: Paths, clock: SystemClock) -> None:
    """Refuse a simulation's folder for capture and uplink, unless the root is marked `demo`.

    Such a folder may swap, and keep its slot keys where losing power or overwriting does not destroy them.

    Raises:
        ConfigError: where it is one, and the root is not marked `demo`.
        TrustError: where it is one, and no bundle is in force.
    """
    if load_identity(paths).simulation and not load_bundle(paths.bundle, clock.now_ns()).demo:
        raise ConfigError(
            f"{paths.data} is a simulation's folder, whose keys are not kept as a road needs it: make a node with "
            "`homeplate init`, without --simulation"
        )


def read_bounded(path: Path) -> bytes:
    """Return a small file's bytes.

    Raises:
        OSError: where it cannot be read.
        ConfigError: where it is longer than a megabyte.
    """
    with path.open("rb") as file:
        data = file.read(MAX_INPUT_BYTES + 1)
    if len(data) > MAX_INPUT_BYTES:
        raise ConfigError(f"{path} is longer than {MAX_INPUT_BYTES} bytes: it is not what was meant")
    return data


def init_node(config: Config, *, root: Path, request: Path, simulation: bool) -> tuple[str, str]:
    """Make a node: folders, four keys, the pinned root, slot files and an enrolment request.

    Returns:
        The pseudonym (hexadecimal), and the request's fingerprint, which the custodian compares before enrolling.

    Raises:
        ConfigError: where a node is there already, or a file cannot be read or written.
        TrustError: where `root` is no root of a bundle.
        SlotError: where a folder is of no use for slots' keys; nothing is made then.
    """
    paths = Paths.of(config)
    if paths.identity.exists():
        raise ConfigError(f"{paths.data} holds a node already; its keys are not replaced. Choose another data_dir")
    try:
        root_json = read_bounded(root)
        require_root(root_json)
        if not simulation:
            require_memory_backed(paths.runtime)
            require_in_place(paths.data)
        request.write_bytes(b"")  # what can fail goes first: a key is never made twice, so neither is half a node
        _make_folders(paths)
        for storage in StorageClass:
            open_slots(paths, storage, check=not simulation).close()
        pin_root(root_json, paths.bundle)
        pseudonym = secrets.token_bytes(PSEUDONYM_BYTES)
        request_json = _make_keys(paths, pseudonym, tuple(source.name for source in config.source))
        request.write_bytes(request_json)
        identity = Identity(version=1, pseudonym=pseudonym.hex(), simulation=simulation)
        write_new(paths.identity, msgspec.json.encode(identity, order="sorted"))
        paths.identity.chmod(0o644)
        _give_to_owners(paths)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; check the path, its owner and the disk") from error
    return pseudonym.hex(), fingerprint(request_json)


def _make_folders(paths: Paths) -> None:
    for folder in (
        paths.data,
        paths.runtime,
        paths.bundle,
        paths.inbox,
        paths.spool,
        paths.clock,
        paths.ledger,
        paths.certificates,
    ):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    for file in (paths.record_key, paths.tls_key, paths.ledger_key, paths.delivery):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for storage in StorageClass:
        for file in paths.slots(storage):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)


def _give_to_owners(paths: Paths) -> None:
    """Where root makes the node in folders that are a process's (the package makes them), give their files to it."""
    if os.geteuid() != 0:
        return
    keys = (paths.record_key.parent, paths.tls_key.parent, paths.ledger_key.parent)
    for folder in (*keys, paths.bundle, paths.data / "slots", paths.runtime):
        owner = folder.stat()
        for file in folder.iterdir():
            os.chown(file, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _make_keys(paths: Paths, pseudonym: bytes, cameras: tuple[str, ...]) -> bytes:
    """Make the record, hot-list, ledger and TLS keys; return the enrolment request."""
    record, ledger = generate_signing_key(), generate_signing_key()
    hot_list = generate_sealing_key(KemKind.X25519)
    save_signing_key(record, paths.record_key)
    save_signing_key(ledger, paths.ledger_key)
    save_sealing_key(hot_list, paths.hot_list_key)
    tls = ec.generate_private_key(ec.SECP256R1())
    write_new(paths.tls_key, tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, pseudonym.hex())])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls, SHA256())
    return make_request(
        pseudonym=pseudonym,
        record_public=record.public_key().public_bytes_raw(),
        ledger_public=ledger.public_key().public_bytes_raw(),
        hot_list_public=hot_list.public_bytes,
        csr_pem=csr.public_bytes(Encoding.PEM).decode(),
        cameras=cameras,
    )


def install(config: Config, folder: Path, certificate: Path | None, clock: Callable[[], SystemClock]) -> int:
    """Install a bundle, and the client certificate that came with the enrolment; return the bundle's version.

    The bundle is handed in through the inbox. Where `homeplate bundle serve` runs, that judges it; else this does. Root
    does so as the owner of the bundle's folder: what is written there is the service's.

    Raises:
        TrustError: where the bundle is not acceptable, which is in the ledger then; what was installed stays in force.
        ConfigError: where the certificate is not for this node's key.
    """
    paths, name = Paths.of(config), f"install-{secrets.token_hex(8)}"
    packed = pack(folder)
    if certificate is not None:
        _install_certificate(paths, certificate)
    with _as_owner(paths.bundle):
        bundler = build_bundler(config, clock())  # here: a clock writes a mark, which is the service's too
        if certificate is not None:
            bundler.note("bundle.certificate-installed")
        hand_in(paths.inbox, packed, name)
        try:
            if not is_served(paths.inbox):
                bundler.look()
            return await_answer(paths.inbox, name)
        finally:
            withdraw(paths.inbox, name)


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    """Let root act as a folder's owner while the context lasts; anybody else stays who he is."""
    owner = folder.stat() if folder.exists() else None
    if owner is None or owner.st_uid == 0 or os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups(groups_of(owner.st_uid, owner.st_gid))
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def groups_of(uid: int, gid: int) -> list[int]:
    """Return all groups of a user, `gid` among them."""
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:  # a number without a name
        return [gid]


def build_bundler(config: Config, clock: SystemClock) -> Bundler:
    """Return what puts bundles in force, for the service and for the command.

    Raises:
        ConfigError: where the folder holds no node.
    """
    paths = Paths.of(config)
    return Bundler(
        installed=paths.bundle,
        inbox=paths.inbox,
        egress=EgressFiles(paths.egress, applied=paths.egress_applied, user=config.node.uplink_user),
        pseudonym=load_identity(paths).raw,
        clock=clock,
        ledger=BundleLog(paths.log("bundle"), clock),
    )


def _install_certificate(paths: Paths, certificate: Path) -> None:
    try:
        pem = read_bounded(certificate)
        given = x509.load_pem_x509_certificate(pem).public_key()
        key = _tls_public_key(paths)
    except (OSError, *UNREADABLE) as error:
        raise ConfigError(f"{certificate} is no certificate in PEM form, or this node's TLS key is missing") from error
    der = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if given.public_bytes(*der) != key.public_bytes(*der):
        raise ConfigError(f"{certificate} is for another node's key; ask the custodian for the one of this request")
    temporary = paths.tls_certificate.with_suffix(".new")
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)  # root brings it, uplink's user reads it: it is no secret, its folder is closed
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(paths.tls_certificate)


def _tls_public_key(paths: Paths) -> PublicKeyTypes:
    """Return the public half of the TLS key; where that was sealed for uplink alone, as the last certificate has it."""
    if not paths.tls_key.exists() and paths.tls_certificate.exists():
        return x509.load_pem_x509_certificate(read_bounded(paths.tls_certificate)).public_key()
    return load_pem_private_key(read_bounded(paths.tls_key), password=None).public_key()


def open_slots(paths: Paths, storage: StorageClass, *, check: bool) -> SlotStore:
    """Open a class's slot keys for capture or purge.

    Args:
        paths: the node's.
        storage: which class.
        check: refuse a runtime folder that is not memory-backed (False off Linux, where none is known).
    """
    mode = 0o640 if storage is StorageClass.OUTGOING else 0o600
    return _opened_slots(paths.slots(storage), mode, check=check)


def open_hold_slots(paths: Paths, *, check: bool) -> SlotStore:
    """Open the keys of evidence holds, which nobody but capture's and purge's user reads; `check` as above."""
    return _opened_slots(paths.hold_slots, 0o600, check=check)


def _opened_slots(files: tuple[Path, Path], mode: int, *, check: bool) -> SlotStore:
    disk, memory = files
    for file in (disk, memory):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    if check:
        require_memory_backed(memory.parent)
        require_in_place(disk.parent)
    return SlotStore(disk, memory, device_key(), mode=mode)
