"""The reader that the project ships, on plates that the renderer draws: what was trained is what is in the manifest."""

import numpy as np
import pytest

from homeplate.domain.plate import PlateText
from homeplate.vision import open_models
from homeplate.vision.model import default_model_dir
from tools.render.plates import PlateImage, render_plate


@pytest.fixture(scope="module")
def reader():
    """The node's own reader with the project's model."""
    return open_models(default_model_dir(), threads=1)[1]


def _plates(design: str, count: int) -> list[PlateImage]:
    random = np.random.default_rng(2026)
    return [render_plate(random, design=design) for _ in range(count)]


@pytest.mark.parametrize(
    ("design", "least"), [("california", 0.9), ("california-legacy", 0.85), ("us", 0.5), ("two-line", 0.2)]
)
def test_rendered_plates_are_read(reader, design: str, least: float) -> None:
    """Most plates of a design are read without a fault at full resolution."""
    plates = _plates(design, 40)
    readings = reader.read([plate.image for plate in plates])
    right = [reading.text == PlateText(plate.text) for reading, plate in zip(readings, plates, strict=True)]
    assert np.mean(right) >= least


def test_a_picture_without_a_plate_reads_with_little_confidence(reader) -> None:
    """Grey, noise and black give no reading that is sure of every character."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 120, 3), dtype=np.uint8)
    for image in (np.full((40, 80, 3), 128, np.uint8), np.zeros((40, 80, 3), np.uint8), noise):
        (reading,) = reader.read([image])
        sure = [character.alternatives[0][1] for character in reading.characters]
        assert len(sure) < 2 or min(sure) < 0.9


def test_readings_do_not_depend_on_the_batch(reader) -> None:
    """A plate read alone and among others gives the same text."""
    images = [plate.image for plate in _plates("california", 6)]
    together = [reading.text for reading in reader.read(images)]
    assert together == [reader.read([image])[0].text for image in images]
