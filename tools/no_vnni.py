"""Proves that the int8 models read alike where processors multiply bytes differently; prints counts of what differs.

  python -m tools.no_vnni [--plates 400] [--scenes 60] [--processors cortex-a72 cortex-a76] [--data DIR] [--models DIR]

x86 processors with AVX2 and no VNNI add two products of bytes in sixteen bits, which can overflow ("saturate"); those
with VNNI and arm64 add them in thirty-two. The same held-out plates and scenes, scaled to the networks' inputs
beforehand so that nothing but the networks can differ, go to the node's reader and detector here, in `qemu-x86_64 -cpu
Haswell` (AVX2, no VNNI), in emulated arm64 processors where they are named (`tools.emulated.machine`), and to the
fp32 graphs here where the manifest names them. Prints a table in Markdown and one JSON line.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2

from homeplate.domain.geometry import Box
from homeplate.vision.image import letterbox
from homeplate.vision.model import default_model_dir, load_manifest
from tools.bench_peer import SHARED
from tools.comparing import ROOT, EngineError, Row, mcnemar, weights_of
from tools.emulated import machine
from tools.evaluate import picture_of
from tools.train import reader_data
from tools.train.split import held_out_paths

SPLIT = Path("tools/train/runs/split.json")
EMULATOR, PLAIN = "qemu-x86_64", "Haswell"
"""A processor with AVX2 and without VNNI."""
PROCESSOR = f"{PLAIN}-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid"
"""The same less what the emulator has not, which it would warn of."""
MARGIN = 0.07
"""Around a plate, as where the reader is judged in training."""
FOUND = 0.5
"""Least IoU of a box with a labelled one that counts as found."""
SAME = 0.9
"""Least IoU of two boxes that are the same find."""

Boxes = Sequence[Box]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is read: pictures by name as PNG bytes, plates' texts and scenes' boxes in the pictures' order."""

    plates: Mapping[str, bytes] = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    scenes: Mapping[str, bytes] = field(repr=False)
    boxes: Sequence[Boxes]

    def questions(self, folder: Path) -> str:
        """Return what an engine is asked, the plates first."""
        asked = [("crops", name) for name in self.plates] + [("scenes", name) for name in self.scenes]
        return "".join(json.dumps({"kind": kind, "path": str(folder / name)}) + "\n" for kind, name in asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What one processor read: a text a plate, the boxes of each scene."""

    texts: Sequence[str] = field(repr=False)
    boxes: Sequence[Boxes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one processor read, beside the truth and beside another one.

    Attributes:
        plates, scenes, labelled: how many there are: plates, scenes, and plates labelled in the scenes.
        right: plates read exactly.
        found, false: labelled plates found in the scenes, and boxes that are none of them.
        texts_different: plates read otherwise than by the other processor.
        only_here, only_there: of those, read exactly by this one alone and by the other one alone.
        p: probability of a split at least so uneven if both were equally good (McNemar).
        scenes_different: scenes in which the boxes are not the same ones.
    """

    plates: int
    right: int
    texts_different: int
    only_here: int
    only_there: int
    p: float
    scenes: int
    labelled: int
    found: int
    false: int
    scenes_different: int


def spread(rows: Sequence[Any], number: int) -> list[Any]:
    """Return at most `number` of the rows, evenly from all of them."""
    number = min(number, len(rows))
    return [rows[place * len(rows) // number] for place in range(number)]


def overlap(a: Box, b: Box) -> float:
    """Return the IoU of two boxes."""
    across = min(a.right, b.right) - max(a.left, b.left)
    down = min(a.bottom, b.bottom) - max(a.top, b.top)
    both = max(0.0, across) * max(0.0, down)
    return both / (a.area + b.area - both)


def matched(some: Boxes, others: Boxes, least: float) -> int:
    """Return how many boxes have a partner among the others, each partner taken once, the first boxes first."""
    left = list(others)
    count = 0
    for one in some:
        best = max(left, key=lambda other: overlap(one, other), default=None)
        if best is not None and overlap(one, best) >= least:
            left.remove(best)
            count += 1
    return count


def compare(truth: Material, here: Reads, there: Reads) -> Outcome:
    """Return how what was read here differs from the truth and from what was read there."""
    right = [text == wanted for text, wanted in zip(here.texts, truth.texts, strict=True)]
    paired = mcnemar(right, [text == wanted for text, wanted in zip(there.texts, truth.texts, strict=True)])
    found = sum(matched(boxes, wanted, FOUND) for boxes, wanted in zip(here.boxes, truth.boxes, strict=True))
    same = [len(a) == len(b) == matched(a, b, SAME) for a, b in zip(here.boxes, there.boxes, strict=True)]
    return Outcome(
        plates=len(right),
        right=sum(right),
        texts_different=sum(a != b for a, b in zip(here.texts, there.texts, strict=True)),
        only_here=paired.only_ours,
        only_there=paired.only_peer,
        p=paired.p,
        scenes=len(same),
        labelled=sum(map(len, truth.boxes)),
        found=found,
        false=sum(map(len, here.boxes)) - found,
        scenes_different=same.count(False),
    )


def reads_of(rows: Sequence[Row], plates: int) -> Reads:
    """Return what the answers say; the first ones are of plates."""
    boxes = [[Box(**dict(zip(("left", "top", "right", "bottom"), one["box"], strict=True))) for one in row["plates"]]
             for row in rows[plates:]]  # fmt: skip
    return Reads(texts=[row["plates"][0]["text"] for row in rows[:plates]], boxes=boxes)


def table(outcomes: Mapping[str, Outcome], first: str) -> str:
    """Return the outcomes in Markdown."""
    heads = (
        "",
        "plates read exactly",
        f"texts unlike {first}",
        f"only it / only {first} right (p)",
        "plates found in scenes",
        "false",
        f"scenes unlike {first}",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, one in outcomes.items():
        split = f"{one.only_here} / {one.only_there} ({one.p:.2g})"
        lines.append(
            f"| {name} | {one.right}/{one.plates} | {one.texts_different} | {split} | {one.found}/{one.labelled} | "
            f"{one.false} | {one.scenes_different}/{one.scenes} |"
        )
    return "\n".join(lines)


# --- pictures and processors ---------------------------------------------------------------------------------------


def material(data: Path, models: Path, *, plates: int, scenes: int) -> Material:
    """Return held-out plates and scenes as the networks take them.

    Raises:
        EngineError: the training data is not there.
    """
    if not (data / "detect/labels.jsonl").is_file():
        raise EngineError(f"{data}: no training data there; name it with --data")
    held_out = held_out_paths(data, SPLIT)
    samples = [*reader_data.read_samples(data), *reader_data.detect_samples(data)]
    kept = spread([sample for path, sample in samples if path in held_out], plates)
    labels = [json.loads(line) for line in (data / "detect/labels.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = spread([row for row in labels if row["path"] in held_out], scenes)
    _, height, width, _ = load_manifest(models).detector.input.shape
    canvases = [letterbox(picture_of(data / row["path"]), width=width, height=height) for row in rows]
    return Material(
        plates={f"plate{n}.png": _png(reader_data.upright(one, MARGIN)) for n, one in enumerate(kept)},
        texts=[one.text for one in kept],
        scenes={f"scene{n}.png": _png(canvas) for n, (canvas, _) in enumerate(canvases)},
        boxes=[[_scaled(box, scale) for box in row["boxes"]] for row, (_, scale) in zip(rows, canvases, strict=True)],
    )


def _png(picture: cv2.typing.MatLike) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def _scaled(box: Sequence[float], scale: float) -> Box:
    left, top, right, bottom = (value * scale for value in box)
    return Box(left=left, top=top, right=right, bottom=bottom)


def on_this_machine(words: Sequence[str], given: Material, models: Path) -> Reads:
    """Return what the models read in a process that `words` start, nothing or an emulator.

    Raises:
        EngineError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**given.plates, **given.scenes}.items():
            (Path(folder) / name).write_bytes(content)
        done = subprocess.run(
            [*words, sys.executable, "-m", "tools.serve_homeplate", "--models", str(models.resolve())],
            input=given.questions(Path(folder)), stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    if done.returncode:
        raise EngineError(f"{' '.join(words)} python -m tools.serve_homeplate ended with {done.returncode}")
    return reads_of([json.loads(line) for line in done.stdout.splitlines()], len(given.plates))


def on_arm64(processor: str, given: Material, models: Path, cache: Path) -> Reads:
    """Return what the models read on an emulated arm64 processor.

    Raises:
        EngineError: the emulated machine failed.
    """
    files = {f"models/{name}": (models / name).read_bytes() for name in machine.model_files(models)}
    words = ["-m", "tools.serve_homeplate", "--models", "models"]
    task = machine.Task(name="reads", words=words, input=given.questions(Path("/task")))
    printed = machine.run(processor, [task], {**files, **given.plates, **given.scenes}, cache)
    return reads_of([json.loads(line) for line in printed["reads"]], len(given.plates))


def fp32_models(models: Path, folder: Path) -> bool:
    """Write a folder of models in which the fp32 graphs stand for the int8 ones; False where there are none."""
    manifest = json.loads((models / "manifest.json").read_text(encoding="utf-8"))
    for part in ("detector", "reader"):
        plain = manifest[part].pop("fp32", None)
        if plain is None or not (models / plain["file"]).is_file():
            return False
        shutil.copyfile(models / plain["file"], folder / plain["file"])
        manifest[part] |= plain
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return True


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Read everywhere, print the table and return the last line.

    Raises:
        EngineError: something that it needs is missing, or an emulator failed.
    """
    if shutil.which(EMULATOR) is None:
        raise EngineError(f"{EMULATOR} is missing: apt-get install qemu-user")
    if given.processors:
        machine.ready(given.cache, setup=given.setup)
    models = given.models or default_model_dir()
    read = material(given.data, models, plates=given.plates, scenes=given.scenes)
    outcomes, here = {}, on_this_machine([], read, models)
    outcomes["here"] = compare(read, here, here)
    with tempfile.TemporaryDirectory() as folder:
        if fp32_models(models, Path(folder)):
            outcomes["fp32, here"] = compare(read, on_this_machine([], read, Path(folder)), here)
    plain = on_this_machine([EMULATOR, "-cpu", PROCESSOR], read, models)
    outcomes[f"{PLAIN} (no VNNI)"] = compare(read, plain, here)
    for processor in given.processors:
        outcomes[processor] = compare(read, on_arm64(processor, read, models, given.cache), here)
    print(table(outcomes, "here"))
    return {"outcomes": {name: asdict(one) for name, one in outcomes.items()}, "weights": weights_of(models)}


def main() -> int:
    """Compare, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=400)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of the training data")
    parser.add_argument("--models", type=Path, default=None, help="the project's own by default")
    parser.add_argument("--processors", nargs="+", choices=machine.PROCESSORS, default=[], help="arm64, emulated")
    parser.add_argument("--cache", type=Path, default=machine.CACHE, help="where the emulated arm64 machine is")
    parser.add_argument("--setup", action="store_true", help="make that where it is missing")
    try:
        last = measure(parser.parse_args())
    except EngineError as error:
        print(json.dumps({"skipped": str(error)}))
        return 0
    print(json.dumps(last))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
