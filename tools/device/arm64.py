"""Tries the node on AArch64 without a board: `make device-arm64`, `python -m tools.device.arm64 [PART]...`.

  install  a Debian for AArch64 (bookworm: Python 3.11; trixie: 3.13), the node and its lock in it, offline, by hashes
  wheels   whether every package of the lock has a wheel for 3.12 too (JetPack 7)
  texts    what the models read on fixed pictures on each board's processor is what they read here, text for text
  clip     `homeplate simulate` on a rendered clip there; its records are opened here, and say what this machine's say
  tests    the tests of models, sealing, store, tracking and pipeline, against the installed package
  counts   instructions of each stage on a Pi 4's and a Pi 5's processor, and what that may take on each board

The programs of the other processor are emulated (qemu), so nothing here is a time; the estimate says how it was made
(`tools.device.counts`). Ends with one line of JSON. Needs root, mmdebstrap and qemu-system-arm; the first run downloads
0.8 GB.
"""

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from homeplate.domain.record import Part, StorageClass
from homeplate.pipeline import READ_LEAST
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import Facts, decode_facts
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.sealing.seal import open_sealed
from homeplate.sealing.slots import SlotStore
from homeplate.store.spool import FileSpool
from homeplate.vision.model import default_model_dir
from tools import stage
from tools.comparing import EngineError, weights_of
from tools.device import counts
from tools.device.arm_root import CACHE, ROOT, SUITES, ArmError, Device, command, installed, made, wheel_names, wheels
from tools.emulated import machine
from tools.render.clip import render_clip
from tools.render.plates import render_plate
from tools.render.wear import degrade

BOARDS = {
    "cortex-a53": "Raspberry Pi Zero 2 W",
    "cortex-a72": "Raspberry Pi 4",
    "cortex-a76": "Raspberry Pi 5; a Jetson Orin Nano's A78AE has the same instructions",
}
"""By qemu's name of the processor. The first two have no dot product, so that other kernels run."""
JETPACK_7 = "3.12"
CROPS, CLIP_S, CLIP_PLATES = 60, 4.0, 2
TESTS = (
    "sealing/test_vectors.py", "sealing/test_seal.py", "sealing/test_envelope.py", "sealing/test_facts.py",
    "sealing/test_keys.py", "sealing/test_slots.py", "sealing/test_slots_on_disk.py",
    "vision/test_model.py", "vision/test_detector.py", "vision/test_reader.py", "vision/test_image.py",
    "vision/test_motion.py", "vision/test_tiling.py", "tracking", "test_pipeline.py",
    "store/test_spool.py", "store/test_ledger.py", "store/test_checkpoints.py", "store/test_segments.py",
    "store/test_rows.py", "store/test_reading.py", "store/test_certificates.py",
)  # fmt: skip
"""Of the models, sealing, tracking and the store; the others take hours under emulation."""
PARTS = ("install", "wheels", "texts", "clip", "tests", "counts")
Figures = dict[str, Any]


def pictures(folder: Path, crops: int) -> Path:
    """Render fixed pictures into a folder: worn plates, and frames of a clip with cars in them."""
    rng = np.random.default_rng(64)
    for kind in ("crops", "scenes"):
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir(parents=True)
    for number in range(crops):
        image = degrade(rng, render_plate(rng).image)
        cv2.imwrite(str(folder / f"crops/{number:03}.png"), image)
    render_clip(folder / "clip.avi", rng, seconds=CLIP_S, plates=CLIP_PLATES)
    clip = cv2.VideoCapture(str(folder / "clip.avi"))
    for number in range(int(clip.get(cv2.CAP_PROP_FRAME_COUNT))):
        there, frame = clip.read()
        if there and number % 12 == 6:
            cv2.imwrite(str(folder / f"scenes/{number:03}.png"), frame)
    clip.release()
    return folder


