"""The family of broker errors. The class says what became of the bytes; `reason` is a fixed word for the ledger."""

from homeplate.errors import BrokerError


class _NamedError(BrokerError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotConnectedError(_NamedError):
    """There is no accepted connection: no byte of application data was sent."""


class NotTakenError(_NamedError):
    """The broker answered and did not take the record. The connection stands."""


class OutcomeUnknownError(_NamedError):
    """The record was written to the connection and no answer came: it may have arrived."""
