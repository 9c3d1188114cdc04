"""Counts the instructions that a picture takes on emulated Raspberry Pi processors, for Homeplate and for fast-alpr.

  python -m tools.instructions [--setup] [--pictures 26] [--peer DIR] [--data DIR] [--detector FILE...] [--out FILE]

Both read whole pictures as they always do (`tools.serve_homeplate`, `tools.serve_fast_alpr`), one thread, in
`qemu-system-aarch64 -icount shift=0`, whose clock counts instructions; each network is counted alone too, the least of
three runs. `--detector` counts further files of the detector alone and estimates a picture with each of them.
Prints a table in Markdown, which `--out` keeps, and one JSON line. What the peer takes is kept in the cache under the
hash of all that it depends on. Without what it needs it says what is missing and measures nothing.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from homeplate.vision.model import default_model_dir
from tools.bench_peer import SHARED, TIMED, labels_of
from tools.comparing import EngineError, Row, peer_files, weights_of
from tools.emulated.machine import CACHE, PROCESSORS, Task, model_files, ready, run

REPEATS = 3
FLOOR, GOAL = 1 / 4, 1 / 8
MILLION = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Instructions of one engine on one processor.

    Attributes:
        detector: of the detector's network, a picture.
        reader: of the reader's network, a plate.
        pictures: of all that is done with each picture, decoding left out.
        plates: plates that it read in each picture.
    """

    detector: int
    reader: int
    pictures: tuple[int, ...]
    plates: tuple[int, ...]

    @property
    def picture(self) -> float:
        """The mean over the pictures."""
        return sum(self.pictures) / len(self.pictures)


