"""Reading probabilities, and which crops the network is given."""

import numpy as np
import pytest

from homeplate.domain.geometry import Box
from homeplate.vision.image import closer
from homeplate.vision.reader import CLOSE_MARGINS, Classes, Reader, box_of, reading_of

CLASSES = Classes(alphabet="AB0_", jurisdictions=("US-CA", "US-NV"), least_jurisdiction=0.6, least_alternative=0.05)


def rows(*positions):
    return np.array(positions, np.float32)


CALIFORNIA = np.array([0.9, 0.1], np.float32)
EXTENT = np.array([[0.25, 0.125, 0.75, 0.875]], np.float32)


def test_padding_is_left_out_and_never_counted():
    reading = reading_of(rows([0.7, 0.2, 0.05, 0.05], [0.01, 0.02, 0.01, 0.96]), CALIFORNIA, CLASSES)
    assert reading.text.reveal() == "A"
    assert reading.confidence == pytest.approx(0.7)


def test_alternatives_come_likeliest_first_without_padding():
    reading = reading_of(rows([0.2, 0.5, 0.04, 0.26]), CALIFORNIA, CLASSES)
    (character,) = reading.characters
    assert [name for name, _ in character.alternatives] == ["B", "A"]
    assert character.confidence == pytest.approx(0.5)


def test_nothing_legible_reads_as_nothing():
    reading = reading_of(rows([0, 0, 0, 1], [0, 0, 0, 1]), CALIFORNIA, CLASSES)
    assert reading.characters == ()
    assert reading.text is None


def test_the_likeliest_character_is_kept_however_unsure():
    classes = Classes(alphabet="AB0_", jurisdictions=("US-CA",), least_jurisdiction=0.6, least_alternative=0.9)
    reading = reading_of(rows([0.3, 0.26, 0.2, 0.24]), np.ones(1, np.float32), classes)
    assert [c.character for c in reading.characters] == ["A"]


def test_an_unsure_jurisdiction_is_unknown():
    assert reading_of(rows([1, 0, 0, 0]), np.array([0.55, 0.45], np.float32), CLASSES).jurisdiction == "unknown"
    assert reading_of(rows([1, 0, 0, 0]), CALIFORNIA, CLASSES).jurisdiction == "US-CA"


class Counting:
    """A network that reads the first pixel's blue as the class of the only position."""

    def __init__(self):
        self.sizes = []

    def run(self, batch):
        self.sizes.append(batch.shape)
        return [np.eye(4, dtype=np.float32)[batch[:, :1, 0, 0]], np.tile(CALIFORNIA, (len(batch), 1)), EXTENT]


def test_crops_are_read_in_order_one_at_a_time():
    network = Counting()
    reader = Reader(network, width=16, height=8, classes=CLASSES)
    crops = [np.full((5, 9, 3), index % 3, np.uint8) for index in range(6)]
    texts = [reading.text.reveal() for reading in reader.read(crops)]
    assert texts == ["A", "B", "0", "A", "B", "0"]
    assert network.sizes == [(1, 8, 16, 3)] * 6


