"""Measures how reading holds under blur, noise, low light, JPEG, rain, tilt and distance, beside fast-alpr where it is.

  python -m tools.robustness [--set us_scenes] [--no-peer] [--out models/robustness.md] [--plot models/robustness.png]

Every labelled picture is spoiled one condition and level at a time (`tools.conditions`), read by both, and judged by
the scorer. What each engine read is kept in the cache under the hash of its weights, of our code and of the conditions,
so that a run goes on where it was stopped and the peer is asked once. It is run to report; nothing may be tuned on it.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.progress import track

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from homeplate import vision
from homeplate.vision.model import default_model_dir
from tools import conditions
from tools.bench_peer import CACHE, SHARED, labels_of
from tools.comparing import (
    Engine,
    EngineError,
    Row,
    load_scorer,
    mcnemar,
    our_engine,
    peer_engine,
    peer_files,
    peer_python,
    verdicts,
    weights_of,
)
from tools.conditions import CONDITIONS, Condition
from tools.evaluate import picture_of

CLEAN = "as published"
Case = tuple[str, float]
"""A condition's name and level."""
COLOURS = {"homeplate": "#1b7837", "fast-alpr": "#b2182b"}
MOST_BYTES = 200_000

console = Console(stderr=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiled:
    """A picture under a condition, as a file that both engines read.

    Attributes:
        key: condition, level and picture, as what was read is kept under.
        label: the scorer's, with the box as it lies there.
    """

    key: str
    case: Case
    label: Row
    file: Path


def cases() -> list[Case]:
    """Return every condition at every level, the untouched picture first."""
    return [(CLEAN, 0.0), *((one.name, level) for one in CONDITIONS for level in one.levels)]


def spoiled(data: Path, labels: Sequence[Row], folder: Path) -> Iterator[Spoiled]:
    """Yield each picture under each condition; a file lives until the next one is asked for.

    Raises:
        ValueError: a picture is missing or no picture.
    """
    by_name = {one.name: one for one in CONDITIONS}
    for label in labels:
        picture = picture_of(data / label["path"])
        for name, level in cases():
            key = f"{name}/{level:g}/{label['path']}"
            box, shown = tuple(label["boxes"][0]), picture
            if name != CLEAN:
                random = np.random.default_rng(zlib.crc32(key.encode()))
                shown, box = by_name[name].apply(picture, box, level, random)
            file = folder / Path(label["path"]).parent.name / Path(label["path"]).with_suffix(".bmp").name
            file.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(file), shown)
            yield Spoiled(key=key, case=(name, level), label={**label, "path": str(file), "boxes": [box]}, file=file)


class Kept:
    """What an engine read so far, as lines of JSON that survive a stop."""

    def __init__(self, engine: Engine, file: Path) -> None:
        self.engine, self._file = engine, file
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        self._rows = {row["key"]: row for row in map(json.loads, lines)}

    def read(self, one: Spoiled) -> Row:
        """Return what the engine reads, asked once.

        Raises:
            EngineError: it ended.
        """
        if one.key not in self._rows:
            row = {"key": one.key, **self.engine.ask("scenes", one.file)}
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
            self._rows[one.key] = row
        return {**self._rows[one.key], "image": str(one.file)}


def fingerprint(files: Sequence[Path]) -> str:
    """Return a short hash over files' bytes."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


Judged = dict[str, dict[Case, dict[str, list[bool]]]]
"""By engine, case and measure: whether each picture counts as right."""


def judge(scorer: ModuleType, kept: Sequence[Kept], pictures: Iterator[Spoiled]) -> Judged:
    """Let the engines read and the scorer judge every spoiled picture."""
    judged: Judged = {one.engine.name: {case: {} for case in cases()} for one in kept}
    for picture in pictures:
        for one in kept:
            right = verdicts(scorer, "scenes", [picture.label], [one.read(picture)])
            for measure, values in right.items():
                judged[one.engine.name][picture.case].setdefault(measure, []).extend(values)
    return judged


# --- the report ----------------------------------------------------------------------------------------------------


def table(judged: Judged, name: str) -> str:
    """Return the report's Markdown."""
    engines = list(judged)
    head = [f"{what}, {engine}" for what in ("exact", "found") for engine in engines]
    lines = [f"| {name} | {' | '.join(head)} | p (exact) |", "|---" * (len(head) + 2) + "|"]
    for case in cases():
        cells = [_share(judged[engine][case][measure]) for measure in ("exact", "found_iou50") for engine in engines]
        p = ""
        if len(engines) == 2:
            p = f"{mcnemar(*(judged[engine][case]['exact'] for engine in engines)).p:.2g}"
        lines.append(f"| {_named(case)} | {' | '.join(cells)} | {p} |")
    return "\n".join(lines)


def _share(right: Sequence[bool]) -> str:
    return f"{sum(right)} ({sum(right) / len(right):.2f})"


def _named(case: Case) -> str:
    name, level = case
    return name if name == CLEAN else f"{name} {_level(level)}"


def _level(level: float) -> str:
    return f"1/{round(1 / level)}" if level < 1 else f"{level:g}"


