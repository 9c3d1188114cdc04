"""Synthetic licence plates: Californian forms first, other US layouts and European ones beside them.

`render_plate` draws a plate as metal would look from the front (colours, header, stickers, bolts, dirt, embossing, a
frame); `degrade` does to a picture what distance, night and cheap cameras do. Every choice comes from the generator
that is passed in, so equal seeds give equal plates. No picture of a real plate and no font file is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.render import glyphs
from tools.render.glyphs import Face, Mask
from tools.render.wear import degrade

__all__ = ["CALIFORNIAN", "DESIGNS", "PlateImage", "confused", "degrade", "render_plate"]

Image = NDArray[np.uint8]
Random = np.random.Generator
Colour = tuple[int, int, int]
Corners = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

WIDTH, HEIGHT = 320, 160
"""Size of a US plate's picture in pixels; European ones are wider or narrower."""
UNKNOWN = "unknown"
LETTERS, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
CONFUSABLE: Mapping[str, str] = {
    "O": "0QD", "0": "OQD8", "I": "1T", "1": "I7", "B": "83", "8": "B06", "D": "0O", "S": "5", "5": "S6",
    "Z": "27", "2": "Z7", "Q": "0O", "G": "6C", "6": "G8", "U": "V", "V": "UY", "M": "NH", "W": "VN", "7": "1Z",
}  # fmt: skip
"""Letters that readers take for each other (REQUIREMENTS: I/1, O/0, Q/0, D/0, B/8, S/5, Z/2, and what was seen)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlateImage:
    """A rendered plate.

    Attributes:
        image: BGR, [H, W, 3]; the plate fills it.
        text: what a reader should say, A-Z and 0-9, 2 to 10 characters, top to bottom and left to right.
        jurisdiction: `US-CA`, or `unknown`.
        characters: corners of each character of `text` in pixels, [len(text), 4, 2].
    """

    image: Image
    text: str
    jurisdiction: str
    characters: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """Everything about a plate but its text.

    Attributes:
        size: width and height in pixels.
        ground, ink: BGR of the metal and of the characters.
        face: the font.
        area: left, top, right, bottom of the characters' place as shares of the size.
        heading, footer: words above and below, or empty.
        heading_ink: their BGR.
        decorate: draws graphics on the ground before the characters.
        jurisdiction: as in PlateImage.
        stickers: places for stickers, as shares of the size, each (x, y, width, height).
        band: BGR of a strip at the left end, as on European plates, or none.
    """

    size: tuple[int, int] = (WIDTH, HEIGHT)
    ground: Colour
    ink: Colour
    face: Face
    area: tuple[float, float, float, float] = (0.05, 0.27, 0.95, 0.8)
    heading: str = ""
    footer: str = ""
    heading_ink: Colour | None = None
    decorate: Callable[[Random, Image], None] | None = None
    jurisdiction: str = UNKNOWN
    stickers: Sequence[tuple[float, float, float, float]] = ()
    band: Colour | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A piece of the plate's text: characters of full size, two stacked small ones, a gap, or a break of the line."""

    text: str
    kind: str = "full"


def render_plate(
    rng: Random, *, text: str | None = None, design: str | None = None, pictures: Mapping[str, Mask] | None = None
) -> PlateImage:
    """Render a plate.

    Args:
        rng: source of every choice.
        text: the characters, A-Z and 0-9, 2 to 10 of them; a text of the design's form when left out.
        design: one of DESIGNS; drawn by its weight when left out.
        pictures: letters that replace the face's own (see `Face.pictures`).

    Raises:
        ValueError: the text has other characters or another length, or the design does not exist.
    """
    if text is not None and not (2 <= len(text) <= 10 and all(c in LETTERS + DIGITS for c in text)):
        raise ValueError("a plate's text has 2 to 10 characters out of A-Z and 0-9; leave others out")
    if design is None:
        names = list(DESIGNS)
        weights = np.array([DESIGNS[name][0] for name in names])
        design = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    if design not in DESIGNS:
        raise ValueError(f"{design}: no such design; there are {', '.join(DESIGNS)}")
    make_style, make_text = DESIGNS[design][1:]
    tokens = make_text(rng) if text is None else _tokens(rng, text)
    style = make_style(rng)
    if pictures:
        style = replace(style, face=replace(style.face, pictures=pictures))
    return compose(rng, style, tokens)


