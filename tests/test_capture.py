"""Capture: what is committed, in which steps, and that nothing is lost or doubled whatever breaks."""

import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from homeplate.camera.errors import Reason, SourceError
from homeplate.capture import Outcome, SourceState
from homeplate.capture.committing import counted_rows, recover
from homeplate.capture.crop import encode_crop
from homeplate.clock import SimulatedClock
from homeplate.domain.passage import CameraChange, ChangeKind
from homeplate.domain.record import HitKind, Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.errors import ClockError, StoreError, TrustError
from homeplate.pipeline import Drop
from homeplate.sealing.facts import MAX_CROP_BYTES
from homeplate.store.ledger import Row
from homeplate.store.spool import FileSpool
from homeplate.trust.hotlist import encode_hot_list, parse_hot_list
from tests.capturing import NOW_S, Film, Node, rule, terms, traffic
from tests.sightings import START_NS
from tests.trust.forge import hot_list

TEXTS = ("7ABC123", "8XYZ987", "4KLM560")
FRAMES = 120


def film(**changes):
    return Film(**{"script": traffic(*TEXTS), "count": FRAMES, **changes})


def plates(node, storage=StorageClass.OUTGOING):
    return [(fact.sequence, fact.plate) for fact in node.opened(storage)]


def test_a_passage_is_sealed_with_its_crop_and_opens_at_its_recipient(tmp_path):
    node = Node(tmp_path)
    summary = node.run(film().feed())
    assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560")]
    [first, *_] = node.opened()
    assert (first.camera, first.seen, first.agreeing, first.rule) == ("road", 5, 5, "all")
    assert (first.first_captured_ns, first.last_captured_ns) == (START_NS, START_NS + 400_000_000)
    assert first.keep_until_s <= NOW_S + 86_400
    assert first.crop is not None
    assert (summary.records, summary.passages) == (6, {Outcome.SEALED: 3})
    assert node.staged() == 0


def test_two_plates_over_the_same_frames_are_two_passages(tmp_path):
    node = Node(tmp_path)
    node.run(film().feed())
    rows = [row.fields for row in node.rows("capture.sealed")]
    assert [(row["first_frame"], row["last_frame"], row["nth"]) for row in rows] == [
        (0, 4, 0),
        (40, 44, 0),
        (40, 44, 1),
    ]


def test_the_ledger_has_ids_and_counts_and_no_plate(tmp_path):
    node = Node(tmp_path)
    node.run(film().feed())
    [finished] = node.rows("capture.source-finished")
    assert (finished.fields["frames"], finished.fields["passages"], finished.fields["passages_sealed"]) == (
        FRAMES,
        3,
        3,
    )
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    names = "".join(str(path) for path in tmp_path.rglob("*"))
    for text in TEXTS:
        assert text.encode() not in everything
        assert text not in names


def test_one_record_a_recipient_and_part_each_with_its_own_sequence(tmp_path):
    node = Node(tmp_path, terms=lambda: terms(
        rule("facts", recipients=("springfield", "shelbyville"), parts=frozenset({Part.FACTS})),
        rule("kept", storage=StorageClass.LOCAL, recipients=("shelbyville",)),
    ))  # fmt: skip
    summary = node.run(film().feed())
    outgoing = [(f.recipient, f.sequence, f.crop) for f in node.opened()]
    counted = [("shelbyville", n) for n in (1, 2, 3)]
    assert outgoing == [(*one, None) for one in counted] + [("springfield", n, None) for n in (1, 2, 3)]
    assert [(f.recipient, f.sequence) for f in node.opened(StorageClass.LOCAL)] == counted
    assert summary.records == 12


def test_what_no_rule_names_is_counted_and_neither_sealed_nor_written(tmp_path):
    node = Node(tmp_path, terms=terms)
    summary = node.run(film().feed())
    assert summary.passages == {Outcome.NOTHING_KEPT: 3}
    assert node.opened() == []
    assert node.rows("capture.sealed") == []
    assert node.rows("capture.source-finished")[0].fields["passages_nothing_kept"] == 3


def test_a_hit_is_kept_by_a_rule_for_hits_and_nothing_else_is(tmp_path):
    def with_list(expires_s):
        return terms(rule("hits", trigger=Trigger.HIT), hot_list=listed("8XYZ987", expires_s=expires_s), demo=False)

    node = Node(tmp_path / "current", terms=lambda: with_list(NOW_S + 100))
    node.run(film().feed())
    assert [(f.plate, f.hit) for f in node.opened()] == [("8XYZ987", HitKind.EXACT)]
    over = Node(tmp_path / "over", terms=lambda: with_list(NOW_S))
    assert over.run(film().feed()).passages == {Outcome.NOTHING_KEPT: 3}
    assert [row.fields for row in over.rows("hot-list.expired")] == [{"expired_s": NOW_S}]
    assert node.rows("hot-list.expired") == []


