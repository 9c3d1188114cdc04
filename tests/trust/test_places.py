"""`places.json`: an area of which nobody can say where its inside is refuses the file, by name."""

import json

import pytest

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