def report(judged: Judged, name: str, plot: Path, out: Path, weights: str) -> str:
    """Return the whole page."""
    pictures = len(next(iter(judged.values()))[CLEAN, 0.0]["exact"])
    units = "; ".join(f"{one.name}: {one.unit}" for one in CONDITIONS)
    return (
        f"# How reading holds under bad conditions\n\n"
        f"{pictures} pictures of `{name}`, each spoiled one condition at a time; made by `python -m tools.robustness`, "
        f"to report and never to choose by.\nCounts of {pictures} (and shares); exact: every character of the labelled "
        f"plate is right; found: a box with an intersection over union of at least 0.5.\n"
        f"p: exact McNemar test on `exact`. Levels: {units}.\n"
        f"Weights: {weights}. The found box of a tilted plate is judged against the box around the turned label.\n\n"
        f"![share of plates read exactly, by condition]({os.path.relpath(plot, out.parent)})\n\n{table(judged, name)}\n"
    )


def draw(scorer: ModuleType, judged: Judged, path: Path) -> None:
    """Plot the share read exactly by condition, with 95 % Wilson intervals."""
    figure, panels = plt.subplots(2, 4, figsize=(14, 6), sharey=True, layout="constrained")
    for panel, condition in zip(panels.flat, CONDITIONS, strict=False):
        _panel(scorer, judged, panel, condition)
    legend = panels.flat[-1]
    legend.axis("off")
    legend.legend(*panels.flat[0].get_legend_handles_labels(), loc="center", frameon=False)
    figure.supylabel("share of plates read exactly")
    figure.savefig(path, dpi=80)
    plt.close(figure)
    if path.stat().st_size > MOST_BYTES:
        raise EngineError(f"{path}: {path.stat().st_size} bytes are too many for a repository; lower the resolution")


def _panel(scorer: ModuleType, judged: Judged, panel: Axes, condition: Condition) -> None:
    along: list[Case] = [(condition.name, level) for level in condition.levels]
    names = [_level(level) for level in condition.levels]
    if condition.name != "plate width":
        along, names = [(CLEAN, 0.0), *along], ["none", *names]
    for engine, by_case in judged.items():
        rates = [scorer.rate(sum(by_case[case]["exact"]), len(by_case[case]["exact"])) for case in along]
        middle = np.array([rate["value"] for rate in rates])
        reach = np.abs(np.array([[rate["low"], rate["high"]] for rate in rates]).T - middle)
        panel.errorbar(
            range(len(along)), middle, yerr=reach, marker="o", capsize=3, color=COLOURS[engine], label=engine
        )
    panel.set_xticks(range(len(along)), names)
    panel.set_title(condition.name)
    panel.set_xlabel(condition.unit, fontsize=8)
    panel.set_ylim(0, 1.02)
    panel.grid(visible=True, alpha=0.3)


def engines_of(given: argparse.Namespace) -> list[Kept]:
    """Start the engines with what they read before.

    Raises:
        EngineError: one cannot be had.
    """
    given.cache.mkdir(parents=True, exist_ok=True)
    models, tag = given.models or default_model_dir(), fingerprint([Path(conditions.__file__)])
    code = sorted(Path(vision.__file__).parent.glob("*.py"))
    ours = fingerprint([models / "manifest.json", *code])
    kept = [Kept(our_engine(given.models, None), given.cache / f"robust-{given.set}-{tag}-homeplate-{ours}.jsonl")]
    if not given.no_peer:
        python = peer_python(given.peer_python, given.cache, setup=given.setup)
        theirs = fingerprint(peer_files(given.peer, "fp32"))
        file = given.cache / f"robust-{given.set}-{tag}-fast-alpr-{theirs}.jsonl"
        kept.append(Kept(peer_engine(python, given.peer, "fp32", None), file))
    return kept


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder with eval/ and its labels")
    parser.add_argument("--set", default="us_scenes", help="a set of labelled scenes, as in eval_SET.jsonl")
    parser.add_argument("--scorer", type=Path, default=SHARED / "eval/score.py")
    parser.add_argument("--models", type=Path, default=None, help="the project's own by default")
    parser.add_argument("--no-peer", action="store_true", help="only the project's reader")
    parser.add_argument("--peer", type=Path, default=SHARED / "peers", help="folder of the peer's weights")
    parser.add_argument("--peer-python", type=Path, default=None, help="interpreter that has fast-alpr")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--setup", action="store_true", help="make the peer's environment where it is missing")
    parser.add_argument("--limit", type=int, default=None, help="only the first pictures")
    parser.add_argument("--out", type=Path, default=Path("models/robustness.md"))
    parser.add_argument("--plot", type=Path, default=Path("models/robustness.png"))
    return parser.parse_args(words)


def main() -> int:
    """Measure, or say what is missing."""
    given = parsed(sys.argv[1:])
    try:
        scorer, labels = load_scorer(given.scorer), labels_of(given.data, given.set, given.limit)
        kept = engines_of(given)
        with tempfile.TemporaryDirectory() as folder:
            pictures = spoiled(given.data, labels, Path(folder))
            total = len(labels) * len(cases())
            shown = track(pictures, total=total, description=given.set, console=console, transient=True)
            judged = judge(scorer, kept, iter(shown))
        for one in kept:
            one.engine.close()
        draw(scorer, judged, given.plot)
    except (EngineError, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 1
    given.out.write_text(
        report(judged, given.set, given.plot, given.out, weights_of(given.models or default_model_dir())),
        encoding="utf-8",
    )
    print(table(judged, given.set))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
