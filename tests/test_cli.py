"""The node's commands as a person meets them: what they print, refuse and end with."""

import json

import cv2
import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.config import load_config
from homeplate.vision import providers
from tests.tensorrt import CPU, TensorrtOnCpu
from tools import stage
from tools.stage import RuleSpec


@pytest.fixture
def homeplate():
    """Return a function that runs a command and checks its exit code."""

    def call(config, *words, code=0):
        done = CliRunner().invoke(cli.main, ["--config", str(config), *map(str, words)])
        assert done.exit_code == code, done.output
        return done.output

    return call


def test_a_missing_configuration_is_named_with_the_next_step(homeplate, tmp_path):
    said = homeplate(tmp_path / "none.toml", "check", code=2)
    assert "no such file" in said
    assert "--config" in said


def test_check_says_that_a_demo_root_is_for_no_roadside(homeplate, simulation_node):
    said = homeplate(simulation_node.config, "check")
    assert "root is marked demo" in said
    assert "WRONG" not in said


def ask_for_tensorrt(config):
    config.write_text(config.read_text() + '\n[models]\nprovider = "tensorrt"\n')


def test_check_says_what_runs_the_models(homeplate, simulation_node):
    said = homeplate(simulation_node.config, "check")
    assert "ok    models: run on cpu in int8: detector " in said


def test_check_and_build_refuse_a_provider_that_is_not_there(homeplate, simulation_node, monkeypatch):
    monkeypatch.setattr(providers, "onnxruntime", TensorrtOnCpu(available=[CPU]))
    ask_for_tensorrt(simulation_node.config)
    assert "WRONG models: " in (said := homeplate(simulation_node.config, "check", code=3))
    assert "provider tensorrt was asked for, but this onnxruntime has only CPUExecutionProvider" in said
    assert "tensorrt was asked for" in homeplate(simulation_node.config, "models", "build", code=3)
    assert "tensorrt was asked for" in homeplate(simulation_node.config, "simulate", "x.avi", "--no-publish", code=3)


def test_an_engine_is_built_once_and_check_says_that_it_runs(homeplate, simulation_node, monkeypatch):
    monkeypatch.setattr(providers, "onnxruntime", TensorrtOnCpu())
    ask_for_tensorrt(simulation_node.config)
    assert "`homeplate models build`" in homeplate(simulation_node.config, "check", code=3)
    said = homeplate(simulation_node.config, "models", "build")
    assert said.count("built ") == 2
    assert "ok    models: run on tensorrt in fp16: detector " in homeplate(simulation_node.config, "check")


def test_the_cpu_needs_no_engine(homeplate, simulation_node):
    said = homeplate(simulation_node.config, "models", "build")
    assert said == "the models run on cpu in int8; next: homeplate check\n"
    assert not simulation_node.paths.engines.exists()


def test_a_node_is_made_once_and_its_keys_are_not_replaced(homeplate, simulation_node, tmp_path):
    before = simulation_node.paths.record_key.read_bytes()
    root, request = simulation_node.custody / "root.json", tmp_path / "request.json"
    said = homeplate(simulation_node.config, "init", "--root", root, "--request", request, "--simulation", code=2)
    assert "holds a node already" in said
    assert simulation_node.paths.record_key.read_bytes() == before


def test_a_node_that_could_not_be_made_can_be_made_after_mending(homeplate, simulation_node, tmp_path):
    config = stage.write_config(tmp_path, [], tmp_path / "run")
    root = simulation_node.custody / "root.json"
    said = homeplate(config, "init", "--root", root, "--request", tmp_path / "no" / "rq.json", "--simulation", code=2)
    assert "rq.json" in said
    homeplate(config, "init", "--root", root, "--request", tmp_path / "rq.json", "--simulation")


def test_an_init_that_is_refused_leaves_nothing(homeplate, simulation_node, tmp_path):
    request = tmp_path / "request.json"
    (tmp_path / "road").mkdir()
    config = stage.write_config(tmp_path / "road", [], "/proc/homeplate")
    root = simulation_node.custody / "root.json"
    assert "is not memory-backed" in homeplate(config, "init", "--root", root, "--request", request, code=5)
    no_root = tmp_path / "other.json"
    no_root.write_text("{}")
    config = stage.write_config(tmp_path / "road", [], tmp_path / "run")
    assert "the root" in homeplate(config, "init", "--root", no_root, "--request", request, "--simulation", code=6)
    assert not request.exists()
    assert [path.name for path in (tmp_path / "road").iterdir()] == ["homeplate.toml"]
    assert not (tmp_path / "run").exists()


def test_capture_without_a_source_says_what_to_add(homeplate, simulation_node):
    assert "[[source]]" in homeplate(simulation_node.config, "capture", code=2)


