"""The root's holders: whose keys they are, how many have to sign, and what still lacks signatures.

`root/key.pub` is the one holder of a small custody; several have a folder each, `root/NAME/key.pub`, and
`root/threshold` says how many of them sign. Who is to leave moves to `root/retired/NAME/`: the next root needs the old
holders' signatures too. What lacks signatures lies in `unsigned/` and travels to the holders, who add theirs by `sign`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from homeplate.errors import ConfigError
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate_custodian.keyring import PUBLIC_FILE, public_key, signer

ROOT_ROLE = "root"
THRESHOLD_FILE = "threshold"
UNSIGNED = "unsigned"
MAX_HOLDERS = 16
_RETIRED = "retired"
_NUMBER = re.compile(rb"([0-9]{1,2})\n?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holders:
    """Who holds the root.

    Attributes:
        keys: public keys of those who hold it from the next root on.
        threshold: how many of them have to sign.
        signers: of whom the private key is here, retired ones too.
    """

    keys: Sequence[SSlibKey]
    threshold: int
    signers: Sequence[CryptoSigner]


def holders(custody: Path) -> Holders:
    """Return the root's holders.

    Raises:
        ConfigError: where there is none, a key is damaged or there twice, or the threshold does not fit their number.
    """
    folder = custody / ROOT_ROLE
    current, retired = _with_keys(folder), _with_keys(folder / _RETIRED)
    current = [path for path in current if path.name != _RETIRED]
    keys = [public_key(path) for path in current]
    threshold = _threshold(folder / THRESHOLD_FILE)
    if not 1 <= len({str(key.keyval) for key in keys}) == len(keys) <= MAX_HOLDERS:
        raise ConfigError(f"{folder} needs 1 to {MAX_HOLDERS} holders with a key.pub each, no two of them the same")
    if not 1 <= threshold <= len(keys):
        raise ConfigError(f"{folder / THRESHOLD_FILE} says {threshold}, and {folder} has {len(keys)} holders")
    signers = [found for path in [*current, *retired] if (found := signer(path)) is not None]
    return Holders(keys=keys, threshold=threshold, signers=signers)


def has_holders(custody: Path) -> bool:
    """Tell whether somebody holds the root already."""
    return bool(_with_keys(custody / ROOT_ROLE))


def set_threshold(custody: Path, threshold: int) -> None:
    """Say how many holders have to sign the next root.

    Raises:
        ConfigError: where there are fewer.
    """
    write_durably(custody / ROOT_ROLE / THRESHOLD_FILE, f"{threshold}\n".encode())
    holders(custody)


def _with_keys(folder: Path) -> list[Path]:
    inner = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in [folder, *inner] if (path / PUBLIC_FILE).exists()]


def _threshold(path: Path) -> int:
    if not path.exists():
        return 1
    match = _NUMBER.fullmatch(read_bounded(path, 16))
    if match is None:
        raise ConfigError(f"{path} is no number of holders")
    return int(match[1])


def missing(by: Root, role: str, data: bytes) -> int:
    """Return how many more of `role`'s keys in `by` have to sign the metadata in `data`."""
    metadata = parse(data)
    result = by.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return max(0, result.threshold - len(result.signed))


def parse(data: bytes) -> Metadata[Any]:
    """Return metadata.

    Raises:
        ConfigError: where it is none.
    """
    try:
        return Metadata.from_bytes(data)
    except RepositoryError as error:
        raise ConfigError("that is no metadata of a bundle, or it is damaged; restore it from a copy") from error


def add_signatures(data: bytes, signers: Sequence[CryptoSigner]) -> bytes:
    """Return metadata with one more signature for each signer; what is signed stays as it is, byte for byte."""
    metadata = parse(data)
    for one in signers:
        metadata.sign(one, append=True)
    return metadata.to_bytes()


def pending(custody: Path, name: str, make: Callable[[], bytes], fits: Callable[[Any], bool], here: Holders) -> bytes:
    """Return what is to be signed under `name`, with the signatures of all who are here; it is kept in `unsigned/`.

    Args:
        custody: the custody folder.
        name: "2.root.json".
        make: makes it, without signatures.
        fits: tells whether what lies there already, perhaps with signatures of others, says what is wanted.
        here: the holders.

    Raises:
        ConfigError: where what lies there is damaged.
        TrustError: where it cannot be written.
    """
    path = custody / UNSIGNED / name
    data = read_bounded(path, MAX_METADATA_BYTES) if path.exists() else b""
    if not data or not fits(parse(data).signed):
        data = make()
    data = add_signatures(data, here.signers)
    write_durably(path, data)
    return data


def waits(custody: Path, waiting: Mapping[str, int]) -> ConfigError:
    """Return the error that says what lacks how many signatures."""
    files = " and ".join(f"{custody / UNSIGNED / name} ({count} more)" for name, count in sorted(waiting.items()))
    return ConfigError(
        f"signatures of the root's holders are missing: {files}; bring each file to them"
        " (`homeplate-custodian sign FILE KEYFOLDER`) and back, then publish again"
    )


def sign_file(path: Path, key: Path) -> None:
    """Add a holder's signature to a file.

    Raises:
        ConfigError: where it is no metadata, or the folder holds no private key.
    """
    found = signer(key)
    if found is None:
        raise ConfigError(f"{key} holds no key.pem; sign where the key is kept")
    write_durably(path, add_signatures(read_bounded(path, MAX_METADATA_BYTES), [found]))


def describe(path: Path) -> list[str]:
    """Return what a file that is to be signed says, in lines.

    Raises:
        ConfigError: where it is neither a root nor a top role.
    """
    metadata = parse(read_bounded(path, MAX_METADATA_BYTES))
    signed = metadata.signed
    lines = [f"{signed.type} {signed.version}, until {signed.expires:%Y-%m-%d}, {len(metadata.signatures)} signatures"]
    if isinstance(signed, Root):
        roles, keys = dict(signed.roles), signed.keys
        lines += [
            f"{name}: {value}" for name, value in sorted(signed.unrecognized_fields.get("x-homeplate", {}).items())
        ]
    elif isinstance(signed, Targets) and signed.delegations is not None and signed.delegations.roles is not None:
        roles, keys = dict(signed.delegations.roles), signed.delegations.keys
    else:
        raise ConfigError(f"{path} is neither a root nor a top role; holders of the root sign nothing else")
    for name, role in sorted(roles.items()):
        publics = sorted(str(keys[keyid].keyval["public"]) for keyid in role.keyids)
        lines.append(f"{name}: {role.threshold} of {', '.join(publics)}")
    return lines
