"""What has to be in the ledger is in it: each demanded event is written by the node and shown by a test."""

import ast
import hashlib
import re
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.app.bundle import run_bundle_service
from homeplate.clock import NANOSECONDS, RESERVE_NS
from homeplate.purge import STEP_S
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.publishing import PUBLIC
from tests.test_clock import Machine, start
from tests.test_purge import Node

ROOT = Path(__file__).parents[1]
HOUR_S = 3600
DEMANDED = {
    "disclosures": ["delivery.intended", "delivery.confirmed", "delivery.outcome-unknown"],
    "denials": ["capture.refused", "capture.not-started", "delivery.refused", "bundle.refused", "hold.refused"],
    "purges": ["slot.expired", "purge.done", "purge.by-hand", "slot.ended-by-hand"],
    "holds": ["hold.accepted", "hold.applied", "hold.released", "hold.ended", "hold.exported"],
    "previews": ["aim.preview-started", "aim.preview-stopped"],
    "bundle changes": ["bundle.installing", "bundle.installed", "egress.changed"],
    "config changes": ["capture.started", "uplink.started", "bundle.started"],
    "starts": ["capture.started", "uplink.started", "bundle.started", "aim.started"],
    "stops": ["capture.stopped", "uplink.stopped", "bundle.stopped", "aim.stopped"],
    "camera losses": ["capture.source-broken", "capture.camera-lost", "capture.camera-back"],
    "clock steps": ["clock.stepped", "clock.quarantined", "capture.clock-quarantined", "clock.mark-damaged"],
}
FILE_TYPES = {"conf", "json", "key", "lock", "log", "nft", "pem", "sock", "sqlite", "toml", "txt"}
EVENTS = sorted(set().union(*DEMANDED.values()))
_GROUPS = "|".join(sorted({event.partition(".")[0] for event in PUBLIC}))
_EVENT = re.compile(rf"({_GROUPS})\.[a-z-]+\Z")


def strings(tree):
    """Yield a module's string literals that are event names, but for those of the operator's log."""
    spoken = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in {"debug", "info", "warning", "error"}
        and call.args
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
            yield node.value


def written():
    files = [path for path in (ROOT / "node" / "homeplate").rglob("*.py") if path.name != "publishing.py"]
    found = {text for path in files for text in strings(ast.parse(path.read_text("utf-8"))) if _EVENT.match(text)}
    return {text for text in found if text.rpartition(".")[2] not in FILE_TYPES}


@pytest.mark.parametrize("event", EVENTS)
def test_each_demanded_event_is_written_by_the_node_and_shown_by_a_test(event):
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_export.py"]
    own = Path(__file__).read_text("utf-8").partition("_EVENT =")[2]
    texts = [own, *(path.read_text("utf-8") for path in tests if path.name != Path(__file__).name)]
    assert event in written()
    assert any(event in text for text in texts), f"no test looks at {event}"


def test_what_an_export_shows_is_known_for_each_event_that_is_written():
    unknown = written() - PUBLIC.keys() - {"capture.counted"}  # sequence numbers alone: withheld whole
    assert not unknown, "name in store/publishing.py what an export shows of it, or nothing"
    assert not PUBLIC.keys() - written()


@pytest.fixture
def stepped(tmp_path):
    """Return a function that purges on a machine, and the rows on clock steps."""
    node, machine = Node(tmp_path), Machine()

    def steps():
        clock = start(machine, tmp_path / "clock", "purge")
        node.purge(clock=clock, open_ledger=lambda: MerkleLog(node.log, clock))
        return [(row.fields["step_s"], row.fields["wall_ahead_s"]) for row in node.rows("clock.stepped")]

    yield machine, steps
    for store in node.stores.values():
        store.close()


def test_a_wall_clock_that_somebody_set_is_a_row_once_a_step_forward_and_back(stepped):
    machine, steps = stepped
    assert steps() == []
    machine.wall += HOUR_S * NANOSECONDS
    machine.run(60 * NANOSECONDS)
    assert steps() == [(HOUR_S, HOUR_S)]
    machine.run(60 * NANOSECONDS)
    assert steps() == [(HOUR_S, HOUR_S)]
    machine.wall -= 3 * HOUR_S * NANOSECONDS
    assert steps() == [(HOUR_S, HOUR_S), (-3 * HOUR_S, -2 * HOUR_S)]


def test_a_power_cut_and_an_adjustment_of_a_second_are_no_clock_step(stepped):
    machine, steps = stepped
    assert steps() == []
    machine.wall += NANOSECONDS
    assert steps() == []
    machine.off(3 * NANOSECONDS)
    assert steps() == []
    assert STEP_S * NANOSECONDS > RESERVE_NS
    machine.off(5 * HOUR_S * NANOSECONDS)
    assert steps() == []


def test_a_clock_that_was_set_back_while_the_node_was_off_is_a_row_at_the_next_purge(stepped):
    machine, steps = stepped
    assert steps() == []
    machine.off(-5 * HOUR_S * NANOSECONDS)
    ((step_s, _),) = steps()
    assert step_s <= -5 * HOUR_S


def test_each_start_names_the_hash_of_the_configuration_file_and_each_stop_is_a_row(simulation_node, rendered):
    config, paths = simulation_node.config, simulation_node.paths

    def run(*words):
        done = CliRunner().invoke(cli.main, ["--config", str(config), *words])
        assert done.exit_code == 0, done.output

    run("simulate", str(rendered[0]), "--no-publish")
    before = hashlib.sha256(config.read_bytes()).hexdigest()
    config.write_text(config.read_text() + "# widened by nobody\n")
    after = hashlib.sha256(config.read_bytes()).hexdigest()
    run("simulate", str(rendered[0]), "--no-publish")
    CliRunner().invoke(cli.main, ["--config", str(config), "uplink", "--once"])  # no broker is there to deliver to
    done = threading.Event()
    done.set()
    run_bundle_service(simulation_node.load(), done, lambda: None, once=False)
    rows = list(read_rows(paths.log("capture")))
    assert [row.fields["config_sha256"] for row in rows if row.event == "capture.started"] == [before, after]
    assert [row.event for row in rows if row.event == "capture.stopped"] == ["capture.stopped"] * 2
    rows = [row for row in read_rows(paths.log("uplink")) if row.event in {"uplink.started", "uplink.stopped"}]
    assert [row.fields.get("config_sha256") for row in rows] == [after, None]
    first, *_, last = [row for row in read_rows(paths.log("bundle")) if row.event.startswith("bundle.st")]
    assert (first.event, first.fields["config_sha256"], last.event) == ("bundle.started", after, "bundle.stopped")


def test_the_hash_of_a_configuration_cannot_be_written_in_it(simulation_node):
    config = simulation_node.config
    config.write_text('sha256 = "00"\n' + config.read_text())
    done = CliRunner().invoke(cli.main, ["--config", str(config), "check"])
    assert done.exit_code == 2
    assert "sha256" in done.output
