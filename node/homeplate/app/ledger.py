"""Builds the ledger's signer, its reader, and what carries it to witnesses and archives; none has a network."""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from homeplate.app.credentials import key_file
from homeplate.app.node import PROCESSES, Paths, load_identity
from homeplate.clock import NANOSECONDS, SystemClock
from homeplate.config import Config
from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import RETENTION_CAP_S
from homeplate.errors import ConfigError, HomeplateError, LedgerError
from homeplate.sealing.keys import load_signing_key
from homeplate.store.archive import archive
from homeplate.store.checkpoints import Checkpoint, sign_checkpoints, write_durably
from homeplate.store.cosignatures import MAXIMUM_FILE_BYTES, decode_cosigned, encode_requests
from homeplate.store.ledger import Row, read_rows
from homeplate.store.publishing import PUBLIC, Exported, publish
from homeplate.store.witnessed import requests, take
from homeplate.trust.bundle import load_bundle
from homeplate.trust.files import read_bounded

_ARCHIVED_AFTER_S = RETENTION_CAP_S + DAY_SECONDS
"""Younger rows may speak of records that live still, and their processes read them back."""


def sign_all(config: Config) -> dict[str, Checkpoint]:
    """Sign a checkpoint over each process's log.

    Raises:
        LedgerError: where a log does not verify; the row is named and nothing is signed for it.
        SealingError: where the ledger key cannot be read.
    """
    paths = Paths.of(config)
    identity = load_identity(paths)
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    return sign_checkpoints(
        _logs(paths),
        key=load_signing_key(key_file(paths.ledger_key)),
        pseudonym=identity.raw,
        folder=paths.checkpoints,
    )


def newest_rows(config: Config, process: str, last: int) -> list[Row]:
    """Return a process's `last` newest rows, oldest first.

    Raises:
        ConfigError: where the process has no log yet.
        LedgerError: where a row does not verify.
    """
    path = Paths.of(config).log(process)
    if not path.exists():
        raise ConfigError(f"{path}: this process has not written a row yet")
    return list(deque(read_rows(path), maxlen=last))


def ask_witnesses(config: Config, file: Path, since: Mapping[str, int]) -> int:
    """Write what the node asks of its witnesses (checkpoints and proofs, never a row); return how many requests.

    Raises:
        ConfigError: where the registry names no witness.
        LedgerError: where a log does not verify, or nothing is signed yet.
        TrustError: where no bundle is in force.
    """
    paths = Paths.of(config)
    bundle = load_bundle(paths.bundle, SystemClock(paths.clock, "check").now_ns())
    if not bundle.witnesses:
        raise ConfigError("the bundle names no witness: the registry adds one with `bundle witness add`")
    found = requests(_logs(paths), paths.checkpoints, bundle.witnesses, since)
    if not found:
        raise LedgerError("no log has a checkpoint yet: run `homeplate ledger sign`")
    write_durably(file, encode_requests(found))
    return len(found)


def take_cosigned(config: Config, file: Path) -> list[str]:
    """Add a witness's cosignatures to the node's checkpoints; return a line for each.

    Raises:
        LedgerError: where one is not of this node or not of a witness that the bundle names.
        TrustError: where no bundle is in force.
    """
    paths = Paths.of(config)
    bundle = load_bundle(paths.bundle, SystemClock(paths.clock, "check").now_ns())
    return take(
        decode_cosigned(read_bounded(file, MAXIMUM_FILE_BYTES)),
        paths.checkpoints,
        bundle.witnesses,
        pseudonym=load_identity(paths).raw,
        public=load_signing_key(key_file(paths.ledger_key)).public_key().public_bytes_raw(),
    )


def archive_all(config: Config, folder: Path) -> list[Path]:
    """Move closed, signed segments whose rows are older than any record to `folder`; return where they lie.

    Raises:
        LedgerError: where a log does not verify.
        StoreError: where a file cannot be moved.
    """
    paths = Paths.of(config)
    public = load_signing_key(key_file(paths.ledger_key)).public_key().public_bytes_raw()
    before_ns = SystemClock(paths.clock, "check").now_ns() - _ARCHIVED_AFTER_S * NANOSECONDS
    moved: list[Path] = []
    for path in _logs(paths).values():
        moved += archive(path, folder, checkpoints=paths.checkpoints, public=public, before_ns=before_ns)
    return moved


def export_all(
    config: Config, folder: Path, *, withheld: Collection[str] = (), archives: Sequence[Path] = ()
) -> dict[str, Exported]:
    """Write what anybody may read of each log to the new `folder`; return what was written of each.

    Args:
        config: the node's.
        folder: it must not be there yet: two exports in one would not verify.
        withheld: events whose rows are withheld whole.
        archives: folders of archived segments.

    Raises:
        ConfigError: where the folder is there, or an event is not known.
        LedgerError: where a log does not verify.
        HomeplateError: where no log has a row of a day that is over; nothing is wrong then.
        StoreError: where a file cannot be written.
    """
    if unknown := sorted(set(withheld) - PUBLIC.keys()):
        raise ConfigError(f"--withhold {unknown[0]}: no such event is shown; it can be {', '.join(sorted(PUBLIC))}")
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name a new folder")
    paths = Paths.of(config)
    key, now_ns = load_signing_key(key_file(paths.ledger_key)), SystemClock(paths.clock, "check").now_ns()
    found = {
        name: publish(
            path,
            folder,
            checkpoints=paths.checkpoints,
            key=key,
            pseudonym=load_identity(paths).raw,
            now_ns=now_ns,
            withheld=frozenset(withheld),
            archives=archives,
        )
        for name, path in _logs(paths).items()
    }
    written = {name: exported for name, exported in found.items() if exported}
    if not written:
        raise HomeplateError("no log has a row of a day that is over: export tomorrow (days end at 0:00 UTC)")
    return written


def _logs(paths: Paths) -> dict[str, Path]:
    return {process: paths.log(process) for process in PROCESSES}
