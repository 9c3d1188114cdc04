"""Compares the project's reader and fast-alpr, in turns over the same labelled pictures, picture by picture.

  python -m tools.bench_peer [--setup] [--data DIR] [--peer DIR] [--scorer FILE] [--repeat 3] [--limit N]

Each is one process on one thread, both on the same core. Pictures are asked in turns, so that whatever else the machine
does falls on both. Clips are ours alone: the peer has no passages. Prints a table in Markdown (counts, 95 % Wilson
intervals, exact McNemar test) and one JSON line.
Without the pictures, the peer's weights or its environment it says what is missing and measures nothing.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from homeplate.vision.model import default_model_dir
from tools.comparing import (
    MEASURES,
    Engine,
    EngineError,
    Row,
    load_scorer,
    mcnemar,
    our_engine,
    peer_engine,
    peer_files,
    peer_python,
    typical,
    verdicts,
    weights_of,
)
from tools.render.plates import render_plate

SETS: Final = {"us_scenes": "scenes", "california_lots": "scenes", "california_crops": "crops"}
TIMED: Final = "us_scenes"
"""The set whose times are the headline."""
CLIPS: Final = "clips"
TOLL_LANE: Final = Path(__file__).parent / "toll_lane.jsonl"
"""A real clip labelled by eye; plates that stay narrower than the node reads count neither way."""
SHARED: Final = Path("../shared")
CACHE: Final = Path("tools/train/runs/peer")
BUSY_LOAD: Final = 0.5
CROWD: Final = 8
"""Rows and columns of plates in the picture that memory is measured with: 64 of them."""
SAMPLES: Final = 2000

console = Console(stderr=True)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What both read in one set.

    Attributes:
        reads: by engine, one row a picture in the labels' order.
        times: by engine and picture, milliseconds of each repeat.
    """

    kind: str
    labels: list[Row]
    reads: dict[str, list[Row]] = field(default_factory=dict)
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def labels_of(data: Path, name: str, limit: int | None) -> list[Row]:
    """Return a set's labels.

    Raises:
        EngineError: the set is not there.
    """
    file = data / f"eval_{name}.jsonl"
    if not file.is_file():
        raise EngineError(f"{file}: no labels there; name the data with --data")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][:limit]


def run_set(engines: Sequence[Engine], data: Path, name: str, *, repeat: int, limit: int | None) -> Outcome:
    """Ask the engines in turns about each picture of a set; who begins alternates.

    Raises:
        EngineError: the set is missing, or an engine ended.
    """
    outcome = Outcome(kind=SETS[name], labels=labels_of(data, name, limit))
    for number, label in enumerate(track(outcome.labels, description=name, console=console, transient=True)):
        for turn in range(repeat):
            order = engines if (number + turn) % 2 == 0 else engines[::-1]
            for engine in order:
                row = engine.ask(outcome.kind, data / label["path"])
                if turn == 0:
                    outcome.reads.setdefault(engine.name, []).append(row)
                outcome.times.setdefault(engine.name, {}).setdefault(label["path"], []).append(row["milliseconds"])
    return outcome


def compare(scorer: ModuleType, outcome: Outcome, ours: str, peer: str) -> dict[str, Any]:
    """Return a set's rates with intervals, the paired tests and the times."""
    right = {name: verdicts(scorer, outcome.kind, outcome.labels, outcome.reads[name]) for name in (ours, peer)}
    total = {name: getattr(scorer, outcome.kind)(outcome.labels, outcome.reads[name]) for name in (ours, peer)}
    measures = MEASURES[outcome.kind]
    return {
        "pictures": len(outcome.labels),
        "ours": {m: {"right": sum(right[ours][m]), **total[ours][m]} for m in measures},
        "peer": {m: {"right": sum(right[peer][m]), **total[peer][m]} for m in measures},
        "paired": {m: asdict(mcnemar(right[ours][m], right[peer][m])) for m in measures},
        "ours_ms": round(typical(outcome.times[ours]), 3),
        "peer_ms": round(typical(outcome.times[peer]), 3),
        "time_ratio": ratio_interval(outcome.times[ours], outcome.times[peer]),
    }


