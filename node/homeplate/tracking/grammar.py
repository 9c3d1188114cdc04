"""A grammar that re-ranks a vote and never rewrites it: it chooses only among characters that could not be told apart.

Without that bound a grammar invents plates (openalpr #307: 1291164 became 1Z91164). The passage keeps its raw vote.
"""

from collections.abc import Mapping, Sequence

from homeplate.domain.plate import PlateText
from homeplate.tracking.voting import Vote

DIGIT, LETTER = "9", "A"
UNKNOWN = "unknown"

PATTERNS: Mapping[str, tuple[str, ...]] = {
    # Passenger 1AAA000, the reversed 000AAA0 from 2026, commercial 0A00000 and 00000A0, exempt (REQUIREMENTS 4).
    # Vanity plates follow no pattern: a vote that no pattern fits is left as it is.
    "US-CA": ("9AAA999", "999AAA9", "9A99999", "99999A9", "9999999"),
}
"""Forms of a jurisdiction's plates, likeliest first; 9 stands for a digit, A for a letter."""


def rerank(
    vote: Vote, jurisdiction: str, *, home: str = UNKNOWN, patterns: Mapping[str, Sequence[str]] = PATTERNS
) -> PlateText:
    """Return the vote's text, or the likeliest one of its ambiguity set that fits a pattern where the text fits none.

    Args:
        vote: the vote.
        jurisdiction: what the plate looks like, such as "US-CA", or "unknown".
        home: the node's own jurisdiction, whose forms count for a plate of an unknown one: most plates on a road are
            its state's.
        patterns: forms of each jurisdiction's plates.
    """
    known = home if jurisdiction == UNKNOWN else jurisdiction
    forms = [form for form in patterns.get(known, ()) if len(form) == len(vote.ambiguity)]
    text = vote.text
    if not forms or any(_fits(text.reveal(), form) for form in forms):
        return text
    candidates = [found for form in forms if (found := _likeliest(vote, form)) is not None]
    # `max` keeps the first of equals, so the order of the patterns decides.
    return PlateText(max(candidates, key=lambda found: found[1])[0]) if candidates else text


def _fits(text: str, form: str) -> bool:
    return all(_is(character, kind) for character, kind in zip(text, form, strict=True))


def _is(character: str, kind: str) -> bool:
    return character.isdigit() if kind == DIGIT else character.isalpha()


def _likeliest(vote: Vote, form: str) -> tuple[str, float] | None:
    """Return the likeliest text of a form within the ambiguity set and its probability; None where there is none."""
    text, chance = "", 1.0
    for position, among, kind in zip(vote.characters, vote.ambiguity, form, strict=True):
        fitting = [(c, p) for c, p in position.alternatives if c in among and _is(c, kind)]
        if not fitting:
            return None
        text, chance = text + fitting[0][0], chance * fitting[0][1]
    return text, chance
