"""Frames in, passages out: what becomes a passage, and under which reason the rest is counted."""

from dataclasses import replace
from pathlib import PurePath

import pytest

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Direction
from homeplate.domain.plate import CharReading, PlateReading
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.pipeline import Drop, Pipeline, Stage
from tests.sightings import Plate, Script, box

SETTINGS = SourceSettings(name="road", kind=SourceKind.VIDEO, path=PurePath("road.avi"))


def process(script, count, *, settings=SETTINGS, still=False):
    ticks = iter(range(10**9))
    pipeline = Pipeline(
        settings=settings, detector=script, reader=script, gate=script, crop=script.crop, perf_ns=lambda: next(ticks)
    )
    passages = [p for i in range(count) for p in pipeline.process(script.frame(i, still=still))]
    return pipeline, passages + pipeline.flush()


def car(text, frames, *, x=100.0, y=200.0, dx=40.0, confidence=0.95, width=100.0, grow=1.0):
    return {
        i: [Plate(box(x + dx * n, y, width * grow**n), text, confidence)] for n, i in enumerate(frames)
    }  # fmt: skip


def both(*cars):
    return {i: [plate for c in cars for plate in c.get(i, [])] for i in sorted({i for c in cars for i in c})}


def test_a_passing_car_is_one_passage_with_its_vote():
    pipeline, [passage] = process(Script(car("7ABC123", range(2, 9))), 40)
    assert (passage.text.reveal(), passage.raw_text.reveal()) == ("7ABC123", "7ABC123")
    assert (passage.first_frame, passage.last_frame, passage.seen, passage.agreeing) == (2, 8, 7, 7)
    assert passage.last_captured_ns - passage.first_captured_ns == 600_000_000
    assert passage.direction is Direction.RIGHT
    assert passage.crop is not None
    assert (pipeline.counters.frames, pipeline.counters.detections, pipeline.counters.readings) == (40, 7, 7)
    assert pipeline.counters.passages == 1


def test_a_passages_box_is_where_the_reader_saw_the_plate():
    claimed, within = box(300, 200), Box(left=4, top=2, right=84, bottom=46)
    _, [passage] = process(Script({0: [Plate(claimed, "7ABC123", 0.99, within)]}), 10)
    assert passage.box == Box(left=254, top=177, right=334, bottom=221)
    _, [passage] = process(Script({0: [Plate(claimed, "7ABC123", 0.99)]}), 10)
    assert passage.box == claimed


def test_a_box_that_shares_too_little_with_the_detectors_is_not_believed():
    claimed = box(300, 200)
    for within in (Box(left=90, top=40, right=110, bottom=60), Box(left=-1e9, top=-1e9, right=1e9, bottom=1e9)):
        _, [passage] = process(Script({0: [Plate(claimed, "7ABC123", 0.99, within)]}), 10)
        assert passage.box == claimed


def test_a_plate_of_an_unknown_state_is_read_in_the_forms_of_the_nodes_own():
    unsure = PlateReading(
        characters=tuple(
            CharReading(alternatives=((c, 0.9), ("O", 0.09)) if n == 2 else ((c, 0.99),))
            for n, c in enumerate("5A0G200")
        )
    )
    script = Script({0: [Plate(box(300, 200), "5A0G200")]})
    script.read = lambda crops: [unsure for _ in crops]
    pipeline = Pipeline(
        settings=SETTINGS,
        detector=script,
        reader=script,
        gate=script,
        crop=script.crop,
        perf_ns=lambda: 0,
        home="US-CA",
    )
    [passage] = pipeline.process(script.frame(0, still=True))
    assert (passage.raw_text.reveal(), passage.text.reveal()) == ("5A0G200", "5AOG200")


def test_a_passage_closes_while_the_source_goes_on():
    script = Script(car("7ABC123", range(5)))
    pipeline = Pipeline(
        settings=SETTINGS, detector=script, reader=script, gate=script, crop=script.crop, perf_ns=lambda: 0
    )
    assert [i for i in range(60) if pipeline.process(script.frame(i))] == [20]
    assert pipeline.flush() == []


def test_one_look_is_no_passage_unless_it_is_very_sure():
    pipeline, passages = process(Script(car("7ABC123", [3], confidence=0.8)), 10)
    assert passages == []
    assert pipeline.counters.dropped == {Drop.UNCONFIRMED: 1}
    _, [passage] = process(Script(car("7ABC123", [3], confidence=0.99)), 10)
    assert (passage.seen, passage.agreeing) == (1, 1)


def test_two_looks_that_disagree_are_no_passage():
    seen = both(car("7ABC123", [3], confidence=0.7), car("7ABD123", [4], x=140, confidence=0.7))
    pipeline, passages = process(Script(seen), 10)
    assert passages == []
    assert pipeline.counters.dropped == {Drop.UNCONFIRMED: 1}


def test_a_vote_that_stays_unsure_is_no_passage():
    pipeline, passages = process(Script(car("7ABC123", range(3), confidence=0.51)), 10)
    assert passages == []
    assert pipeline.counters.dropped == {Drop.UNSURE: 1}


def test_two_cars_in_one_frame_are_two_passages():
    seen = both(car("7ABC123", range(8)), car("8XYZ987", range(8), y=320))
    _, passages = process(Script(seen), 8)
    assert sorted(p.text.reveal() for p in passages) == ["7ABC123", "8XYZ987"]
    assert {(p.first_frame, p.last_frame) for p in passages} == {(0, 7)}


