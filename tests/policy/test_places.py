"""No node reads inside a sensitive place, on its edge, or where nobody signed its position while places are listed."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homeplate.domain.geodesy import SEMI_MAJOR_M, chord_m
from homeplate.domain.node import NodeEntry
from homeplate.domain.place import Circle, Outline, PlaceKind, Position, SensitivePlace
from homeplate.policy.places import inside, may_read_here

DEGREE_M = 110_000  # of latitude, at the least


def at(latitude_deg, longitude_deg):
    return Position(latitude_deg=latitude_deg, longitude_deg=longitude_deg)


def place(area, name="the clinic"):
    return SensitivePlace(name=name, kind=PlaceKind.CLINIC, source="the county's list", area=area)


def node(position=None, **cameras):
    return NodeEntry(
        pseudonym=bytes(16), record_public=bytes(32), ledger_public=bytes(32), hot_list_public=bytes(32),
        cameras=("north", "south"), not_before_s=0, not_after_s=1, position=position, camera_positions=cameras,
    )  # fmt: skip


HERE, AWAY = at(32.7157, -117.1611), at(32.9, -117.1611)
CLINIC = place(Circle(centre=HERE, radius_m=200))
SQUARE = place(Outline(corners=(at(32, -117), at(32, -116.99), at(32.01, -116.99), at(32.01, -117))))


def test_inside_a_sensitive_place_the_node_does_not_read_and_says_which():
    assert [one.reason for one in may_read_here([CLINIC], node(HERE), ["north"])] == [
        "sensitive-place: north stands in the clinic (clinic, after the county's list)"
    ]
    assert may_read_here([CLINIC], node(AWAY), ["north"]) == []


def test_a_node_without_a_signed_position_does_not_read_once_places_are_listed():
    for unknown in (None, node()):
        found = may_read_here([CLINIC], unknown, ["north", "south"])
        assert [one.reason[:49] for one in found] == ["no-position: the bundle lists 1 sensitive places "] * 2
        assert found[1].reason.endswith(
            " and not where south stands; sign its position with `homeplate-custodian bundle position`"
        )
        assert may_read_here([], unknown, ["north"]) == []


def test_a_camera_that_stands_elsewhere_is_judged_there():
    found = may_read_here([CLINIC], node(AWAY, south=HERE), ["north", "south"])
    assert [one.reason[:22] for one in found] == ["sensitive-place: south"]
    assert may_read_here([CLINIC], node(HERE, north=AWAY), ["north"]) == []


@pytest.mark.parametrize(
    ("point", "within"),
    [
        (at(32.005, -116.995), True),
        (at(32.0, -116.995), True),
        (at(31.99999, -116.995), False),
        (at(31.999995, -116.995), True),  # half a metre
        (at(32.005, -117.00002), False),
        (at(32.005, -116.98998), False),
        (at(32.01002, -116.995), False),
        (at(32, -117), True),
        (at(-32.005, 63.005), False),  # the other side of the earth
        (at(32.005, 116.995), False),
    ],
)
def test_an_outline_holds_what_is_within_and_on_its_edge(point, within):
    assert inside(point, SQUARE) is within


def test_an_outline_with_a_bay_does_not_hold_the_bay():
    bay = place(Outline(corners=(at(0, 0), at(0, 0.03), at(0.03, 0.03), at(0.03, 0), at(0.015, 0.02))))
    assert inside(at(0.015, 0.025), bay)
    assert not inside(at(0.015, 0.005), bay)
    assert inside(at(0.002, 0.005), bay)


def test_an_outline_that_is_crossed_three_times_holds_what_is_in_its_first_arm():
    """A U, open to the north: eastward from its left arm lie that arm's edge and both of the other's."""
    arms = place(
        Outline(
            corners=(
                at(0, 0), at(0, 0.03), at(0.03, 0.03), at(0.03, 0.02), at(0.01, 0.02), at(0.01, 0.01), at(0.03, 0.01),
                at(0.03, 0),
            )
        )
    )  # fmt: skip
    assert inside(at(0.02, 0.005), arms)
    assert not inside(at(0.02, 0.015), arms)
    assert inside(at(0.02, 0.025), arms)
    assert not inside(at(0.02, -0.005), arms)


LEANING = place(
    Outline(corners=(at(32.000, -117.000), at(32.006, -116.990), at(32.010, -116.995), at(32.004, -117.005)))
)


def in_leaning_frame(along, across):
    """A point of LEANING's plane: shares of the way along its first and its last edge."""
    first, second, _, last = LEANING.area.corners
    return at(
        first.latitude_deg
        + along * (second.latitude_deg - first.latitude_deg)
        + across * (last.latitude_deg - first.latitude_deg),
        first.longitude_deg
        + along * (second.longitude_deg - first.longitude_deg)
        + across * (last.longitude_deg - first.longitude_deg),
    )


