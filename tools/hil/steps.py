"""What is done with a node, step by step, and what has to come of it. Each step says what it found.

A step that fails does not keep the next ones from being done, but for the first: without a way to the node there is
nothing to do. What a run changes on the node it puts back: the network is mended, the switch is on, folders are gone.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from homeplate import __version__
from tools.hil import soak
from tools.hil.remote import Remote, RemoteError, UnreachableError
from tools.hil.settings import Settings
from tools.hil.target import Clip, Played, Simulation, kept_busy, render

POLL_S = 2.0
LOCAL_S = 120.0
"""Deadline of a command of this machine (a switch, a cut)."""
PROCESSES = ("capture", "uplink", "purge", "bundle", "hold")
MOST_LINES = 60
WAITING = 'cd "$1" && if [ -d spool/outgoing ]; then find spool/outgoing -ignore_readdir_race -type f -printf .; fi'
"""Prints a dot for each record that waits; a node that never had one has no folder yet."""


class StepError(Exception):
    """A step did not find what it should; the message says what it found."""


class SkippedError(Exception):
    """A step was not asked for, or cannot be done here; the message says why."""


@dataclass(slots=True, kw_only=True)
class Result:
    """One step: passed, failed or skipped; how long it took; what it says; figures for plots."""

    name: str
    state: str = "passed"
    seconds: float = 0.0
    text: str = ""
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run under way, and what it found so far."""

    settings: Settings
    remote: Remote
    kind: str
    folder: Path
    results: list[Result] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=dict)
    pending: list[tuple[float, int]] = field(default_factory=list)
    mended_s: float | None = None
    samples: list[soak.Sample] = field(default_factory=list)
    clip: Clip | None = None

    def do(self, name: str, step: Callable[["Run", Result], str]) -> bool:
        """Do one step; return whether it failed."""
        result, begun = Result(name=name), time.monotonic()
        self.results.append(result)
        print(f"{name} ...", flush=True)
        try:
            result.text = step(self, result)
        except SkippedError as skipped:
            result.state, result.text = "skipped", str(skipped)
        except (StepError, RemoteError) as failed:
            result.state, result.text = "failed", str(failed)
        result.seconds = time.monotonic() - begun
        print(f"{name}: {result.state} in {result.seconds:.1f} s: {result.text}", flush=True)
        return result.state == "failed"

    def homeplate(self, *words: str, deadline_s: float | None = None) -> tuple[int, str]:
        """Run a command of the node's own, as root; return exit code and output."""
        node = self.settings.node
        answer = self.remote.ask(node.homeplate, "--config", node.config, *words, root=True, deadline_s=deadline_s)
        return answer.code, answer.text

    def waiting(self) -> int:
        """Return how many sealed records wait for uplink."""
        return len(self.remote.tell("sh", "-c", WAITING, "sh", self.settings.node.data_dir, root=True).out)

    def inactive(self) -> list[str]:
        """Return the units that do not run, with their states."""
        units = self.settings.node.units
        if not units:
            return []
        states = self.remote.ask("systemctl", "is-active", *units).text.split()
        if len(states) != len(units):
            raise StepError("`systemctl is-active` did not answer for each unit; does systemd run the node?")
        return [f"{unit} is {state}" for unit, state in zip(units, states, strict=True) if state != "active"]


def reach(run: Run, result: Result) -> str:
    """Log in, and note what the node is."""
    del result
    run.facts["kernel"] = run.remote.tell("uname", "-srm").text.strip()
    release = run.remote.ask("cat", "/etc/os-release").text
    run.facts["system"] = next(
        (v.strip('"') for k, _, v in (x.partition("=") for x in release.splitlines()) if k == "PRETTY_NAME"), "?"
    )
    board = run.remote.ask("cat", "/proc/device-tree/model")
    run.facts["board"] = board.text.strip("\0\n ") if board.code == 0 else "no device tree"
    memory = run.remote.ask("awk", "/^MemTotal:/ {print $2}", "/proc/meminfo").text.strip()
    run.facts["memory"] = f"{int(memory) // 1024} MB" if memory.isdigit() else "?"
    return ", ".join(run.facts.values())


def version(run: Run, result: Result) -> str:
    """The node runs the version that is expected."""
    del result
    said = run.remote.tell(run.settings.node.homeplate, "--version").text.strip().rpartition(" ")[2]
    run.facts["homeplate"] = said
    wanted = run.settings.node.version or __version__
    if said != wanted:
        raise StepError(f"the node runs homeplate {said}, not {wanted}: install that, or set node.version")
    return f"homeplate {said}"


