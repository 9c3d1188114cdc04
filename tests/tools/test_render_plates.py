"""The renderer of synthetic plates."""

import numpy as np
import pytest

from tools.render import glyphs
from tools.render.plates import CALIFORNIAN, CONFUSABLE, DESIGNS, confused, degrade, render_plate


def test_equal_seeds_give_equal_plates() -> None:
    """A plate depends on the generator alone."""
    one, other = (render_plate(np.random.default_rng(11)) for _ in range(2))
    assert one.text == other.text
    assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_design_renders_a_text_that_a_reader_can_say(design: str) -> None:
    """A text has 2 to 10 characters out of A-Z and 0-9, and every character has its box inside the picture."""
    random = np.random.default_rng(5)
    for _ in range(15):
        plate = render_plate(random, design=design)
        assert 2 <= len(plate.text) <= 10
        assert set(plate.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        assert plate.characters.shape == (len(plate.text), 4, 2)
        height, width = plate.image.shape[:2]
        assert plate.characters.min() >= 0
        assert plate.characters[..., 0].max() <= width
        assert plate.characters[..., 1].max() <= height
        assert plate.jurisdiction == ("US-CA" if design in CALIFORNIAN else "unknown")


def test_the_caller_chooses_the_text() -> None:
    """The text asked for is the text rendered, in every design."""
    random = np.random.default_rng(1)
    assert {render_plate(random, text="7ABC123", design=design).text for design in DESIGNS} == {"7ABC123"}


@pytest.mark.parametrize("text", ["", "A", "abc123", "AB-123", "A" * 11])
def test_a_text_that_no_reader_can_say_is_refused(text: str) -> None:
    """Letters outside of A-Z and 0-9, and lengths outside of 2 to 10, are errors."""
    with pytest.raises(ValueError, match="2 to 10 characters"):
        render_plate(np.random.default_rng(1), text=text)


def test_an_unknown_design_is_named_with_the_known_ones() -> None:
    """The error says which designs there are."""
    with pytest.raises(ValueError, match=r"atlantis: no such design.*california"):
        render_plate(np.random.default_rng(1), design="atlantis")


def test_two_line_plates_are_read_top_to_bottom() -> None:
    """In a two-line plate the boxes of the text's end lie below those of its beginning."""
    plate = render_plate(np.random.default_rng(3), design="two-line")
    tops = plate.characters[:, 0, 1]
    assert np.all(np.diff(tops) >= -1)
    assert tops[-1] > tops[0] + 10


def test_characters_stand_out_from_the_ground_where_their_boxes_are() -> None:
    """Ink lies in the boxes: a Californian plate of black on yellow is darker inside of them than at its edge."""
    for seed in range(8):
        plate = render_plate(np.random.default_rng(seed), text="8888888", design="california")
        grey = plate.image.mean(axis=2)
        inside = [grey[round(q[0, 1]) : round(q[2, 1]), round(q[0, 0]) : round(q[2, 0])] for q in plate.characters]
        between = grey[round(plate.characters[0, 2, 1]) + 2 : -20, 12:-12]
        assert np.mean([part.mean() for part in inside]) < between.mean() - 15


def test_no_two_letters_of_a_face_are_drawn_alike() -> None:
    """Even O and 0 of the Californian dies differ, as do all other letters."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    even = glyphs.Face(aspect=0.36, weight=0.1, even=True)
    drawn = {letter: glyphs.draw(even, letter, 80) for letter in letters}
    for index, one in enumerate(letters):
        for other in letters[index + 1 :]:
            assert drawn[one].shape == drawn[other].shape
            assert np.abs(drawn[one] - drawn[other]).mean() > 0.01, (one, other)


def test_confused_replaces_by_look_alikes_only() -> None:
    """Each letter is kept or replaced by one that readers take for it."""
    text = "BODIQ5Z2"
    changed = confused(np.random.default_rng(2), text, 0.8)
    assert changed != text
    assert all(a == b or b in CONFUSABLE[a] for a, b in zip(text, changed, strict=True))


def test_degrade_keeps_the_shape_and_changes_the_picture() -> None:
    """What is worn down has the shape and type it had."""
    random = np.random.default_rng(4)
    image = render_plate(random).image
    worn = [degrade(random, image) for _ in range(10)]
    assert all(picture.shape == image.shape and picture.dtype == np.uint8 for picture in worn)
    assert any(not np.array_equal(picture, image) for picture in worn)