@given(st.floats(-1, 2), st.floats(-1, 2))
@example(1.5, 0.5).via("beyond an edge's end")
@example(0.5, -0.5).via("beside an edge")
@example(-0.5, 0.0).via("in line with an edge")
@example(1.7, 0.0).via("in line with an edge, beyond its end")
def test_an_outline_that_leans_holds_exactly_what_its_edges_enclose(along, across):
    """Judged in the outline's own slanted frame; what lies within a hundredth of an edge is left out."""
    if min(abs(share - edge) for share in (along, across) for edge in (0, 1)) > 0.01:
        assert inside(in_leaning_frame(along, across), LEANING) == (0 < along < 1 and 0 < across < 1)
    elif not (-0.01 < along < 1.01 and -0.01 < across < 1.01):
        assert not inside(in_leaning_frame(along, across), LEANING)


@given(st.floats(0, 1), st.booleans())
def test_every_point_of_a_slanted_edge_is_inside(share, swapped):
    along, across = (share, 1.0) if swapped else (0.0, share)
    assert inside(in_leaning_frame(along, across), LEANING)


def test_a_corner_level_with_the_point_is_counted_once():
    """Straight to the east of the middle lies a corner: counted twice, or not at all, the middle would be outside."""
    for turn in (1, -1):
        corners = [at(0, 0.01), at(0.01, 0), at(0, -0.01), at(-0.01, 0)][::turn]
        diamond = place(Outline(corners=tuple(corners)))
        assert inside(at(0, 0), diamond)
        assert not inside(at(0, -0.011), diamond)
        assert not inside(at(0.01, -0.005), diamond)
        assert not inside(at(-0.01, -0.005), diamond)


@pytest.mark.parametrize("middle", [at(0, 180), at(0, -180), at(89.995, 10), at(-89.995, -170), at(40, 0)])
def test_neither_antimeridian_nor_pole_is_a_special_case(middle):
    area = place(Circle(centre=middle, radius_m=1000))
    assert inside(middle, area)
    step = -0.005 if middle.latitude_deg > 0 else 0.005
    assert inside(at(middle.latitude_deg + step, middle.longitude_deg), area)
    assert not inside(at(middle.latitude_deg + 4 * step, middle.longitude_deg), area)


def test_an_outline_over_the_antimeridian_and_one_round_the_pole_hold_their_middles():
    over = place(Outline(corners=(at(-1, 179.99), at(-1, -179.99), at(-0.99, -179.99), at(-0.99, 179.99))))
    assert inside(at(-0.995, 180), over)
    assert inside(at(-0.995, -179.995), over)
    assert not inside(at(-0.995, 0), over)
    pole = place(Outline(corners=tuple(at(89.99, longitude) for longitude in (-180, -90, 0, 90))))
    assert inside(at(90, 33), pole)
    assert not inside(at(89.98, 45), pole)


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 2 * math.pi), st.floats(1, 20_000), st.floats(0, 2))
def test_a_circle_holds_what_is_nearer_than_its_radius(latitude, longitude, bearing, radius_m, share):
    """Against the haversine on a sphere, whose distances differ by half a percent from the ellipsoid's."""
    way = share * radius_m / SEMI_MAJOR_M
    start = math.radians(latitude)
    sine = math.sin(start) * math.cos(way) + math.cos(start) * math.sin(way) * math.cos(bearing)
    end = math.asin(max(-1.0, min(1.0, sine)))
    turn = math.atan2(
        math.sin(bearing) * math.sin(way) * math.cos(start), math.cos(way) - math.sin(start) * math.sin(end)
    )
    point = at(math.degrees(end), (longitude + math.degrees(turn) + 180) % 360 - 180)
    area = place(Circle(centre=at(latitude, longitude), radius_m=radius_m))
    if share < 0.99:
        assert inside(point, area)
    if share * radius_m > 1.01 * radius_m + 2:
        assert not inside(point, area)


def test_a_degree_is_as_long_as_the_ellipsoid_says():
    assert chord_m(at(0, 0), at(0, 1)) == pytest.approx(111_318, abs=3)
    assert chord_m(at(0, 0), at(1, 0)) == pytest.approx(110_573, abs=3)
    assert chord_m(at(89, 0), at(90, 0)) == pytest.approx(111_692, abs=3)
    assert chord_m(at(90, 0), at(-90, 0)) == pytest.approx(2 * 6_356_752.314, abs=0.01)
