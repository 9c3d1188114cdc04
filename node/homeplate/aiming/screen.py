"""What the terminal shows: a view that is drawn again each second, a line a source and second, or JSON lines."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from homeplate.aiming.advice import Advice, Figures, Seen, advice, figures_of

HOME, CLEAR_LINE, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
BEGIN, END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the terminal's other screen, cursor hidden; and back."""
_MARKS = {True: "ok  ", None: "?   ", False: ">>  "}


def view(seen: Sequence[Seen], note: str | None, *, columns: int, rows: int) -> str:
    """Return what redraws a terminal of `columns` and `rows`."""
    lines = [line for one in seen for line in _block(one)]
    if note:
        lines.append(note)
    lines = [line[: columns - 1] for line in [*lines, "Ctrl-C ends"][: rows - 1]]
    return HOME + "".join(f"{line}{CLEAR_LINE}\r\n" for line in lines) + CLEAR_BELOW


def _block(seen: Seen) -> Iterator[str]:
    yield f"{seen.source}: {_rates(seen)}"
    figures = figures_of(seen)
    if seen.frame is not None:
        yield f"  {_plates(figures)}"
    for one in advice(seen):
        yield f"  {_MARKS[one.enough]}{one.text}"
    if seen.said is not None and seen.frame is not None:
        yield f"  {seen.said}"
    yield ""


def _rates(seen: Seen) -> str:
    size = "no frame yet" if seen.frame is None else f"{seen.frame[0]} x {seen.frame[1]}"
    return f"{size}, {seen.arriving:.1f} frames a second, {seen.looked:.1f} looked at"


def _plates(figures: Figures) -> str:
    if figures.width_px is None or figures.smallest_px is None:
        return "plates: none"
    tilt = "?" if figures.tilt_deg is None else f"{figures.tilt_deg:+.0f}"
    return (
        f"plates: {figures.a_frame:.1f} a frame, score {figures.score:.2f}, {figures.width_px:.0f} px wide (smallest"
        f" {figures.smallest_px:.0f}), tilt {tilt} deg, sharp {figures.sharpness:.2f}, contrast {figures.contrast:.0f}"
    )


def line(seen: Seen) -> str:
    """Return a source's figures and what to change, on one line."""
    wrong = [one.text for one in advice(seen) if not one.enough]
    figures = "" if seen.frame is None else f"; {_plates(figures_of(seen))}"
    return f"{seen.source}: {_rates(seen)}{figures}; {'; '.join(wrong) or 'nothing to change'}"


def as_json(seen: Seen) -> str:
    """Return a source's figures and advice as one line of JSON. Units are in the names; docs/aim.md explains them."""
    figures = {name: _rounded(value) for name, value in asdict(figures_of(seen)).items()}
    document = {
        "source": seen.source,
        "frame_px": seen.frame,
        "arriving_fps": round(seen.arriving, 2),
        "looked_fps": round(seen.looked, 2),
        "plates": {**figures, "cut_off": seen.cut_off, "outside_region": seen.outside},
        "light": None if seen.light is None else {k: _rounded(v) for k, v in asdict(seen.light).items()},
        "advice": [_advice(one) for one in advice(seen)],
        "ended": seen.said,
    }
    return json.dumps(document, sort_keys=True)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _advice(one: Advice) -> dict[str, object]:
    return {"thing": one.thing.value, "enough": one.enough, "text": one.text}