def units(run: Run, result: Result) -> str:
    """Every unit that has to run does."""
    del result
    if not run.settings.node.units:
        raise SkippedError("node.units is empty")
    if stopped := run.inactive():
        raise StepError("; ".join(stopped))
    return f"{len(run.settings.node.units)} units are active"


def check(run: Run, result: Result) -> str:
    """`homeplate check` finds nothing wrong."""
    code, text = run.homeplate("check")
    result.lines = text.splitlines()[:MOST_LINES]
    wrong = [line for line in result.lines if line.startswith("WRONG")]
    if code != 0 or wrong:
        raise StepError(f"ended with {code}: {'; '.join(wrong)[:600] or 'it did not come to its end'}")
    marks = [line.split(maxsplit=1)[0] for line in result.lines if line.strip()]
    return f"{marks.count('ok')} ok, {marks.count('note')} notes"


def the_clip(run: Run) -> Clip:
    """Return the target, rendered once a run."""
    if run.clip is None:
        run.clip = render(run.folder, run.settings.target)
    return run.clip


@contextmanager
def simulation(run: Run) -> Iterator[Simulation]:
    """Make a simulation's folder on the node; remove it at the end."""
    clip = the_clip(run)
    here = run.folder / f"simulation-{len(list(run.folder.iterdir()))}"
    here.mkdir()
    made = Simulation(run.remote, run.settings.node, run.settings.target, clip, here)
    try:
        made.set_up()
        yield made
    finally:
        made.remove()


def target(run: Run, result: Result) -> str:
    """The node reads the cars with known plates."""
    return clip_target(run, result) if run.kind == "clip" else display_target(run, result)


def clip_target(run: Run, result: Result) -> str:
    """Play the clip on the node; its records open here and hold the plates."""
    asked = run.settings.target
    with simulation(run) as made:
        played = made.play()
        found = made.read()
    run.stages_ms = played.stages_ms
    run.facts["models"] = ", ".join(f"{name} {value}" for name, value in sorted(played.models.items()))
    result.lines = [f"{stage}: {spent:g} ms a frame" for stage, spent in played.stages_ms.items()]
    truth = set(the_clip(run).plates)
    right = len(found & truth)
    each = f"{played.frames} frames, {sum(played.stages_ms.values()):.1f} ms a frame"
    said = f"{right} of {len(truth)} plates read exactly, {len(found - truth)} others, {each}"
    slow = [
        f"{stage} takes {played.stages_ms.get(stage, 0):g} ms a frame, more than {most:g}"
        for stage, most in asked.most_ms_a_frame.items()
        if played.stages_ms.get(stage, 0) > most
    ]
    if right < asked.least_read * len(truth):
        raise StepError(f"{said}; {asked.least_read:.0%} are needed")
    if slow:
        raise StepError(f"{said}; {'; '.join(slow)}")
    return said


