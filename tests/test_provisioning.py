"""What `homeplate check` says of a node before it has its bundle, and whose files `homeplate init` leaves."""

import os
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.app.node import Paths
from homeplate.config import load_config
from homeplate.vision import providers
from homeplate_custodian import provision
from tests.tensorrt import CPU, TensorrtOnCpu
from tools import stage


@pytest.fixture
def homeplate():
    """Return a function that runs a command and checks its exit code."""

    def call(config, *words, code=0):
        done = CliRunner().invoke(cli.main, ["--config", str(config), *map(str, words)])
        assert done.exit_code == code, done.output
        return done.output

    return call


@pytest.fixture
def memory():
    """A folder in memory-backed storage, which a node's runtime folder has to be."""
    if not stage.SHARED_MEMORY.is_dir():
        pytest.skip(f"{stage.SHARED_MEMORY} is not on this machine")
    with tempfile.TemporaryDirectory(prefix="homeplate-", dir=stage.SHARED_MEMORY) as folder:
        yield Path(folder)


def test_check_calls_a_node_that_was_never_made_ready_for_provisioning(homeplate, tmp_path, memory):
    config = stage.write_config(tmp_path, [], memory)
    said = homeplate(config, "check", code=12)
    assert "next  node: ready for provisioning: `homeplate init" in said
    assert "WRONG" not in said


def test_check_does_not_call_a_node_ready_where_something_is_wrong(homeplate, tmp_path, memory, monkeypatch):
    config = stage.write_config(tmp_path, [], memory)
    monkeypatch.setattr(providers, "onnxruntime", TensorrtOnCpu(available=[CPU]))
    config.write_text(config.read_text() + '\n[models]\nprovider = "tensorrt"\n')
    said = homeplate(config, "check", code=3)
    assert "WRONG models" in said
    assert "first mend what is WRONG" in said
    assert "ready" not in said


def test_check_says_that_a_node_waits_for_enrolment_until_it_has_a_bundle(homeplate, tmp_path, memory):
    custody = tmp_path / "custody"
    provision.init(custody, registry_body="State registry", operator_body="City of Example", now_s=stage.now_s())
    config = stage.write_config(tmp_path, [], memory)
    homeplate(config, "init", "--root", custody / "root.json", "--request", tmp_path / "request.json")
    said = homeplate(config, "check", code=12)
    assert "next  node: waits for enrolment: at the custodian's `homeplate-custodian enrol" in said
    assert "WRONG" not in said
    homeplate(config, "bundle", "install", provision.publish_bundle(custody, now_s=stage.now_s()))
    assert "next" not in homeplate(config, "check", code=6), "a bundle without a usage policy is no node's end"


def test_root_gives_a_new_node_s_keys_to_the_owners_of_their_folders(homeplate, tmp_path, memory):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    custody, owner = tmp_path / "custody", 54321
    provision.init(custody, registry_body="State registry", operator_body="City of Example", now_s=stage.now_s())
    config = stage.write_config(tmp_path, [], memory)
    paths = Paths.of(load_config(config))
    folders = (paths.record_key.parent, paths.tls_key.parent, paths.ledger_key.parent, paths.bundle, paths.runtime)
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, owner + number, owner)
    homeplate(config, "init", "--root", custody / "root.json", "--request", tmp_path / "request.json")
    for number, folder in enumerate(folders):
        files = list(folder.iterdir())
        assert files, folder
        assert {file.stat().st_uid for file in files} == {owner + number}