def compose(rng: Random, style: Style, tokens: Sequence[Token]) -> PlateImage:
    """Put ground, graphics, words, characters and wear together."""
    width, height = style.size
    image = np.empty((height, width, 3), np.uint8)
    image[:] = style.ground
    if style.decorate:
        style.decorate(rng, image)
    cover, boxes, text = lay_out(rng, style, tokens)
    _words(rng, image, style)
    if style.band:
        _band(rng, image, style.band)
    for place in style.stickers:
        _sticker(rng, image, place)
    image = _inked(rng, image, cover, style.ink)
    _bolts(rng, image)
    image = _weathered(rng, image)
    return PlateImage(image=image, text=text, jurisdiction=style.jurisdiction, characters=boxes)


def lay_out(rng: Random, style: Style, tokens: Sequence[Token]) -> tuple[NDArray[np.float32], NDArray[np.float32], str]:
    """Draw the tokens into the style's area, a row after each break, as high as they go and no wider than it.

    Returns:
        Coverage of the ink [H, W], the characters' corners [N, 4, 2] and the text.
    """
    width, height = style.size
    left, top, right, bottom = (s * (width, height)[i % 2] for i, s in enumerate(style.area))
    rows = _rows(tokens)
    space = float(rng.uniform(0.06, 0.16))
    between = (bottom - top) * 0.08
    tall = (bottom - top - between * (len(rows) - 1)) / len(rows)
    cover = np.zeros((height, width), np.float32)
    placed = list[tuple[str, Corners]]()
    for number, row in enumerate(rows):
        y = top + number * (tall + between)
        face, x, fitted = _fit(rng, style.face, (left, right, tall), row, space)
        for token in row:
            letters = _placed(face, token, (x, y + (tall - fitted) / 2, fitted), space)
            for letter, box in letters:
                _stamp(cover, face, letter, box)
            placed.extend((letter, box) for letter, box in letters if letter.isalnum())
            x += _token_width(face, token, space) * fitted
    corners = [[(a, b), (c, b), (c, d), (a, d)] for _, (a, b, c, d) in placed]
    return cover, np.array(corners, np.float32).reshape(-1, 4, 2), "".join(letter for letter, _ in placed)


def _rows(tokens: Sequence[Token]) -> list[list[Token]]:
    rows: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "break":
            rows.append([])
        else:
            rows[-1].append(token)
    return rows


def _fit(
    rng: Random, face: Face, room: tuple[float, float, float], row: Sequence[Token], space: float
) -> tuple[Face, float, int]:
    """Fit a row into left, right and height: return the face (narrower if needed), where it starts and its height."""
    left, right, tall = room
    natural = sum(_token_width(face, token, space) for token in row) - space
    most = (right - left) / tall
    if natural > most:
        excess = (natural - most) / max(1, sum(len(token.text) for token in row if token.kind == "full"))
        face = replace(face, aspect=max(0.16, face.aspect - excess), weight=min(face.weight, 0.14))
        natural = sum(_token_width(face, token, space) for token in row) - space
    fitted = int(tall * min(1.0, most / natural))
    slack = max(0.0, right - left - natural * fitted)
    return face, left + slack * float(np.clip(rng.normal(0.5, 0.05), 0, 1)), fitted


STACK_SHARE = 0.46
"""Height of a stacked small letter as a share of the full ones."""


def _token_width(face: Face, token: Token, space: float) -> float:
    """Return a token's width with the space after it, in heights of a full character."""
    if token.kind == "gap":
        return 0.22
    if token.kind == "stack":
        return max(glyphs.advance(face, letter) for letter in token.text) * STACK_SHARE * 1.25 + space
    return sum(glyphs.advance(face, letter) + space for letter in token.text)


