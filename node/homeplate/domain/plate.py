"""What is read on a plate. A text is a `PlateText`, whose repr and str are masked: only `reveal()` gives it away."""

import re
from dataclasses import dataclass, field

from homeplate.domain.geometry import Box

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_CHARACTERS = 10

# Pairs that plates and weather make alike (REQUIREMENTS section 4). A passage publishes the alternatives among them.
CONFUSABLE = frozenset(
    frozenset(pair) for pair in (("O", "0"), ("I", "1"), ("Q", "0"), ("D", "0"), ("B", "8"), ("S", "5"), ("Z", "2"))
)


# California's forms that hold letters: 1AAA000 and, from 2026, 000AAA0; commercial 0A00000 and 00000A0. Exempt plates
# are seven digits, as are many case numbers; vanity plates and other states' have no form that tells them from a word.
_FORMS = ("9AAA999", "999AAA9", "9A99999", "99999A9")
_CLASSES = {"9": "[0-9]", "A": "[A-Z]"}
_A_FORM = re.compile(
    "(?<![A-Z0-9])(?:" + "|".join("[ -]*".join(_CLASSES[kind] for kind in form) for form in _FORMS) + ")(?![A-Z0-9])"
)


def has_form_of_plate(text: str) -> bool:
    """Tell whether something in `text` is written like a Californian plate, with or without spaces and hyphens.

    For free text that is stored in clear, such as a case number. It finds no plate of another form.
    """
    return _A_FORM.search(text.upper()) is not None


@dataclass(frozen=True, slots=True)
class PlateText:
    """The characters of a plate: A-Z and 0-9, at most ten. Never formatted into a message: `str()` is masked too.

    Raises:
        ValueError: on any other character or length; the message does not hold the text.
    """

    _text: str = field(repr=False)

    def __post_init__(self) -> None:
        if not 1 <= len(self._text) <= MAX_CHARACTERS or not set(self._text) <= set(ALPHABET):
            raise ValueError(f"a plate has 1 to {MAX_CHARACTERS} characters of A-Z and 0-9")

    def __repr__(self) -> str:
        return f"PlateText(<{len(self._text)} characters>)"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __len__(self) -> int:
        return len(self._text)

    def reveal(self) -> str:
        """Return the characters. Only sealing, the hot list's matcher, voting and the tools off the device call it."""
        return self._text


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CharReading:
    """One position of a plate: what the reader thinks it may be, likeliest first, with probabilities 0..1."""

    alternatives: tuple[tuple[str, float], ...]

    def __repr__(self) -> str:
        return "CharReading(<masked>)"

    @property
    def character(self) -> str:
        """The likeliest character."""
        return self.alternatives[0][0]

    @property
    def confidence(self) -> float:
        """Its probability, 0..1."""
        return self.alternatives[0][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateReading:
    """A plate as read once: a character reading a position (padding left out), and the jurisdiction it looks like.

    `box` is where the plate is in the crop that was read, in pixels of it; None where nothing was read, or no
    box was seen.
    """

    characters: tuple[CharReading, ...]
    jurisdiction: str = "unknown"
    jurisdiction_confidence: float = 0.0
    box: Box | None = None

    @property
    def text(self) -> PlateText | None:
        """The likeliest text; None where nothing was read."""
        return PlateText("".join(c.character for c in self.characters)) if self.characters else None

    @property
    def confidence(self) -> float:
        """The least confidence of its characters, 0..1; 0 where nothing was read. Padding is never counted."""
        return min((c.confidence for c in self.characters), default=0.0)
