"""The comparison with a peer: its statistics, its processes, and what it says where the peer is missing."""

import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools import bench_peer, comparing

ECHO = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["kind"] == "die":
        sys.exit("no such kind")
    print(json.dumps({"plates": [], "milliseconds": 1.5, "peak_mb": 7.0, "image": asked["path"]}), flush=True)
"""


def test_the_paired_test_has_the_binomials_tail():
    ours = [True] * 8 + [False] * 2 + [True] * 20
    peer = [False] * 8 + [True] * 2 + [True] * 20
    compared = comparing.mcnemar(ours, peer)
    assert (compared.only_ours, compared.only_peer) == (8, 2)
    assert compared.p == pytest.approx(2 * (1 + 10 + 45) / 1024)


def test_an_even_split_and_no_difference_say_nothing():
    assert comparing.mcnemar([True, False], [False, True]).p == 1
    assert comparing.mcnemar([True, False], [True, False]).p == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_the_paired_test_does_not_depend_on_who_is_who(pairs):
    ours, peer = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = comparing.mcnemar(ours, peer), comparing.mcnemar(peer, ours)
    assert one.p == other.p
    assert 0 < one.p <= 1
    assert (one.only_ours, one.only_peer) == (other.only_peer, other.only_ours)
    assert one.only_ours - one.only_peer == sum(ours) - sum(peer)


def test_readers_of_different_pictures_are_not_compared():
    with pytest.raises(ValueError, match="argument 2 is longer"):
        comparing.mcnemar([True], [True, False])


def test_one_slow_repeat_and_one_slow_picture_do_not_move_the_typical_time():
    assert comparing.typical({"a": [1.0, 90.0, 2.0], "b": [3.0], "c": [500.0]}) == 3.0


def test_the_scorer_judges_each_picture_alone():
    def crops(labels, reads):
        assert len(labels) == len(reads) == 1
        right = labels[0]["texts"][0] == reads[0]["text"]
        return {"exact": {"value": float(right)}, "exact_folded": {"value": 1.0}}

    labels, reads = [{"texts": ["A"]}, {"texts": ["B"]}], [{"text": "A"}, {"text": "8"}]
    judged = comparing.verdicts(SimpleNamespace(crops=crops), "crops", labels, reads)
    assert judged == {"exact": [True, False], "exact_folded": [True, True]}


def test_the_ratio_of_times_lies_in_its_interval_and_follows_the_times():
    ours = {str(n): [1.0 + 0.01 * n] for n in range(30)}
    peer = {str(n): [4.0 + 0.04 * n] for n in range(30)}
    ratio = bench_peer.ratio_interval(ours, peer)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert ratio["value"] == pytest.approx(0.25)


def test_a_process_answers_in_turns_and_its_end_is_an_error(tmp_path):
    engine = comparing.Engine("echo", [sys.executable, "-c", ECHO])
    try:
        row = engine.ask("scenes", tmp_path / "a.png")
        assert row["image"] == str(tmp_path / "a.png")
        assert engine.peak_mb == 7.0
        with pytest.raises(comparing.EngineError, match=r"echo ended at .*b\.png"):
            engine.ask("die", tmp_path / "b.png")
    finally:
        engine.close()


def test_an_interpreter_that_is_missing_is_named():
    with pytest.raises(comparing.EngineError, match="/no/such/python"):
        comparing.Engine("absent", ["/no/such/python"])


def test_the_crowd_has_sixty_four_plates_that_are_brighter_than_the_road():
    bright = (bench_peer.crowd().mean(axis=2) > 90).mean()
    assert bright > 0.5 * 64 * 104 * 52 / (1280 * 720)


@pytest.mark.parametrize("missing", ["scorer", "labels", "weights", "environment"])
def test_without_what_it_needs_it_says_so_and_measures_nothing(missing, tmp_path, monkeypatch, capsys):
    if missing != "scorer":
        (tmp_path / "score.py").write_text("")
    if missing != "labels":
        (tmp_path / "eval_us_scenes.jsonl").write_text("")
    if missing != "weights":
        for name in (comparing.DETECTORS["fp32"], comparing.READER, comparing.CONFIG):
            (tmp_path / name).write_bytes(b"")
    named = {"--data": tmp_path, "--peer": tmp_path, "--cache": tmp_path, "--scorer": tmp_path / "score.py"}
    words = [word for name, path in named.items() for word in (name, str(path))]
    monkeypatch.setattr(sys, "argv", ["bench_peer", *words, "--sets", "us_scenes"])
    assert bench_peer.main() == 0
    reason = json.loads(capsys.readouterr().out)["skipped"]
    hints = {"scorer": "--scorer", "labels": "--data", "weights": "--peer", "environment": "--setup"}
    assert hints[missing] in reason
