"""The provider that was asked for runs the models, or nothing does; and a plate reads the same on each of them.

TensorRT is not where these tests mostly run: there `TensorrtOnCpu` takes the place of onnxruntime, so that everything
around TensorRT is tested, and TensorRT is not. Where onnxruntime has TensorRT the last tests use that.
"""

import json

import cv2
import numpy as np
import onnxruntime
import pytest

from homeplate.domain.provider import Provider
from homeplate.errors import ModelError
from homeplate.vision import Models, build_engines, detector_of, providers, reader_of
from homeplate.vision.model import Model, default_model_dir, load_manifest
from tests.tensorrt import CPU, TENSORRT, TensorrtOnCpu
from tools.render.plates import render_plate

FOLDER = default_model_dir()
SURE = 0.9
"""Least probability of each character of a reading that is counted."""


@pytest.fixture
def runtime(monkeypatch):
    """Return a function that puts a `TensorrtOnCpu` in onnxruntime's place."""

    def take_its_place(**behaviour):
        fake = TensorrtOnCpu(**behaviour)
        monkeypatch.setattr(providers, "onnxruntime", fake)
        return fake

    return take_its_place


@pytest.fixture
def engines(runtime, tmp_path):
    """Return a folder of engines that `TensorrtOnCpu` built, which stays in place."""
    runtime()
    folder = tmp_path / "engines"
    list(build_engines(FOLDER, folder))
    return folder


def opened(engines):
    return Models.open(FOLDER, threads=1, provider=Provider.TENSORRT, engines=engines)


def test_a_provider_that_is_not_there_is_an_error_that_says_what_is(runtime, engines):
    runtime(available=["AzureExecutionProvider", CPU])
    with pytest.raises(ModelError) as caught:
        opened(engines)
    said = str(caught.value)
    assert "provider tensorrt was asked for" in said
    assert f"only AzureExecutionProvider, {CPU}" in said
    assert 'models.provider = "cpu"' in said


def test_a_silent_fallback_of_onnxruntime_is_an_error(runtime, engines):
    runtime(running=[CPU])
    with pytest.raises(ModelError, match=f"tensorrt was asked for, but onnxruntime fell back to {CPU}"):
        opened(engines)


