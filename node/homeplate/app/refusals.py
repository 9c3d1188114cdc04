"""Puts a start that capture refuses into its ledger: by a named reason, and without what a foreign path may hold."""

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from homeplate.clock import NANOSECONDS
from homeplate.errors import (
    CameraError,
    ClockError,
    ConfigError,
    HomeplateError,
    ModelError,
    SealingError,
    StoreError,
    TrustError,
)
from homeplate.ports import Clock
from homeplate.store.ledger import MerkleLog, fit
from homeplate.trust.reasons import reason_of

NOT_STARTED = "capture.not-started"
_WINDOW_NS = 3600 * NANOSECONDS
_PATH = re.compile(r"(?<!\S)[\"'(]?/\S+")
_FAMILIES: tuple[tuple[type[HomeplateError], str], ...] = (
    (ConfigError, "configuration"),
    (ModelError, "model"),
    (SealingError, "key"),
    (ClockError, "clock"),
    (CameraError, "source"),
    (StoreError, "store"),
)


class WidenedError(ConfigError):
    """The configuration would widen the signed rules."""


@contextmanager
def refusals_written(log: Path, clock: Clock) -> Iterator[None]:
    """Write what is raised within as a row of `log`, and raise it on; the same again is a row once an hour.

    Args:
        log: capture's ledger. Nobody else has it open, or the row is left to whom has.
        clock: node time.
    """
    try:
        yield
    except HomeplateError as error:
        with suppress(StoreError):  # a ledger that cannot be written is said by the next start that gets so far
            _write(log, clock, error)
        raise


def _write(log: Path, clock: Clock, error: HomeplateError) -> None:
    fields = {"reason": _reason(error)}
    if isinstance(error, TrustError | WidenedError):
        # These speak of the bundle and of rules. The others may name a file, and a file's name may hold a plate.
        fields["detail"] = fit(_PATH.sub("a file", str(error)))
    with MerkleLog(log, clock) as ledger:
        last = next(iter(deque(ledger.rows(), maxlen=1)), None)
        repeated = last is not None and (last.event, last.fields) == (NOT_STARTED, fields)
        if last is None or not repeated or clock.least_ns() - last.time_ns >= _WINDOW_NS:
            ledger.append(NOT_STARTED, **fields)


def _reason(error: HomeplateError) -> str:
    if isinstance(error, TrustError):
        return reason_of(error)
    if isinstance(error, WidenedError):
        return "widened"
    return next((name for family, name in _FAMILIES if isinstance(error, family)), "other")