def test_sequence_numbers_outlive_the_ledger_files_that_are_archived(tmp_path):
    numbers = Counter({(f"agency-{number}", "durable"): number for number in range(1, 60)})
    carried = counted_rows(numbers)
    assert len(carried) > 1
    rows = [Row(number=1, time_ns=1, event=event, fields=fields) for event, fields in carried]
    assert recover(rows, FileSpool(tmp_path)).sequences == numbers


def listed(plate, *, expires_s=NOW_S + 100):
    entries = hot_list(plate, expires_s=NOW_S + 100)
    return parse_hot_list(encode_hot_list(entries, issued_s=NOW_S - 1, expires_s=expires_s), NOW_S - 1)


def test_a_near_hit_is_kept_by_its_own_rule_alone_and_says_that_it_is_near(tmp_path):
    alike = listed("BXYZ987")
    hits = Node(tmp_path / "hits", terms=lambda: terms(rule("hits", trigger=Trigger.HIT), hot_list=alike, demo=False))
    assert hits.run(film().feed()).passages == {Outcome.NOTHING_KEPT: 3}
    near = Node(
        tmp_path / "near", terms=lambda: terms(rule("near", trigger=Trigger.NEAR_HIT), hot_list=alike, demo=False)
    )
    near.run(film().feed())
    assert [(f.plate, f.hit) for f in near.opened()] == [("8XYZ987", HitKind.NEAR)]


def test_non_hits_are_kept_by_their_own_rule_alone(tmp_path):
    node = Node(
        tmp_path,
        terms=lambda: terms(rule("rest", trigger=Trigger.NON_HIT), hot_list=listed("8XYZ987"), demo=True),
    )
    node.run(film().feed())
    assert len(node.opened()) == 2
    assert {f.hit for f in node.opened()} == {HitKind.NONE}
    assert "8XYZ987" not in {f.plate for f in node.opened()}


def test_refusals_are_in_the_ledger_with_their_reason(tmp_path):
    node = Node(tmp_path, terms=lambda: terms(rule(recipients=("elsewhere",)), rule("open"), demo=False))
    node.run(film().feed())
    refused = {(r.fields["rule"], r.fields["recipient"], r.fields["reason"]) for r in node.rows("capture.refused")}
    assert {(name, who) for name, who, _ in refused} == {("all", "*"), ("open", "*")}
    assert all(reason.startswith("not-demo") for _, _, reason in refused)


def test_without_a_bundle_nothing_is_kept(tmp_path):
    def expired():
        raise TrustError("the bundle is over since yesterday")

    node = Node(tmp_path, terms=expired)
    assert node.run(film().feed()).passages == {Outcome.NO_BUNDLE: 3}
    assert {row.fields["reason"] for row in node.rows("capture.refused")} == {
        "no-bundle: the bundle is over since yesterday"
    }
    assert node.opened() == []


def test_a_file_that_no_bundle_could_judge_is_processed_again_once_there_is_one(tmp_path):
    in_force = []

    def terms_in_force():
        if not in_force:
            raise TrustError("none\nyet\x00")
        return in_force[0]

    node = Node(tmp_path, terms=terms_in_force)
    node.run(film().feed())
    assert node.rows("capture.source-finished") == []
    in_force.append(terms(rule()))
    assert node.run(film().feed()).passages == {Outcome.SEALED: 3}


def test_a_finished_file_is_not_processed_again_and_sequences_go_on(tmp_path):
    node = Node(tmp_path)
    node.run(film().feed())
    again = node.run(film().feed())
    assert again.sources[0].state is SourceState.SKIPPED
    assert again.records == 0
    node.run(Film(script=traffic("1AAA111"), count=20).feed(identity="another-file"))
    assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560"), (4, "1AAA111")]


def test_two_runs_over_the_same_files_give_the_same_passages(tmp_path):
    def run(folder):
        node = Node(folder)
        node.run(film(name="north").feed(), film(name="south", fps=25.0).feed(identity="other"))
        return [
            {**{n: getattr(f, n) for n in f.__struct_fields__}, "crop": f.crop is not None} for f in node.opened()
        ], node.processed

    one, two = run(tmp_path / "one"), run(tmp_path / "two")
    assert one == two
    assert len(one[0]) == 6
    assert len(one[1]) == 2 * FRAMES


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


