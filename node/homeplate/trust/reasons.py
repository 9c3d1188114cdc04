"""The names of refusals: a bundle's refusal goes to the ledger as `name: sentence`, and people search by the name."""

from collections.abc import Iterator
from contextlib import contextmanager

from homeplate.errors import TrustError

UNACCEPTABLE = "unacceptable"
NOT_WRITTEN = "not-written"


class NamedTrustError(TrustError):
    """A `TrustError` with the short name of its reason (`expired`, `rolled-back`, `not-signed`, `altered`, ...)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def reason_of(error: TrustError) -> str:
    """Return the short name of why something is not trusted."""
    return error.reason if isinstance(error, NamedTrustError) else UNACCEPTABLE


@contextmanager
def naming(reason: str) -> Iterator[None]:
    """Give what is raised within and has no name yet this one.

    Raises:
        NamedTrustError: for every `TrustError` raised within.
    """
    try:
        yield
    except NamedTrustError:
        raise
    except TrustError as error:
        raise NamedTrustError(reason, str(error)) from error