def compare_texts(device: Device, folder: Path) -> Figures:
    """Read the pictures here and there on each processor; every text, and every box to a pixel, has to be the same."""
    script = ROOT / "tools/device/reading.py"
    here = rows(command(sys.executable, str(script), str(folder)))
    figures: Figures = {"pictures": len(here), "plates": sum(len(row["plates"]) for row in here), "processors": {}}
    figures["counted"] = sum(plate["confidence"] >= READ_LEAST for row in here for plate in row["plates"])
    for processor in BOARDS:
        shared = {folder: "pictures", script.parent: "program"}
        said = device.run("python", "/program/reading.py", "/pictures", shared=shared, processor=processor)
        figures["processors"][processor] = differences(here, rows(said))
    figures["same"] = all(found["texts_that_differ"] == 0 for found in figures["processors"].values())
    return figures


def rows(text: str) -> list[Figures]:
    """Return what `reading` said; other lines are libraries'."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def differences(here: Sequence[Figures], there: Sequence[Figures]) -> Figures:
    """Return how many texts differ of those that the node would count on either side, and of the others.

    A reading below the node's own bar is never counted: a place that is no plate may show a letter with one rounding
    and none with another.
    """
    counted, others, confidence, box = 0, 0, 0.0, 0.0
    if [(row["picture"], len(row["plates"])) for row in here] != [(r["picture"], len(r["plates"])) for r in there]:
        raise ArmError("other pictures were read there than here, or other numbers of plates found in them")
    for a, b in (
        (a, b)
        for mine, other in zip(here, there, strict=True)
        for a, b in zip(mine["plates"], other["plates"], strict=True)
    ):
        differs = (a["text"], a["jurisdiction"]) != (b["text"], b["jurisdiction"])
        if max(a["confidence"], b["confidence"]) >= READ_LEAST:
            counted += differs
            confidence = max(confidence, abs(a["confidence"] - b["confidence"]))
        else:
            others += differs
        box = max([box, *(abs(x - y) for x, y in zip(a.get("box", ()), b.get("box", ()), strict=True))])
    numbers = {"confidence_off_by": round(confidence, 6), "box_off_by_px": round(box, 3)}
    return {"texts_that_differ": counted, "below_the_bar_that_differ": others, **numbers}


def simulate(built: stage.Stage, clip: Path, run: Callable[..., str]) -> tuple[Figures, list[tuple[str, str]]]:
    """Run the node on a clip and open what it sealed; return its own figures, and each record's plate and state."""
    said = run("homeplate", "--config", str(built.config), "simulate", str(clip), "--no-publish", "--json")
    return rows(said)[-1], sorted((facts.plate, facts.jurisdiction) for facts in opened(built))


def opened(built: stage.Stage) -> Iterator[Facts]:
    """Open the sealed facts as their recipient would."""
    key, spool = load_sealing_key(built.agency_key), FileSpool(built.paths.spool)
    signer = load_signing_key(built.paths.record_key).public_key().public_bytes_raw()
    slots = SlotStore.open_existing(*built.paths.slots(StorageClass.OUTGOING))
    try:
        for record_id in spool.pending():
            blob = slots.unwrap(spool.get(record_id))
            assert blob is not None, "its slot is alive"
            part, plaintext = open_sealed(decode(blob), key, signer)
            if part is Part.FACTS:
                yield decode_facts(plaintext)
    finally:
        slots.close()


def compare_clip(device: Device, folder: Path) -> Figures:
    """Simulate a clip there and here; the sealed records have to be as many as cars, and say the same."""
    found = {}
    for where in ("here", "there"):
        shutil.rmtree(folder / where, ignore_errors=True)
        built = stage.build(folder / where)
        shared = {folder: str(folder).lstrip("/")}
        here, there = local_run, lambda *words, to=shared: device.run(*words, shared=to)
        try:
            found[where] = simulate(built, folder / "clip.avi", here if where == "here" else there)
        finally:
            built.runtime.cleanup()
    figures, records = found["there"]
    keys = ("frames", "passages", "sealed_records", "dropped")
    return {
        **{key: figures[key] for key in keys},
        "records": len(records),
        "same": records == found["here"][1] and len(records) == CLIP_PLATES,
    }


