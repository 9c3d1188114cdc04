"""Where the bundle names models, no others see a road: at the start, in `check`, and when a new bundle comes."""

import hashlib

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.app.capture import InstalledTerms
from homeplate.app.node import load_identity
from homeplate.clock import WallClock
from homeplate.trust.reasons import NamedTrustError
from homeplate.vision.model import default_model_dir, read_manifest
from homeplate_custodian import cli as custodian
from homeplate_custodian import provision

FOLDER = default_model_dir()
OURS = hashlib.sha256((FOLDER / "manifest.json").read_bytes()).digest()


def homeplate(node, *arguments):
    return CliRunner().invoke(cli.main, ["--config", str(node.config), *arguments])


def named(node, *manifests):
    provision.set_models(node.custody, manifests)
    node.publish()


def test_a_manifest_is_known_by_the_bytes_that_it_was_read_from():
    assert read_manifest(FOLDER)[1] == OURS


def test_check_and_a_start_refuse_models_that_the_bundle_does_not_name(simulation_node, rendered):
    named(simulation_node, bytes(32))
    said = homeplate(simulation_node, "check")
    assert said.exit_code == 6
    assert "WRONG models: the bundle names other models than the manifest" in said.output
    started = homeplate(simulation_node, "simulate", "--no-publish", str(rendered[0]))
    assert started.exit_code == 6
    assert OURS.hex()[:12] in started.stderr
    named(simulation_node, OURS, bytes(32))
    said = homeplate(simulation_node, "check")
    assert f"ok    models: manifest {OURS.hex()[:12]} is one that the bundle names" in said.output
    assert said.exit_code == 0


def test_a_bundle_that_names_other_models_than_run_ends_what_they_may_see(simulation_node):
    paths = simulation_node.paths
    identity = load_identity(paths)
    terms = InstalledTerms(
        simulation_node.load(), paths, identity, WallClock(), cameras=["lane-1"], manifest_sha256=OURS
    )
    assert terms().demo
    named(simulation_node, bytes(32))
    for _ in range(2):
        with pytest.raises(NamedTrustError) as caught:
            terms()
        assert caught.value.reason == "other-models"
    named(simulation_node)
    assert terms().demo


def test_the_custodian_names_models_by_their_manifest_and_takes_the_names_back(simulation_node):
    def call(*words):
        return CliRunner().invoke(custodian.main, ["bundle", "models", str(simulation_node.custody), *words])

    assert call(str(FOLDER / "manifest.json")).output.startswith(OURS.hex())
    assert (simulation_node.custody / "operator" / "models.json").exists()
    for wrong in ([], ["--any", str(FOLDER / "manifest.json")]):
        assert call(*wrong).exit_code != 0
    assert call("--any").exit_code == 0
    assert not (simulation_node.custody / "operator" / "models.json").exists()
