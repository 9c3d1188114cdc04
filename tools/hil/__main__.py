"""Puts a real node to the test over ssh: `python -m tools.hil --node USER@HOST [--config hil.toml]`.

Checks, versions and units; cars with known plates, read on the node (`--target clip`) or shown to its camera on a
display (`--target display`); the network cut; the power cycled; heat and memory for an hour (`--minutes`). Writes
hil.xml (JUnit), hil.html and a last line of JSON. Ends with 0 where no step failed, 1 where one did, 2 where nothing
could begin.
"""

import argparse
import datetime as dt
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tools.hil.remote import Remote
from tools.hil.report import Found, write_html, write_junit
from tools.hil.settings import HilError, checked_node, load
from tools.hil.steps import STEPS, Run, everything


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.hil", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--node", required=True, metavar="USER@HOST")
    parser.add_argument("--config", type=Path, help="settings (docs/hardware-in-the-loop.md)")
    parser.add_argument("--target", choices=["clip", "display"], default="clip")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=[], help="these steps alone")
    parser.add_argument("--minutes", type=float, help="of heat and memory; the settings' (60) where left out")
    parser.add_argument("--out", type=Path, default=Path("hil"), help="folder of the reports (default: hil)")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Run; return the exit code."""
    given = parsed(words)
    try:
        node, settings = checked_node(given.node), load(given.config)
        given.out.mkdir(parents=True, exist_ok=True)
    except (HilError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.minutes is not None:
        settings = msgspec.structs.replace(settings, soak=msgspec.structs.replace(settings.soak, minutes=given.minutes))
    began = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with tempfile.TemporaryDirectory(prefix="hil-") as folder, Remote(node, settings.node) as remote:
        run = Run(settings=settings, remote=remote, kind=given.target, folder=Path(folder))
        try:
            everything(run, given.only)
        finally:  # what was found is worth a report, whatever came after it
            found = Found(
                node=node, began=began, results=run.results, facts=run.facts, stages_ms=run.stages_ms,
                pending=run.pending, mended_s=run.mended_s, samples=run.samples,
            )  # fmt: skip
            write_junit(given.out / "hil.xml", found)
            write_html(given.out / "hil.html", found)
    states = {result.name: result.state for result in run.results}
    seconds = round(sum(result.seconds for result in run.results), 1)
    print(
        json.dumps(
            {
                "node": node,
                "failed": found.failed,
                "steps": states,
                "seconds": seconds,
                "report": str(given.out / "hil.html"),
            }
        )
    )
    return int(found.failed > 0)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