def ratio_interval(ours: dict[str, list[float]], peer: dict[str, list[float]]) -> dict[str, float]:
    """Return our typical time over the peer's, with a 95 % bootstrap interval over the pictures."""
    pairs = [(statistics.median(ours[path]), statistics.median(peer[path])) for path in ours]
    draw = random.Random(1)
    drawn = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(SAMPLES))
    low, high = drawn[round(0.025 * SAMPLES)], drawn[round(0.975 * SAMPLES) - 1]
    return {"value": round(_ratio(pairs), 4), "low": round(low, 4), "high": round(high, 4)}


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def passages(engine: Engine, scorer: ModuleType, data: Path, labels: Sequence[Row]) -> dict[str, Any]:
    """Return how the passages that our pipeline reports in labelled clips score, and milliseconds a frame.

    Raises:
        EngineError: the engine ended.
    """
    rows = []
    for label in track(labels, description=CLIPS, console=console, transient=True):
        row = engine.ask(CLIPS, data / label["path"])
        small = {scorer.fold(text) for text in label.get("narrower_than_60_px", ())}
        kept = [one for one in row["passages"] if scorer.fold(scorer.plain(one["text"])) not in small]
        rows.append({**row, "passages": kept})
    scored: dict[str, Any] = scorer.clips(labels, rows)
    right = round(scored["recall"]["value"] * scored["recall"]["n"])
    said = scored["precision"]["n"]
    return {
        "passages": scored["recall"]["n"],
        "right": right,
        "false": said - right - scored["repeated"],
        "repeated": scored["repeated"],
        "ms_a_frame": round(statistics.median(row["milliseconds"] for row in rows), 3),
    }


