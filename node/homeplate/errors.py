"""The root of every error that Homeplate raises on purpose.

Each package derives one family from `HomeplateError` (`CameraError`, `ModelError`, ...). A message says what failed,
with which input, and what to do next; it never holds a plate. The command line prints it and exits with `exit_code`.
"""

from typing import ClassVar


class HomeplateError(Exception):
    """Something that a person can mend; the message names the thing and the next step."""

    exit_code: ClassVar[int] = 1


class ConfigError(HomeplateError):
    """The configuration, a path that it names, or a command's input is unusable."""

    exit_code = 2


class ModelError(HomeplateError):
    """A model or its manifest is missing, altered, or not what the node expects."""

    exit_code = 3


class CameraError(HomeplateError):
    """A source of frames is missing, unreadable, truncated or of an unknown format."""

    exit_code = 4


class SealingError(HomeplateError):
    """A key, slot or sealed record is missing, malformed, or does not verify."""

    exit_code = 5


class TrustError(HomeplateError):
    """The signed bundle is missing, unsigned, expired or rolled back, or says what cannot be accepted."""

    exit_code = 6


class StoreError(HomeplateError):
    """The spool, a delivery log or a ledger cannot be read or written."""

    exit_code = 7


class BrokerError(HomeplateError):
    """A broker cannot be reached, is not who the bundle names, or did not take a record."""

    exit_code = 8


class ClockError(HomeplateError):
    """The time is not set, went back, or leapt further than can be believed."""

    exit_code = 9


class LedgerError(StoreError):
    """A ledger row, checkpoint or certificate does not verify; the message names the first bad row."""

    exit_code = 10
