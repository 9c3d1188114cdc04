"""`places.json`: an area of which nobody can say where its inside is refuses the file, by name."""

import json
import re

import pytest

from homeplate.domain.place import MAXIMUM_AREA_M, Circle, Outline, PlaceKind, Position, SensitivePlace
from homeplate.errors import TrustError
from homeplate.trust.places import PlacesFile, places
from homeplate.trust.schema import decode

SQUARE = [(32, -117), (32, -116.99), (32.01, -116.99), (32.01, -117)]


def read(*entries):
    return places(decode(json.dumps({"format": 1, "places": entries}).encode(), PlacesFile, "places.json"))


def polygon(corners, **changed):
    points = [{"latitude_deg": latitude, "longitude_deg": longitude} for latitude, longitude in corners]
    entry = {"shape": "polygon", "name": "School", "kind": "school", "source": "the district", "corners": points}
    return entry | changed


def test_an_outline_is_read_in_either_direction():
    for corners in (SQUARE, SQUARE[::-1]):
        (found,) = read(polygon(corners))
        assert [(at.latitude_deg, at.longitude_deg) for at in found.area.corners] == corners


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        (SQUARE[:2], "corners"),
        ([*SQUARE, SQUARE[0]], "there twice"),
        ([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]], "cross or touch"),
        ([*SQUARE, (32.005, -116.995), (32.01, -116.99)], "there twice"),
        ([(0, 0), (0, 0.0001), (0.0000001, 0.0001)], "encloses less"),
        ([(0, 0), (0, 0.01), (0, 0.005)], "runs back"),
        ([(32, -117), (33, -117), (33, -116)], "m apart"),
        ([(91, 0), (0, 0), (0, 1)], "latitude_deg"),
        ([(0, 181), (0, 0), (0, 1)], "longitude_deg"),
    ],
)
def test_a_polygon_that_is_none_is_refused_by_name(corners, says):
    with pytest.raises(TrustError, match=says):
        read(polygon(corners))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": " "}, "blank name or source"),
        ({"source": " "}, "blank name or source"),
        ({"kind": "bar"}, "kind"),
        ({"shape": "blob"}, "shape"),
        ({"owner": "x"}, "owner"),
    ],
)
def test_a_place_says_what_it_is_and_who_says_so(changed, says):
    with pytest.raises(TrustError, match=says):
        read(polygon(SQUARE, **changed))


def test_a_name_is_given_once_and_corners_are_bounded():
    with pytest.raises(TrustError, match="twice"):
        read(polygon(SQUARE), polygon(SQUARE, name="SCHOOL"))
    assert read() == ()
    many = [polygon(SQUARE, name=f"s{number}") for number in range(2049)]
    with pytest.raises(TrustError, match="more than 8192 corners"):
        read(*many)
    assert len(read(*many[:2048])) == 2048


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(TrustError, match=f"^{re.escape(message)}$")


def test_a_place_is_read_as_it_was_written():
    circle = {"shape": "circle", "name": "Clinic", "kind": "clinic", "source": "the county", "radius_m": 12.5,
              "centre": {"latitude_deg": 32.5, "longitude_deg": -117.25}}  # fmt: skip
    assert read(circle, polygon(SQUARE)) == (
        SensitivePlace(
            name="Clinic",
            kind=PlaceKind.CLINIC,
            source="the county",
            area=Circle(centre=Position(latitude_deg=32.5, longitude_deg=-117.25), radius_m=12.5),
        ),
        SensitivePlace(
            name="School",
            kind=PlaceKind.SCHOOL,
            source="the district",
            area=Outline(corners=tuple(Position(latitude_deg=one, longitude_deg=other) for one, other in SQUARE)),
        ),
    )


def test_what_is_wrong_with_a_place_is_said_in_words():
    with says("places.json: a place has a blank name or source; write down what it is and who says so"):
        read(polygon(SQUARE, source=" "))
    with says("places.json: SCHOOL is there twice; say which is meant"):
        read(polygon(SQUARE), polygon(SQUARE, name="SCHOOL"))
    for corners, message in (
        ([*SQUARE, SQUARE[0]], "a corner is there twice; the last is joined to the first by itself"),
        (
            [SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]],
            "two edges cross or touch, so that nobody can say what is inside",
        ),
        ([(0, 0), (0, 0.01), (0, 0.005)], "an edge runs back along the one before it"),
        ([(0, 0), (0, 0.0001), (0.0000001, 0.0001)], "encloses less than 1.0 m2"),
        ([(32, -117), (33, -117), (33, -116)], f"corners more than {MAXIMUM_AREA_M} m apart; draw it as several areas"),
    ):
        with says(f"places.json: School: {message}"):
            read(polygon(corners))


METRE = 1 / 111_319.49  # of a degree, at the equator, eastward
NORTH = 1 / 110_574.28


def metres(*corners):
    """Corners near the equator, given in metres east and north of a point."""
    return [(10 * NORTH + north * NORTH, 20 * METRE + east * METRE) for east, north in corners]


