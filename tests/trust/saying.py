"""Refusals as people and ledgers meet them: by name and in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from homeplate.errors import HomeplateError, TrustError
from homeplate.trust.reasons import reason_of


@contextmanager
def says(message: str, reason: str | None = None, kind: type[HomeplateError] = TrustError) -> Iterator[None]:
    """Expect a refusal with exactly this message and, where it is given, under this name."""
    with pytest.raises(kind, match=f"^{re.escape(message)}$") as caught:
        yield
    if reason is not None:
        assert isinstance(caught.value, TrustError)
        assert reason_of(caught.value) == reason