def display_target(run: Run, result: Result) -> str:
    """Show the clip before the camera, and let `homeplate aim` say what is seen of it."""
    asked = run.settings.target
    if asked.show is None:
        raise StepError('target.show says how a clip is shown on the display, as ["mpv", "--fs", "--loop", "{clip}"]')
    clip = the_clip(run)
    if asked.stop:
        there(run, "target.stop", asked.stop)
    show = subprocess.Popen(
        [word.replace("{clip}", str(clip.path)) for word in asked.show],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        node, source = run.settings.node, [asked.source] if asked.source else []
        words = [
            "timeout",
            "--signal=INT",
            f"{asked.watch_s:g}",
            node.homeplate,
            "--config",
            node.config,
            "aim",
            *source,
            "--json",
        ]
        answer = run.remote.ask(*words, root=True, deadline_s=asked.watch_s + node.answer_s)
    finally:
        show.terminate()
        show.wait(LOCAL_S)
        if asked.start:
            there(run, "target.start", asked.start)
    if answer.code not in {0, 124}:
        raise StepError(f"`homeplate aim` ended with {answer.code}: {answer.err[-400:]}")
    return _aimed(answer.text, result)


def _aimed(text: str, result: Result) -> str:
    """Judge what `homeplate aim --json` said: each source saw plates well enough."""
    best: dict[str, dict[str, object]] = {}
    for line in text.splitlines():
        try:
            seen = json.loads(line)
            source, sightings = seen["source"], seen["plates"]["sightings"]
        except (ValueError, KeyError, TypeError):
            continue
        if source not in best or sightings >= best[source]["plates"]["sightings"]:  # type: ignore[index]
            best[source] = seen
    if not best:
        raise StepError("`homeplate aim` said nothing of any source")
    wrong = []
    for source, seen in sorted(best.items()):
        plates, advice = seen["plates"], seen["advice"]
        result.lines.append(f"{source}: {json.dumps(plates, sort_keys=True)}")
        wrong += [f"{source}: no plate was seen"] if not plates["sightings"] else []  # type: ignore[index]
        wrong += [f"{source}: {one['text']}" for one in advice if one["enough"] is False]  # type: ignore[attr-defined]
    if wrong:
        raise StepError("; ".join(wrong))
    return "; ".join(f"{source}: {seen['plates']['sightings']} sightings" for source, seen in sorted(best.items()))  # type: ignore[index]


def here(name: str, command: list[str]) -> None:
    """Run a command of this machine; neither it nor what it says is told, because it may hold a password.

    Raises:
        StepError: where it fails or takes too long.
    """
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LOCAL_S, check=False)
    except OSError as error:
        raise StepError(f"{name} cannot be run here: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise StepError(f"{name}: no end within {LOCAL_S:g} s") from error
    if done.returncode != 0:
        raise StepError(f"{name} ended with {done.returncode}; run it by hand to see what it says")


def there(run: Run, name: str, command: list[str]) -> None:
    """Run a configured command on the node, as root; what it is and says is not told either.

    Raises:
        StepError: where it fails.
        UnreachableError: where the node is not reached.
    """
    try:
        code = run.remote.ask(*command, root=True, deadline_s=LOCAL_S).code
    except UnreachableError:
        raise
    except RemoteError:
        raise StepError(f"{name} on the node: no end within {LOCAL_S:g} s") from None
    if code != 0:
        raise StepError(f"{name} on the node ended with {code}; run it by hand to see what it says")


def until(condition: Callable[[], bool], what: str, deadline_s: float) -> float:
    """Wait for a condition on the node, also through times when it is not reached; return the seconds it took.

    Raises:
        StepError: the deadline is over.
    """
    begun, last = time.monotonic(), ""
    while time.monotonic() - begun < deadline_s:
        try:
            if condition():
                return time.monotonic() - begun
            last = ""
        except RemoteError as error:
            last = f" (the last try: {error})"
        time.sleep(POLL_S)
    raise StepError(f"waited {deadline_s:g} s in vain for {what}{last}")


def network(run: Run, result: Result) -> str:
    """Cut the way to the broker, let records gather, mend it: the units go on and everything is delivered."""
    asked = run.settings.network
    if asked is None:
        raise SkippedError("no [network] is configured: how the way to the broker is cut and mended")

    def change(name: str, command: list[str]) -> None:
        if asked.where == "here":
            here(name, command)
        else:
            there(run, name, command)

    begun = time.monotonic()
    before = _noted(run, begun)
    change("network.cut", asked.cut)
    try:
        if asked.feed:
            there(run, "network.feed", asked.feed)
        gathered = _noted(run, begun)
        while time.monotonic() - begun < asked.cut_s:
            time.sleep(POLL_S)
            gathered = _noted(run, begun)
        stopped = run.inactive()
    finally:
        change("network.mend", asked.mend)
    run.mended_s = time.monotonic() - begun
    result.lines = [f"waiting before {before}, at the end of the cut {gathered}"]
    if stopped:
        raise StepError(f"while the network was cut, {'; '.join(stopped)}")
    if asked.feed and gathered == 0:
        raise StepError("nothing waited while the network was cut: it was not cut, or network.feed made no record")
    took = until(lambda: _noted(run, begun) == 0, "the records to be delivered", asked.deliver_s)
    if stopped := run.inactive():
        raise StepError(f"after the cut, {'; '.join(stopped)}")
    return f"{gathered} records waited in a cut of {asked.cut_s:g} s; all were delivered {took:.0f} s after it"


def _noted(run: Run, begun: float) -> int:
    waiting = run.waiting()
    run.pending.append((time.monotonic() - begun, waiting))
    return waiting


def power(run: Run, result: Result) -> str:
    """Switch the node off and on: it boots, its units run, and no ledger is shorter."""
    asked = run.settings.power
    if asked is None:
        raise SkippedError("no [power] is configured: the commands of a switch")
    before, rows = _boot(run), _rows(run)
    here("power.off", asked.off)
    run.remote.hang_up()
    time.sleep(asked.off_s)
    here("power.on", asked.on)
    took = until(lambda: _booted_since(run, before), "another boot of the node", asked.boot_s)
    took += until(lambda: not run.inactive(), "its units to run", asked.boot_s)
    after = _rows(run)
    result.lines = [f"{name}: {rows[name]} rows before, {after[name]} after" for name in rows]
    if shorter := [name for name in rows if after[name] < rows[name]]:
        raise StepError(f"the ledgers {', '.join(shorter)} are shorter than before the power was cut")
    code, text = run.homeplate("check")
    if code != 0:
        wrong = [line for line in text.splitlines() if line.startswith("WRONG")]
        raise StepError(f"after the power was cut, check ended with {code}: {'; '.join(wrong)[:600]}")
    return f"up again with all units after {took:.0f} s, {sum(after.values())} ledger rows, none lost"


def _boot(run: Run) -> tuple[str, float]:
    """Return the boot's id and how long it is up."""
    boot, up = run.remote.tell("cat", "/proc/sys/kernel/random/boot_id", "/proc/uptime").text.split()[:2]
    return boot, float(up)


def _booted_since(run: Run, before: tuple[str, float]) -> bool:
    """Tell whether this is another boot; a container has its computer's boot id, and an uptime of its own."""
    now = _boot(run)
    return now[0] != before[0] or now[1] < before[1]


def _rows(run: Run) -> dict[str, int]:
    """Return the number of each ledger's last row; 0 where a process has none."""
    found = {}
    for process in PROCESSES:
        code, text = run.homeplate("ledger", "show", process, "--last", "1")
        number = text.split(maxsplit=1)[:1]
        found[process] = int(number[0]) if code == 0 and number and number[0].isdigit() else 0
    return found


def soaked(run: Run, result: Result) -> str:
    """Watch heat and memory while the target is played again and again."""
    asked = run.settings.soak
    if asked.minutes == 0:
        raise SkippedError("no minutes were asked for")
    if asked.load:
        with simulation(run) as made, kept_busy(made, load=True) as plays:
            _sampled(run)
        failed = [one for one in plays if not isinstance(one, Played)]
        result.lines.append(f"the target was played {len(plays)} times, {len(failed)} times in vain")
        if failed:
            raise StepError(f"{len(failed)} of {len(plays)} plays failed: {failed[0]}")
    else:
        _sampled(run)
    if wrong := list(soak.faults(run.samples, asked, run.settings.node.units)):
        raise StepError("; ".join(wrong))
    hottest = max((one.celsius for one in run.samples if one.celsius is not None), default=None)
    heat = "no thermal zone" if hottest is None else f"at most {hottest:.1f} degrees"
    for unit, points in soak.by_unit(run.samples, resident=True).items():
        result.lines.append(f"{unit}: at most {max(mb for _, mb in points):.0f} MB resident")
    memory = ", ".join(
        f"{unit} at most {max(mb for _, mb in points):.0f} MB" for unit, points in soak.by_unit(run.samples).items()
    )
    return f"{asked.minutes:g} minutes, {len(run.samples)} looks: {heat}; {memory or 'no unit was watched'}"


def _sampled(run: Run) -> None:
    """Look at the node every so often; a look that it does not answer is left out, and counted."""
    asked, begun, missed = run.settings.soak, time.monotonic(), 0
    while (at_s := time.monotonic() - begun) < asked.minutes * 60:
        try:
            answer = run.remote.tell("sh", "-c", soak.SCRIPT, "sh", *run.settings.node.units, root=True)
            run.samples.append(soak.parsed(answer.text, at_s))
        except UnreachableError:
            missed += 1
        time.sleep(max(0.0, asked.every_s - (time.monotonic() - begun - at_s)))
    if missed:
        raise StepError(f"the node was not reached at {missed} of {missed + len(run.samples)} looks")


STEPS: Mapping[str, Callable[[Run, Result], str]] = {
    "reach": reach,
    "version": version,
    "units": units,
    "check": check,
    "target": target,
    "network": network,
    "power": power,
    "soak": soaked,
}


def everything(run: Run, only: Sequence[str]) -> None:
    """Do the steps in their order, or only some of them; the first is done always."""
    for name, step in STEPS.items():
        if name == "reach" or not only or name in only:
            failed = run.do(name, step)
            if failed and name == "reach":
                return