def test_an_empty_crop_reads_as_nothing_and_is_not_given_to_the_network():
    network = Counting()
    reader = Reader(network, width=16, height=8, classes=CLASSES)
    first, second = reader.read([np.zeros((0, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)])
    assert first.characters == ()
    assert second.text.reveal() == "B"
    assert network.sizes == [(1, 8, 16, 3)]


def test_the_plates_place_is_told_in_pixels_of_its_crop():
    (reading,) = Reader(Counting(), width=16, height=8, classes=CLASSES).read([np.ones((40, 80, 3), np.uint8)])
    assert reading.box == Box(left=20, top=5, right=60, bottom=35)


def test_where_nothing_is_read_no_place_is_told():
    (reading,) = Reader(Counting(), width=16, height=8, classes=CLASSES).read([np.full((40, 80, 3), 3, np.uint8)])
    assert (reading.characters, reading.box) == ((), None)


@pytest.mark.parametrize(
    "extent",
    [
        (0.6, 0.1, 0.7, 0.9),
        (0.1, 0.5, 0.9, 0.5),
        (0.9, 0.1, 0.1, 0.9),
        (-0.6, 0.1, 0.9, 0.9),
        (0.1, 0.1, 0.9, 1.6),
        (np.nan, 0.1, 0.9, 0.9),
        (0.1, 0.1, np.inf, 0.9),
    ],
)
def test_a_place_where_no_plate_of_the_crop_can_be_is_none(extent):
    assert box_of(np.array(extent, np.float32), np.zeros((40, 80, 3), np.uint8)) is None


def test_no_crops_need_no_run():
    network = Counting()
    assert Reader(network, width=16, height=8, classes=CLASSES).read([]) == []
    assert network.sizes == []


class Hesitant:
    """A network that is unsure of the first look it is given and sure of the others."""

    def __init__(self):
        self.looks = []

    def run(self, batch):
        self.looks.append(batch[0])
        row = [0.1, 0.5, 0.4, 0] if len(self.looks) == 1 else [0.1, 0.2, 0.7, 0]
        return [rows(row)[None], np.array([[0.5, 0.5] if len(self.looks) == 1 else [0.9, 0.1]], np.float32), EXTENT]


def test_an_unsure_plate_is_looked_at_again_around_the_box_that_was_seen_and_the_looks_are_averaged():
    network = Hesitant()
    crop = np.random.default_rng(1).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    (reading,) = Reader(network, width=16, height=8, classes=CLASSES).read([crop])
    seen = Box(left=4, top=1, right=12, bottom=7)
    assert len(network.looks) == 3
    for look, margin in zip(network.looks[1:], CLOSE_MARGINS, strict=True):
        assert (look == closer(crop, seen, margin)).all()
    assert reading.characters[0].character == CLASSES.alphabet[2]
    assert reading.characters[0].confidence == pytest.approx((0.4 + 0.7 + 0.7) / 3)
    assert reading.jurisdiction_confidence == pytest.approx((0.5 + 0.9 + 0.9) / 3)


class Boxless(Hesitant):
    """A network that is unsure of the plate and sees no box."""

    def run(self, batch):
        characters, jurisdictions, _ = super().run(batch)
        return [characters, jurisdictions, np.array([[0.5, 0.5, 0.5, 0.5]], np.float32)]


def test_an_unsure_plate_whose_box_was_not_seen_is_looked_at_once():
    network = Boxless()
    (reading,) = Reader(network, width=16, height=8, classes=CLASSES).read([np.ones((4, 4, 3), np.uint8)])
    assert (len(network.looks), reading.box) == (1, None)


def test_a_closer_look_keeps_every_point_where_it_is():
    ramp = np.repeat(np.arange(0, 240, 3, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    whole = Box(left=0, top=0, right=80, bottom=40)
    assert (closer(ramp, whole, 0) == ramp).all()
    near = closer(ramp, Box(left=20, top=10, right=60, bottom=30), 0)
    # The middle of column x of the look is the point 20 + (x + 0.5) / 2 of the picture.
    wanted = 3 * (20 + (np.arange(80) + 0.5) / 2 - 0.5)
    assert np.abs(near[20, :, 0].astype(float) - wanted).max() <= 1


def test_a_closer_look_shows_the_plate_and_its_margin_in_the_pictures_size():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[10:30, 20:60] = 200
    near = closer(picture, Box(left=20, top=10, right=60, bottom=30), 0.25)
    assert near.shape == picture.shape
    plate = (near == 200).all(axis=2)
    assert plate[8:32, 15:65].all()
    assert not plate[:5].any()
    assert not plate[:, :11].any()


def test_what_lies_beyond_the_picture_repeats_its_edge():
    picture = np.full((40, 80, 3), 90, np.uint8)
    assert (closer(picture, Box(left=-20, top=-10, right=100, bottom=50), 0.1) == 90).all()


class Lost(Hesitant):
    """A network that sees no letter there is."""

    def run(self, batch):
        self.looks.append(batch[0])
        return [rows([0.28, 0.26, 0.26, 0.2])[None], np.array([[0.5, 0.5]], np.float32), EXTENT]


def test_what_can_hardly_be_a_plate_is_looked_at_once():
    network = Lost()
    Reader(network, width=16, height=8, classes=CLASSES).read([np.ones((4, 4, 3), np.uint8)])
    assert len(network.looks) == 1
