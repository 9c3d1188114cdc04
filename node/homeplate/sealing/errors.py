"""How a sealed record, a key or a slot can fail. Each class is one `expect:` word of the test vectors.

No message holds what was inside, and none holds the text of a parser's or a library's error: that could quote it.
"""

from homeplate.errors import SealingError


class KeyFileError(SealingError):
    """A key file is missing, unreadable, already there, or not what it should be."""


class MalformedError(SealingError):
    """The bytes are not a sealed record: truncated, too long, or not of this form."""


class VersionError(SealingError):
    """The bytes name a version of the format that this program does not know."""


class SignatureError(SealingError):
    """The node's signature does not verify."""


class RecipientError(SealingError):
    """The record is sealed to another key, or a public key is not the one that its id names."""


class UnopenedError(SealingError):
    """The inner seal does not open with this key: altered, moved to another header, or another KEM."""


class ContentsError(SealingError):
    """What was inside is not facts or a crop as the format has them, or contradicts the record's header."""


class CropError(SealingError):
    """The crop is not the one that the facts name."""


class SlotError(SealingError):
    """A slot file is missing, damaged or full, a slot is gone, or a wrapped record was altered."""
