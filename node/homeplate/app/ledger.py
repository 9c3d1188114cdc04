"""Builds the ledger's signer and its reader; neither has a network."""

from collections import deque

from homeplate.app.node import PROCESSES, Paths, load_identity
from homeplate.config import Config
from homeplate.errors import ConfigError
from homeplate.sealing.keys import load_signing_key
from homeplate.store.checkpoints import Checkpoint, sign_checkpoints
from homeplate.store.ledger import Row, read_rows


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
        {process: paths.log(process) for process in PROCESSES},
        key=load_signing_key(paths.ledger_key),
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
