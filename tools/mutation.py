"""Mutation testing: `python -m tools.mutation [--package policy ...]` says how much of the code the tests really hold.

mutmut changes one thing at a time (a comparison, a number, a word) in the packages that decide and keep, and runs the
tests that reach it. A change that no test notices is a survivor: a missing test, or a change that means nothing.
Verdicts are kept in `.mutation/`; a run that was stopped goes on where it was. When a test changes, those that survived
or hung are tried again. They are listed with their change; the last line is one JSON line.
See `docs/decisions/0101-mutation-testing.md`.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutation"
MUTMUT = Path(sys.executable).with_name("mutmut")

# The tests of each area; mutmut picks from them, for each function, those that reach it.
TESTS = {
    "policy": "tests/policy",
    "trust": "tests/trust",
    "sealing": "tests/sealing",
    "store": "tests/store",
}

# Not run for mutants: what takes about as long as the rest of its area together, because a mutant that lives waits for
# all; and what gives its rights away in a program of its own, which may then not read what mutmut keeps.
PASSED_OVER = (
    "tests/sealing/test_slots_on_disk.py::test_two_hundred_slots_made_and_destroyed_leave_no_key_on_the_disk",
    "tests/sealing/test_users.py::test_uplinks_user_reads_what_is_outgoing_and_nothing_else",
    "tests/trust/test_bundle.py::test_metadata_of_any_shape_ends_in_a_reason_and_never_in_a_crash",
)

# A mutant hangs where its tests take three times as long as before and half a minute more: on a busy machine a shorter
# limit would count what is merely slow as killed, and a longer one waits for each endless loop.
TIMEOUT = {"timeout_multiplier": 3.0, "timeout_constant": 10.0}

# What `mutmut show` prints, of many mutants by one process: it takes seconds to begin.
SHOW = """
import sys
from mutmut.mutation.diff_apply import get_diff_for_mutant
print(*map(get_diff_for_mutant, sys.argv[1:]), sep="\\0")
"""

# What pytest's exit says of a mutant. An error while tests are collected (2) is noticed like a failure; so is a change
# that hangs or crashes. "No test reaches it" is no verdict of its own: nothing would have noticed.
KILLED = {
    **dict.fromkeys((1, 2, 3), "failed"),
    **dict.fromkeys((36, 24, -24, 152, -9), "timeout"),
    -11: "crash",
}
SURVIVED = {0: "passed", 5: "no test", 33: "no test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """What became of a package's mutants: how many were killed and by what, and how many have no verdict yet.

    Named are those that hung (killed too), and those that survived, with how.
    """

    killed: Counter[str]
    hung: list[str]
    survived: dict[str, str]
    unchecked: int

    def figures(self) -> dict[str, object]:
        """Return the numbers of the last line; `hung` is a part of `killed`."""
        decided = self.killed.total() + len(self.survived)
        share = round(self.killed.total() / decided, 4) if decided else None
        return {
            "killed": self.killed.total(),
            "hung": len(self.hung),
            "survived": len(self.survived),
            "unchecked": self.unchecked,
            "killed_share": share,
        }


def main() -> int:
    """Run mutmut over the packages asked for, then list what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", nargs="+", choices=sorted(TESTS), default=list(TESTS), help="default: all four")
    parser.add_argument("--processes", type=int, default=1, help="how many mutants are tried at once (default 1)")
    parser.add_argument("--minutes", type=float, help="stop each package after this long; the next run goes on")
    parser.add_argument("--fresh", action="store_true", help="forget earlier verdicts")
    parser.add_argument("--report", action="store_true", help="run nothing: report the verdicts so far")
    arguments = parser.parse_args()

    codes, verdicts = [], {}
    for package in arguments.package:
        folder = WORK / package
        if arguments.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        if not arguments.report:
            prepare(package, folder)
            # A root of its own for the tests' files: what another run of the tests left mounted would end this one.
            with tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as scratch:
                os.environ["PYTEST_DEBUG_TEMPROOT"] = scratch
                codes.append(run_mutmut(folder, arguments.processes, arguments.minutes))
        verdicts[package] = read_verdicts(folder)
    for package, found in verdicts.items():
        list_survivors(WORK / package, found)
    print(json.dumps(summary(verdicts)), flush=True)
    return max(codes, default=0)