def _placed(face: Face, token: Token, at: tuple[float, float, int], space: float) -> list[tuple[str, Corners]]:
    """Return each letter of a token that begins `at` left, top with a height, with its box in pixels."""
    x, y, tall = at
    if token.kind == "gap":
        return []
    if token.kind == "stack":
        small = tall * STACK_SHARE
        tops = (y, y + tall - small)
        wide = [glyphs.advance(face, letter) * small * 1.25 for letter in token.text]
        return [(a, (x, t, x + w, t + small)) for a, t, w in zip(token.text, tops, wide, strict=True)]
    placed = []
    for letter in token.text:
        wide_one = glyphs.advance(face, letter) * tall
        placed.append((letter, (x, y, x + wide_one, y + tall)))
        x += wide_one + space * tall
    return placed


def _stamp(cover: NDArray[np.float32], face: Face, letter: str, box: Corners) -> None:
    left, top, right, bottom = (round(side) for side in box)
    if bottom - top < 4 or right - left < 2:
        return
    mask = glyphs.draw(face, letter, bottom - top)
    mask = np.asarray(cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_AREA), np.float32)
    top, left = max(0, top), max(0, left)
    place = cover[top : top + mask.shape[0], left : left + mask.shape[1]]
    np.maximum(place, mask[: place.shape[0], : place.shape[1]], out=place)


def _inked(rng: Random, image: Image, cover: NDArray[np.float32], ink: Colour) -> Image:
    """Lay the ink on, with the light and dark edges of embossing."""
    worn = cover * float(rng.uniform(0.8, 1.0)) if rng.random() < 0.2 else cover
    out = image + (np.array(ink, np.float32) - image) * worn[..., None]
    if rng.random() < 0.7:
        soft = cv2.GaussianBlur(cover, (0, 0), float(rng.uniform(1.0, 2.5)))
        step = int(rng.integers(1, 3))
        edge = soft - np.roll(soft, (step, step if rng.random() < 0.5 else -step), (0, 1))
        out = out + (edge * float(rng.uniform(-90, 140)))[..., None]
    return np.clip(out, 0, 255).astype(np.uint8)


def _words(rng: Random, image: Image, style: Style) -> None:
    """Write heading and footer in one of OpenCV's built-in stroke fonts."""
    height, width = image.shape[:2]
    ink = style.heading_ink or style.ink
    for words, middle, share in ((style.heading, 0.12, 0.15), (style.footer, 0.91, 0.1)):
        if not words:
            continue
        font = int(rng.choice((cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)))
        thick = int(rng.integers(1, 3))
        scale = share * height / 22 * float(rng.uniform(0.8, 1.15))
        (wide, tall), _ = cv2.getTextSize(words, font, scale, thick)
        scale *= min(1.0, 0.7 * width / max(1, wide))
        (wide, tall), _ = cv2.getTextSize(words, font, scale, thick)
        start = (round((width - wide) / 2), round(middle * height + tall / 2))
        cv2.putText(image, words, start, font, scale, ink, thick, cv2.LINE_AA)


