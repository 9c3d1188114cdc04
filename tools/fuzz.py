"""Fuzzing: `python -m tools.fuzz [--setup] [--minutes M] [--target NAME ...]`, longer than the suite does it.

First the properties of `tests/test_fuzz.py` with 20,000 damaged inputs each (hypothesis), then each parser under
atheris (coverage-guided, from libFuzzer) for M minutes. The control comes first: a fault that is planted has to be
found. What took a new path is kept in `.fuzz/` and the next run goes on from it; an input that brought up a fault is
in `.fuzz/TARGET/crashes`. The last line is one JSON line. See `docs/decisions/0160-fuzzing.md`.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.test_fuzz import NAMES

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".fuzz"
LOCK = ROOT / "requirements" / "fuzz.lock"
CONTROL = "planted"
CONTROL_S = 60
"""More than the control ever took; it ends when it is found."""
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")
_COVERED = re.compile(r"cov: (\d+)")
LIMIT_EXITS = {70: "timeout", 71: "out of memory", 77: "crash"}


def main() -> int:
    """Run what is asked for; return 1 where a fault came up or the control did not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", action="store_true", help="install atheris from its lock where it is missing")
    parser.add_argument("--minutes", type=float, default=5.0, help="of atheris, for each parser (default 5)")
    parser.add_argument("--target", nargs="+", choices=NAMES, default=list(NAMES), help="default: all parsers")
    parser.add_argument("--no-properties", action="store_true", help="leave hypothesis' part out")
    arguments = parser.parse_args()

    figures: dict[str, Any] = {}
    if not arguments.no_properties:
        figures["properties_ok"] = properties(arguments.target)
    if arguments.setup and find_spec("atheris") is None:
        install()
    if find_spec("atheris") is None:
        print("atheris is not installed (wheels are for x86-64 Linux); `--setup` gets it where there is one")
        print(json.dumps(figures | {"atheris": None}), flush=True)
        return int(not figures.get("properties_ok", False))
    figures["control_found"] = control()
    figures["targets"] = {name: search(name, arguments.minutes * 60) for name in arguments.target}
    figures["executions"] = sum(found["executions"] for found in figures["targets"].values())
    figures["crashes"] = sum(found["crashes"] for found in figures["targets"].values())
    print(json.dumps(figures), flush=True)
    return int(bool(figures["crashes"]) or not figures["control_found"] or not figures.get("properties_ok", True))


def install() -> None:
    """Add atheris to this environment; it needs nothing else, so the rest stays as the other lock has it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", str(LOCK)], check=False)
    if done.returncode:
        print("atheris could not be installed; going on without it", flush=True)


def properties(names: list[str]) -> bool:
    """Give each parser 20,000 damaged inputs; tell whether all held."""
    chosen = " or ".join(f"[{name}]" for name in names)
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_fuzz.py", "--hypothesis-profile=fuzz", "-k", chosen]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def control() -> bool:
    """Tell whether a planted fault is found; what an earlier run learnt of it is forgotten before."""
    shutil.rmtree(WORK / CONTROL, ignore_errors=True)
    return bool(search(CONTROL, CONTROL_S)["crashes"])


def search(name: str, seconds: float) -> dict[str, Any]:
    """Run one parser under atheris, anew where a fault of a library ended it; return its figures."""
    crashes, executions, branches, ended = WORK / name / "crashes", 0, 0, []
    shutil.rmtree(crashes, ignore_errors=True)
    until = time.monotonic() + seconds
    while (left := int(until - time.monotonic())) > 0 and len(ended) < 5:
        said = _atheris(name, left)
        executions += sum(int(count) for count in _EXECUTED.findall(said.stderr)[-1:])
        branches = max([branches, *(int(count) for count in _COVERED.findall(said.stderr))])
        if said.returncode == 0:
            break
        ended.append(LIMIT_EXITS.get(said.returncode, f"exit {said.returncode}"))
        print(said.stderr[-2000:], file=sys.stderr, flush=True)
    faults = [json.loads(path.read_text("utf-8")) for path in sorted(crashes.glob("*.json"))]
    for fault in faults:
        print(f"{name}: {fault}", flush=True)
    found = {"executions": executions, "branches": branches, "crashes": len(faults) + len(ended)}
    print(f"{name}: {found}", flush=True)
    return found | ({"ended": ended} if ended else {})


def _atheris(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
    runs = ["-runs=2000000"] if name == CONTROL else []
    command = [sys.executable, "-m", "tests.fuzzing.coverage", name, WORK / name, f"-max_total_time={seconds}", *runs]
    # A warning of a library about what it is given is no fault of a parser, and there would be one for each input.
    environment = os.environ | {"PYTHONWARNINGS": "ignore", "OPENCV_LOG_LEVEL": "OFF", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace",
        check=False,
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
