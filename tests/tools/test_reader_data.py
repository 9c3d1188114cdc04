"""What the reader trains on, and which pictures are held out."""

import json

import cv2
import numpy as np

from tools.render.plates import render_plate
from tools.train import reader_data, split
from tools.train.reader_data import HEIGHT, WIDTH, Sample, box_corners


def _sample(image, corners, *, boxed=False):
    return Sample(image=image, corners=corners, text="8ABC123", jurisdiction=0, boxed=boxed, source="test")


def test_a_text_is_padded_to_ten_slots() -> None:
    """The classes of a text are its characters', then padding."""
    assert reader_data.encode("A0").tolist() == [10, 0, *[36] * 8]


def test_the_plain_look_is_the_box_stretched_to_the_input() -> None:
    """Without a margin the corners of the box become the corners of the picture."""
    image = np.zeros((100, 300, 3), np.uint8)
    image[20:60, 100:200] = 200
    look = reader_data.upright(_sample(image, box_corners(100, 20, 200, 60)), 0.0)
    assert look.shape == (HEIGHT, WIDTH, 3)
    assert (look[2:-2, 2:-2] == 200).all()
    wider = reader_data.upright(_sample(image, box_corners(100, 20, 200, 60)), 0.5)
    assert (wider[0] == 0).all()
    assert (wider[HEIGHT // 2, WIDTH // 2] == 200).all()


def test_a_look_depends_on_the_generator_alone() -> None:
    """Equal seeds give equal looks."""
    plate = render_plate(np.random.default_rng(0)).image
    sample = _sample(plate, box_corners(0, 0, plate.shape[1], plate.shape[0]))
    backdrop = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    one, other = (reader_data.look(np.random.default_rng(8), sample, backdrop) for _ in range(2))
    assert np.array_equal(one, other)


def test_an_unworn_look_shows_nearly_the_whole_plate() -> None:
    """The box of a look may cut a few hundredths off a plate, not a character."""
    image = np.full((80, 160, 3), 255, np.uint8)
    sample = _sample(image, box_corners(0, 0, 160, 80))
    backdrop = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    random = np.random.default_rng(1)
    shares = [(reader_data.look(random, sample, backdrop, worn=0.0) > 128).mean() for _ in range(60)]
    assert min(shares) > 0.25
    assert np.mean(shares) > 0.6


def test_a_plate_is_cut_with_its_surroundings_and_scaled_down() -> None:
    """The corners that come with the cut-out are those of the box in it."""
    scene = np.zeros((900, 1600, 3), np.uint8)
    scene[300:500, 400:1000] = 255
    piece, corners = reader_data.cut(scene, (400, 300, 1000, 500))
    left, top, right, bottom = corners[0, 0], corners[0, 1], corners[2, 0], corners[2, 1]
    assert right - left == reader_data.KEPT_WIDTH
    assert piece[round((top + bottom) / 2), round((left + right) / 2)].tolist() == [255, 255, 255]
    assert piece[round((top + bottom) / 2), round(left) - 3].tolist() == [0, 0, 0]


def test_pictures_that_show_the_same_go_to_the_same_side() -> None:
    """Near-duplicates of one source and equal texts anywhere make one group; others do not."""
    words = {
        "read/a/1": np.array([0], np.uint64),
        "read/a/2": np.array([3], np.uint64),
        "read/a/3": np.array([2**40 - 1], np.uint64),
        "detect/b/1": np.array([0], np.uint64),
        "detect/b/2": np.array([2**50 - 1], np.uint64),
    }
    groups = split.group_pictures(words, [("read/a/3", "ABC"), ("detect/b/2", "ABC")], {"read": 2, "detect": 2})
    assert groups["read/a/1"] == groups["read/a/2"]
    assert groups["read/a/3"] == groups["detect/b/2"]
    assert len(set(groups.values())) == 3


def test_about_a_fifth_is_held_out() -> None:
    """The hash of a group's name decides, evenly."""
    held_out = sum(split.is_held_out(f"read/state/{number}.webp") for number in range(2000))
    assert 330 < held_out < 470


def test_the_split_of_a_folder_is_kept_and_gives_the_same_answer(tmp_path) -> None:
    """The cache holds what was decided; a copy of a picture is held out, or not, together with it."""
    (tmp_path / "detect/s").mkdir(parents=True)
    (tmp_path / "read/s").mkdir(parents=True)
    random = np.random.default_rng(3)
    rows: dict[str, list[dict[str, object]]] = {"detect": [], "read": []}
    for kind, lines in rows.items():
        for number in range(24):
            path = f"{kind}/s/{number:02}.png"
            noise = np.random.default_rng(number // 2).integers(0, 256, (12, 20, 3), dtype=np.uint8)
            picture = cv2.resize(noise, (200, 120)) if kind == "detect" else random.integers(0, 256, (96, 168, 3))
            cv2.imwrite(str(tmp_path / path), picture.astype(np.uint8))
            lines.append({"path": path, "machine_read": None})
        (tmp_path / kind / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "detect/machine_read.jsonl").write_text("")
    held_out = split.held_out_paths(tmp_path, tmp_path / "cache.json")
    assert held_out
    assert held_out == split.held_out_paths(tmp_path, tmp_path / "cache.json")
    for number in range(0, 24, 2):
        pair = {f"detect/s/{number:02}.png", f"detect/s/{number + 1:02}.png"}
        assert len(pair & held_out) in {0, 2}


def test_background_keeps_off_the_plates(tmp_path) -> None:
    """Pieces that read as nothing never touch a plate, however large it is in the scene."""
    (tmp_path / "detect").mkdir()
    scene = np.zeros((400, 600, 3), np.uint8)
    scene[150:250, 200:400] = 255
    cv2.imwrite(str(tmp_path / "detect/0.png"), scene)
    row = {"path": "detect/0.png", "width": 600, "height": 400, "boxes": [[200, 150, 400, 250]]}
    (tmp_path / "detect/labels.jsonl").write_text(json.dumps(row) + "\n")
    found = reader_data.background_samples(np.random.default_rng(2), tmp_path, 300)
    assert found
    for _, sample in found:
        assert sample.text == ""
        assert not reader_data.upright(sample, 0.0).any()