def local_run(*words: str) -> str:
    """Run a command of this environment."""
    return command(str(Path(sys.executable).parent / words[0]), *words[1:])


def run_tests(device: Device, tests: Sequence[str]) -> Figures:
    """Run the project's tests there; return pytest's counts."""
    words = ["python", "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutation"]
    done = device.call(
        *words, "--basetemp=/tmp/tests", "--rootdir=/src", "-c", "/src/pyproject.toml",
        *(f"/src/tests/{test}" for test in tests),
        shared={ROOT: "src"}, PYTHONPATH="/opt/tests", PYTHONDONTWRITEBYTECODE="1", TMPDIR="/tmp",  # noqa: S108 - in the room
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1]
    ended = {kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {**ended, "not_passed": failed, "ok": done.returncode == 0}


def count_stages(cache: Path) -> Figures:
    """Count the stages on a clip, on each processor that is told apart, and estimate for the boards."""
    machine.ready(machine.CACHE, setup=True)
    clip, folder = pictures(cache / "pictures-counts", 0) / "clip.avi", wheels(SUITES["bookworm"], cache)
    found = {}
    for processor in machine.PROCESSORS:
        print(f"counting on {processor}", file=sys.stderr, flush=True)
        found[processor] = counts.counted(processor, clip, folder)
    return {**found, "estimated_ms_a_frame": counts.estimates(found), "weights": weights_of(default_model_dir())}


def try_suite(suite: str, parts: Sequence[str], cache: Path) -> Figures:
    """Do the parts that need a root."""
    device, figures = made(suite, cache), {}
    if "install" in parts or not (device.root / "opt/homeplate/bin/homeplate").exists():
        figures["install"] = installed(device, wheels(device.python, cache))
    folder = cache / f"pictures-{suite}"
    if {"texts", "clip"} & set(parts):
        pictures(folder, CROPS)
    doing: dict[str, Callable[[], Figures]] = {
        "texts": lambda: compare_texts(device, folder),
        "clip": lambda: compare_clip(device, folder),
        "tests": lambda: run_tests(device, TESTS),
    }
    for part, do in doing.items():
        if part in parts:
            print(f"{suite}: {part}", file=sys.stderr, flush=True)
            begun = time.monotonic()
            figures[part] = {**do(), "seconds": round(time.monotonic() - begun)}
            print(f"{suite}: {part}: {json.dumps(figures[part])}", file=sys.stderr, flush=True)
    return figures


def succeeded(figures: Figures) -> bool:
    """Tell whether no part of any release found a difference or a failing test."""
    parts = [part for suite in figures.values() for part in suite.values() if isinstance(part, dict)]
    return all(part.get("same", True) and part.get("ok", True) for part in parts)


def main() -> int:
    """Try what is asked for, all parts by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all where left out")
    parser.add_argument("--suite", nargs="+", choices=list(SUITES), default=["bookworm"], dest="suites")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the roots and wheels are kept")
    given = parser.parse_args()
    parts, cache = given.parts or list(PARTS), given.cache.absolute()
    figures: Figures = {}
    try:
        if "wheels" in parts:
            figures["jetpack-7"] = {"wheels": {"python": JETPACK_7, "number": len(wheel_names(JETPACK_7, cache))}}
        for suite in given.suites:
            figures[suite] = try_suite(suite, parts, cache)
        if "counts" in parts:
            figures["counts"] = count_stages(cache)
    except (ArmError, EngineError) as error:
        print(json.dumps({"error": str(error), **figures}))
        return 1
    print(json.dumps({**figures, "ok": succeeded(figures)}))
    return int(not succeeded(figures))


if __name__ == "__main__":
    sys.exit(main())
