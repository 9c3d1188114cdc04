"""The custodian's signing keys: one folder a role, so that root, registry, operator and online can live apart.

A role's folder holds `key.pem` (0600) and `key.pub`. Who may sign is the folder's owner; where only `key.pub` is
there, the role is held elsewhere and its last signature is kept as it is.
"""

import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.signer import CryptoSigner, SSlibKey

from homeplate.errors import ConfigError
from homeplate.sealing.keys import generate_signing_key, load_signing_key, save_signing_key
from homeplate.trust.files import read_bounded, write_durably

KEY_FILE = "key.pem"
PUBLIC_FILE = "key.pub"
_PUBLIC = re.compile(rb"homeplate/v1/role-key ([0-9a-f]{64})\n")


def make_role_key(folder: Path) -> SSlibKey:
    """Make a role's key in `folder` and return its public half; a `key.pub` that is already there is kept and used.

    Raises:
        ConfigError: where the folder cannot be made.
        SealingError: where the key cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from error
    if not (folder / PUBLIC_FILE).exists():
        key = generate_signing_key()
        save_signing_key(key, folder / KEY_FILE)
        line = f"homeplate/v1/role-key {key.public_key().public_bytes_raw().hex()}\n"
        write_durably(folder / PUBLIC_FILE, line.encode())
    return public_key(folder)


def public_key(folder: Path) -> SSlibKey:
    """Return the public half of the key of a role's folder.

    Raises:
        ConfigError: where `key.pub` is damaged.
        TrustError: where it is missing.
    """
    match = _PUBLIC.fullmatch(read_bounded(folder / PUBLIC_FILE, 256))
    if match is None:
        raise ConfigError(f"{folder / PUBLIC_FILE} is no public key of a role; copy it from the role's holder anew")
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(match[1].decode())))


def signer(folder: Path) -> CryptoSigner | None:
    """Return the signer of a role; None where the role is held elsewhere.

    Raises:
        ConfigError: where the private key is not the public one's.
        SealingError: where the private key cannot be read.
    """
    if not (folder / KEY_FILE).exists():
        return None
    found = CryptoSigner(load_signing_key(folder / KEY_FILE))
    if found.public_key.keyval != public_key(folder).keyval:
        raise ConfigError(f"{folder}: key.pem and key.pub are not of one key; restore both from a copy")
    return found