def test_a_graph_that_tensorrt_does_not_take_whole_is_an_error(runtime, tmp_path):
    refusal = providers.RUNTIME_ERRORS[0]("nodes are assigned\nto the default CPU EP\n")
    runtime(refuses=refusal)
    told = (
        r"detector_fp32\.onnx: onnxruntime cannot open it on tensorrt: nodes are assigned to the default CPU EP; mend"
    )
    with pytest.raises(ModelError, match=told):
        list(build_engines(FOLDER, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_onnxruntime_itself_refuses_what_would_fall_back_to_the_cpu(monkeypatch):
    """Its Azure provider takes no node of ours: all would go to the CPU, and the session would still say Azure."""
    idle = "AzureExecutionProvider"
    if idle not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {idle}")
    monkeypatch.setitem(providers.EXECUTION, Provider.TENSORRT, idle)
    path = FOLDER / load_manifest(FOLDER).detector.file
    content = path.read_bytes()
    assert onnxruntime.InferenceSession(content, providers=[idle]).get_providers()[0] == idle
    with pytest.raises(ModelError, match=r"cannot open it on tensorrt: .*default CPU EP"):
        providers.open_session(path, content, Provider.TENSORRT, threads=1)


def test_no_fallback_is_left_on_in_a_session_on_the_gpu(runtime, engines):
    fake = runtime()
    opened(engines)
    assert [name for name, *_ in fake.opened] == [TENSORRT, TENSORRT]
    for _, _, options, enable_fallback in fake.opened:
        assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        assert not enable_fallback


def test_an_engine_is_built_in_fp16_for_one_plate_at_a_time(runtime, tmp_path):
    fake = runtime()
    list(build_engines(FOLDER, tmp_path))
    (_, detector, *_), (_, reader, *_) = fake.opened
    assert detector["trt_fp16_enable"] == reader["trt_fp16_enable"] == "1"
    _, height, width, _ = load_manifest(FOLDER).reader.input.shape
    for end in ("min", "opt", "max"):
        assert reader[f"trt_profile_{end}_shapes"] == f"plates:1x{height}x{width}x3"


def test_a_start_says_what_runs_and_builds_nothing(runtime, engines):
    fake = runtime()
    before = {path: path.stat().st_mtime_ns for path in engines.iterdir()}
    running = opened(engines).running
    manifest = load_manifest(FOLDER)
    assert (running.provider, running.precision) == ("tensorrt", "fp16")
    assert manifest.detector.fp32.sha256.startswith(running.detector)
    assert manifest.reader.fp32.sha256.startswith(running.reader)
    assert all(not given for _, given, *_ in fake.opened)
    assert {path: path.stat().st_mtime_ns for path in engines.iterdir()} == before


def test_the_cpu_runs_int8_and_needs_no_engine():
    running = Models.open(FOLDER, threads=1).running
    assert (running.provider, running.precision) == ("cpu", "int8")
    assert load_manifest(FOLDER).reader.sha256.startswith(running.reader)


def test_a_missing_engine_is_an_error_that_names_the_command(runtime, tmp_path):
    fake = runtime()
    with pytest.raises(ModelError, match=r"there is no engine.*homeplate models build"):
        opened(tmp_path)
    assert fake.opened == []


def test_an_engine_of_another_graph_is_never_used(engines):
    entry = load_manifest(FOLDER).detector.as_fp32()
    other = "f" * 64
    own = next(engines.glob("detector_fp32-*.onnx"))
    for suffix in (".onnx", ".json"):
        own.with_suffix(suffix).rename(own.with_name(f"detector_fp32-{other[:16]}{suffix}"))
    with pytest.raises(ModelError, match="there is no engine"):
        opened(engines)
    with pytest.raises(ModelError, match="not the engine that was built for this model"):
        providers.load_engine(engines, entry.file, other)


def test_an_altered_engine_is_refused(engines):
    path = next(engines.glob("reader_fp32-*.onnx"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"reader_fp32-.*SHA-256 differs.*homeplate models build"):
        opened(engines)


def test_an_engine_of_another_onnxruntime_is_refused(engines):
    path = next(engines.glob("reader_fp32-*.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "onnxruntime": "1.0.0"}))
    with pytest.raises(ModelError, match=r"built by onnxruntime 1\.0\.0, this is .*homeplate models build"):
        opened(engines)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_damaged_record_of_an_engine_is_refused(engines, content):
    next(engines.glob("reader_fp32-*.json")).write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        opened(engines)


def test_building_again_leaves_one_engine_a_model(engines):
    for suffix in (".onnx", ".json"):
        (engines / f"detector_fp32-0123456789abcdef{suffix}").write_bytes(b"of the release before")
    list(build_engines(FOLDER, engines))
    assert sorted(path.name.split("-")[0] + path.suffix for path in engines.iterdir()) == [
        "detector_fp32.json", "detector_fp32.onnx", "reader_fp32.json", "reader_fp32.onnx",
    ]  # fmt: skip
    opened(engines)


def test_a_tensorrt_that_leaves_no_engine_is_an_error(runtime, tmp_path):
    runtime(leaves=False)
    with pytest.raises(ModelError, match="left no engine"):
        list(build_engines(FOLDER, tmp_path))


def test_an_altered_graph_is_not_built(runtime, tmp_path):
    runtime()
    entry = load_manifest(FOLDER).detector
    for name in ("manifest.json", entry.file, entry.fp32.file):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes() + b" ")
    with pytest.raises(ModelError, match=r"detector_fp32\.onnx: not the model.*SHA-256"):
        list(build_engines(tmp_path, tmp_path / "engines"))


def test_a_manifest_without_fp32_graphs_is_enough_for_the_cpu_alone(runtime, tmp_path):
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    for part in ("detector", "reader"):
        del manifest[part]["fp32"]
        (tmp_path / manifest[part]["file"]).write_bytes((FOLDER / manifest[part]["file"]).read_bytes())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    Models.open(tmp_path, threads=1)
    runtime()
    with pytest.raises(ModelError, match="names no fp32 graph"):
        Models.open(tmp_path, threads=1, provider=Provider.TENSORRT, engines=tmp_path)


@pytest.fixture(scope="module")
def crops():
    """Fixed crops: plates of four designs as the renderer draws them."""
    random, designs = np.random.default_rng(2026), ("california", "california-legacy", "us", "two-line")
    return [render_plate(random, design=design).image for design in designs for _ in range(15)]


@pytest.fixture(scope="module")
def frames(rendered):
    """Fixed frames: every tenth of a rendered clip."""
    capture = cv2.VideoCapture(str(rendered[0]))
    taken = []
    while (frame := capture.read()[1]) is not None:
        taken.append(frame)
    return taken[::20]


@pytest.fixture(scope="module", params=["the fp32 graphs on the CPU", *(p for p in Provider if p is not Provider.CPU)])
def other(request, tmp_path_factory):
    """Detector and reader on each other provider that this machine has, and what those are built from on the CPU."""
    if isinstance(request.param, Provider):
        if providers.EXECUTION[request.param] not in onnxruntime.get_available_providers():
            pytest.skip(f"this onnxruntime has no {providers.EXECUTION[request.param]}")
        folder = tmp_path_factory.mktemp("engines")
        list(build_engines(FOLDER, folder))
        models = Models.open(FOLDER, threads=1, provider=request.param, engines=folder)
        return models.detector, models.reader
    manifest = load_manifest(FOLDER)
    find, read = (Model(FOLDER, entry.as_fp32(), threads=1) for entry in (manifest.detector, manifest.reader))
    return detector_of(manifest, find), reader_of(manifest, read)


def sure(reading):
    return bool(reading.characters) and min(c.alternatives[0][1] for c in reading.characters) >= SURE


def test_fixed_crops_give_the_same_texts(crops, other):
    """Of a plate of which either is sure, both read the same; of the others neither text counts alone (the vote)."""
    ours, theirs = Models.open(FOLDER, threads=1).reader.read(crops), other[1].read(crops)
    counted = [(a, b) for a, b in zip(ours, theirs, strict=True) if sure(a) or sure(b)]
    assert len(counted) >= len(crops) / 2
    assert [a.text == b.text for a, b in counted] == [True] * len(counted)


def test_fixed_frames_give_the_same_plates(frames, other):
    """Within three pixels at each side, little more than one of the network's input."""
    detector = Models.open(FOLDER, threads=1).detector
    bar = load_manifest(FOLDER).detector.thresholds.score + 0.2
    seen = 0
    for frame in frames:
        ours, theirs = detector.detect(frame), other[0].detect(frame)
        for strong, found in ((ours, theirs), (theirs, ours)):
            for plate in (plate for plate in strong if plate.score >= bar):
                seen += 1
                assert min(gap(plate, near) for near in found) <= 3
    assert seen >= len(frames)


def gap(a, b):
    return max(abs(getattr(a.box, side) - getattr(b.box, side)) for side in ("left", "top", "right", "bottom"))
