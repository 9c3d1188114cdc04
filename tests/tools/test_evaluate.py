"""What the evaluation writes for a scorer, and what it does with inputs that cannot be read."""

import json
import sys

import cv2
import numpy as np
import pytest

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection
from homeplate.domain.plate import CharReading, PlateReading
from tools import evaluate
from tools.render.plates import render_plate


@pytest.fixture
def pictures(tmp_path):
    """A folder with a car-grey picture that shows one large plate."""
    scene = np.full((480, 854, 3), 70, np.uint8)
    plate = render_plate(np.random.default_rng(3), text="7ABC123", design="california").image
    scene[220:280, 360:480] = cv2.resize(plate, (120, 60), interpolation=cv2.INTER_AREA)
    folder = tmp_path / "pictures"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), scene)
    cv2.imwrite(str(folder / "b.png"), plate)
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    return evaluate.main()


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scenes_have_a_box_a_text_and_a_time_for_each_picture(monkeypatch, pictures, tmp_path):
    out = tmp_path / "reads.jsonl"
    assert run(monkeypatch, "scenes", pictures, "--out", out) == 0
    first, _ = rows(out)
    assert first["image"].endswith("pictures/a.png")
    assert first["milliseconds"] > 0
    best = first["plates"][0]
    assert best["box"] == pytest.approx([360, 220, 480, 280], abs=25)
    assert set(best) >= {"text", "confidence", "box"}


def test_a_crop_is_read_as_one_plate(monkeypatch, pictures, tmp_path):
    out = tmp_path / "reads.jsonl"
    assert run(monkeypatch, "crops", pictures / "b.png", "--out", out) == 0
    (row,) = rows(out)
    assert row["plates"][0]["text"] == "7ABC123"


def test_a_list_names_pictures_beside_it(monkeypatch, pictures, tmp_path):
    (tmp_path / "list.jsonl").write_text('{"path": "pictures/b.png", "texts": []}\n')
    out = tmp_path / "reads.jsonl"
    assert run(monkeypatch, "crops", tmp_path / "list.jsonl", "--out", out) == 0
    assert len(rows(out)) == 1


def test_an_unreadable_input_is_named_and_the_others_are_done(monkeypatch, pictures, tmp_path, capsys):
    (pictures / "aa.png").write_bytes(b"no picture")
    out = tmp_path / "reads.jsonl"
    assert run(monkeypatch, "scenes", pictures, "--out", out) == evaluate.UNREADABLE
    assert len(rows(out)) == 2
    assert "aa.png" in capsys.readouterr().err.replace("\n", "")


def test_a_missing_input_ends_it_with_its_name(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "scenes", tmp_path / "absent", "--out", tmp_path / "o.jsonl") == 1
    assert "absent" in capsys.readouterr().err


def test_a_clip_that_is_none_is_named(monkeypatch, tmp_path, capsys):
    (tmp_path / "clip.avi").write_bytes(b"no clip")
    out = tmp_path / "passages.jsonl"
    assert run(monkeypatch, "clips", tmp_path / "clip.avi", "--out", out) == evaluate.UNREADABLE
    assert "MPEG-TS video" in capsys.readouterr().err.replace("\n", "")
    assert rows(out) == []


class Double:
    """Sees one plate a little too large, reads an open O or 0 on it, and says where in its crop it is."""

    claimed, within = Box(left=340, top=210, right=500, bottom=290), Box(left=20, top=10, right=140, bottom=70)

    def detect(self, image):
        return [Detection(box=self.claimed, score=0.9)]

    def read(self, crops):
        characters = tuple(
            CharReading(alternatives=((c, 0.9), ("O", 0.09)) if n == 2 else ((c, 0.99),))
            for n, c in enumerate("5A0G200")
        )
        return [PlateReading(characters=characters, box=self.within) for _ in crops]


def test_a_scenes_plate_has_the_readers_box_and_the_text_that_the_node_would_tell(pictures):
    double = Double()
    (plate,) = evaluate.read_scene(pictures / "a.png", double, double, "US-CA")["plates"]
    assert (plate["text"], plate["box"]) == ("5AOG200", [350.0, 212.0, 470.0, 272.0])
    (plate,) = evaluate.read_scene(pictures / "a.png", double, double, "unknown")["plates"]
    assert plate["text"] == "5A0G200"


def test_a_clip_has_its_passages(monkeypatch, rendered, tmp_path):
    clip, truth = rendered
    out = tmp_path / "passages.jsonl"
    assert run(monkeypatch, "clips", clip, "--out", out) == 0
    (row,) = rows(out)
    assert {passage["text"] for passage in row["passages"]} & set(truth)
