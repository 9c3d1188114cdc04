"""A video goes in at one end; the custodian opens sealed reads, delivered over real MQTT, at the other."""

import json

from homeplate.store.ledger import read_rows
from tests.e2e.conftest import end, wait_until
from tools.stage import PUBLISH_EVERYTHING, RuleSpec


def lane(path):
    return {"name": "lane-1", "kind": "video", "path": path}


def test_the_plates_of_a_clip_arrive_through_two_processes_and_a_broker(deploy, rendered):
    clip, truth = rendered
    node = deploy(sources=[lane(clip)])
    with node.stage.broker("mosquitto"):
        receiver, uplink = node.receiver(), node.start("uplink")
        node.node("capture")
        wait_until(lambda: not node.pending())
        end(uplink)
        end(receiver)
        opened = node.open()
    assert sorted(facts["plate"] for facts in opened) == sorted(truth)
    assert [facts["sequence"] for facts in sorted(opened, key=lambda one: one["sequence"])] == list(
        range(1, len(truth) + 1)
    )
    assert all(facts["crop"] for facts in opened)
    node.node("ledger", "sign")
    assert "rows are good" in node.custodian("verify", node.stage.paths.ledger, "--custody", node.stage.custody)


def test_a_passage_that_no_rule_names_is_counted_and_nothing_of_it_is_kept(deploy, rendered):
    node = deploy(sources=[lane(rendered[0])], rules=[])
    node.node("capture")
    assert not node.pending()
    assert not node.local()
    rows = list(read_rows(node.stage.paths.log("capture")))
    finished = next(row for row in rows if row.event == "capture.source-finished")
    assert finished.fields["passages_nothing_kept"] == len(rendered[1])


def test_a_finished_file_is_not_processed_again(deploy, rendered):
    node = deploy(sources=[lane(rendered[0])])
    node.node("capture")
    before = node.pending()
    assert before
    assert "skipped" in node.node("capture")
    assert node.pending() == before


def test_only_a_hit_is_kept_where_only_hits_are_named(deploy, rendered):
    clip, truth = rendered
    rules = [RuleSpec(name="hits", trigger="hit")]
    node = deploy(sources=[lane(clip)], rules=rules, hot_list=[truth[0]])
    with node.stage.broker("mosquitto"):
        receiver = node.receiver()
        node.node("capture")
        assert len(node.pending()) == 2, "facts and crop of one passage"
        node.node("uplink", "--once")
        end(receiver)
        opened = node.open()
    assert [(facts["plate"], facts["hit"]) for facts in opened] == [(truth[0], "exact")]


def test_a_broken_source_is_named_and_the_others_go_on(deploy, rendered, tmp_path):
    broken = tmp_path / "truncated.avi"
    broken.write_bytes(rendered[0].read_bytes()[:200_000])
    node = deploy(sources=[lane(rendered[0]), {"name": "lane-2", "kind": "video", "path": broken}])
    text = node.node("capture", code=4)
    assert "lane-1 finished" in text
    assert "lane-2" in text
    assert len(node.pending()) >= 2 * len(rendered[1])


def test_simulate_delivers_the_real_clips_and_their_plates_open(deploy, eval_data):
    """The floor: eleven of the thirteen passages of the evaluation clips, through mosquitto, opened off the device."""
    labels = [json.loads(line) for line in (eval_data.parent / "eval_clips.jsonl").read_text().splitlines()]
    truth = {text.replace("O", "0").replace("I", "1") for label in labels for text in label["passages"]}
    node = deploy(rules=[PUBLISH_EVERYTHING])
    with node.stage.broker("mosquitto"):
        receiver = node.receiver()
        summary = json.loads(node.node("simulate", *(eval_data.parent / label["path"] for label in labels), "--json"))
        end(receiver)
        opened = node.open()
    assert summary["published"] == {"confirmed": summary["sealed_records"], "refused": 0, "failed": 0, "forgotten": 0}
    read = [facts["plate"].replace("O", "0").replace("I", "1") for facts in opened]
    assert len(truth & set(read)) >= 11
    assert len(read) == len(set(read)), "a vehicle was reported twice"