@pytest.mark.parametrize(
    "corners",
    [
        [(0, 0), (1.5, 0), (1.5, 1.5)],
        [(0, 0), (0, 1.5), (1.5, 0)],
        [(0, 0), (10, 0), (20, 0), (20, 10), (0, 10)],  # a corner on a straight line
        [(0, 0), (0, 10), (0, 20), (10, 20), (10, 0)],
        [(20, 0), (10, 0), (0, 0), (0, 10), (20, 10)],
        [(0, 0), (30, 0), (30, 10), (20, 10), (20, 5), (10, 5), (10, 10), (0, 10)],  # edges in one line, apart
        [(0, 0), (10, 0), (10, 30), (0, 30), (0, 20), (5, 20), (5, 10), (0, 10)],
        [(-30, -30), (-10, -30), (-20, -10)],
        [(0, 0), (30, 30), (60, 60), (60, 0)],
        [(60, 60), (30, 30), (0, 0), (60, 0)],
    ],
    ids=range(10),
)
def test_a_polygon_with_an_inside_is_one_in_either_direction_and_from_whichever_corner(corners):
    for turned in (corners, corners[::-1]):
        for first in range(len(turned)):
            (found,) = read(polygon(metres(*turned[first:], *turned[:first])))
            assert len(found.area.corners) == len(corners)


@pytest.mark.parametrize(
    "corners",
    [
        [(0, 0), (20, 0), (20, 20), (10, 20), (10, -5), (0, 20)],
        [(0, 0), (10, 10), (10, 0), (0, 10)],
        [(0, 0), (20, 10), (20, 0), (0, 10), (10, 20)],
    ],
    ids=range(3),
)
def test_an_outline_that_crosses_itself_is_refused_in_either_direction_and_from_whichever_corner(corners):
    for turned in (corners, corners[::-1]):
        for first in range(len(turned)):
            with pytest.raises(TrustError, match="cross or touch"):
                read(polygon(metres(*turned[first:], *turned[:first])))


def on_axes(*corners):
    """Corners in metres east and north of latitude and longitude 0: what lies on an axis there is exactly in line."""
    return [(north * NORTH, east * METRE) for east, north in corners]


@pytest.mark.parametrize(
    ("corners", "says_what"),
    [
        ([(0, 0), (5, 0), (5, 5), (10, 0)], "runs back"),  # the last edge and the first
        ([(0, 0), (0, 5), (5, 5), (0, 10)], "runs back"),
        ([(0, 0), (-5, 0), (-5, 5), (-10, 0)], "runs back"),
        ([(0, 0), (0, -5), (5, -5), (0, -10)], "runs back"),
        ([(0, 0), (10, 0), (5, 0), (5, 5)], "cross or touch"),
        ([(0, 0), (0.9, 0), (0.9, 0.9)], "encloses less"),
        ([(0, 0), (1.3, 0), (1.3, 1.3)], "encloses less"),  # 0.845 m2: half of what the sides multiply to
        ([(0, 0), (20, 0), (20, 10), (10, 0), (0, 10)], "cross or touch"),  # a corner on another edge
        ([(0, 0), (0, 20), (10, 20), (0, 10), (10, 0)], "cross or touch"),
        ([(0, 0), (30, 0), (30, 10), (20, 10), (20, 0), (10, 0), (10, 10), (0, 10)], "cross or touch"),  # along an edge
        ([(0, 0), (0, 30), (-10, 30), (-10, 20), (0, 20), (0, 10), (-10, 10), (-10, 0)], "cross or touch"),
        ([(0, 0), (10, 0), (10, 10), (20, 10), (20, 0), (0.1, 0), (0.1, -10)], "cross or touch"),
    ],
    ids=range(12),
)
def test_an_outline_of_which_nobody_can_say_where_its_inside_is_is_refused(corners, says_what):
    for turned in (corners, [corners[0], *corners[:0:-1]]):
        with pytest.raises(TrustError, match=says_what):
            read(polygon(on_axes(*turned)))


@pytest.mark.parametrize(
    "corners",
    [
        [(0, 0), (10, 0), (20, 0), (20, 10), (0, 10)],  # a corner on a straight line
        [(0, 0), (0, 10), (0, 20), (10, 20), (10, 0)],
        [(0, 0), (5, 0), (5, 5), (10, 5), (10, 0), (15, 0), (15, 10), (0, 10)],  # edges in one line, apart
        [(0, 0), (0, 5), (5, 5), (5, 10), (0, 10), (0, 15), (10, 15), (10, 0)],
        [(0, 0), (10, 0), (5, 5)],
    ],
    ids=range(5),
)
def test_edges_in_one_line_that_do_not_meet_are_no_fault(corners):
    for turned in (corners, [corners[0], *corners[:0:-1]]):
        assert len(read(polygon(on_axes(*turned)))) == 1


def test_corners_may_be_as_far_from_the_first_as_an_area_may_measure():
    def thin(way):
        return polygon(metres((0, 0), (way, 0), (way, 2)))

    read(thin(MAXIMUM_AREA_M - 2))
    with pytest.raises(TrustError, match="m apart"):
        read(thin(MAXIMUM_AREA_M + 2))
