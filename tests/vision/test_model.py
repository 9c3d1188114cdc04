"""What the node accepts as a model, and how it refuses the rest: by the name of the file and the next step."""

import hashlib
import json

import numpy as np
import pytest

from homeplate.errors import ModelError
from homeplate.vision import open_models
from homeplate.vision.model import Model, default_model_dir, load_manifest

FOLDER = default_model_dir()


@pytest.fixture
def folder(tmp_path):
    """A copy of the project's models that a test may spoil."""
    for name in ("detector.onnx", "reader.onnx", "manifest.json"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    return tmp_path


def edited(folder, **changes):
    """Change the detector's entry of the manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["detector"].update(changes)
    path.write_text(json.dumps(manifest))
    return folder


def test_the_projects_models_open_and_an_empty_road_has_no_plate():
    detector, reader = open_models(FOLDER, threads=1)
    assert detector.detect(np.full((720, 1280, 3), 90, np.uint8)) == []
    assert len(reader.read([np.zeros((20, 40, 3), np.uint8)] * 5)) == 5


def test_the_manifest_names_training_data_with_licences():
    manifest = load_manifest(FOLDER)
    assert all(data.licence for entry in (manifest.detector, manifest.reader) for data in entry.training)
    assert manifest.detector.data_sha256 == manifest.reader.data_sha256


@pytest.mark.parametrize("name", ["detector.onnx", "manifest.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}: No such file.*install"):
        open_models(folder, threads=1)


def test_an_altered_model_is_refused(folder):
    path = folder / "reader.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"reader\.onnx: not the model.*SHA-256"):
        open_models(folder, threads=1)


def test_a_file_that_is_no_model_is_refused_even_if_the_manifest_names_it(folder):
    (folder / "detector.onnx").write_bytes(b"no model")
    edited(folder, sha256=hashlib.sha256(b"no model").hexdigest())
    with pytest.raises(ModelError, match=r"detector\.onnx: onnxruntime cannot open it"):
        open_models(folder, threads=1)


def test_an_input_of_another_shape_is_refused(folder):
    spec = json.loads((folder / "manifest.json").read_text())["detector"]["input"]
    edited(folder, input={**spec, "shape": [1, 32, 32, 3]})
    with pytest.raises(ModelError, match=r"detector\.onnx: its inputs are"):
        open_models(folder, threads=1)


def test_an_output_of_another_name_is_refused(folder):
    spec = json.loads((folder / "manifest.json").read_text())["detector"]["outputs"]
    edited(folder, outputs=[{**spec[0], "name": "others"}])
    with pytest.raises(ModelError, match=r"detector\.onnx: its outputs are"):
        open_models(folder, threads=1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": 0.5}, "mean"),
        ({"file": "../detector.onnx"}, "file"),
        ({"thresholds": {"score": 7, "overlap": 0.4, "corners": 0.2}}, r"thresholds\.score"),
        ({"sha256": "0"}, "sha256"),
        ({"input": {"name": "image", "shape": [3, 8, 8], "type": "tensor(uint8)"}}, r"input\.shape"),
        ({"outputs": []}, "outputs"),
    ],
)
def test_a_manifest_with_an_unknown_key_or_a_wrong_value_is_refused_by_the_keys_name(folder, change, told):
    with pytest.raises(ModelError, match=rf"manifest\.json: .*{told}"):
        load_manifest(edited(folder, **change))


def test_an_alphabet_that_is_not_the_readers_is_refused(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["reader"]["alphabet"] = "ABC_"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="names 4 characters"):
        load_manifest(folder)


def test_a_reader_that_does_not_tell_four_edges_is_refused(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["reader"]["outputs"][2]["shape"] = [1, 3]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="4 edges"):
        load_manifest(folder)


def test_a_manifest_of_another_version_is_refused(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ModelError, match="version 2"):
        load_manifest(folder)


def test_no_thread_is_refused():
    with pytest.raises(ModelError, match="0 threads"):
        open_models(FOLDER, threads=0)


def test_a_batch_of_the_wrong_shape_is_refused_by_name():
    entry = load_manifest(FOLDER).detector
    model = Model(FOLDER, entry, threads=1)
    with pytest.raises(ModelError, match=r"detector\.onnx: cannot run on an input of shape \(1, 8, 8, 3\)"):
        model.run(np.zeros((1, 8, 8, 3), np.uint8))


def test_equal_inputs_give_equal_outputs():
    entry = load_manifest(FOLDER).detector
    model = Model(FOLDER, entry, threads=2)
    picture = np.random.default_rng(0).integers(0, 256, entry.input.shape, dtype=np.uint8)
    assert all((a == b).all() for a, b in zip(model.run(picture), model.run(picture), strict=True))
