"""What carries a node's ledger to witnesses and to archives, as a person runs it; `check` says when it is due."""

import json

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.clock import NANOSECONDS, SimulatedClock, WallClock
from homeplate.domain.record import DAY_SECONDS
from homeplate.store.ledger import WARN_SEGMENTS, MerkleLog
from homeplate.store.reading import closed_segments
from homeplate_custodian.cli import main

NAME = "witness.example/w1"


@pytest.fixture
def node(simulation_node):
    """Return a function that runs a command on the node and checks its exit code."""

    def call(*words, code=0):
        done = CliRunner().invoke(cli.main, ["--config", str(simulation_node.config), *map(str, words)])
        assert done.exit_code == code, done.output
        return done.output

    return call


def desk(*words):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def with_a_witness(built, folder):
    key = desk("witness", "init", folder, "--name", NAME).splitlines()[0]
    desk("bundle", "witness", "add", built.custody, key)
    built.publish()


def grow(path, days_ago, files):
    """Write a log of small files, whose rows are `days_ago` old but for the last."""
    clock = SimulatedClock(WallClock().now_ns() - days_ago * DAY_SECONDS * NANOSECONDS)
    with MerkleLog(path, clock, segment_bytes=300) as log:
        while len(closed_segments(path)) < files - 1:
            log.append("delivery.refused", recipient="nobody", reason="not-listed")
        clock.advance_to(WallClock().now_ns())
        log.append("uplink.stopped")  # it closes one more


def test_a_node_asks_its_witness_takes_its_word_and_check_says_so(node, simulation_node, tmp_path):
    node("ledger", "request", tmp_path / "asked.json", code=2)  # the bundle names no witness
    with_a_witness(simulation_node, tmp_path / "w")
    assert "run `homeplate ledger sign`" in node("ledger", "request", tmp_path / "asked.json", code=10)
    node("ledger", "sign")
    assert "1 requests in" in node("ledger", "request", tmp_path / "asked.json")
    bodies = [entry["body"] for entry in json.loads((tmp_path / "asked.json").read_text())["requests"]]
    assert not any("bundle.installed" in body for body in bodies), "a witness sees no row"
    assert "never-cosigned" in node("check")
    files = [tmp_path / "w", tmp_path / "asked.json"]
    public = ["--bundle", simulation_node.custody / "bundle", "--root", simulation_node.custody / "root.json"]
    desk("witness", "cosign", *files, *public, "--out", tmp_path / "cosigned.json")
    assert f"cosigned by {NAME}" in node("ledger", "cosigned", tmp_path / "cosigned.json")
    assert "a witness cosigned the bundle log" in node("check")
    assert "LOG=SIZE" in node("ledger", "request", tmp_path / "asked.json", "--since", "bundle", code=2)


def test_what_is_no_word_of_a_witness_or_of_another_node_is_refused(node, simulation_node, tmp_path):
    with_a_witness(simulation_node, tmp_path / "w")
    node("ledger", "sign")
    notes = simulation_node.paths.checkpoints
    file = tmp_path / "cosigned.json"
    file.write_text("{}")
    assert "holds no cosigned checkpoints" in node("ledger", "cosigned", file, code=10)
    note = next(notes.glob("bundle-*.note")).read_text()
    file.write_text(json.dumps({"notes": [note]}))
    assert "no witness that the bundle names has cosigned it" in node("ledger", "cosigned", file, code=10)


def test_old_files_are_archived_once_they_are_signed_and_verify_reads_both(node, simulation_node, tmp_path):
    log = simulation_node.paths.log("uplink")
    grow(log, 70, files=4)
    assert "nothing to archive" in node("ledger", "archive", tmp_path / "archive")
    node("ledger", "sign")
    moved = node("ledger", "archive", tmp_path / "archive").splitlines()
    assert len(moved) == 3
    assert len(closed_segments(log)) == 1
    public = ["--custody", simulation_node.custody, "--archive", tmp_path / "archive"]
    assert "uplink: 6 rows are good" in desk("verify", log.parent, *public)


def test_young_files_stay_on_the_node(node, simulation_node, tmp_path):
    grow(simulation_node.paths.log("uplink"), 60, files=4)
    node("ledger", "sign")
    assert "nothing to archive" in node("ledger", "archive", tmp_path / "archive")


def test_check_says_that_a_log_fills_up_before_it_is_full(node, simulation_node, tmp_path):
    log = simulation_node.paths.log("uplink")
    grow(log, 70, files=WARN_SEGMENTS - 1)
    assert "closed files" not in node("check")
    grow(log, 70, files=WARN_SEGMENTS)
    said = node("check")
    assert f"note  ledger: the uplink log has {WARN_SEGMENTS} of 64 closed files" in said
    assert "homeplate ledger archive DIR" in said
    node("ledger", "sign")
    node("ledger", "archive", tmp_path / "archive")
    assert "closed files" not in node("check")
