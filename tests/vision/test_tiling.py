"""A region of interest is looked at in pieces, and each plate in it is found once, where it is."""

from pathlib import PurePath

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.vision.tiling import OVERLAP, RegionDetector, looking_at, pieces_of

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LOWER = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
WIDTH, HEIGHT = 1280, 720


class Spots:
    """Finds white rectangles: a detector that sees as far as its picture goes."""

    def __init__(self):
        self.sizes = []

    def detect(self, image):
        self.sizes.append(image.shape[:2])
        ys, xs = np.nonzero(image[:, :, 0])
        if not len(xs):
            return []
        left, top, right, bottom = float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)
        quad = Quad(corners=((left, top), (right, top), (right, bottom), (left, bottom)))
        return [Detection(box=Box(left=left, top=top, right=right, bottom=bottom), score=0.9, quad=quad)]


def frame(left, top, width, height):
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[top : top + height, left : left + width] = 255
    return picture


@given(
    left=st.integers(0, WIDTH - 60), top=st.integers(0, HEIGHT - 30), tiles=st.integers(1, 4)
)  # fmt: skip
def test_a_small_plate_is_found_once_and_where_it_is_for_any_number_of_tiles(left, top, tiles):
    [found] = RegionDetector(Spots(), region=WHOLE, tiles=tiles).detect(frame(left, top, 60, 30))
    assert found.box == Box(left=left, top=top, right=left + 60, bottom=top + 30)
    assert found.quad.box == found.box


@given(
    xs=st.lists(st.floats(0, 1), min_size=3, max_size=6), ys=st.lists(st.floats(0, 1), min_size=6, max_size=6),
    tiles=st.integers(1, 5),
)  # fmt: skip
def test_the_pieces_cover_the_region_and_stay_in_the_frame(xs, ys, tiles):
    region = tuple(zip(xs, ys, strict=False))
    pieces = pieces_of(WIDTH, HEIGHT, region, tiles)
    assert all(0 <= p.left < p.right <= WIDTH and 0 <= p.top < p.bottom <= HEIGHT for p in pieces)
    for x, y in region:
        assert any(p.left <= x * WIDTH <= p.right + 1 and p.top <= y * HEIGHT <= p.bottom + 1 for p in pieces)
    assert min(p.left for p in pieces) <= min(xs) * WIDTH
    assert {p.left for p in pieces if p.top == pieces[0].top} == {p.left for p in pieces}


def test_pieces_keep_about_the_shape_of_the_networks_input():
    assert [len(pieces_of(WIDTH, HEIGHT, WHOLE, tiles)) for tiles in (1, 2, 3)] == [1, 1 + 4, 1 + 9]
    assert [len(pieces_of(WIDTH, HEIGHT, LOWER, tiles)) for tiles in (1, 2, 3)] == [1, 1 + 2, 1 + 6]
    lane = ((0.3, 0.0), (0.5, 0.0), (0.5, 1.0), (0.3, 1.0))
    assert [len(pieces_of(1920, 1080, lane, tiles)) for tiles in (1, 4)] == [1, 1 + 16]


def test_only_the_region_is_looked_at():
    spots = Spots()
    assert RegionDetector(spots, region=LOWER, tiles=2).detect(frame(600, 100, 60, 30)) == []
    _, first, second = spots.sizes
    assert np.abs(np.subtract(first, second)).max() <= 1
    assert first[0] < HEIGHT * 0.61
    assert first[1] * (2 - OVERLAP) < WIDTH + 2


def test_what_the_region_cuts_off_is_not_reported():
    assert RegionDetector(Spots(), region=LOWER, tiles=1).detect(frame(600, 270, 60, 60)) == []
    assert len(RegionDetector(Spots(), region=LOWER, tiles=1).detect(frame(600, 380, 60, 60))) == 1


def test_a_source_without_region_and_tiles_is_looked_at_whole():
    spots = Spots()
    road = {"name": "road", "kind": SourceKind.VIDEO, "path": PurePath("road.avi")}
    assert looking_at(spots, SourceSettings(**road)) is spots
    looking_at(spots, SourceSettings(**road, tiles=2)).detect(frame(600, 380, 60, 60))
    looking_at(spots, SourceSettings(**road, region=LOWER)).detect(frame(600, 380, 60, 60))
    assert len(spots.sizes) == 1 + 4 + 1


class Distant(Spots):
    """Finds what fills enough of the picture, the surer the more it fills; sees a plate a little larger from near."""

    def detect(self, image):
        return [
            Detection(box=one.box, score=min(0.9, 12 * one.box.width / image.shape[1]), quad=one.quad)
            for one in super().detect(image)
        ]


def still(spots, width):
    road = SourceSettings(name="road", kind=SourceKind.FOLDER, path=PurePath("road"), stills=True)
    return looking_at(spots, road).detect(frame(600, 300, width, 30))


def test_a_still_is_looked_at_closer_where_no_plate_is_sure():
    spots = Distant()
    [near] = still(spots, 80)
    assert (near.score, len(spots.sizes)) == (0.75, 1)
    [far] = still(spots, 40)
    assert far.score > 12 * 40 / 740
    assert far.box == Box(left=600, top=300, right=640, bottom=330)
    assert len(spots.sizes) == 1 + 1 + 4


def test_an_empty_picture_is_looked_at_once():
    spots = Spots()
    road = SourceSettings(name="road", kind=SourceKind.FOLDER, path=PurePath("road"), stills=True)
    assert looking_at(spots, road).detect(np.zeros((0, 4, 3), np.uint8)) == []
    assert len(spots.sizes) == 1


class Fragments(Spots):
    """Like a detector, says of a plate that is cut off that it ends a little before the edge."""

    def detect(self, image):
        found = super().detect(image)
        height, width = image.shape[:2]
        near = 0.06
        return [
            Detection(
                box=Box(
                    left=one.box.left + near * one.box.width * (one.box.left == 0),
                    top=one.box.top + near * one.box.height * (one.box.top == 0),
                    right=one.box.right - near * one.box.width * (one.box.right == width),
                    bottom=one.box.bottom - near * one.box.height * (one.box.bottom == height),
                ),
                score=one.score,
            )
            for one in found
        ]


@given(left=st.integers(20, WIDTH - 260), width=st.integers(60, 240), tiles=st.integers(2, 4))
def test_no_fragment_of_a_plate_on_a_seam_is_reported(left, width, tiles):
    [found] = RegionDetector(Fragments(), region=WHOLE, tiles=tiles).detect(frame(left, 300, width, width // 2))
    assert found.box == Box(left=left, top=300, right=left + width, bottom=300 + width // 2)
