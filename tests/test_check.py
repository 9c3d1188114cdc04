"""What `homeplate check` says of the signed bundle: its usage policy, its witnesses, its hot list, its next version."""

import dataclasses
import re

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate import cli, clock
from homeplate.app.node import install
from homeplate.clock import NANOSECONDS, SystemClock, system_readers
from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import Trigger
from homeplate.domain.witness import Witness
from homeplate.store.checkpoints import checkpoint_files, read_note, write_durably
from homeplate.store.cosignatures import cosign
from homeplate.trust.metadata import NODES_TARGET
from homeplate.trust.schema import NodesFile, PolicyFile
from homeplate_custodian import provision
from tests.trust import forge
from tools import stage
from tools.stage import RuleSpec

HITS = RuleSpec(name="hits", trigger=Trigger.HIT)
NAME = "witness.example/w1"
WHOLE = dict.fromkeys(("purposes", "users", "training", "monitoring", "sharing", "custodian_title"), "words") | {
    "accuracy": "words", "retention": "words", "url": "https://city.example/alpr", "sha256": "ab" * 32,
    "meeting_on": "2026-01-10", "meeting_address": "1 Main Street",
}  # fmt: skip


def homeplate(built, *words, code=0):
    done = CliRunner().invoke(cli.main, ["--config", str(built.config), *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def production(tmp_path):
    """A node under a root that is no demo's, with a rule for hits."""
    built = stage.build(tmp_path / "stage", demo=False, rules=[HITS], hot_list=["7ABC123"])
    yield built
    built.runtime.cleanup()


def test_check_names_each_part_that_the_usage_policy_lacks_and_is_content_with_a_whole_one(production):
    said = homeplate(production, "check", code=6)
    assert "WRONG bundle: capture does not read: policy-part-A:" in said
    assert all(f"policy-part-{letter}:" in said for letter in "ABCDEFG")
    provision.set_usage(production.custody, PolicyFile(**(WHOLE | {"users": ""})))
    production.publish()
    said = homeplate(production, "check", code=6)
    assert "policy-part-B:" in said
    assert "policy-part-A:" not in said
    provision.set_usage(production.custody, PolicyFile(**WHOLE))
    production.publish()
    assert "WRONG" not in homeplate(production, "check")


def off_for(built, days, boots):
    """Let the node start anew after some days without power, by the wall clock alone."""
    real, since = system_readers(), system_readers().boot_ns()
    for boot in range(1, boots + 1):
        readers = dataclasses.replace(
            real,
            boot_id=lambda boot=boot: f"boot-{boot}",
            boot_ns=lambda: real.boot_ns() - since,
            wall_ns=lambda boot=boot: real.wall_ns() + boot * days * DAY_SECONDS * NANOSECONDS,
        )
        SystemClock(built.paths.clock, "purge", readers=readers)
    return readers


def test_check_says_how_much_time_off_no_signature_confirmed_and_when_that_is_too_much(simulation_node, monkeypatch):
    assert re.search(r"ok    clock: node time .*; 0\.0 of 14 days of time off", homeplate(simulation_node, "check"))
    readers = off_for(simulation_node, 6, boots=2)
    monkeypatch.setattr(clock, "system_readers", lambda: readers)
    said = homeplate(simulation_node, "check", code=6)  # its hot list is over by then
    assert "note  clock: 12.0 of 14 days of time off rest on the wall clock alone, and past that the node stops" in said
    readers = off_for(simulation_node, 6, boots=3)
    said = homeplate(simulation_node, "check", code=9)
    assert re.search(r"WRONG clock: the clock leapt 5\d{5} s .*, and 103\d{4} s off .*: mend the clock's source", said)


def test_check_says_that_the_registry_names_no_witness(simulation_node):
    assert "note  ledger: no-witness: the registry names none" in homeplate(simulation_node, "check")


def test_check_says_how_long_ago_a_witness_saw_a_log(simulation_node):
    key = Ed25519PrivateKey.generate()
    provision.add_witness(simulation_node.custody, Witness(name=NAME, public=key.public_key().public_bytes_raw()))
    simulation_node.publish()
    homeplate(simulation_node, "ledger", "sign")
    path = checkpoint_files(simulation_node.paths.checkpoints, "bundle")[-1]
    note = read_note(path)
    write_durably(path, cosign(note, NAME, key, stage.now_s() - 12 * DAY_SECONDS))
    assert "note  ledger: cosigned-long-ago: a witness saw the bundle log 12 days ago" in homeplate(
        simulation_node, "check"
    )
    write_durably(path, cosign(note, NAME, key, stage.now_s() - DAY_SECONDS))
    assert "ok    ledger: a witness cosigned the bundle log" in homeplate(simulation_node, "check")


def install_one_that_was_published(built, days_ago, **listed):
    """Bring the node a bundle that the custodian published some days ago, with the hot list of that day."""
    then_s = stage.now_s() - days_ago * DAY_SECONDS
    nodes = provision._load(built.custody, NODES_TARGET, NodesFile)
    enrolled = [msgspec.structs.replace(node, not_before_s=then_s) for node in nodes.nodes]
    provision._save(built.custody, NODES_TARGET, msgspec.structs.replace(nodes, nodes=enrolled))
    listing = forge.hot_list("7ABC123", expires_s=then_s + 30 * DAY_SECONDS)
    provision.set_hot_list(built.custody, listing, now_s=then_s, **listed)
    bundle = provision.publish_bundle(built.custody, now_s=then_s)
    install(built.load(), bundle, None, lambda: SystemClock(built.paths.clock, "bundle"))


def test_check_says_that_the_hot_list_is_over_as_the_next_start_would(simulation_node):
    assert "ok    hot list: in force until " in homeplate(simulation_node, "check")
    install_one_that_was_published(simulation_node, 8, valid_s=7 * DAY_SECONDS)
    said = homeplate(simulation_node, "check", code=6)
    assert "WRONG hot list: the hot list is over; install a bundle with a newer one" in said
    assert "7ABC123" not in said


def test_check_warns_in_a_hot_lists_last_day_and_not_before(simulation_node):
    assert "ends within a day" not in homeplate(simulation_node, "check")
    install_one_that_was_published(simulation_node, 6, valid_s=7 * DAY_SECONDS)
    assert "note  hot list: it ends within a day" in homeplate(simulation_node, "check")


def test_check_says_that_a_node_with_rules_for_hits_has_no_hot_list(production):
    provision.set_usage(production.custody, PolicyFile(**WHOLE))
    (production.custody / "operator" / provision.HOT_LIST_FILE).unlink()
    production.publish()
    assert "note  hot list: the bundle brings this node none, so nothing is a hit" in homeplate(production, "check")


def test_an_installation_says_the_bundles_version_and_not_the_roots(simulation_node):
    provision.add_purpose(simulation_node.custody, "another purpose")
    bundle = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
    version = provision.published(simulation_node.custody, now_s=stage.now_s()).version
    assert version > 1, "or the root has the same one"
    assert homeplate(simulation_node, "bundle", "install", bundle).startswith(f"bundle {version} is in force")
