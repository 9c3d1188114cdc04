"""Plots a training run: `python -m tools.train.plot RUN/log.jsonl --out curves.png`.

Every number that the log's lines hold gets a panel over the steps (or the lines, where there are no steps).
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

ACROSS = "step"
COLUMNS = 3


def series_of(log: Path) -> dict[str, list[tuple[float, float]]]:
    """Return each number of the log by its key, as (step, value).

    Raises:
        OSError: the log cannot be read.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for index, line in enumerate(log.read_text().splitlines()):
        row = json.loads(line)
        at = float(row.get(ACROSS, index))
        for key, value in row.items():
            if key != ACROSS and isinstance(value, int | float) and not isinstance(value, bool):
                series.setdefault(key, []).append((at, float(value)))
    return series


def main() -> None:
    """Plot one log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    series = series_of(arguments.log)
    rows = -(-len(series) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(5 * COLUMNS, 3 * rows), squeeze=False)
    for panel, (key, points) in zip(axes.flat, series.items(), strict=False):
        panel.plot([x for x, _ in points], [y for _, y in points])
        panel.set_title(key)
        panel.grid(visible=True)
    figure.tight_layout()
    figure.savefig(arguments.out)


if __name__ == "__main__":
    main()
