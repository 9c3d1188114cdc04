"""What the reading report counts: votes, ambiguity sets, jurisdictions, the motion gate, and the page as a whole."""

import json
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest

from homeplate.domain.passage import Frame
from homeplate.domain.plate import CharReading, PlateReading
from homeplate.tracking import voting
from tools.reading import gate, looks, places, tables, votes
from tools.reading.gate import Gated, Pair
from tools.reading.looks import Look
from tools.reading.report import Report
from tools.reading.tables import OTHER, PLAIN, US, WORN, Rule
from tools.reading.votes import COUNTS, HOW, Seen
from tools.render.plates import DESIGNS
from tools.train.reader_data import JURISDICTIONS


def reading(text, confidence=0.99, place="US-NV"):
    characters = tuple(CharReading(alternatives=((letter, confidence),)) for letter in text)
    return PlateReading(characters=characters, jurisdiction=place, jurisdiction_confidence=0.9)


def a_look(truth, text, confidence=0.99, own="US-NV", said="US-NV"):
    return Look(truth=truth, jurisdiction=own, reading=reading(text, confidence, said))


def test_characters_are_judged_in_the_places_they_are_aligned_with():
    sure, right = tables.characters([a_look("8ABC123", "ABC128", 0.6)])
    assert sure == [0.6] * 6
    assert right == [True] * 5 + [False]


def test_plates_of_which_nothing_was_read_are_not_judged():
    assert tables.plates([a_look("AB", "AB", 0.9), a_look("AB", "A8", 0.4), a_look("AB", "")]) == (
        [0.9, 0.4],
        [True, False],
    )


@pytest.mark.parametrize(
    ("readings", "passes"),
    [
        ([reading("7ABC123", 0.6)], False),
        ([reading("7ABC123", 0.98)], True),
        ([reading("7ABC123", 0.6), reading("7ABC123", 0.7)], True),
        ([reading("7ABC123", 0.6), reading("7XYZ999", 0.7)], False),
        ([reading("7ABC123", 0.4), reading("7ABC123", 0.45)], False),
    ],
)
def test_a_passage_needs_two_that_agree_or_one_that_is_sure(readings, passes):
    found = votes.passages([Seen(truth="7ABC123", readings=tuple(readings))], len(readings))
    assert bool(found) is passes
    assert all(one.right for one in found)


def test_later_looks_do_not_count():
    seen = [Seen(truth="AAA111", readings=(reading("AAA111"), *[reading("BBB222")] * 7))]
    assert votes.passages(seen, 1)[0].right
    assert not votes.passages(seen, 8)[0].right


def test_statistics_of_a_passage_lie_between_nothing_and_certainty():
    [one] = votes.passages([Seen(truth="AO1", readings=(reading("AO1", 0.9), reading("A01", 0.8), reading("AO1")))], 3)
    assert one.right
    values = {name: statistic(one) for name, statistic in votes.STATISTICS.items()}
    assert all(0 <= value <= 1 for value in values.values())
    [surest] = [value for name, value in values.items() if name.startswith("surest")]
    [mean] = [value for name, value in values.items() if name.startswith("mean")]
    assert surest == 0.99
    assert mean == pytest.approx((0.9 + 0.99) / 3)


def test_another_exponent_makes_votes_surer_or_less_and_is_put_back():
    usual, seen = voting.INDEPENDENCE, [Seen(truth="AO1", readings=(reading("AO1", 0.7),) * 4)]
    sure = {}
    for exponent in (0.0, 1.0):
        with votes.independence(exponent):
            sure[exponent] = votes.passages(seen, 4)[0].vote.confidence
    assert usual == voting.INDEPENDENCE
    assert sure[0.0] < votes.passages(seen, 4)[0].vote.confidence < sure[1.0]


def test_an_ambiguity_set_helps_where_it_holds_the_truth():
    found = tables.alternatives([("AO1", ("A", "0O", "1I")), ("AO1", ("A", "O0", "1")), ("AO1", ("A", "1"))])
    assert (found.wrong, found.same_length, found.held) == (2, 1, 1)
    assert (found.right, found.ambiguous) == (1, 1)
    assert found.texts == pytest.approx((4 + 2 + 1) / 3)


def test_jurisdictions_are_counted_by_what_was_there_and_what_was_named():
    group = [
        a_look("A", "A", own="US-NV", said="US-NV"),
        a_look("A", "A", own="US-NV", said="US-CA"),
        a_look("A", "A", own="US-OR", said="unknown"),
        a_look("A", "A", own=None, said="US-CA"),
    ]
    one = places.named(group)
    assert (one.recall("US-NV"), one.recall("US-OR"), one.precision("US-NV")) == (0.5, 0.0, 1.0)
    sums = places.jurisdiction_figures(group)
    assert sums["plates"] == 3
    assert sums["recall"] == pytest.approx(1 / 3)
    assert sums["recall_mean_of_states"] == pytest.approx(0.25)
    assert sums["precision"] == pytest.approx(0.5)
    assert sums["unknown"] == pytest.approx(1 / 3)
    assert sums["false_california"] == 1