def test_a_bundle_that_was_altered_is_refused_and_the_refusal_is_in_the_ledger(homeplate, simulation_node):
    bundle = simulation_node.custody / "bundle"
    stage.provision.add_purpose(simulation_node.custody, "another purpose")
    stage.provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
    rules = max(bundle.rglob("*rules.json"), key=lambda path: path.stat().st_mtime_ns)
    rules.write_bytes(rules.read_bytes().replace(b"another purpose", b"another-purpose"))
    said = homeplate(simulation_node.config, "bundle", "install", bundle, code=6)
    assert "rules" in said
    assert "bundle.refused" in homeplate(simulation_node.config, "ledger", "show", "bundle")
    assert "WRONG" not in homeplate(simulation_node.config, "check"), "the bundle before it stays in force"


def test_a_configuration_that_widens_a_signed_rule_stops_the_start(homeplate, tmp_path, rendered):
    built = stage.build(
        tmp_path / "s",
        sources=[{"name": "lane-1", "kind": "video", "path": rendered[0]}],
        rules=[RuleSpec(name="hits", trigger="hit", retention_s=3600)],
    )
    built.config.write_text(built.config.read_text() + '\n[narrow.retention]\nhits = "2h"\n')
    said = homeplate(built.config, "capture", code=2)
    assert "widens" in said
    built.runtime.cleanup()


def test_simulate_reads_stills_one_by_one_and_says_what_was_dropped(homeplate, simulation_node, rendered, tmp_path):
    capture = cv2.VideoCapture(str(rendered[0]))
    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(40):
        _, frame = capture.read()
        if number % 8 == 0:
            cv2.imwrite(str(folder / f"{number}.png"), frame)
    capture.release()
    said = homeplate(simulation_node.config, "simulate", folder, "--stills", "--no-publish", "--json")
    figures = json.loads(said.splitlines()[-1])
    assert figures["frames"] == 5
    assert set(figures["dropped"]) <= {"too_small", "cut_off", "unreadable", "unconfirmed", "unsure", "outside_region"}
    assert {"detect", "read"} <= set(figures["milliseconds_a_frame"])
    assert (figures["models"]["provider"], figures["models"]["precision"]) == ("cpu", "int8")
    (started,) = (
        row
        for row in homeplate(simulation_node.config, "ledger", "show", "capture").splitlines()
        if "capture.started" in row
    )
    assert all(f"{name}={value}" in started for name, value in figures["models"].items())


def test_simulate_refuses_a_roadside_nodes_folder(homeplate, simulation_node, rendered):
    identity = simulation_node.paths.identity
    identity.write_text(identity.read_text().replace("true", "false"))
    said = homeplate(simulation_node.config, "simulate", rendered[0], "--no-publish", code=2)
    assert "not a simulation's" in said


def test_simulate_writes_no_mark_of_node_time(homeplate, simulation_node, rendered):
    marks = {path: path.read_bytes() for path in simulation_node.paths.clock.iterdir()}
    homeplate(simulation_node.config, "simulate", rendered[0], "--no-publish")
    assert {path: path.read_bytes() for path in simulation_node.paths.clock.iterdir()} == marks


def test_a_live_pace_drops_frames_and_counts_them(homeplate, simulation_node, rendered):
    said = homeplate(simulation_node.config, "simulate", rendered[0], "--realtime", "240", "--no-publish", "--json")
    figures = json.loads(said.splitlines()[-1])
    assert figures["frames"] + figures["dropped"].get("overwritten", 0) == 120


def test_ledger_show_and_sign_need_no_secret_of_another_process(homeplate, simulation_node):
    simulation_node.paths.record_key.unlink()
    assert "bundle.installed" in homeplate(simulation_node.config, "ledger", "show", "bundle")
    assert "rows signed" in homeplate(simulation_node.config, "ledger", "sign")


def test_a_production_root_refuses_one_process_for_both(tmp_path, monkeypatch, homeplate, rendered):
    built = stage.build(
        tmp_path / "s",
        demo=False,
        sources=[{"name": "lane-1", "kind": "video", "path": rendered[0]}],
        rules=[RuleSpec(name="hits", trigger="hit", retention_s=3600)],
    )
    assert "not marked demo" in homeplate(built.config, "run", code=6)
    assert "not marked demo" in homeplate(built.config, "simulate", rendered[0], code=6)
    built.runtime.cleanup()


@pytest.mark.parametrize("verb", ["capture", "uplink"])
def test_a_simulations_folder_works_on_the_road_under_a_demo_root_only(tmp_path, homeplate, rendered, verb):
    built = stage.build(
        tmp_path / "s",
        demo=False,
        sources=[{"name": "lane-1", "kind": "video", "path": rendered[0]}],
        rules=[RuleSpec(name="hits", trigger="hit", retention_s=3600)],
    )
    words = [verb, "--once"] if verb == "uplink" else [verb]
    said = homeplate(built.config, *words, code=2)
    assert "simulation" in said
    assert "homeplate init" in said
    built.runtime.cleanup()


def test_the_configuration_of_a_stage_is_one_that_the_node_takes(simulation_node):
    assert load_config(simulation_node.config).node.data_dir == simulation_node.paths.data
