"""Draws on a preview's picture, after its plates are black: where plates are, the region, the figures."""

import cv2
import numpy as np

from homeplate.aiming.advice import Seen, advice, figures_of
from homeplate.aiming.blackout import Shot
from homeplate.domain.source import Polygon

GOOD, BAD, PLAIN, GROUND = (80, 220, 80), (60, 60, 240), (230, 230, 230), (0, 0, 0)
LINE = 13
"""Pixels from one line of text to the next."""
MOST_CHARACTERS = 78
"""Characters of a line that fit into the preview's width."""


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
    figures = figures_of(seen)
    if figures.width_px is not None and figures.sharpness is not None:
        tilt = "" if figures.tilt_deg is None else f", tilt {figures.tilt_deg:+.0f} deg"
        _write(shot, f"plates {figures.width_px:.0f} px, sharp {figures.sharpness:.2f}{tilt}", 1, PLAIN)
    wrong = [one.text for one in advice(seen) if not one.enough]
    for number, text in enumerate(wrong[:2], start=2):
        _write(shot, text, number, BAD)


def _write(shot: Shot, text: str, line: int, colour: tuple[int, int, int]) -> None:
    at = (4, LINE * line)
    for thick, ink in ((3, GROUND), (1, colour)):
        cv2.putText(shot.image, text[:MOST_CHARACTERS], at, cv2.FONT_HERSHEY_SIMPLEX, 0.35, ink, thick, cv2.LINE_AA)
