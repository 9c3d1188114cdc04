"""Keys and their files: Ed25519 for signing, X25519 or the ML-KEM-768 + X25519 hybrid (X-Wing) for sealing.

A key file is written once (an existing one is never replaced), readable by its owner alone, and synced with its
folder before the call returns. Where keys live and who may read them is the caller's matter.
"""

import hashlib
import os
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from homeplate.domain.agency import KemKind, SealingKey
from homeplate.sealing.errors import KeyFileError, RecipientError

KEY_ID_BYTES = 16
PRIVATE_BYTES = 32
PUBLIC_BYTES = {KemKind.X25519: 32, KemKind.MLKEM768_X25519: 1184 + 32}
_MAX_FILE_BYTES = 4096
_SEALING_FILE = re.compile(
    rb"homeplate/v1/sealing-key\nkem: ([a-z0-9-]+)\nkey-id: ([0-9a-f]{32})\nprivate: ([0-9a-f]{64})\n"
)


def key_id(kem: KemKind, public: bytes) -> bytes:
    """Return a sealing key's id: 16 bytes that name the public key *and* its KEM, so that neither can be swapped."""
    return hashlib.sha256(kem.value.encode() + b"\0" + public).digest()[:KEY_ID_BYTES]


def check_sealing_key(key: SealingKey) -> SealingKey:
    """Return `key` where its id, KEM and public bytes belong together.

    Raises:
        RecipientError: otherwise; an entry that names another KEM for the same key (a downgrade) ends here.
    """
    if len(key.public) != PUBLIC_BYTES[key.kem]:
        raise RecipientError(f"a {key.kem} public key has {PUBLIC_BYTES[key.kem]} bytes, not {len(key.public)}")
    if key.key_id != key_id(key.kem, key.public):
        raise RecipientError(f"the sealing key {key.key_id.hex()} does not have the id of its {key.kem} public key")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingPrivateKey:
    """The private half of a sealing key.

    Attributes:
        kem: what the key encapsulates with.
        private_bytes: 32 bytes: the X25519 private key, or the X-Wing seed (draft-connolly-cfrg-xwing-kem 5.2).

    Raises:
        ValueError: where there are not exactly 32 private bytes.
    """

    kem: KemKind
    private_bytes: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.private_bytes) != PRIVATE_BYTES:
            raise ValueError(f"a sealing key has {PRIVATE_BYTES} private bytes, not {len(self.private_bytes)}")

    @property
    def public_bytes(self) -> bytes:
        """Raw public bytes: 32, or 1216 for the hybrid (ML-KEM-768 first)."""
        if self.kem is KemKind.X25519:
            return X25519PrivateKey.from_private_bytes(self.private_bytes).public_key().public_bytes_raw()
        mlkem_key, x25519_key = hybrid_parts(self.private_bytes)
        return mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """The public key's id, 16 bytes."""
        return key_id(self.kem, self.public_bytes)

    def sealing_key(self, *, not_before_s: int, not_after_s: int) -> SealingKey:
        """Return the public half with its dates (seconds since 1970), as a registry entry holds it."""
        public = self.public_bytes
        return SealingKey(
            key_id=key_id(self.kem, public),
            kem=self.kem,
            public=public,
            not_before_s=not_before_s,
            not_after_s=not_after_s,
        )


def hybrid_parts(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    """Return the two private keys of an X-Wing seed: SHAKE256 to 96 bytes, ML-KEM's d and z, then X25519's key.

    Source: draft-connolly-cfrg-xwing-kem, section 5.2 (expandDecapsulationKey).
    """
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def generate_sealing_key(kem: KemKind) -> SealingPrivateKey:
    """Return a new sealing key from the system's random source."""
    return SealingPrivateKey(kem=kem, private_bytes=secrets.token_bytes(PRIVATE_BYTES))


def generate_signing_key() -> Ed25519PrivateKey:
    """Return a new Ed25519 key from the system's random source."""
    return Ed25519PrivateKey.generate()


def save_signing_key(key: Ed25519PrivateKey, path: Path) -> None:
    """Write a signing key as PKCS#8 PEM, for its owner alone.

    Raises:
        KeyFileError: where the file is already there or cannot be written.
    """
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Return the Ed25519 key in a PKCS#8 PEM file.

    Raises:
        KeyFileError: where the file is missing, unreadable, open to others, or holds something else.
    """
    data = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise KeyFileError(f"{path} holds no key in PEM form; restore it from a copy or make the node anew") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds a key that is not Ed25519; restore it from a copy or make the node anew")
    return key


def save_sealing_key(key: SealingPrivateKey, path: Path) -> None:
    """Write a sealing key in four lines (record-format.md, "Key files"), for its owner alone.

    Raises:
        KeyFileError: where the file is already there or cannot be written.
    """
    lines = ("homeplate/v1/sealing-key", f"kem: {key.kem}", f"key-id: {key.key_id.hex()}")
    write_new(path, "\n".join((*lines, f"private: {key.private_bytes.hex()}", "")).encode())


def load_sealing_key(path: Path) -> SealingPrivateKey:
    """Return the sealing key in a file that `save_sealing_key` wrote.

    Raises:
        KeyFileError: where the file is missing, unreadable, open to others, or not of that form.
    """
    match = _SEALING_FILE.fullmatch(_read(path))
    if match is None or match[1].decode() not in set(KemKind):
        raise KeyFileError(f"{path} is not a sealing key file of version 1; restore it from a copy")
    key = SealingPrivateKey(kem=KemKind(match[1].decode()), private_bytes=bytes.fromhex(match[3].decode()))
    if key.key_id.hex() != match[2].decode():
        raise KeyFileError(f"{path} is damaged: its key is not the one that its key-id line names")
    return key


def write_new(path: Path, data: bytes) -> None:
    """Write a secret file that must not exist yet (mode 0600) and sync it with its folder.

    Raises:
        KeyFileError: where the file is already there or cannot be written; nothing is left behind.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path} is already there; move it away first: a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be made: {error.strerror}; check the folder and its owner") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"{path} cannot be written: {error.strerror}; free some space") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    """Return a key file's bytes, at most 4096; one that others may read is no secret any more and is refused."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o007:
                raise KeyFileError(f"{path} can be read by anyone; make a new key, or `chmod o-rwx` if it never was")
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}; check the path and its owner") from error
    if len(data) > _MAX_FILE_BYTES:
        raise KeyFileError(f"{path} is too long for a key file")
    return data