def prepare(package: str, folder: Path) -> None:
    """Lay out what mutmut needs: it names a mutant by its file's path, so `homeplate/` has to lie at the top."""
    mutants = folder / "mutants"
    mutants.mkdir(parents=True, exist_ok=True)
    link(folder / "homeplate", ROOT / "node" / "homeplate")
    for name, target in (("tests", "tests"), ("tools", "tools"), ("models", "models")):
        link(mutants / name, ROOT / target)
    link(mutants / "homeplate_custodian", ROOT / "node" / "homeplate_custodian")
    settings = {
        "source_paths": ["homeplate"],
        "only_mutate": [f"homeplate/{package}/*.py"],
        "pytest_add_cli_args": [
            *("--hypothesis-profile=mutation", "-p", "no:cacheprovider"),
            *(f"--deselect={test}" for test in PASSED_OVER if test.startswith(TESTS[package])),
        ],
        "pytest_add_cli_args_test_selection": [TESTS[package]],
        **TIMEOUT,
    }
    # A JSON list of plain words is a TOML array too.
    lines = ["", "[tool.mutmut]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items()), ""]
    text = (ROOT / "pyproject.toml").read_text("utf-8") + "\n".join(lines)
    (folder / "pyproject.toml").write_text(text, "utf-8")
    forget_what_was_cut_off(folder)
    forget_what_new_tests_may_change(folder)


def link(place: Path, target: Path) -> None:
    """Point `place` at `target`: the tree is used where it lies, so there is no copy that could be stale."""
    if not place.is_symlink():
        place.symlink_to(target, target_is_directory=True)


def forget_what_was_cut_off(folder: Path) -> None:
    """Make a module's mutants anew where a stop came while mutmut wrote their verdicts."""
    for path in metadata(folder):
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            print(f"{path} was cut off; its mutants are in no figure until the next run has tried them anew")
            path.unlink()
            path.with_suffix("").unlink(missing_ok=True)


def forget_what_new_tests_may_change(folder: Path) -> None:
    """Where a test file changed since the last run, ask again for every mutant but those that made a test fail.

    One that hung may have been slow on a machine that was busier than when its tests were timed.
    """
    digest = hashlib.sha256()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    stamp = folder / "tests.sha256"
    if stamp.exists() and stamp.read_text("ascii") == digest.hexdigest():
        return
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    for path in metadata(folder):
        data = json.loads(path.read_text("utf-8"))
        codes = data["exit_code_by_key"]
        data["exit_code_by_key"] = {
            name: None if KILLED.get(code, "timeout") == "timeout" else code for name, code in codes.items()
        }
        path.write_text(json.dumps(data, indent=4), "utf-8")
    stamp.write_text(digest.hexdigest(), "ascii")


def run_mutmut(folder: Path, processes: int, minutes: float | None) -> int:
    """Run mutmut to its end, or stop it after `minutes`; return its exit code (0 where the time was up)."""
    process = subprocess.Popen([str(MUTMUT), "run", "--max-children", str(processes)], cwd=folder)
    try:
        return process.wait(None if minutes is None else minutes * 60)
    except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
        process.send_signal(signal.SIGINT)  # it writes each verdict as it comes
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # a shell's background jobs ignore SIGINT, and what they start does too
            process.terminate()
            process.wait()
        if isinstance(stopped, KeyboardInterrupt):
            raise
        return 0


def metadata(folder: Path) -> list[Path]:
    """Return mutmut's files of verdicts, one for each mutated module."""
    return sorted((folder / "mutants" / "homeplate").rglob("*.py.meta"))


def read_verdicts(folder: Path) -> Verdicts:
    """Sort every mutant of a package into killed, survived and unchecked."""
    killed: Counter[str] = Counter()
    hung, survived, unchecked = [], {}, 0
    forget_what_was_cut_off(folder)
    for path in metadata(folder):
        for name, code in json.loads(path.read_text("utf-8"))["exit_code_by_key"].items():
            if code in KILLED:
                killed[KILLED[code]] += 1
                if KILLED[code] == "timeout":
                    hung.append(name)
            elif code in SURVIVED:
                survived[name] = SURVIVED[code]
            else:
                unchecked += 1
    return Verdicts(killed=killed, hung=hung, survived=survived, unchecked=unchecked)


def list_survivors(folder: Path, verdicts: Verdicts) -> None:
    """Print the name and the change of each survivor, and of each that hung: is it an endless loop, or was it slow?"""
    named = {name: f"survived ({how})" for name, how in verdicts.survived.items()} | dict.fromkeys(
        verdicts.hung, "hung"
    )
    command = [sys.executable, "-c", SHOW, *named]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    for name, difference in zip(named, shown.split("\0"), strict=False):
        marks = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
        print(f"{named[name]}: {name}", *(f"    {line}" for line in marks), sep="\n")


def summary(verdicts: dict[str, Verdicts]) -> dict[str, object]:
    """Return the last line's figures: over all packages, then by package."""
    total = Verdicts(
        killed=sum((found.killed for found in verdicts.values()), Counter()),
        hung=[name for found in verdicts.values() for name in found.hung],
        survived={name: how for found in verdicts.values() for name, how in found.survived.items()},
        unchecked=sum(found.unchecked for found in verdicts.values()),
    )
    return total.figures() | {"packages": {package: found.figures() for package, found in verdicts.items()}}


if __name__ == "__main__":
    sys.exit(main())
