"""The main job in under a minute: a clip, a broker, a node of two processes, a custodian; records opened at the end.

`python3 tools/do.py demo [--clip my.mp4]`. Every step is what a technician, a custodian or an auditor would run; the
root is throw-away and marked `demo`. Plates are shown here, off the node, by whoever holds the agency's key.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from homeplate.domain.record import Part, RecordId, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.errors import TrustError
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import decode_facts
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.sealing.seal import open_sealed
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import read_rows
from homeplate.store.spool import FileSpool
from homeplate_custodian import provision
from tools import stage
from tools.broker import free_port
from tools.render.clip import render_clip
from tools.stage import AGENCY, PUBLISH_EVERYTHING, PURPOSE, RuleSpec, Stage

LIFE_S = 20
ELSEWHERE = "texas-dps"
FORGET_SOON = RuleSpec(name="forget-in-20-seconds", storage=StorageClass.LOCAL, retention_s=LIFE_S)
TO_ANOTHER_STATE = RuleSpec(name="to-another-state", trigger=Trigger.EVERYTHING, recipients=(ELSEWHERE,))
BIN = Path(sys.executable).parent
PATIENCE_S = 120
SEED = 7
MARK = ".homeplate-demo"  # only what has it is deleted: a custody of real keys looks much like a demo's

out = Console(highlight=False)


class DemoError(Exception):
    """The demo did not show what it should."""


@dataclass(slots=True)
class Run:
    """What the demo has under way, and what it measured."""

    stage: Stage
    figures: dict[str, object] = field(default_factory=dict)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def node(self, *words: str) -> list[str]:
        """Return a command of the node."""
        return [str(BIN / "homeplate"), "--config", str(self.stage.config), *words]

    def custodian(self, *words: str) -> list[str]:
        """Return a command of the custodian."""
        return [str(BIN / "homeplate-custodian"), *words]

    def start(self, command: Sequence[str], log: str) -> subprocess.Popen[str]:
        """Start a process whose output goes to a log in the demo's folder."""
        with (self.stage.folder / log).open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, text=True)
        self.processes.append(process)
        return process

    def call(self, command: Sequence[str]) -> str:
        """Run a command that has to succeed; return its standard output."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        if done.returncode != 0:
            raise DemoError(f"`{Path(command[0]).name} {' '.join(command[1:])}` failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def end(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(10)


def main() -> int:
    """Run the demo; return the exit code."""
    arguments = parse()
    folder: Path = arguments.folder
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARK).exists():
            out.print(f"error: {folder} holds something else; name an empty folder with --folder", style="red")
            return 2
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    started = time.perf_counter()
    try:
        clip, truth = the_clip(arguments, folder)
        run = Run(stage=deploy(folder, clip))
        try:
            with run.stage.broker(arguments.broker) as broker:
                say(f"broker: {broker.kind} on 127.0.0.1:{broker.port}, TLS 1.3")
                if broker.shortfall:
                    out.print(f"   {broker.shortfall}", style="yellow")
                run.figures |= {"broker": broker.kind}
                deliver(run)
                opened = show_opened(run, truth)
                show_refused(run)
                show_forgotten(run)
                show_ledger(run)
        finally:
            run.end()
    except (DemoError, RuntimeError) as error:  # the second: no broker, or it does not start
        out.print(f"error: {error}\nthe logs are in {folder}", style="red")
        return 1
    run.figures |= {"opened": len(opened), "demo_s": round(time.perf_counter() - started, 1)}
    if arguments.figures:
        arguments.figures.write_text(json.dumps(run.figures))
    out.print(
        f"\nall of it lies in {folder}: keys, ledgers, sealed records. It is throw-away; delete it when you like."
    )
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 tools/do.py demo", description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="your own video file instead of a rendered one")
    parser.add_argument(
        "--folder", type=Path, default=Path("demo-run"), help="where everything goes (default: demo-run)"
    )
    parser.add_argument("--broker", choices=["mosquitto", "iotcore"], help="default: mosquitto where it is installed")
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="start", type=Path, default=Path(), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder = arguments.start / arguments.folder  # paths are as the person who typed them sees them
    arguments.clip = arguments.clip and arguments.start / arguments.clip
    return arguments


def say(text: str) -> None:
    out.print(f"[bold]>[/bold] {text}")


def the_clip(arguments: argparse.Namespace, folder: Path) -> tuple[Path, list[str] | None]:
    """Return the clip and, where it is ours, the plates that pass in it."""
    if arguments.clip:
        if not arguments.clip.is_file():
            raise DemoError(f"{arguments.clip}: no such file")
        return arguments.clip.resolve(), None
    say("rendering 8 seconds of passing cars")
    clip = folder.resolve() / "cars.avi"
    return clip, render_clip(clip, np.random.default_rng(SEED), seconds=8.0, plates=4)


def deploy(folder: Path, clip: Path) -> Stage:
    """Make the throw-away deployment, with one recipient that must never get anything."""
    say("a throw-away root (demo), registry, operator, agency and node: enrolled, bundle signed and installed")
    built = stage.build(
        folder.resolve(),
        sources=[{"name": "lane-1", "kind": "video", "path": clip}],
        rules=[PUBLISH_EVERYTHING, FORGET_SOON],
    )
    now = stage.now_s()
    entry = {
        "identifier": ELSEWHERE, "legal_name": "Texas Department of Public Safety", "kind": "state_agency",
        "jurisdiction": "US-TX", "network": "127.0.0.2", "port": free_port(), "tls_name": "broker.texas.example",
        "pins": [built.server.pin], "now_s": now,
    }  # fmt: skip
    try:
        provision.add_agency(built.custody, **entry)
    except TrustError as error:
        out.print(f"   the custodian's tool refuses an agency of another state: {error}", style="green")
    else:
        raise DemoError("an agency of another state was accepted")
    # Now past the tool, as a registry that was talked into it would: the node has to refuse by itself.
    provision.add_agency(built.custody, **entry, unsafe_unchecked=True)
    provision.grant(
        built.custody, identifier=ELSEWHERE, need="asked nicely", purpose=PURPOSE, approver="nobody",
        approved_on="2026-01-01", expires_s=now + 86_400, attested=True,
    )  # fmt: skip
    provision.add_rule(
        built.custody, name=TO_ANOTHER_STATE.name, trigger=TO_ANOTHER_STATE.trigger, recipients=[ELSEWHERE],
        parts=[Part.FACTS], storage=StorageClass.OUTGOING, retention_s=86_400, purpose=PURPOSE,
    )  # fmt: skip
    built.publish()
    return built


def deliver(run: Run) -> None:
    """Run the node's two processes and the receiver until everything is delivered."""
    receive = run.start(run.custodian("receive", str(run.stage.custody), "--agency", AGENCY), "receive.log")
    wait_for(lambda: "receiving for" in (run.stage.folder / "receive.log").read_text(), "the receiver", receive)
    say("homeplate uplink (has the network, sees no plates) and homeplate capture (sees plates, has no network) start")
    uplink = run.start(run.node("uplink"), "uplink.log")
    begun = time.perf_counter()
    capture = run.start(run.node("capture"), "capture.log")
    wait_for(lambda: capture.poll() is not None, "capture to end its clip", uplink)
    run.figures["capture_s"] = round(time.perf_counter() - begun, 1)
    if capture.returncode != 0:
        raise DemoError(
            f"capture ended with {capture.returncode}: {(run.stage.folder / 'capture.log').read_text()[-800:]}"
        )
    out.print(indented((run.stage.folder / "capture.log").read_text()))
    spool = FileSpool(run.stage.paths.spool)
    wait_for(lambda: not spool.pending(), "the spool to empty", uplink)
    for process in (uplink, receive):
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def wait_for(condition: Callable[[], bool], what: str, needed: subprocess.Popen[str]) -> None:
    """Wait for a condition while a process that it needs lives."""
    give_up = time.perf_counter() + PATIENCE_S
    while not condition():
        if needed.poll() is not None or time.perf_counter() > give_up:
            raise DemoError(f"waited in vain for {what}")
        time.sleep(0.1)


