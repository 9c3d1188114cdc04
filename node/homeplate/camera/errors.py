"""How a source of frames can fail. The reason goes into the ledger; the message is for the person at the command line.

A message may name the configured path but no file inside a folder: people name pictures by the plate that they show.
"""

from enum import StrEnum

from homeplate.errors import CameraError


class Reason(StrEnum):
    """What is wrong with a source."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    FORMAT = "unknown-format"
    REFUSED = "refused"
    STALLED = "stalled"
    SOFTWARE = "software"
    BUSY = "busy"
    DRIVER = "driver"
    SWITCH = "switch"
    UNREACHABLE = "unreachable"
    UNAUTHORIZED = "unauthorized"
    GRABBER = "grabber"


class SourceError(CameraError):
    """A source that cannot be opened or breaks off."""

    def __init__(self, source: str, reason: Reason, message: str) -> None:
        super().__init__(f"source {source}: {message}")
        self.reason = reason