def test_a_frame_without_motion_costs_no_inference():
    script = Script(car("7ABC123", range(10)), moves=lambda i: i >= 6)
    pipeline, [passage] = process(script, 10)
    assert script.detected == [6, 7, 8, 9]
    assert pipeline.counters.dropped == {Drop.NO_MOTION: 6}
    assert passage.first_frame == 6


def test_a_car_that_stops_for_minutes_is_one_passage():
    script = Script(car("7ABC123", range(1000), dx=0), moves=lambda i: i < 10 or i % 20 == 0 or i > 990)
    pipeline, passages = process(script, 1100)
    assert [p.text.reveal() for p in passages] == ["7ABC123"]
    assert pipeline.counters.dropped[Drop.REPEATED] == 0


def test_a_car_that_is_lost_and_found_again_is_counted_as_repeated():
    seen = both(car("7ABC123", range(5)), car("7ABC123", range(30, 35), x=300))
    pipeline, [passage] = process(Script(seen), 40)
    assert passage.last_frame == 4
    assert pipeline.counters.dropped == {Drop.REPEATED: 1}


def test_a_car_that_comes_back_later_is_a_passage_of_its_own():
    seen = both(car("7ABC123", range(5)), car("7ABC123", range(100, 105)))
    _, passages = process(Script(seen), 120)
    assert [p.first_frame for p in passages] == [0, 100]


def test_plates_outside_the_region_are_not_read():
    settings = replace(SETTINGS, region=((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)))
    script = Script(both(car("7ABC123", range(5), y=100), car("8XYZ987", range(5), y=400)))
    pipeline, [passage] = process(script, 5, settings=settings)
    assert passage.text.reveal() == "8XYZ987"
    assert (pipeline.counters.dropped, script.crops_read) == ({Drop.OUTSIDE_REGION: 5}, 5)


def test_plates_that_are_too_narrow_are_not_read():
    script = Script(car("7ABC123", range(5), width=59))
    pipeline, passages = process(script, 5, settings=replace(SETTINGS, minimum_plate_width=60))
    assert passages == []
    assert (pipeline.counters.dropped, script.crops_read) == ({Drop.TOO_SMALL: 5}, 0)


def test_a_plate_at_the_pictures_edge_is_followed_but_not_read():
    whole = {i: [Plate(box(60 + 40 * i, 200), "7ABC123")] for i in range(3, 9)}
    seen = {i: [Plate(box(48 + 2 * i, 200), "BC123")] for i in range(3)} | whole
    pipeline, [passage] = process(Script(seen), 9)
    assert (passage.text.reveal(), passage.first_frame, passage.seen) == ("7ABC123", 0, 6)
    assert pipeline.counters.dropped == {Drop.CUT_OFF: 3}


def test_a_still_that_shows_a_plate_cut_off_is_no_passage_but_a_close_up_is():
    pipeline, passages = process(Script({0: [Plate(box(50, 200), "BC123")]}), 1, still=True)
    assert passages == []
    assert pipeline.counters.dropped == {Drop.CUT_OFF: 1}
    _, [passage] = process(Script({0: [Plate(box(320, 240, 636), "7ABC123")]}), 1, still=True)
    assert passage.text.reveal() == "7ABC123"


@pytest.mark.parametrize(("text", "confidence"), [("", 0.9), ("A", 0.9), ("7ABC123", 0.2)])
def test_what_cannot_be_read_is_counted(text, confidence):
    pipeline, passages = process(Script(car(text, range(5), confidence=confidence)), 5)
    assert passages == []
    assert pipeline.counters.dropped == {Drop.UNREADABLE: 5, Drop.UNCONFIRMED: 1}


def test_a_car_that_goes_the_other_way_is_counted():
    settings = replace(SETTINGS, directions=frozenset({Direction.APPROACHING}))
    seen = both(car("7ABC123", range(8)), car("8XYZ987", range(8), x=300, y=320, dx=0, width=70, grow=1.1))
    pipeline, [passage] = process(Script(seen), 8, settings=settings)
    assert (passage.text.reveal(), passage.direction) == ("8XYZ987", Direction.APPROACHING)
    assert pipeline.counters.dropped == {Drop.WRONG_DIRECTION: 1}


def test_every_still_is_a_sighting_of_its_own_without_gate_second_look_or_direction():
    seen = both(car("7ABC123", [0, 1], dx=0, confidence=0.9), car("8XYZ987", [1], y=320, confidence=0.9))
    settings = replace(SETTINGS, kind=SourceKind.FOLDER, stills=True, directions=frozenset({Direction.LEFT}))
    script = Script(seen, moves=lambda _: False)
    pipeline, passages = process(script, 2, settings=settings, still=True)
    assert [(p.text.reveal(), p.first_frame, p.still) for p in passages] == [
        ("7ABC123", 0, True),
        ("7ABC123", 1, True),
        ("8XYZ987", 1, True),
    ]
    assert (pipeline.counters.passages, pipeline.counters.dropped) == (3, {})


def test_two_runs_give_the_same_passages():
    seen = both(car("7ABC123", range(3, 12)), car("8XYZ987", range(5, 15), y=330, dx=-30, x=500))

    def summary():
        return [
            (p.text.reveal(), p.first_frame, p.last_frame, p.confidence, p.seen) for p in process(Script(seen), 40)[1]
        ]

    assert summary() == summary()


def test_the_time_of_every_stage_is_counted():
    pipeline, _ = process(Script(car("7ABC123", range(5))), 5)
    assert set(pipeline.counters.stage_ns) == set(Stage)
    assert pipeline.counters.stage_ns[Stage.MOTION] == 5