def show_opened(run: Run, truth: list[str] | None) -> list[dict[str, object]]:
    """Open what arrived, with the agency's key, and show it."""
    say("homeplate-custodian open: first the access record, then the plates")
    who = ["--user", "demo", "--organisation", "Demo City", "--purpose", PURPOSE, "--case", "demo-1"]
    crops = str(run.stage.folder / "crops")
    text = run.call(run.custodian("open", str(run.stage.custody), "--agency", AGENCY, *who, "--json", "--crops", crops))
    opened = [json.loads(line) for line in text.splitlines()]
    if not opened or any("unopened" in record for record in opened):
        raise DemoError("no plate was read in the clip" if not opened else "a delivered record did not open")
    table = Table("plate", "confidence", "seen")
    table.add_column("record id", overflow="fold", min_width=16)
    table.add_column("sealed bytes")
    table.add_column("delivered to", no_wrap=True)
    for record in opened:
        confidence, seen, size = f"{record['confidence']:.2f}", str(record["seen"]), str(record["sealed_bytes"])
        table.add_row(record["plate"], confidence, seen, record["record"], size, record["recipient"])
    out.print(table)
    if truth is not None:
        read = {record["plate"] for record in opened}
        out.print(f"   the clip shows {len(truth)} plates; {len(read & set(truth))} of them were read without an error")
        run.figures |= {"plates": len(truth), "read_exactly": len(read & set(truth))}
    return opened