def crowd() -> cv2.typing.MatLike:
    """Draw 64 plates in one picture, [720, 1280, 3], which is the most that memory has to hold for."""
    rng = np.random.default_rng(1)
    picture = np.full((720, 1280, 3), 70, np.uint8)
    for place in range(CROWD * CROWD):
        left, top = 30 + 156 * (place % CROWD), 20 + 88 * (place // CROWD)
        plate = render_plate(rng, design="california").image
        picture[top : top + 52, left : left + 104] = cv2.resize(plate, (104, 52), interpolation=cv2.INTER_AREA)
    return picture


def memory(engines: Sequence[Engine]) -> dict[str, dict[str, float]]:
    """Return each engine's peak resident MB, without and with a picture of 64 plates, and how many it found of them."""
    before = {engine.name: engine.peak_mb for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crowd.png"
        cv2.imwrite(str(path), crowd())
        found = {engine.name: len(engine.ask("scenes", path)["plates"]) for engine in engines}
    return {
        engine.name: {
            "sets_mb": round(before[engine.name], 1),
            "with_64_plates_mb": round(engine.peak_mb, 1),
            "found_of_64": found[engine.name],
        }
        for engine in engines
    }


def sizes(models: Path, peer: Path, detector: str) -> dict[str, int]:
    """Return the bytes of both sides' weights."""
    manifest = json.loads((models / "manifest.json").read_text(encoding="utf-8"))
    ours = sum((models / manifest[part]["file"]).stat().st_size for part in ("detector", "reader"))
    theirs = sum(file.stat().st_size for file in peer_files(peer, detector) if file.suffix == ".onnx")
    return {"ours_bytes": ours, "peer_bytes": theirs}


def table(compared: dict[str, dict[str, Any]], report: dict[str, Any]) -> str:
    """Return the comparison in Markdown."""
    lines = [
        "| set | measure | homeplate | fast-alpr | only homeplate / only fast-alpr right | p |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in compared.items():
        for measure, paired in one["paired"].items():
            mine, theirs = (_share(one[side][measure]) for side in ("ours", "peer"))
            split = f"{paired['only_ours']} / {paired['only_peer']}"
            lines.append(
                f"| {name} ({one['pictures']}) | {measure} | {mine} | {theirs} | {split} | {paired['p']:.3g} |"
            )
        ratio = one["time_ratio"]
        spread = f"ratio {ratio['value']:.3f} ({ratio['low']:.3f}-{ratio['high']:.3f})"
        lines.append(f"| {name} | ms a picture | {one['ours_ms']:.2f} | {one['peer_ms']:.2f} | {spread} | |")
    for name, one in report["clips"].items():
        said = f"{one['right']} of {one['passages']} passages, {one['false']} false, {one['repeated']} repeated"
        lines.append(f"| {name} | passages | {said}, {one['ms_a_frame']:.1f} ms a frame | | | |")
    for key in ("sets_mb", "with_64_plates_mb"):
        mine, theirs = (report["memory"][side][key] for side in ("homeplate", "fast-alpr"))
        lines.append(f"| memory | {key} | {mine:.0f} | {theirs:.0f} | ratio {mine / max(1, theirs):.2f} | |")
    mine, theirs = (report["sizes"][f"{side}_bytes"] / 1e6 for side in ("ours", "peer"))
    lines.append(f"| weights | MB | {mine:.2f} | {theirs:.2f} | ratio {mine / theirs:.2f} | |")
    return "\n".join(lines)


def _share(rate: dict[str, Any]) -> str:
    return f"{rate['right']}/{rate['n']} = {rate['value']:.3f} ({rate['low']:.3f}-{rate['high']:.3f})"


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return the report.

    Raises:
        EngineError: something that it needs is missing.
    """
    scorer, models = load_scorer(given.scorer), given.models or default_model_dir()
    for name in given.sets:
        labels_of(given.data, name, 1)
    weights = sizes(models, given.peer, given.detector)
    python = peer_python(given.peer_python, given.cache, setup=given.setup)
    load = os.getloadavg()[0]
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    engines = [our_engine(given.models, core), peer_engine(python, given.peer, given.detector, core)]
    try:
        for engine in engines:  # the first inference sets buffers up
            engine.ask(SETS[given.sets[0]], given.data / labels_of(given.data, given.sets[0], 1)[0]["path"])
        outcomes = {
            name: run_set(engines, given.data, name, repeat=given.repeat, limit=given.limit) for name in given.sets
        }
        used = memory(engines)
    finally:
        for engine in engines:
            engine.close()
    followed = follow(given, scorer, core)
    compared = {name: compare(scorer, one, *(engine.name for engine in engines)) for name, one in outcomes.items()}
    return {
        "compared": compared,
        "clips": followed,
        "memory": used,
        "sizes": weights,
        "load": round(load, 2),
        "weights": weights_of(models),
    }


def follow(given: argparse.Namespace, scorer: ModuleType, core: int | None) -> dict[str, dict[str, Any]]:
    """Score the clips in a process of their own, so that the others' memory says nothing of video.

    Raises:
        EngineError: the labels are missing, or the engine ended.
    """
    labels = {
        CLIPS: labels_of(given.data, CLIPS, given.limit),
        "toll_lane": [json.loads(line) for line in TOLL_LANE.read_text(encoding="utf-8").splitlines()],
    }
    engine = our_engine(given.models, core)
    try:
        return {name: passages(engine, scorer, given.data, rows) for name, rows in labels.items()}
    finally:
        engine.close()


def last_line(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a program wants of the report; the headline times are of one set."""
    compared = report["compared"]
    timed = compared.get(TIMED, next(iter(compared.values())))
    accuracies = {
        name: {side: {m: rate["value"] for m, rate in one[side].items()} for side in ("ours", "peer")}
        for name, one in compared.items()
    }
    return {
        "time_ratio": timed["time_ratio"]["value"],
        "ours_ms": timed["ours_ms"],
        "peer_ms": timed["peer_ms"],
        "idle": report["load"] < BUSY_LOAD,
        "accuracies": accuracies,
        "sets": {name: one["pictures"] for name, one in compared.items()},
        "sizes": report["sizes"],
        **{key: report[key] for key in ("clips", "memory", "load", "weights", "compared")},
    }


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder with eval/ and its labels")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--scorer", type=Path, default=SHARED / "eval/score.py")
    parser.add_argument("--models", type=Path, default=None, help="the project's own by default")
    parser.add_argument("--peer", type=Path, default=SHARED / "peers", help="folder of the peer's weights")
    parser.add_argument("--peer-python", type=Path, default=None, help="interpreter that has fast-alpr")
    parser.add_argument("--detector", choices=("fp32", "int8"), default="fp32", help="which of the peer's detectors")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where --setup makes the peer's environment")
    parser.add_argument("--setup", action="store_true", help="make the peer's environment where it is missing")
    parser.add_argument("--repeat", type=int, default=3, help="times that each picture is read by each")
    parser.add_argument("--limit", type=int, default=None, help="only the first pictures of each set")
    return parser.parse_args(words)


def main() -> int:
    """Compare, or say why not."""
    try:
        report = measure(parsed(sys.argv[1:]))
    except EngineError as error:
        print(json.dumps({"skipped": str(error)}))
        return 0
    print(table(report["compared"], report))
    if report["load"] >= BUSY_LOAD:
        print(f"\nThe machine was busy (load {report['load']}): the ratio of times holds better than the times.")
    print(json.dumps(last_line(report)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
