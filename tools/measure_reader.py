"""Measures what the reader's and the votes' words are worth, on held-out and rendered plates, and what the gate costs.

  python -m tools.measure_reader --data ../shared/data [--models DIR] [--out models]

Calibration, jurisdictions, designs, hard pairs, risk against coverage with the bar that it suggests, and the motion
gate; `reading.md` and `reading.png` go to the folder OUT, the key figures to the standard output as one JSON line.
Everything is on the held-out fifth of the training pictures or on rendered plates, so a choice may be made on it; the
real clips and Californian crops are the exceptions, only reported. Seeds are fixed: two runs differ by the models, and
by the times.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import cv2
from rich.console import Console
from rich.progress import track

from homeplate.ports import PlateReader
from homeplate.vision import open_models
from homeplate.vision.model import default_model_dir
from tools.comparing import weights_of
from tools.reading import gate, looks, tables, votes
from tools.reading.looks import Look
from tools.reading.report import Report
from tools.reading.tables import OTHER, PLAIN, US, WEARS, WORN
from tools.reading.votes import COUNTS, HOW, Passed, Seen
from tools.render.plates import DESIGNS
from tools.train.reader_data import Sample
from tools.train.split import held_out_paths

T = TypeVar("T")
Designs = dict[str, dict[str, list[Look]]]
Passages = dict[tuple[str, int], list[Passed]]
EXPONENTS: Final = (0.0, 0.1, 0.25, 0.5)
"""Exponents of `voting.INDEPENDENCE` that are compared."""
LIGHT_NAMES: Final = {share: f"1/{round(1 / share)} of the light" for share in gate.LIGHTS} | {1.0: "day"}

console = Console(stderr=True)


def shown(things: Iterable[T], what: str) -> Iterable[T]:
    """Show progress."""
    listed = list(things)
    return track(listed, description=what, console=console, transient=True)


def by_parts(samples: Sequence[Sample], what: str) -> Iterable[Sequence[Sample]]:
    """Yield samples in parts, with progress."""
    return shown([samples[start : start + 64] for start in range(0, len(samples), 64)], what)


def both_wears(reader: PlateReader, samples: Sequence[Sample], seed: int, what: str) -> dict[str, list[Look]]:
    """Read samples plain and worn."""
    found: dict[str, list[Look]] = {wear: [] for wear in WEARS}
    for number, part in enumerate(by_parts(samples, what)):
        found[PLAIN] += looks.plain(reader, part)
        found[WORN] += looks.worn(reader, part, seed * 1000 + number)
    return found


def read_designs(reader: PlateReader, count: int) -> Designs:
    """Render and read every design."""
    return {
        design: both_wears(reader, looks.rendered_samples(design, count), 100 + place, design)
        for place, design in enumerate(DESIGNS)
    }


def passages_of(seen: dict[str, list[Seen]]) -> Passages:
    """Vote on the first looks at each plate."""
    return {(how, count): votes.passages(plates, count) for how, plates in seen.items() for count in COUNTS}


def other_votes(seen: dict[str, list[Seen]]) -> dict[str, tables.Rule]:
    """Vote with other exponents of the readings' number, and say what each makes of the confidence."""
    found = {}
    for exponent in shown(EXPONENTS, "other votes"):
        with votes.independence(exponent):
            passages = passages_of(seen)
        found[f"{exponent:g}"] = tables.rule(passages, len(seen[HOW[0]]), lambda passed: passed.vote.confidence)
    return found


def measured(given: argparse.Namespace) -> Report:
    """Measure everything."""
    detector, reader = open_models(given.models, threads=1)
    with console.status("held-out plates"):
        samples = looks.held_out_samples(given.data, held_out_paths(given.data, given.cache))
    us = [sample for sample in samples if sample.source == "read"]
    other = [sample for sample in samples if sample.source != "read"]
    held_out = {US: both_wears(reader, us, 1, US), OTHER: both_wears(reader, other, 2, OTHER)}
    known = [sample for sample in us if sample.text]
    seen = {how: votes.sightings(reader, known, how, shown) for how in HOW}
    clips, crops = ((given.data / f"eval_{name}.jsonl").is_file() for name in ("clips", "california_crops"))
    return Report(
        held_out=held_out,
        designs=read_designs(reader, given.plates),
        passages=passages_of(seen),
        others=other_votes(seen),
        drives=gate.drives((detector, reader), shown),
        clips=gate.clips(given.data, (detector, reader), shown) if clips else {},
        real=looks.plain(reader, looks.californian_crops(given.data)) if crops else (),
        weights=weights_of(given.models),
    )


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with read/, detect/ and eval/clips")
    parser.add_argument("--models", type=Path, default=default_model_dir())
    parser.add_argument("--out", type=Path, default=Path("models"), help="folder of reading.md and reading.png")
    parser.add_argument("--cache", type=Path, default=Path("tools/train/runs/split.json"), help="the split, kept")
    parser.add_argument("--plates", type=int, default=250, help="rendered plates of a design")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    report = measured(given)
    plot = given.out / "reading.png"
    report.draw(plot)
    (given.out / "reading.md").write_text(report.page(plot.name) + "\n", encoding="utf-8")
    print(json.dumps(report.figures()))


if __name__ == "__main__":
    main()