def show_refused(run: Run) -> None:
    """Show the ledger's row of the recipient that got nothing."""
    rows = [row for row in read_rows(run.stage.paths.log("capture")) if row.fields.get("recipient") == ELSEWHERE]
    if not rows or any("refused" not in row.event for row in rows):
        raise DemoError("the recipient of another state was not refused")
    say(f"a recipient of another state, signed by both, named by a rule: refused {len(rows)} times by the node")
    row = rows[0]
    out.print(
        indented(f"capture.log row {row.number} {row.event} {json.dumps(row.fields, sort_keys=True)}"), style="green"
    )
    run.figures["refused_rows"] = len(rows)


def local_records(run: Run, blobs: dict[RecordId, bytes]) -> int:
    """Count the local records' facts that open with the card's slot keys and the agency's private key together."""
    slots = SlotStore.open_existing(*run.stage.paths.slots(StorageClass.LOCAL))
    private = load_sealing_key(run.stage.agency_key)
    node_public = load_signing_key(run.stage.paths.record_key).public_key().public_bytes_raw()
    count = 0
    for blob in blobs.values():
        if (sealed := slots.unwrap(blob)) is not None:
            part, plaintext = open_sealed(decode(sealed), private, node_public)
            count += part is Part.FACTS and bool(decode_facts(plaintext).plate)
    slots.close()
    return count


def show_forgotten(run: Run) -> None:
    """Copy the local records as a thief would, let their 20 seconds run out, and try again."""
    spool = FileSpool(run.stage.paths.spool)
    copies = {record_id: spool.get(record_id) for record_id in spool.released(StorageClass.LOCAL)}
    before = local_records(run, copies)
    say(f"local records live {LIFE_S} s, in slots of 1 s: {before} open now, with the card and the agency's key")
    store = SlotStore.open_existing(*run.stage.paths.slots(StorageClass.LOCAL))
    last = max((info.expiry_s for info in store.live()), default=0)
    store.close()
    with out.status("waiting for the clock; there is no way to set it") as status:
        while (left := last + 1 - time.clock_gettime(time.CLOCK_REALTIME)) > 0:
            status.update(f"waiting for the clock; there is no way to set it: {left:.0f} s")
            time.sleep(min(left, 0.5))
    certificate = run.call(run.node("purge"))
    out.print(indented(certificate), style="green")
    after = local_records(run, copies)
    say(f"of the copied files {after} open now: their slot keys are gone, for thief, node and agency alike")
    if after or not before:
        raise DemoError(f"{before} records opened before and {after} after their time")
    run.figures |= {"local_opened_before": before, "local_opened_after": after}


def show_ledger(run: Run) -> None:
    """Sign the ledgers and let the custodian's side verify them."""
    run.call(run.node("ledger", "sign"))
    text = run.call(run.custodian("verify", str(run.stage.paths.ledger), "--custody", str(run.stage.custody)))
    say("homeplate-custodian verify: every row of every process, against the node's signed checkpoints")
    out.print(indented(text), style="green")


def indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.strip().splitlines())


if __name__ == "__main__":
    raise SystemExit(main())