def _band(rng: Random, image: Image, colour: Colour) -> None:
    height, width = image.shape[:2]
    wide = round(min(width * 0.1, height * 0.45))
    image[:, :wide] = colour
    if rng.random() < 0.8:
        centre = (wide // 2, round(height * 0.3))
        cv2.circle(image, centre, max(2, wide // 3), (60, 220, 250), max(1, wide // 14), cv2.LINE_AA)
    letter = str(rng.choice(list(LETTERS)))
    cv2.putText(image, letter, (wide // 4, round(height * 0.85)), 0, wide / 45, (255, 255, 255), 1, cv2.LINE_AA)


def _sticker(rng: Random, image: Image, place: tuple[float, float, float, float]) -> None:
    height, width = image.shape[:2]
    x, y = round(place[0] * width), round(place[1] * height)
    wide, tall = max(4, round(place[2] * width)), max(4, round(place[3] * height))
    colour = [int(c) for c in rng.integers(0, 256, 3)]
    cv2.rectangle(image, (x, y), (x + wide, y + tall), colour, -1)
    ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
    words = str(rng.choice(["JAN", "MAR", "JUN", "OCT", "DEC", "08", "15", "24", "2026", "6", "99"]))
    cv2.putText(image, words, (x + 2, y + tall - 3), 0, tall / 34, ink, 1, cv2.LINE_AA)


def _bolts(rng: Random, image: Image) -> None:
    height, width = image.shape[:2]
    if rng.random() < 0.3 or width > 3 * height:
        return
    colour = [int(rng.integers(20, 200))] * 3
    places = [(0.22, 0.1), (0.78, 0.1)] + ([(0.22, 0.9), (0.78, 0.9)] if rng.random() < 0.5 else [])
    for x, y in places:
        centre = (round(x * width + rng.normal(0, 2)), round(y * height + rng.normal(0, 2)))
        cv2.circle(image, centre, int(rng.integers(3, 6)), colour, -1, cv2.LINE_AA)


def _weathered(rng: Random, image: Image) -> Image:
    """Add a border, dirt, scratches and perhaps a dealer's frame over the edges."""
    height, width = image.shape[:2]
    if rng.random() < 0.45:
        shade = [int(c) for c in rng.integers(0, 256, 3)]
        cv2.rectangle(image, (1, 1), (width - 2, height - 2), shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    if rng.random() < 0.3:
        _frame(rng, image)
    out = image
    if rng.random() < 0.35:
        blobs = cv2.resize(rng.random((5, 9)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        amount = np.clip(blobs - float(rng.uniform(0.3, 0.8)), 0, 1)[..., None] * float(rng.uniform(0.2, 0.8))
        dirt = np.array((50, 70, 90), np.float32) * float(rng.uniform(0.4, 1.6))
        out = np.clip(image + (dirt - image) * amount, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 6))):
            ends = rng.uniform((0, 0), (width, height), (2, 2)).astype(int).tolist()
            cv2.line(out, ends[0], ends[1], [int(rng.integers(60, 230))] * 3, 1, cv2.LINE_AA)
    return out


def _frame(rng: Random, image: Image) -> None:
    height, width = image.shape[:2]
    shade = int(rng.choice((20, 35, 60, 150, 190, 215)))
    colour = (shade, shade, shade)
    thick_top, thick_bottom = round(height * rng.uniform(0.03, 0.15)), round(height * rng.uniform(0.05, 0.17))
    side = round(width * rng.uniform(0.01, 0.04))
    image[:thick_top], image[height - thick_bottom :] = colour, colour
    image[:, :side], image[:, width - side :] = colour, colour
    ink = (230, 230, 230) if shade < 100 else (30, 30, 30)
    for words, base in ((_name(rng), height - thick_bottom // 4), (_name(rng), thick_top - thick_top // 4)):
        tall = thick_bottom if base > height // 2 else thick_top
        if tall > 10 and rng.random() < 0.8:
            cv2.putText(image, words, (round(width * 0.25), base), 0, tall / 34, ink, 1, cv2.LINE_AA)


def _name(rng: Random) -> str:
    """Return a made-up word or two, as dealers and slogans have."""
    onsets, vowels = [*"BCDFGHLMNPRSTVW", "ST", "TR", "CH", "GR"], [*"AEIOU", "EA"]
    words = []
    for _ in range(int(rng.integers(1, 3))):
        parts = [str(rng.choice(onsets)) + str(rng.choice(vowels)) for _ in range(int(rng.integers(2, 4)))]
        words.append("".join(parts) + str(rng.choice(["", "N", "R", "S"])))
    joined = " ".join(words)
    return joined.title() if rng.random() < 0.5 else joined


# --- texts ---------------------------------------------------------------------------------------------------------


def _of_form(rng: Random, form: str) -> str:
    """Return a text of a form: A a letter, 0 a digit, 1 a digit from 1, X either."""
    pools = {"A": LETTERS, "0": DIGITS, "1": DIGITS[1:], "X": LETTERS + DIGITS}
    return "".join(str(rng.choice(list(pools[mark]))) for mark in form)


def confused(rng: Random, text: str, chance: float) -> str:
    """Replace letters by look-alikes, each with a chance, so that both of a pair are learned in every place."""
    return "".join(
        str(rng.choice(list(CONFUSABLE[letter]))) if letter in CONFUSABLE and rng.random() < chance else letter
        for letter in text
    )


def _split(rng: Random, text: str) -> list[Token]:
    """Part a text in one or two groups with a gap or a dash, or leave it whole."""
    if len(text) < 4 or rng.random() < 0.25:
        return [Token(text=text)]
    at = int(rng.choice([2, 3, 4, len(text) - 1])) if len(text) > 4 else 2
    sign = Token(text="-") if rng.random() < 0.3 else Token(text="", kind="gap")
    return [
        token for token in (Token(text=text[:at]), sign, Token(text=text[at:])) if token.text or token.kind == "gap"
    ]


def _tokens(rng: Random, text: str) -> list[Token]:
    """Return the tokens for a text that the caller chose."""
    return [Token(text=text)] if len(text) != 6 else _split(rng, text)


def _passenger(rng: Random) -> list[Token]:
    """Return 1AAA000, or the form from 2026, 000AAA0; letters often from the confusable ones."""
    often, sides = "BDGIOQSUVZMNW", "BDGSUVZMNW"  # I, O and Q stand only between two other letters
    pool, outer = (often, sides) if rng.random() < 0.3 else (LETTERS, "".join(c for c in LETTERS if c not in "IOQ"))
    letters = "".join(str(rng.choice(list(choice))) for choice in (outer, pool, outer))
    if rng.random() < 0.75:
        return [Token(text=_of_form(rng, "1") + letters + _of_form(rng, "000"))]
    return [Token(text=_of_form(rng, "000") + letters + _of_form(rng, "0"))]


def _passenger_old(rng: Random) -> list[Token]:
    form = str(rng.choice(["AAA000", "000AAA", "1AAA000"], p=[0.4, 0.3, 0.3]))
    text = _of_form(rng, form)
    if len(text) == 7:
        return [Token(text=text)]
    return [Token(text=text[:3]), Token(text="", kind="gap"), Token(text=text[3:])]


def _commercial(rng: Random) -> list[Token]:
    return [Token(text=_of_form(rng, str(rng.choice(["1A00000", "00000A1", "0A0000"]))))]


def _exempt(rng: Random) -> list[Token]:
    return [Token(text=_of_form(rng, str(rng.choice(["1000000", "000000", "100000"]))))]


def _vanity(rng: Random) -> list[Token]:
    """Return a word-like text of 2 to 7 characters with digits in place of letters here and there."""
    onsets, vowels = list("BCDFGHJKLMNPQRSTVWXZ"), list("AEIOUY")
    text = ""
    while len(text) < int(rng.integers(2, 8)):
        text += str(rng.choice(onsets)) + str(rng.choice(vowels))
    text = confused(rng, text[:7], 0.15)
    if rng.random() < 0.3:
        text = (text[:5] + _of_form(rng, "0" * int(rng.integers(1, 3))))[:7]
    return _split(rng, text) if rng.random() < 0.4 else [Token(text=text)]


def _generic(rng: Random) -> list[Token]:
    """Return a text of any US form, some with two stacked small letters."""
    form = str(rng.choice([
        "AAA000", "000AAA", "AAA0000", "0000AAA", "A00000", "00A000", "0A0000", "AA00000", "A000000", "0000A",
        "00000", "000000", "0AA000", "AA0000", "000A00", "AA000A", "XXXXXX", "XXXXXXX", "XXXXX", "0000", "AAA00A",
        "1AAA000",
    ]))  # fmt: skip
    text = _of_form(rng, form)
    if rng.random() < 0.25:
        text = confused(rng, text, 0.5)
    if len(text) <= 6 and rng.random() < 0.22:
        stack = Token(text=_of_form(rng, str(rng.choice(["AA", "00", "AA", "XX"]))), kind="stack")
        return [stack, Token(text=text[:5])] if rng.random() < 0.65 else [Token(text=text[:5]), stack]
    return _split(rng, text)


def _motorcycle(rng: Random) -> list[Token]:
    return [Token(text=_of_form(rng, str(rng.choice(["10A0000", "00A0000", "A00000", "0A0000"]))))]


def _european(rng: Random) -> list[Token]:
    """Return a text of a European form: Dutch groups, German, British, Romanian and the like."""
    form = str(rng.choice([
        "00-AAA-0", "AA-00-AA", "00-AA-AA", "AA-000-A", "0-AAA-00", "00-AA-00", "AAA-00-A", "A-000-AA", "AA00 AAA",
        "A AA 0000", "AA AA 000", "AA-000-AA", "A 00 AAA", "AA 00 AAA", "0000 AAA", "AA 000 AA", "AAA 000", "AAA-000",
    ], p=[0.075] * 8 + [0.04] * 10))  # fmt: skip
    sign = "-" if rng.random() < 0.75 else " "
    tokens: list[Token] = []
    for part in form.replace(" ", "-").split("-"):
        if tokens:
            tokens.append(Token(text="-") if "-" in form and sign == "-" else Token(text="", kind="gap"))
        tokens.append(Token(text=_of_form(rng, part)))
    return tokens


def _two_lines(rng: Random) -> list[Token]:
    """Return a text in two lines, as motorcycles and square plates have."""
    form = str(
        rng.choice(
            ["AA00/AAA", "00/AAA0", "AA/0000", "000/AAA", "AAA/000", "A00/AAA", "AA-00/AA", "0000/AA", "00A/0000"]
        )
    )
    upper, lower = form.split("/")
    tokens = [Token(text=_of_form(rng, part)) for part in upper.split("-")]
    if len(tokens) > 1:
        tokens.insert(1, Token(text="-"))
    return [*tokens, Token(text="", kind="break"), Token(text=_of_form(rng, lower))]


# --- styles --------------------------------------------------------------------------------------------------------

WHITE, BLACK = (240, 240, 238), (22, 20, 18)
SLOTS_FOR_STICKERS = (
    (0.03, 0.05, 0.11, 0.14),
    (0.86, 0.05, 0.11, 0.14),
    (0.03, 0.82, 0.1, 0.14),
    (0.87, 0.82, 0.1, 0.14),
)


def _near(rng: Random, colour: Colour, spread: float = 14) -> Colour:
    """Return a colour a little off the given one."""
    blue, green, red = (int(np.clip(c + rng.normal(0, spread), 0, 255)) for c in colour)
    return blue, green, red


def _stickers(rng: Random, chance: float) -> list[tuple[float, float, float, float]]:
    return [place for place in SLOTS_FOR_STICKERS if rng.random() < chance]


def _die(rng: Random) -> Face:
    """Return a face close to the Californian dies."""
    variants = {"I": int(rng.random() < 0.1), "1": int(rng.random() < 0.1), "4": int(rng.random() < 0.25)}
    return replace(
        glyphs.CALIFORNIAN,
        aspect=float(rng.uniform(0.31, 0.42)),
        weight=float(rng.uniform(0.085, 0.13)),
        roundness=float(rng.uniform(0.7, 1.0)),
        even=bool(rng.random() < 0.6),
        variants=variants,
    )


def _californian(rng: Random, ground: Colour, ink: Colour, heading_ink: Colour, **more: object) -> Style:
    heading = "CALIFORNIA" if rng.random() < 0.5 else "California"
    style = Style(
        ground=_near(rng, ground),
        ink=_near(rng, ink),
        heading_ink=_near(rng, heading_ink),
        heading=heading,
        face=_die(rng),
        area=(0.04, float(rng.uniform(0.25, 0.32)), 0.96, float(rng.uniform(0.74, 0.82))),
        stickers=_stickers(rng, 0.35),
        jurisdiction="US-CA",
    )
    return replace(style, **more)  # type: ignore[arg-type]  # names are checked by replace itself


def _modern(rng: Random) -> Style:
    footer = "dmv.ca.gov" if rng.random() < 0.5 else ""
    return _californian(rng, WHITE, (110, 45, 30), (45, 40, 190), footer=footer)


def _sun(rng: Random) -> Style:
    return _californian(rng, WHITE, (120, 50, 35), (40, 50, 200), decorate=_setting_sun)


def _legacy(rng: Random) -> Style:
    pairs: list[tuple[Colour, Colour]] = [
        ((40, 190, 235), BLACK),
        (BLACK, (50, 190, 235)),
        ((120, 60, 20), (60, 195, 240)),
    ]
    ground, ink = pairs[int(rng.choice(3, p=[0.2, 0.4, 0.4]))]
    return _californian(rng, ground, ink, ink)


def _plain_californian(rng: Random) -> Style:
    return _californian(rng, WHITE, (90, 40, 30), (90, 40, 30), footer=str(rng.choice(["", "EXEMPT", "COMMERCIAL"])))


def _special(rng: Random) -> Style:
    """Return a Californian special design: a picture at the left or all over."""
    blue, green, red = (int(c) for c in rng.integers(150, 256, 3))
    return _californian(rng, (blue, green, red), _dark(rng), _dark(rng), decorate=_picture, footer=_name(rng))


def _bike(rng: Random) -> Style:
    style = _modern(rng) if rng.random() < 0.6 else _legacy(rng)
    return replace(style, size=(270, 160), area=(0.05, 0.3, 0.95, 0.85), footer="")


def _dark(rng: Random) -> Colour:
    shade = rng.integers(0, 110, 3)
    shade[int(rng.integers(3))] += int(rng.integers(0, 90))
    return int(shade[0]), int(shade[1]), int(shade[2])


LEAST_CONTRAST = 75
"""Mean distance of ink and ground in grey levels: plates are made to be read, wear comes later."""


def _us(rng: Random) -> Style:
    """Return a US layout with random colours, graphics, words and font."""
    light, dark = rng.integers(140, 256, 3), np.array(_dark(rng))
    while (light - dark).mean() < LEAST_CONTRAST:
        light, dark = rng.integers(140, 256, 3), np.array(_dark(rng))
    ground, ink = (light, dark) if rng.random() < 0.65 else (dark, light)
    top, bottom = float(rng.uniform(0.14, 0.32)), float(rng.uniform(0.72, 0.9))
    return Style(
        size=(WIDTH, int(rng.integers(145, 172))),
        ground=(int(ground[0]), int(ground[1]), int(ground[2])),
        ink=(int(ink[0]), int(ink[1]), int(ink[2])),
        heading_ink=_dark(rng) if ground is light else None,
        heading=_name(rng) if rng.random() < 0.85 else "",
        footer=_name(rng) if rng.random() < 0.75 else "",
        face=glyphs.random_face(rng) if rng.random() < 0.7 else _die(rng),
        area=(float(rng.uniform(0.03, 0.1)), top, float(rng.uniform(0.9, 0.97)), bottom),
        decorate=_picture if rng.random() < 0.55 else None,
        stickers=_stickers(rng, 0.25),
    )


def _europe(rng: Random) -> Style:
    """Return a European plate: long, or of two-line proportions with one line, yellow or white."""
    yellow = rng.random() < 0.5
    aspect = float(rng.uniform(4.2, 4.9)) if rng.random() < 0.85 else float(rng.uniform(2.2, 3.2))
    face = replace(
        glyphs.random_face(rng),
        aspect=float(rng.uniform(0.4, 0.6)),
        weight=float(rng.uniform(0.11, 0.17)),
        variants={
            "0": 0,
            "O": 1,
            "1": int(rng.integers(1, 3)),
            "I": 1,
            "4": int(rng.integers(2)),
            "6": 1,
            "9": 1,
            "G": 1,
        },
    )
    band = _near(rng, (150, 60, 10)) if rng.random() < 0.8 else None
    return Style(
        size=(WIDTH, round(WIDTH / aspect)),
        ground=_near(rng, (30, 185, 235)) if yellow else _near(rng, WHITE),
        ink=_near(rng, BLACK),
        face=face,
        area=(0.12 if band else 0.04, 0.13, 0.97, 0.87),
        band=band,
    )


def _square(rng: Random) -> Style:
    """Return a two-line plate: European colours or any US ones, nearly square."""
    style = _europe(rng) if rng.random() < 0.6 else replace(_us(rng), heading="", footer="", stickers=())
    size = (240, round(240 / float(rng.uniform(1.15, 1.9))))
    return replace(style, size=size, area=(0.07, 0.08, 0.93, 0.92), band=None)


def _picture(rng: Random, image: Image) -> None:
    """Draw a landscape-like gradient, hills, a disc or stripes: what special plates put behind the characters."""
    height, width = image.shape[:2]
    base = image[0, 0].astype(np.float32)
    other = np.clip(base + rng.normal(0, 45, 3), 0, 255)
    if rng.random() < 0.6:
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** float(rng.uniform(0.5, 2))
        image[:] = (base + (other - base) * ramp).astype(np.uint8)
    for _ in range(int(rng.integers(0, 4))):
        colour = np.clip(base + rng.normal(0, 60, 3), 0, 255).astype(int).tolist()
        kind, at = rng.integers(4), (int(rng.integers(width)), int(rng.integers(height)))
        if kind == 0:
            cv2.circle(image, at, int(rng.integers(8, 50)), colour, -1, cv2.LINE_AA)
        elif kind == 1:
            peaks = [(x, int(height * rng.uniform(0.5, 1.0))) for x in range(0, width + 40, 40)]
            cv2.fillPoly(image, [np.array([(0, height), *peaks, (width, height)], np.int32)], colour, cv2.LINE_AA)
        elif kind == 2:
            tall = int(rng.integers(6, 30))
            cv2.rectangle(image, (0, at[1]), (width, at[1] + tall), colour, -1)
        else:
            axes = (int(rng.integers(8, 40)), int(rng.integers(8, 40)))
            cv2.ellipse(image, at, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)


def _setting_sun(rng: Random, image: Image) -> None:
    """Draw a sun behind the heading, with bars, as the plates of the 1980s had."""
    height, width = image.shape[:2]
    centre, radius = (width // 2, round(height * 0.2)), round(height * rng.uniform(0.15, 0.22))
    cv2.circle(image, centre, radius, (50, 150, 245), -1, cv2.LINE_AA)
    for bar in range(3):
        y = centre[1] + bar * radius // 3
        cv2.line(image, (centre[0] - radius, y), (centre[0] + radius, y), (240, 240, 240), 1)


DESIGNS: Mapping[str, tuple[float, Callable[[Random], Style], Callable[[Random], list[Token]]]] = {
    "california": (3.0, _modern, _passenger),
    "california-sun": (0.8, _sun, _passenger),
    "california-legacy": (1.2, _legacy, _passenger_old),
    "california-commercial": (0.8, _plain_californian, _commercial),
    "california-exempt": (0.5, _plain_californian, _exempt),
    "california-vanity": (1.2, _modern, _vanity),
    "california-special": (0.6, _special, _vanity),
    "california-motorcycle": (0.5, _bike, _motorcycle),
    "us": (3.5, _us, _generic),
    "us-vanity": (1.2, _us, _vanity),
    "european": (2.0, _europe, _european),
    "two-line": (1.2, _square, _two_lines),
}
"""Designs by name: how often each comes up, its style and its texts."""
CALIFORNIAN = tuple(name for name in DESIGNS if name.startswith("california"))