def test_held_out_plates_are_the_held_out_ones(tmp_path):
    (tmp_path / "read").mkdir()
    (tmp_path / "detect").mkdir()
    rows = [
        {"path": f"read/{n}.png", "state": "Ohio", "machine_read": {"agree": n < 2, "a": "AB12", "b": "AB1"}}
        for n in range(3)
    ]
    (tmp_path / "read/labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("labels", "machine_read"):
        (tmp_path / f"detect/{name}.jsonl").write_text("")
    for row in rows:
        cv2.imwrite(str(tmp_path / row["path"]), np.full((48, 84, 3), 120, np.uint8))
    found = looks.held_out_samples(tmp_path, frozenset({"read/1.png", "read/2.png"}))
    assert [sample.text for sample in found] == ["AB12", ""]
    assert {JURISDICTIONS[sample.jurisdiction] for sample in found} == {"US-OH"}


def test_rendered_plates_of_a_design_are_always_the_same():
    one, other = (looks.rendered_samples("california-legacy", 3) for _ in range(2))
    assert [sample.text for sample in one] == [sample.text for sample in other]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))
    assert {JURISDICTIONS[sample.jurisdiction] for sample in one} == {"US-CA"}


# --- the gate ------------------------------------------------------------------------------------------------------


class Blind:
    """Finds nothing, and counts how often it is asked."""

    asked = 0

    def detect(self, image):
        self.asked += 1
        return []

    def read(self, crops):
        return [reading("7ABC123") for _ in crops]


def frame(index, image):
    return Frame(source="lane", index=index, stream_ns=index * 100_000_000, captured_ns=index, image=image)


def test_a_still_road_is_looked_at_now_and_then_and_each_frame_once():
    eyes = Blind()
    pair = Pair((eyes, eyes))
    road = np.random.default_rng(1).integers(0, 255, (90, 160, 3)).astype(np.uint8)
    for index in range(60):
        pair.process(frame(index, road.copy()), clear=index == 0)
    pair.close()
    assert eyes.asked == 60
    assert pair.counts.frames == 60
    assert 1 <= pair.counts.looked < 20
    assert (pair.counts.clear, pair.counts.clear_looked) == (1, 1)


def test_what_a_gate_saves_is_the_time_it_keeps_off():
    assert Gated(time_ns=25, time_open_ns=100).saved == pytest.approx(0.75)
    assert Gated().saved == 0
    assert (Gated(cars=1, looked=2) + Gated(cars=2, frames=3)) == Gated(cars=3, looked=2, frames=3)


def test_a_dim_picture_is_darker_and_daylight_is_left_alone():
    rng = np.random.default_rng(2)
    picture = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    silent = np.full(picture.shape, 128, np.uint8)
    assert gate.dimmed(picture, 1.0, silent) is picture
    dim = gate.dimmed(picture, 1 / 32, silent)
    # Light falls to a share; what is stored falls by its root, since pictures are stored with a curve.
    assert dim.mean() == pytest.approx(picture.mean() * (1 / 32) ** (1 / gate.GAMMA), rel=0.02)


# --- the page ------------------------------------------------------------------------------------------------------


def a_report():
    texts = cycle(["7ABC123", "7ABO123", "8XYZ999", "7ABC12"])
    group = [
        a_look(truth, truth if n % 5 else "1AAA111", 0.5 + n / 100) for n, truth in zip(range(40), texts, strict=False)
    ]
    wears = {PLAIN: group, WORN: group[::2] * 2}
    seen = {how: [Seen(truth=one.truth, readings=(one.reading,) * 8) for one in group] for how in HOW}
    passages = {(how, count): votes.passages(plates, count) for how, plates in seen.items() for count in COUNTS}
    counted = {
        "approach": Gated(cars=2, reported=1, reported_open=2, frames=10, looked=9, time_ns=9, time_open_ns=10),
        gate.EMPTY: Gated(frames=10, looked=5, time_ns=5, time_open_ns=10),
    }
    return Report(
        held_out={US: wears, OTHER: wears},
        designs=dict.fromkeys(DESIGNS, wears),
        passages=passages,
        others={"0.5": Rule(error=0.0, point=None, sole=0.0)},
        drives={(name, light): one for name, one in counted.items() for light in gate.LIGHTS},
        weights="detector 0, reader 0",
    )


def test_the_report_is_whole_and_gives_no_plate_away(tmp_path: Path):
    report = a_report()
    page = report.page("reading.png")
    for heading in ("Calibration", "Risk and coverage", "Hard pairs", "Jurisdictions", "Designs", "The motion gate"):
        assert f"## {heading}" in page
    assert not any(text in page for text in ("7ABC123", "8XYZ999", "1AAA111"))
    figures = json.loads(json.dumps(report.figures()))
    assert figures["exact_plain"] == pytest.approx(0.8)
    assert figures["gate_saved_empty_road"] == pytest.approx(0.5)
    report.draw(tmp_path / "reading.png")
    assert (tmp_path / "reading.png").stat().st_size > 10_000


def test_the_bar_leaves_no_more_wrong_than_the_rule_allows():
    for point in a_report().bars().values():
        assert point is None or point.risk <= tables.MOST_RISK
