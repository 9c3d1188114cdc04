"""The access log before the witnesses that the registry names, as a node's logs are: who opens records is watched too.

A witness knows a node's keys from the bundle, and an access log's from its own copy of `access/keys.pub`, handed over
once. Both ways go by file; what is asked holds checkpoints and proofs, never a row.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from homeplate.domain.node import NodeEntry
from homeplate.domain.witness import Witness
from homeplate.errors import ConfigError, LedgerError
from homeplate.store.checkpoints import write_durably
from homeplate.store.cosignatures import MAXIMUM_FILE_BYTES, decode_cosigned, encode_requests
from homeplate.store.witnessed import requests, take
from homeplate.trust.files import read_bounded
from homeplate_custodian.access import ACCESS_LOG, CHECKPOINTS, KEYS, LOG, read_keys


def ask_witnesses(custody: Path, file: Path, witnesses: Collection[Witness], since: Mapping[str, int]) -> int:
    """Write what is asked of each witness; return how many requests.

    Args:
        custody: the custody folder.
        file: where to write.
        witnesses: the bundle's.
        since: the log's size that a witness says it saw last, where it is not the one known here.

    Raises:
        ConfigError: where the registry names no witness.
        LedgerError: where nothing was opened yet, or the log is not what its checkpoint says.
        StoreError: where a file cannot be read or written.
    """
    if not witnesses:
        raise ConfigError("the bundle names no witness: the registry adds one with `bundle witness add`")
    found = requests({LOG: custody / ACCESS_LOG}, custody / CHECKPOINTS, witnesses, since)
    if not found:
        raise LedgerError(f"{custody}: the access log has no checkpoint yet; nothing was ever opened here")
    write_durably(file, encode_requests(found))
    return len(found)


def take_cosigned(custody: Path, file: Path, witnesses: Collection[Witness]) -> list[str]:
    """Add a witness's cosignatures to the access log's checkpoints; return a line for each.

    Raises:
        LedgerError: where one is not of this access log, or not of a witness that the bundle names.
        StoreError: where a file cannot be read or written.
    """
    keys = read_keys(custody / KEYS / "keys.pub")
    notes = decode_cosigned(read_bounded(file, MAXIMUM_FILE_BYTES))
    return take(notes, custody / CHECKPOINTS, witnesses, pseudonym=keys.custodian, public=keys.signing_public)


def signers(nodes: Iterable[NodeEntry], copies: Iterable[Path]) -> list[NodeEntry]:
    """Return whose checkpoints a witness judges: the bundle's nodes, and the access logs of which it has a copy.

    Raises:
        ConfigError: where a copy is damaged, or goes by the name of a node or of another copy.
        TrustError: where one is missing.
    """
    found = list(nodes)
    for path in copies:
        signer = read_keys(path).signer()
        if any(other.pseudonym == signer.pseudonym for other in found):
            raise ConfigError(f"{path} has the name of a node or of another access log: ask the custodian for its own")
        found.append(signer)
    return found
