"""Which sightings are one vehicle."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate.domain.passage import Direction
from homeplate.tracking.tracker import (
    MOST_BOXES,
    MOST_READINGS,
    MOST_TRACKS,
    Tracker,
    associate,
    direction,
    edit_distance,
)
from tests.sightings import SECOND, box, sighting

STEP = SECOND // 10


def run(frames, step=STEP):
    """Track a list of lists of sightings; return every track in the order in which it was reported."""
    tracker, done = Tracker(), []
    for index, sightings in enumerate(frames):
        if sightings is not None:
            done += tracker.update(sightings, index * step)
    return done + tracker.flush()


def texts(tracks):
    return sorted(track.text.reveal() for track in tracks if track.text is not None)


def test_one_car_that_moves_steadily_is_one_track():
    tracks = run([[sighting(100 + 60 * i, 200, "7ABC123", frame=i)] for i in range(12)])
    assert [(t.sightings, t.seen, t.first.frame_index, t.last.frame_index) for t in tracks] == [(12, 12, 0, 11)]


def test_a_car_that_is_not_found_in_some_frames_stays_one_track():
    gone = {4, 5, 6, 7}
    tracks = run([[] if i in gone else [sighting(50 + 70 * i, 200, None, frame=i)] for i in range(14)])
    assert [t.sightings for t in tracks] == [10]


def test_a_car_that_is_seen_again_elsewhere_is_known_by_its_text():
    tracks = run([[sighting(100, 200, "7ABC123")]] * 3 + [[]] * 6 + [[sighting(900, 500, "7ABC123", width=160)]] * 3)
    assert [t.sightings for t in tracks] == [6]


def test_a_grille_that_is_taken_for_a_plate_does_not_prolong_a_car_that_has_left():
    car = [[sighting(800 - 10 * i, 300, "7ABC123", frame=i)] for i in range(8)]
    tracks = run([*car, *([[]] * 5), [sighting(980, 330, None, frame=13, width=110)]])
    assert sorted(t.last.frame_index for t in tracks) == [7, 13]


def test_two_cars_side_by_side_never_merge():
    tracks = run([[sighting(100 + 20 * i, 200, "7ABC123"), sighting(160 + 20 * i, 205, "8XYZ987")] for i in range(10)])
    assert (texts(tracks), [t.sightings for t in tracks]) == (["7ABC123", "8XYZ987"], [10, 10])


def test_two_cars_that_cross_keep_their_plates():
    frames = [[sighting(100 + 50 * i, 200, "7ABC123"), sighting(800 - 50 * i, 210, "8XYZ987")] for i in range(15)]
    tracks = run(frames)
    assert [set(t.texts) for t in tracks] == [{t.text} for t in tracks]
    assert (texts(tracks), [t.sightings for t in tracks]) == (["7ABC123", "8XYZ987"], [15, 15])


def test_two_cars_that_cross_unread_keep_their_way():
    frames = [[sighting(100 + 50 * i, 200, None), sighting(800 - 50 * i, 260, None)] for i in range(15)]
    tracks = run(frames)
    assert sorted(round(t.last.detection.box.centre[0]) for t in tracks) == [100, 800]
    assert {round(t.first.detection.box.centre[1]) == round(t.last.detection.box.centre[1]) for t in tracks} == {True}


def test_the_car_behind_takes_no_sighting_of_the_car_before_it():
    """A platoon: the second plate enters about where the first was just before."""
    frames = []
    for i in range(20):
        cars = [(200 + 90 * i, "7ABC123"), (-300 + 90 * i, "7ABC129")]
        frames.append([sighting(x, 200, text, frame=i) for x, text in cars if 0 <= x <= 1900])
    assert texts(run(frames)) == ["7ABC123", "7ABC129"]


def test_a_plate_in_another_plates_place_is_another_vehicle_when_both_are_read_surely():
    assert texts(run([[sighting(300, 200, "7ABC123")]] * 5 + [[sighting(300, 200, "4KLM560")]] * 5)) == [
        "4KLM560",
        "7ABC123",
    ]


def test_a_stopped_car_is_one_track_while_the_gate_is_closed():
    """Forced looks come every two seconds; the time between them ages no track."""
    tracker, done = Tracker(), []
    for i in range(10):
        done += tracker.update([sighting(300, 200, "7ABC123", frame=20 * i)], i * 2 * SECOND)
    assert [t.sightings for t in done + tracker.flush()] == [10]


def test_a_parked_car_that_a_lorry_hides_is_still_the_same():
    frames = [[sighting(300, 200, None)]] * 20 + [[]] * 50 + [[sighting(302, 200, None)]] * 20
    assert [t.sightings for t in run(frames)] == [40]


def test_a_long_stop_is_reported_once_after_half_a_minute_and_not_again_at_its_end():
    tracker = Tracker()
    done = [(i, t) for i in range(900) for t in tracker.update([sighting(300, 200, "7ABC123", frame=i)], i * STEP)]
    assert [(i, t.seen) for i, t in done] == [(300, 301)]
    assert tracker.flush() == []


def test_a_car_that_left_is_closed_after_the_patience():
    tracker = Tracker()
    for i in range(5):
        assert tracker.update([sighting(100 + 60 * i, 200, "7ABC123", frame=i)], i * STEP) == []
    closed = [i for i in range(5, 60) if tracker.update([], i * STEP)]
    assert closed == [20]


def test_a_size_that_leaps_is_another_plate():
    assert len(run([[sighting(300, 200, None, width=60)], [sighting(300, 200, None, width=150)]])) == 2


def test_readings_and_tracks_are_bounded():
    [track] = run([[sighting(300, 200, "7ABC123", confidence=0.5 + i / 400)] for i in range(3 * MOST_READINGS)])
    assert (len(track.readings), track.seen) == (MOST_READINGS, 3 * MOST_READINGS)
    assert min(r.confidence for r in track.readings) > 0.5 + (2 * MOST_READINGS - 1) / 400
    tracker = Tracker()
    for i in range(5):
        tracker.update([sighting(2000 * n, 3000 * i, None) for n in range(MOST_TRACKS)], i * STEP)
        assert len(tracker.open) <= MOST_TRACKS


def test_the_best_crop_is_that_of_the_surest_reading():
    sure = {3: 0.99}
    [track] = run([[sighting(300, 200, "7ABC123", frame=i, confidence=sure.get(i, 0.7))] for i in range(6)])
    assert track.crop is not None
    assert track.crop[0, 0, 0] == 3


places = st.tuples(st.integers(0, 1200), st.integers(0, 700), st.sampled_from(["7ABC123", "8XYZ987", "7ABC128", None]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(places, max_size=6), max_size=8))
def test_every_sighting_is_in_exactly_one_track_and_no_track_has_two_of_a_frame(frames):
    tracks = run([[sighting(x, y, t, frame=i) for x, y, t in cars] for i, cars in enumerate(frames)])
    assert sum(t.sightings for t in tracks) == sum(len(cars) for cars in frames)
    assert all(t.sightings <= t.last.frame_index - t.first.frame_index + 1 for t in tracks)


@settings(max_examples=60, deadline=None)
@given(st.lists(places, max_size=6), st.lists(places, max_size=6))
def test_association_is_one_to_one(before, after):
    tracker = Tracker()
    tracker.update([sighting(x, y, t) for x, y, t in before], 0)
    taken = associate(tracker.open, [sighting(x, y, t, frame=1) for x, y, t in after], STEP)
    assert len(set(taken.values())) == len(taken)


@pytest.mark.parametrize(
    ("first", "last", "way"),
    [
        (box(100, 100, 60), box(400, 300, 120), Direction.APPROACHING),
        (box(400, 300, 120), box(100, 100, 60), Direction.RECEDING),
        (box(100, 100), box(500, 120), Direction.RIGHT),
        (box(500, 100), box(100, 120), Direction.LEFT),
        (box(300, 100), box(310, 400), Direction.APPROACHING),
        (box(300, 400), box(310, 100), Direction.RECEDING),
        (box(300, 300), box(310, 305), Direction.STILL),
    ],
)
def test_direction_is_by_size_then_sideways_then_up_or_down(first, last, way):
    assert direction([first, last]) is way


def test_a_plate_that_is_cut_off_where_it_enters_recedes_all_the_same():
    whole = [box(500 - 20 * i, 300, 140 * 0.93**i) for i in range(12)]
    assert direction([box(600, 300, 40), *whole]) is Direction.RECEDING


def test_the_way_of_a_long_track_is_bounded_and_keeps_its_ends():
    [track] = run([[sighting(100 + i, 200, None, frame=i)] for i in range(290)])
    assert len(track.boxes) <= MOST_BOXES
    assert (track.boxes[0].centre[0], track.boxes[-1].centre[0]) == (100, 389)


@given(st.text("AB1", max_size=6), st.text("AB1", max_size=6))
def test_edit_distance_is_a_distance(a, b):
    found = edit_distance(a, b)
    assert found == edit_distance(b, a)
    assert (found == 0) == (a == b)
    assert abs(len(a) - len(b)) <= found <= max(len(a), len(b))