def whole_pictures(lines: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the least count of each picture and the plates in it, in the order of the questions.

    Args:
        lines: answers of `tools.serving`; a nanosecond is an instruction.
    """
    least: dict[str, int] = {}
    plates: dict[str, int] = {}
    for row in map(json.loads, lines):
        count = round(row["milliseconds"] * MILLION)
        least[row["image"]] = min(count, least.get(row["image"], count))
        plates[row["image"]] = len(row["plates"])
    return {"pictures": tuple(least.values()), "plates": tuple(plates.values())}


def alone(lines: Sequence[str]) -> dict[str, int]:
    """Return what each network's file takes alone."""
    return {row["file"]: row["count"] for row in map(json.loads, lines)}


def questions(pictures: Mapping[str, bytes]) -> str:
    """Return what the engines are asked: every picture once, the first one until nothing is new to the engine."""
    asked = [json.dumps({"kind": "scenes", "path": f"/task/{name}"}) for name in pictures]
    return "".join(f"{question}\n" for question in [asked[0]] * (REPEATS - 1) + asked)


def chosen(data: Path, number: int) -> dict[str, bytes]:
    """Return pictures spread evenly over the set whose times are the headline elsewhere too, by name.

    Raises:
        EngineError: the set is not there.
    """
    labels: list[Row] = labels_of(data, TIMED, None)
    rows = [labels[place * len(labels) // number] for place in range(number)]
    return {f"pictures/{Path(row['path']).name}": (data / row["path"]).read_bytes() for row in rows}


def ours(
    processor: str, models: Path, detectors: Sequence[Path], pictures: Mapping[str, bytes], cache: Path
) -> tuple[Counts, list[int]]:
    """Count Homeplate with the models of a folder, and other detectors alone.

    Raises:
        EngineError: the emulated machine failed.
    """
    names = model_files(models)
    files = {f"models/{name}": (models / name).read_bytes() for name in names}
    others = {f"other{number}.onnx": file.read_bytes() for number, file in enumerate(detectors)}
    networks = [*(f"models/{name}" for name in names[1:]), *others]
    tasks = [
        Task(name="networks", words=["-m", "tools.emulated.networks", *networks]),
        Task(name="whole", words=["-m", "tools.serve_homeplate", "--models", "models"], input=questions(pictures)),
    ]
    printed = run(processor, tasks, {**files, **others, **pictures}, cache)
    detector, reader, *rest = alone(printed["networks"]).values()
    return Counts(detector=detector, reader=reader, **whole_pictures(printed["whole"])), rest


def theirs(processor: str, files: Sequence[Path], pictures: Mapping[str, bytes], cache: Path) -> Counts:
    """Count fast-alpr, once for the same files, pictures, packages and processor.

    Raises:
        EngineError: the emulated machine failed.
    """
    contents = {file.name: file.read_bytes() for file in files}
    digest = hashlib.sha256(processor.encode())
    for content in (*contents.values(), *pictures.values(), (cache / "packages.json").read_bytes()):
        digest.update(hashlib.sha256(content).digest())
    kept = cache / f"peer-{digest.hexdigest()[:16]}.json"
    if kept.is_file():
        return msgspec.json.decode(kept.read_bytes(), type=Counts)
    detector, reader, config = contents
    words = ["-m", "tools.serve_fast_alpr", f"--detector={detector}", f"--reader={reader}", f"--config={config}"]
    tasks = [
        Task(name="networks", words=["-m", "tools.emulated.networks", detector, reader]),
        Task(name="whole", words=words, input=questions(pictures)),
    ]
    printed = run(processor, tasks, {**contents, **pictures}, cache)
    networks = alone(printed["networks"])
    counts = Counts(detector=networks[detector], reader=networks[reader], **whole_pictures(printed["whole"]))
    kept.write_bytes(msgspec.json.encode(counts))
    return counts


Measured = dict[str, tuple[Counts, Counts]]
"""By processor: ours and the peer's."""


def table(measured: Measured) -> str:
    """Return the counts in millions, in Markdown."""
    lines = ["| processor | million instructions of | homeplate | fast-alpr | ratio |", "|---|---|---|---|---|"]
    for processor, (mine, peer) in measured.items():
        place = f"{processor} ({PROCESSORS[processor]})"
        for what, a, b in (
            ("a whole picture", mine.picture, peer.picture),
            ("the detector's network, a picture", mine.detector, peer.detector),
            ("the reader's network, a plate", mine.reader, peer.reader),
        ):
            lines.append(f"| {place} | {what} | {a / MILLION:.1f} | {b / MILLION:.1f} | {a / b:.3f} |")
            place = ""
    return "\n".join(lines)


def estimates(measured: Measured, others: Mapping[str, Mapping[str, int]]) -> str:
    """Return what a picture would take with other detectors, by processor and file, in Markdown."""
    lines = ["| processor | detector | alone | a whole picture, estimated | ratio |", "|---|---|---|---|---|"]
    for processor, counts in others.items():
        mine, peer = measured[processor]
        for name, count in counts.items():
            whole = mine.picture - mine.detector + count
            numbers = f"{count / MILLION:.1f} | {whole / MILLION:.1f} | {whole / peer.picture:.3f}"
            lines.append(f"| {processor} | {name} | {numbers} |")
    return "\n".join(lines)


def report(measured: Measured, packages: Mapping[str, str], weights: str) -> str:
    """Return the page that is kept beside the models."""
    ratios = {processor: mine.picture / peer.picture for processor, (mine, peer) in measured.items()}
    met = ", ".join(f"{name} {ratio:.3f} ({verdict(ratio)})" for name, ratio in ratios.items())
    mine, peer = next(iter(measured.values()))
    return f"""# Instructions a picture on a Raspberry Pi's processors

Counted by `python -m tools.instructions` in an emulated machine whose clock counts instructions; no Raspberry Pi was
timed. One thread. A whole picture is all but decoding: scaling, the detector, the crops, the reader; it is the mean of
{len(mine.pictures)} of the benchmark's street scenes, in which Homeplate took {sum(mine.plates)} places for plates and
fast-alpr {sum(peer.plates)}. An unsure plate is looked at more than once. fast-alpr runs its fp32 detector and its
default reader. Instructions are not time: caches, memory and how many instructions a cycle takes differ by processor
and by network.

{table(measured)}

A whole picture, beside fast-alpr: {met}. The floor is {FLOOR:g}, the goal {GOAL:g}.

Models: {weights}. {", ".join(f"{name} {version}" for name, version in packages.items())}.
"""


def verdict(ratio: float) -> str:
    """Return in words which bar a ratio reaches."""
    if ratio <= GOAL:
        return "the goal is met"
    return "the floor is met" if ratio <= FLOOR else "the floor is missed"


def last_line(measured: Measured, others: Mapping[str, Mapping[str, int]], weights: str) -> dict[str, Any]:
    """Return what a program wants of the report."""
    return {
        "ratios": {name: round(mine.picture / peer.picture, 4) for name, (mine, peer) in measured.items()},
        "floor": FLOOR,
        "goal": GOAL,
        "instructions": {
            name: {"homeplate": asdict(mine), "fast-alpr": asdict(peer)} for name, (mine, peer) in measured.items()
        },
        **({"other_detectors": others} if any(others.values()) else {}),
        "weights": weights,
    }


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Count, print and keep everything.

    Raises:
        EngineError: something that it needs is missing, or the emulated machine failed.
    """
    models, files = given.models or default_model_dir(), peer_files(given.peer, "fp32")
    pictures = chosen(given.data, given.pictures)
    ready(given.cache, setup=given.setup)
    measured: Measured = {}
    others: dict[str, dict[str, int]] = {}
    for processor in given.processors:
        print(f"counting on {processor}", file=sys.stderr, flush=True)
        mine, rest = ours(processor, models, given.detector, pictures, given.cache)
        measured[processor] = mine, theirs(processor, files, pictures, given.cache)
        others[processor] = {file.name: count for file, count in zip(given.detector, rest, strict=True)}
    packages = json.loads((given.cache / "packages.json").read_text(encoding="utf-8"))
    page = report(measured, packages, weights_of(models))
    print(page)
    if given.detector:
        print(estimates(measured, others))
    if given.out:
        given.out.write_text(page, encoding="utf-8")
    return last_line(measured, others, weights_of(models))


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="make the emulated machine where it is missing")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where it is made")
    parser.add_argument("--processors", nargs="+", choices=PROCESSORS, default=list(PROCESSORS))
    parser.add_argument("--pictures", type=int, default=26, help="how many of the 104 pictures are read")
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder with eval/ and its labels")
    parser.add_argument("--models", type=Path, default=None, help="the project's own by default")
    parser.add_argument("--peer", type=Path, default=SHARED / "peers", help="folder of the peer's weights")
    parser.add_argument("--detector", type=Path, nargs="+", default=[], help="detectors to count alone, beside ours")
    parser.add_argument("--out", type=Path, default=None, help="a file for the page, models/instructions.md")
    return parser.parse_args(words)


def main() -> int:
    """Count, or say why not."""
    try:
        last = measure(parsed(sys.argv[1:]))
    except EngineError as error:
        print(json.dumps({"skipped": str(error)}))
        return 0
    print(json.dumps(last))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
