"""Measures what the node's two processes take of a small board's memory: `python -m tools.bench_memory`.

Capture reads a clip of 1920x1080 in which 64 plates are in view at a time and pass by, in four pieces a side (`tiles`),
and seals them; uplink delivers the records to a broker over TLS and goes on for a minute, as the service does, which is
what its budget is of. Each runs as its unit's command, in a process of its own. The figures are the kernel's own: the
most resident memory since the start (VmHWM), and the proportional share of it at the end (PSS), in MB of 2**20 bytes.
Ends with one line of JSON; the exit status is 1 where a budget is exceeded.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools import stage
from tools.render.plates import render_plate

BUDGET_MB = {"capture": 160, "uplink": 60}
"""For a board of 512 MB, of which the system keeps the rest."""
UNITS = Path(__file__).resolve().parents[1] / "systemd"
WIDTH, HEIGHT, FPS = 1920, 1080, 10.0
COLUMNS, ROWS = 8, 8
PLATE_WIDTH, STEP = 132, 5
LOOK_S = 0.02
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a process took: its peak and its share at the last look, MB of 2**20 bytes."""

    peak_mb: float
    share_mb: float


def render(path: Path, rng: np.random.Generator, seconds: float) -> int:
    """Write a clip of a wall of plates that drift to the right and leave after half of it; return their number."""
    plates = [render_plate(rng, design="california").image for _ in range(COLUMNS * ROWS)]
    scaled = [shrunk(plate) for plate in plates]
    road = np.clip(rng.normal(96, 3, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    count = round(seconds * FPS)
    for number in range(count):
        picture = road.copy()
        if number < count // 2:
            for place, plate in enumerate(scaled):
                put(picture, plate, 40 + place % COLUMNS * 225 + number * STEP, 30 + place // COLUMNS * 130)
        writer.write(picture)
    writer.release()
    return len(plates)


def shrunk(plate: Picture) -> Picture:
    """Return a plate at the width that it has in the picture."""
    height = round(plate.shape[0] * PLATE_WIDTH / plate.shape[1])
    return np.asarray(cv2.resize(plate, (PLATE_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)


def put(picture: Picture, plate: Picture, left: int, top: int) -> None:
    """Put a plate on a dark car's tail."""
    height, width = plate.shape[:2]
    cv2.rectangle(picture, (left - 30, top - 20), (left + width + 30, top + height + 16), (44, 40, 38), -1)
    picture[top : top + height, left : left + width] = plate


def watched(command: list[str], seen: dict[str, str], log: Path, *, seconds: float | None = None) -> Taken:
    """Run a command in an environment to its end, or for some seconds where it has none; return what it took."""
    peak, share, began = 0.0, 0.0, time.monotonic()
    with log.open("w") as out, subprocess.Popen(command, env=seen, stdout=out, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            peak = number(process.pid, "status", "VmHWM") or peak
            share = number(process.pid, "smaps_rollup", "Pss") or share
            if seconds is not None and time.monotonic() - began > seconds:
                process.terminate()
                process.wait()
            time.sleep(LOOK_S)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    return Taken(peak_mb=round(peak, 1), share_mb=round(share, 1))


@contextlib.contextmanager
def receiver(built: stage.Stage, log: Path) -> Iterator[None]:
    """Run the agency's receiver: a broker says so where nobody would get a record, and uplink then keeps it."""
    program = Path(sys.executable).parent / "homeplate-custodian"
    command = [str(program), "receive", str(built.custody), "--agency", stage.AGENCY]
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            while "receiving for" not in log.read_text():
                if process.poll() is not None:
                    raise SystemExit(f"the receiver ended: {log.read_text()[-2000:]}")
                time.sleep(LOOK_S)
            yield
        finally:
            process.terminate()


def number(pid: int, file: str, key: str) -> float:
    """Return a line of the kernel's on a process in MB; 0 where the process is gone."""
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB$", Path(f"/proc/{pid}/{file}").read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def environment(unit: str) -> dict[str, str]:
    """Return this process's environment with what a unit sets: it tells libraries how much memory to take."""
    text = (UNITS / f"homeplate-{unit}.service").read_text("utf-8")
    set_there = [pair for line in re.findall(r"^Environment=(.*)$", text, re.MULTILINE) for pair in line.split()]
    return {**os.environ, **dict(pair.split("=", 1) for pair in set_there)}


def measure(folder: Path, program: Path, seconds: float, tiles: int, uplink_s: float) -> dict[str, Any]:
    """Build a deployment, run capture, then uplink against a broker, and return the figures."""
    clip = folder / "plates.avi"
    plates = render(clip, np.random.default_rng(64), seconds)
    source = {"name": "lane-1", "kind": "video", "path": str(clip), "tiles": tiles}
    built = stage.build(folder / "stage", sources=[source])
    homeplate = [str(program), "--config", str(built.config)]
    try:
        capture = watched([*homeplate, "capture"], environment("capture"), folder / "capture.log")
        with built.broker(), receiver(built, folder / "receiver.log"):
            log = folder / "uplink.log"
            uplink = watched([*homeplate, "uplink"], environment("uplink"), log, seconds=uplink_s)
            left = sum(path.is_file() for path in (built.paths.spool / "outgoing").rglob("*"))
    finally:
        built.runtime.cleanup()
    said = {name: (folder / f"{name}.log").read_text() for name in BUDGET_MB}
    return {
        "plates_in_view": plates,
        "capture": {**taken(capture), **counts(said["capture"])},
        "uplink": {**taken(uplink), "seconds": uplink_s, "records left": left},
        "budget_mb": BUDGET_MB,
        "ok": capture.peak_mb <= BUDGET_MB["capture"] and uplink.peak_mb <= BUDGET_MB["uplink"] and not left,
    }


def taken(process: Taken) -> dict[str, float]:
    """Return a process's figures for a program."""
    return {"peak_mb": process.peak_mb, "pss_mb": process.share_mb}


def counts(said: str) -> dict[str, int]:
    """Return what capture counted."""
    return {
        name: int(found[1])
        for name in ("frames", "passages", "sealed records")
        if (found := re.search(rf"^{name}:\s+(\d+)$", said, re.MULTILINE))
    }


def main() -> int:
    """Measure, and say whether the budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the clip")
    parser.add_argument("--tiles", type=int, default=4, choices=(1, 2, 3, 4), help="pieces a side that are looked at")
    parser.add_argument("--uplink-seconds", type=float, default=60.0, help="for which uplink runs")
    own = Path(sys.executable).parent / "homeplate"
    parser.add_argument("--homeplate", type=Path, default=own, help="the command, as of a node's own environment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homeplate-memory-") as folder:
        figures = measure(Path(folder), given.homeplate.absolute(), given.seconds, given.tiles, given.uplink_seconds)
    print(json.dumps(figures))
    return int(not figures["ok"])


if __name__ == "__main__":
    sys.exit(main())
