"""The one figure of the reading report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from tools.reading.gate import Gated
from tools.reading.looks import Look
from tools.reading.measures import PAIRS, Mistakes, calibration_error, reliability, risk_curve, wilson
from tools.reading.places import Named
from tools.reading.tables import MOST_RISK, PLAIN, WEARS, WORN, Judged, exact
from tools.train.reader_data import UNKNOWN

COLOURS: Final = {PLAIN: "#1b7837", WORN: "#b2182b"}
COLOURS_KEPT: Final = 128
FEW: Final = 5
"""Bins of fewer readings are not drawn: their shares say nothing."""
LEAST_COVERAGE: Final = 0.02
"""Below this share accepted the risk is a matter of single plates, and is not drawn."""


def draw(
    path: Path,
    *,
    calibration: Mapping[str, Mapping[str, Judged]],
    risks: Mapping[str, Mapping[str, tuple[Judged, int]]],
    designs: Mapping[str, Mapping[str, Sequence[Look]]],
    states: Mapping[str, Named],
    pairs: Mapping[str, Mistakes],
    drives: Mapping[tuple[str, float], Gated],
) -> None:
    """Draw all panels.

    Args:
        path: where the picture goes.
        calibration: panels of reliability curves by title; each curve by name.
        risks: panels of risk over coverage by title; each curve by name, with the number of plates.
        designs: looks by design and wear.
        states: jurisdictions by wear.
        pairs: mistaken characters by set.
        drives: what the motion gate let through, by scene and share of the light.
    """
    figure, panels = plt.subplots(2, 4, figsize=(18, 9), layout="constrained")
    for panel, (title, curves) in zip(panels[0, :2], calibration.items(), strict=True):
        _reliability(panel, title, curves)
    for panel, (title, lines) in zip(panels[0, 2:], risks.items(), strict=True):
        _risk(panel, title, lines)
    _designs(panels[1, 0], designs)
    _states(panels[1, 1], states)
    _pairs(panels[1, 2], pairs)
    _gate(panels[1, 3], drives)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    # A palette takes a third of the bytes; matplotlib brings Pillow along.
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS_KEPT).save(path, optimize=True)


def _reliability(panel: Axes, title: str, curves: Mapping[str, Judged]) -> None:
    panel.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for (name, (sure, right)), colour in zip(curves.items(), [*COLOURS.values(), "#2166ac", "#e08214"], strict=False):
        bins = reliability(sure, right)
        kept = [one for one in bins if one.count >= FEW]
        x, y = np.array([one.confidence for one in kept]), np.array([one.right for one in kept])
        bounds = np.array([wilson(round(one.right * one.count), one.count) for one in kept]).reshape(-1, 2).T
        label = f"{name} ({len(sure):,}), error {calibration_error(bins):.3f}"
        panel.errorbar(
            x, y, yerr=np.abs(bounds - y), marker="o", markersize=4, capsize=2, color=colour, label=label, linewidth=1.2
        )
    panel.set(title=title, xlabel="confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.2))
    panel.set_yticks(np.arange(0, 1.1, 0.2))
    panel.legend(fontsize=7.5, loc="upper left", handlelength=1.2)
    panel.grid(visible=True, alpha=0.3)


def _risk(panel: Axes, title: str, lines: Mapping[str, tuple[Judged, int]]) -> None:
    colours = dict(zip(dict.fromkeys(name.split(",")[0] for name in lines), mpl.color_sequences["tab10"], strict=False))
    for name, ((sure, right), total) in lines.items():
        coverage, risk = risk_curve(sure, right, total)
        kept = coverage >= LEAST_COVERAGE
        style = "--" if "alike" in name else "-"
        panel.plot(
            coverage[kept], risk[kept], label=name, linewidth=1.4, linestyle=style, color=colours[name.split(",")[0]]
        )
    panel.axhline(MOST_RISK, color="grey", linewidth=1, linestyle=":")
    panel.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    ticks = [0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.set_yticks([], minor=True)
    panel.set(title=title, xlabel="share of plates accepted", ylabel="share wrong of the accepted", xlim=(0, 1.01))
    panel.set_ylim(0, 0.5)
    panel.legend(fontsize=8, loc="upper left")
    panel.grid(visible=True, alpha=0.3)


def _designs(panel: Axes, designs: Mapping[str, Mapping[str, Sequence[Look]]]) -> None:
    rows = np.arange(len(designs))[::-1]
    for wear, shift in zip(WEARS, (0.14, -0.14), strict=True):
        counts = [exact(by_wear[wear]) for by_wear in designs.values()]
        x = np.array([hits / max(1, count) for hits, count in counts])
        bounds = np.array([wilson(hits, count) for hits, count in counts]).T
        panel.errorbar(
            x, rows + shift, xerr=np.abs(bounds - x), fmt="o", capsize=2, markersize=4, color=COLOURS[wear], label=wear
        )
    panel.set_yticks(rows, list(designs), fontsize=9)
    panel.set(title="rendered designs: share read exactly", xlim=(min(0.5, panel.get_xlim()[0]), 1.01))
    panel.legend(fontsize=8, loc="upper left")
    panel.grid(visible=True, alpha=0.3)


def _states(panel: Axes, states: Mapping[str, Named]) -> None:
    for wear, one in states.items():
        names = sorted((name for name in one.there if name != UNKNOWN), key=one.recall, reverse=True)
        x = np.arange(len(names))
        panel.plot(x, [one.recall(name) for name in names], color=COLOURS[wear], label=f"recall, {wear}")
        precise = [one.precision(name) if one.named[name] else np.nan for name in names]
        panel.plot(x, precise, "o", color=COLOURS[wear], markersize=4, alpha=0.5, label=f"precision, {wear}")
    panel.set(title="jurisdictions of held-out US plates", xlabel="states by recall, best first", ylim=(-0.02, 1.02))
    panel.legend(fontsize=8, loc="lower left")
    panel.grid(visible=True, alpha=0.3)


def _pairs(panel: Axes, pairs: Mapping[str, Mistakes]) -> None:
    names = [(a, b) for pair in PAIRS for a, b in (pair, pair[::-1])]
    rows, tall = np.arange(len(names))[::-1], 0.8 / len(pairs)
    for number, (label, one) in enumerate(pairs.items()):
        shares = [one.read_as[key] / max(1, one.there[key[0]]) for key in names]
        panel.barh(rows + 0.4 - tall * (number + 0.5), shares, tall, label=label)
    panel.set_yticks(rows, [f"{true} as {said}" for true, said in names], fontsize=9)
    panel.set(title="hard pairs: share of a character read as the other")
    panel.legend(fontsize=8)
    panel.grid(visible=True, alpha=0.3, axis="x")


def _gate(panel: Axes, drives: Mapping[tuple[str, float], Gated]) -> None:
    scenes, lights = list(dict.fromkeys(name for name, _ in drives)), list(dict.fromkeys(share for _, share in drives))
    rows, tall = np.arange(len(scenes))[::-1], 0.8 / len(lights)
    for number, (share, colour) in enumerate(zip(lights, ("#92c5de", "#2166ac"), strict=True)):
        ones = [drives[name, share] for name in scenes]
        at = rows + 0.4 - tall * (number + 0.5)
        words = "by day" if share == 1 else f"at 1/{round(1 / share)} of the light"
        panel.barh(at, [one.looked / max(1, one.frames) for one in ones], tall, color=colour, label=f"frames, {words}")
        kept = [(one.reported / one.reported_open, row) for row, one in zip(at, ones, strict=True) if one.reported_open]
        panel.plot(*zip(*kept, strict=True), "o", color="#e08214", label="" if number else "cars reported")
    panel.set_yticks(rows, scenes, fontsize=9)
    panel.set(title="motion gate, against one always open", xlim=(0, 1.05))
    panel.legend(fontsize=8, loc="lower right")
    panel.grid(visible=True, alpha=0.3, axis="x")