class Fuse:
    """Wraps spool and ledger; burns through before or after the nth operation that changes anything."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after, self.burnt = at, after, False

    def around(self, inner, names):
        fuse = self

        class Wrapped:
            def __getattr__(self, name):
                method = getattr(inner, name)
                return fuse.guarded(method) if name in names else method

        return Wrapped()

    def guarded(self, method):
        def call(*args, **given):
            self.left -= 1
            if self.left == 0 and not self.after:
                self.burn()
            result = method(*args, **given)
            if self.left == 0:
                self.burn()
            return result

        return call

    def burn(self):
        self.burnt = True
        raise Killed


def test_a_kill_between_any_two_steps_loses_and_doubles_nothing(tmp_path):
    burnt = 0
    for step in range(1, 100):
        for after in (False, True):
            fuse, node = Fuse(step, after=after), Node(tmp_path / f"{step}-{after}")
            node.wrap_spool = lambda spool, fuse=fuse: fuse.around(spool, {"stage", "release", "discard"})
            node.wrap_ledger = lambda ledger, fuse=fuse: fuse.around(ledger, {"append"})
            try:
                node.run(film().feed())
            except Killed:
                burnt += 1
            fuse.left = -1
            node.run(film().feed())
            assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560")], (step, after)
            assert node.staged() == 0
            if not fuse.burnt:
                assert burnt >= 2 * 14, "each of three passages has four steps, and there are rows around them"
                return
    pytest.fail("the run never came to its end")


def test_kill_9_at_any_moment_loses_and_doubles_nothing(tmp_path):
    """The real signal, at moments spread over a run; the machine does not lose its page cache."""
    frames_before = (1, 41, 61, 90)
    for round_ in range(2):
        node = Node(tmp_path / str(round_))
        for count in frames_before:
            with subprocess.Popen(
                [sys.executable, "-m", "tests.run_capture", str(node.folder)],
                stdout=subprocess.PIPE, cwd=Path(__file__).parents[1],
            ) as child:  # fmt: skip
                assert child.stdout is not None
                for _ in range(count + round_):
                    if not child.stdout.readline():
                        break
                child.send_signal(signal.SIGKILL)
        node.run(film().feed())
        assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560")]
        assert node.staged() == 0


def test_a_stopped_run_forgets_a_files_open_tracks_and_the_next_one_begins_anew(tmp_path):
    stop, node = threading.Event(), Node(tmp_path)
    # Stopped while the second and third car are in sight.
    summary = node.run(film(before=lambda i: stop.set() if i == 44 else None).feed(), stop=stop)
    assert summary.sources[0].state is SourceState.STOPPED
    assert node.rows("capture.source-finished") == []
    node.run(film().feed())
    assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560")]


def test_a_broken_source_is_named_and_counted_and_the_others_go_on(tmp_path):
    node = Node(tmp_path)
    error = SourceError("bad", Reason.TRUNCATED, "x.avi: breaks off")
    summary = node.run(
        Film(script=traffic("1AAA111"), count=20, name="bad", error=error).feed(identity="bad-file"),
        film(name="good").feed(),
    )
    bad, good = summary.sources
    assert (bad.state, bad.error) == (SourceState.BROKEN, "source bad: x.avi: breaks off")
    assert good.state is SourceState.FINISHED
    [row] = node.rows("capture.source-broken")
    assert (row.fields["source"], row.fields["reason"], row.fields["frames"]) == ("bad", "truncated", 20)
    assert sorted(plate for _, plate in plates(node)) == ["1AAA111", "4KLM560", "7ABC123", "8XYZ987"]


def test_a_source_that_cannot_be_identified_is_broken_too(tmp_path):
    def missing():
        raise SourceError("road", Reason.MISSING, "x.avi: no such file")

    node, feed = Node(tmp_path), film().feed()
    summary = node.run(type(feed)(source=feed.source, pipeline=feed.pipeline, identify=missing))
    assert summary.sources[0].state is SourceState.BROKEN
    assert node.rows("capture.source-broken")[0].fields["reason"] == "missing"


def test_a_camera_that_is_lost_closes_its_tracks_and_goes_on_and_the_ledger_has_loss_and_return(tmp_path):
    def change(kind, attempts, reason=""):
        return CameraChange(source="road", kind=kind, attempts=attempts, reason=reason)

    class Flaky(Film):
        """A camera that is lost while a car is in sight, and comes back at the third attempt."""

        def frames(self):
            for frame in super().frames():
                taken.acquire()
                yield frame
                if frame.index == 43:
                    yield change(ChangeKind.LOST, 0, "stalled")
                    yield change(ChangeKind.LOST, 1, "missing")
                    yield change(ChangeKind.BACK, 2)

    taken = threading.Semaphore(1)
    node = Node(tmp_path)
    node.processed = Told(taken)
    feed = Flaky(script=traffic("7ABC123", "8XYZ987"), count=60).feed(identity=None)
    summary = node.run(replace(feed, restarts=True))
    rows = [(row.event, row.fields.get("reason"), row.fields.get("attempts")) for row in node.rows()]
    assert [row for row in rows if row[0].startswith("capture.camera")] == [
        ("capture.camera-lost", "stalled", None),
        ("capture.camera-back", None, 2),
    ]
    assert (summary.sources[0].losses, summary.sources[0].state) == (1, SourceState.FINISHED)
    assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987")]


class Told(list):
    """What was processed; lets the next frame come once the last one is through."""

    def __init__(self, taken):
        super().__init__()
        self.taken = taken

    def append(self, item):
        super().append(item)
        self.taken.release()


def test_a_bug_in_a_sources_thread_ends_the_process(tmp_path):
    with pytest.raises(ZeroDivisionError):
        Node(tmp_path).run(film(error=ZeroDivisionError()).feed())


def test_a_live_source_drops_frames_and_counts_them_while_a_file_keeps_every_one(tmp_path):
    node, enough = Node(tmp_path), threading.Event()

    def wait(_):
        enough.wait(0.002)

    live = Film(script=traffic("1AAA111"), count=400, name="live")
    summary = node.run(live.feed(identity=None), film(name="file", before=wait).feed())
    camera, file = summary.sources
    assert camera.counters.frames + camera.overwritten == 400
    assert camera.overwritten > 0
    assert (file.counters.frames, file.overwritten) == (FRAMES, 0)
    assert [i for name, i in node.processed if name == "file"] == list(range(FRAMES))


def test_a_quarantined_clock_stops_capture_with_a_row(tmp_path):
    class Leapt:
        def now_ns(self):
            raise ClockError("the time leapt by 10 years; confirm it")

        def least_ns(self):
            return START_NS

    node = Node(tmp_path, make_clock=Leapt)
    with pytest.raises(ClockError):
        node.run(film().feed())
    [row] = node.rows("capture.clock-quarantined")
    assert row.fields["reason"] == "the time leapt by 10 years; confirm it"
    assert node.opened() == []


def test_a_file_ahead_of_node_time_was_captured_now_and_is_kept_no_longer_for_that(tmp_path):
    class Standing(SimulatedClock):
        def advance_to(self, now_ns):
            """The file is processed in no time."""

    node = Node(tmp_path, make_clock=lambda: Standing(START_NS), terms=lambda: terms(rule(retention_s=1200)))
    node.run(film().feed())
    facts = node.opened()
    assert {f.last_captured_ns for f in facts} == {START_NS}
    assert [row.fields["captured_s"] for row in node.rows("capture.sealed")] == [NOW_S] * len(facts)
    assert all(f.keep_until_s <= NOW_S + 1200 for f in facts)


def test_a_full_disk_ends_capture_and_the_next_run_keeps_what_was_not_kept(tmp_path):
    class Full:
        def __init__(self, spool):
            self.spool, self.room = spool, 3

        def stage(self, *args):
            self.room -= 1
            if self.room < 0:
                raise StoreError("no space left")
            self.spool.stage(*args)

        def __getattr__(self, name):
            return getattr(self.spool, name)

    node = Node(tmp_path, wrap_spool=Full)
    with pytest.raises(StoreError):
        node.run(film().feed())
    node.wrap_spool = lambda spool: spool
    node.run(film().feed())
    assert plates(node) == [(1, "7ABC123"), (2, "8XYZ987"), (3, "4KLM560")]


def test_every_reason_is_in_the_row_of_its_source(tmp_path):
    node = Node(tmp_path)
    script = traffic("7ABC123")
    script.moves = lambda i: i < 20
    node.run(Film(script=script, count=50).feed())
    [row] = node.rows("capture.source-finished")
    assert row.fields[f"dropped_{Drop.NO_MOTION}"] == 30


def test_the_ledger_of_capture_verifies(tmp_path):
    node = Node(tmp_path)
    node.run(film().feed())
    events = [row.event for row in node.rows()]
    assert (events[0], events[-1]) == ("capture.started", "capture.stopped")


@pytest.mark.parametrize("shape", [(30, 60), (400, 2000), (1, 1)])
@pytest.mark.parametrize("limit", [MAX_CROP_BYTES, 4092, 800])
def test_a_crop_fits_its_limit_whatever_it_shows(shape, limit):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    jpeg = encode_crop(noise, limit)
    assert jpeg[:2] == b"\xff\xd8"
    assert 0 < len(jpeg) <= limit
