"""What a frame costs on the boards: instructions counted stage by stage, and the time that they may take.

Counted in `tools.emulated.machine`, whose clock is the number of instructions. What a board needs for them is an
estimate: instructions / (clock * instructions a cycle). How many a cycle a core gets through depends on caches and
memory, which no emulator has; the range for each core is an assumption between a bad case and a good one, below the
most that the core can start in a cycle (A53 2, A72 3, A76 and A78 4: Arm's software optimisation guides).
"""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeplate.vision.model import default_model_dir
from tools.emulated import machine

NEEDED = ("cryptography", "cffi", "pycparser", "structlog", "msgspec")
"""Wheels that the stages need beside what the machine has."""
PER = {
    "motion": "frames", "detect": "looked_at", "crop": "plates", "read": "plates", "track": "looked_at",
    "seal": "passages", "store": "passages",
}  # fmt: skip
"""What each stage is counted by."""
MILLION = 1e6
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board to estimate for.

    Attributes:
        counted: the processor whose counts stand for its core.
        hertz: of one core, as its maker ships it.
        least, most: instructions a cycle, assumed.
    """

    counted: str
    hertz: float
    least: float
    most: float

    def milliseconds(self, instructions: float) -> list[float]:
        """Return what one core takes for them, at best and at worst."""
        return [round(instructions / self.hertz / rate * 1e3, 1) for rate in (self.most, self.least)]


BOARDS = {
    # The A53 has the A72's instructions, so the same programs run on it.
    "Raspberry Pi Zero 2 W": Board(counted="cortex-a72", hertz=1.0e9, least=0.5, most=1.0),
    "Raspberry Pi 4": Board(counted="cortex-a72", hertz=1.8e9, least=0.8, most=1.6),
    "Raspberry Pi 5": Board(counted="cortex-a76", hertz=2.4e9, least=1.3, most=2.6),
    # On its processor; TensorRT, which it should run, is nothing that an emulator can count.
    "Jetson Orin Nano": Board(counted="cortex-a76", hertz=1.5e9, least=1.3, most=2.6),
}


def packages(wheels: Path) -> dict[str, bytes]:
    """Return the files of the wheels that the stages need, by path.

    Raises:
        FileNotFoundError: a wheel is not in the folder.
    """
    files: dict[str, bytes] = {}
    for name in NEEDED:
        found = sorted(wheels.glob(f"{name}-*.whl"))
        if not found:
            raise FileNotFoundError(f"{wheels} has no wheel of {name}")
        with zipfile.ZipFile(found[-1]) as wheel:
            files |= {one: wheel.read(one) for one in wheel.namelist() if not one.endswith("/")}
    return files


def counted(processor: str, clip: Path, wheels: Path, cache: Path = machine.CACHE) -> Figures:
    """Count the node's stages on a clip on a processor, in millions of instructions.

    Raises:
        EngineError: the emulated machine failed.
    """
    models = default_model_dir()
    files = {f"models/{name}": (models / name).read_bytes() for name in machine.model_files(models)}
    task = machine.Task(name="stages", words=["-m", "tools.emulated.stages", "clip.avi"])
    given = {**files, **packages(wheels), "clip.avi": clip.read_bytes()}
    told = json.loads(machine.run(processor, [task], given, cache)["stages"][-1])
    return shared_out(told)


def shared_out(told: Figures) -> Figures:
    """Return what the guest said with each stage's count by what it is done for, and a frame's sum."""
    spent = told.pop("instructions")
    each = {f"{stage}, by {unit}": spent[stage] / max(1, told[unit]) for stage, unit in PER.items()}
    frame = sum(spent[stage] for stage in ("motion", "detect", "crop", "read", "track")) / told["frames"]
    return {**told, "millions": {name: round(count / MILLION, 2) for name, count in each.items()},
            "millions_a_frame": round(frame / MILLION, 1)}  # fmt: skip


def estimates(found: dict[str, Figures]) -> Figures:
    """Return what a frame of the clip takes one core of each board, in milliseconds, at best and at worst."""
    return {
        name: board.milliseconds(found[board.counted]["millions_a_frame"] * MILLION)
        for name, board in BOARDS.items()
        if board.counted in found
    }
