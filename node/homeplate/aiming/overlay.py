"""Draws on a preview's picture, after its plates are black: where plates are, the region, the figures."""

from collections.abc import Iterator

import cv2
import numpy as np

from homeplate.aiming.advice import Seen, advice, figures_of
from homeplate.aiming.blackout import Shot
from homeplate.domain.source import Polygon

GOOD, BAD, PLAIN, GROUND = (80, 220, 80), (60, 60, 240), (230, 230, 230), (0, 0, 0)
FONT, SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.35
LINE, MARGIN = 13, 4
"""Pixels from one line of text to the next, and beside it."""
MOST_ADVICE = 2
"""Of what has to be changed, what comes first: each takes a line or two of a small picture."""


def draw(shot: Shot, seen: Seen, region: Polygon | None) -> None:
    """Draw on a picture, in place.

    Args:
        shot: the picture, its plates black already.
        seen: what was seen of its source lately.
        region: of the source, as fractions of the picture.
    """
    height, width = shot.image.shape[:2]
    if region is not None:
        corners = np.array([(x * (width - 1), y * (height - 1)) for x, y in region])
        cv2.polylines(shot.image, [np.rint(corners).astype(np.int32)], isClosed=True, color=PLAIN)
    for box, wide_enough in shot.shown:
        low, high = (round(box.left), round(box.top)), (round(box.right), round(box.bottom))
        cv2.rectangle(shot.image, low, high, GOOD if wide_enough else BAD)
    for number, (text, colour) in enumerate(lines_of(seen, width)[: height // LINE], start=1):
        # On a ground of its own: an outline alone leaves light text on a light sky.
        right = 2 * MARGIN + cv2.getTextSize(text, FONT, SCALE, 1)[0][0]
        shot.image[LINE * (number - 1) + MARGIN : LINE * number + MARGIN, :right] = GROUND
        cv2.putText(shot.image, text, (MARGIN, LINE * number), FONT, SCALE, colour, 1, cv2.LINE_AA)


def lines_of(seen: Seen, width: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Return what is written on a picture of `width` pixels, a line at a time, and in which colour."""
    figures, light = figures_of(seen), seen.light
    wide, sharp = _shown(figures.width_px, ".0f"), _shown(figures.sharpness, ".2f")
    tilt = "?" if figures.tilt_deg is None else f"{round(figures.tilt_deg):+d} deg"
    exposure = "?"
    if light is not None:
        exposure = f"mean {light.mean:.0f} of 255, white {100 * light.white:.0f} %, black {100 * light.black:.0f} %"
    texts = [(f"plates: {wide} px wide, tilt {tilt}, sharpness {sharp}", PLAIN), (f"exposure: {exposure}", PLAIN)]
    texts += [(one.text, BAD) for one in advice(seen) if not one.enough][:MOST_ADVICE]
    return [(line, colour) for text, colour in texts for line in _wrapped(text, width - 2 * MARGIN)]


def _shown(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Yield a text in lines of `width` pixels at most; a word that is wider stands alone."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and cv2.getTextSize(longer, FONT, SCALE, 1)[0][0] > width:
            yield line
            longer = word
        line = longer
    yield line
