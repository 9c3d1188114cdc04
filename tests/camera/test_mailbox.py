"""The slots between the sources' threads and the vision thread. Threads meet at the slots alone; no test sleeps."""

import threading
from dataclasses import dataclass

import pytest

from homeplate.camera.mailbox import MOST_CHANGES, STALL_NS, Mailbox, Mailboxes
from homeplate.domain.passage import CameraChange, ChangeKind, Frame
from homeplate.errors import CameraError
from tests.sightings import Script

SCRIPT = Script({})


@dataclass
class Ticks:
    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


def boxes(*sources, ticks=None):
    return Mailboxes(sources, perf_ns=ticks or Ticks())


def feed(mail, name, count, fps=10.0):
    """Deliver like a file's thread and end."""
    for i in range(count):
        if not mail.put(SCRIPT.frame(i, source=name, fps=fps)):
            return
    mail.end(name)


def drain(mail):
    stop, came = threading.Event(), []
    while (item := mail.take(stop)) is not None:
        came.append((item.source, item.index) if isinstance(item, Frame) else item.name)
    return came


def start(*work):
    threads = [threading.Thread(target=target, args=args, daemon=True) for target, *args in work]
    for thread in threads:
        thread.start()
    return threads


def test_a_live_source_never_waits_and_the_newest_frame_wins():
    mail = boxes(("road", True))
    for i in range(5):
        assert mail.put(SCRIPT.frame(i))
    mail.end("road")
    assert drain(mail) == [("road", 4), "road"]
    assert mail.overwritten("road") == 4


def test_a_file_waits_so_every_frame_is_taken_once_in_order():
    mail = boxes(("road", False))
    start((feed, mail, "road", 50))
    assert drain(mail) == [*(("road", i) for i in range(50)), "road"]
    assert mail.overwritten("road") == 0


def test_files_are_merged_by_capture_time_whatever_the_threads_do():
    expected = None
    for _ in range(5):
        mail = boxes(("slow", False), ("fast", False))
        start((feed, mail, "fast", 30, 30.0), (feed, mail, "slow", 10, 10.0))
        came = drain(mail)
        assert expected is None or came == expected
        expected = came
    times = [i / (30 if name == "fast" else 10) for name, i in (c for c in expected if isinstance(c, tuple))]
    assert times == sorted(times)
    assert len(expected) == 42


def test_a_live_source_and_a_file_take_turns():
    mail, stop = boxes(("camera", True), ("file", False)), threading.Event()
    came = ["file"]
    for i in range(20):
        mail.put(SCRIPT.frame(i, source="camera"))
        if came[-1] == "file":
            mail.put(SCRIPT.frame(i, source="file"))
        came.append(mail.take(stop).source)
    assert came[1:] == ["camera", "file"] * 10


def test_live_sources_take_turns():
    mail, stop = boxes(("a", True), ("b", True), ("c", True)), threading.Event()
    came = []
    for i in range(9):
        for name in "abc":
            mail.put(SCRIPT.frame(i, source=name))
        came.append(mail.take(stop).source)
    assert came == list("abcabcabc")


def test_a_broken_source_is_reported_after_its_last_frame_and_the_others_go_on():
    mail = boxes(("bad", False), ("good", False))
    error = CameraError("source bad: breaks off")

    def bad():
        mail.put(SCRIPT.frame(0, source="bad"))
        mail.end("bad", error)

    start((bad,), (feed, mail, "good", 5))
    came = drain(mail)
    assert came.index("bad") > came.index(("bad", 0))
    assert [c for c in came if c[0] == "good"] == [("good", i) for i in range(5)]


def test_the_error_comes_with_the_mailbox():
    mail, error = boxes(("bad", False)), CameraError("source bad: missing")
    mail.end("bad", error)
    item = mail.take(threading.Event())
    assert isinstance(item, Mailbox)
    assert item.error is error
    assert mail.take(threading.Event()) is None


def test_what_is_no_error_of_ours_ends_the_vision_thread_too():
    mail = boxes(("bad", False), ("good", False))
    mail.end("bad", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        mail.take(threading.Event())


def test_a_source_that_stalls_is_broken_and_holds_up_no_other():
    ticks = Ticks()
    mail, stop = boxes(("hangs", False), ("good", False), ticks=ticks), threading.Event()
    mail.begin("hangs")
    mail.put(SCRIPT.frame(0, source="good"))
    ticks.now_ns = STALL_NS + 1
    stalled, frame = mail.take(stop), mail.take(stop)
    assert isinstance(stalled, Mailbox)
    assert (stalled.name, "no frame for 30 s" in str(stalled.error)) == ("hangs", True)
    assert (frame.source, frame.index) == ("good", 0)
    assert not mail.put(SCRIPT.frame(0, source="hangs"))


def test_a_source_that_has_not_begun_does_not_stall():
    """It hashes a long film."""
    ticks = Ticks()
    mail, stop = boxes(("slow", False), ticks=ticks), threading.Event()
    ticks.now_ns = 2 * STALL_NS
    mail.begin("slow")
    mail.put(SCRIPT.frame(0, source="slow"))
    assert isinstance(mail.take(stop), Frame)


def test_closing_lets_a_waiting_source_go():
    mail = boxes(("road", False))
    [thread] = start((feed, mail, "road", 50))
    mail.take(threading.Event())
    mail.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_stopped_node_takes_nothing_more():
    stop = threading.Event()
    stop.set()
    mail = boxes(("road", True))
    mail.put(SCRIPT.frame(0))
    assert mail.take(stop) is None


def test_a_camera_that_judges_its_own_stalls_is_not_ended_by_the_mailbox():
    ticks = Ticks()
    mail = Mailboxes([("camera", True)], perf_ns=ticks, restarting=frozenset({"camera"}))
    mail.begin("camera")
    ticks.now_ns = 10 * STALL_NS
    lost = CameraChange(source="camera", kind=ChangeKind.LOST, attempts=0, reason="stalled")
    mail.put(SCRIPT.frame(0, source="camera"))
    mail.tell(lost)
    stop = threading.Event()
    assert mail.take(stop) is lost
    assert mail.take(stop).index == 0
    assert mail.put(SCRIPT.frame(1, source="camera"))


def test_changes_that_nobody_takes_are_bounded():
    mail = boxes(("camera", True))
    for n in range(3 * MOST_CHANGES):
        mail.tell(CameraChange(source="camera", kind=ChangeKind.LOST, attempts=n, reason="missing"))
    mail.end("camera")
    assert next(mail.take(threading.Event()).attempts for _ in range(MOST_CHANGES)) == 2 * MOST_CHANGES


def test_a_files_thread_waits_until_its_frame_is_taken_before_it_decodes_the_next():
    mail = Mailboxes([("file", False)], perf_ns=lambda: 0)
    assert mail.wait_free("file")
    mail.put(SCRIPT.frame(0, source="file"))
    free = threading.Event()
    waiting = threading.Thread(target=lambda: mail.wait_free("file") and free.set())
    waiting.start()
    assert not free.wait(0.3)
    mail.take(threading.Event())
    assert free.wait(10)
    waiting.join()
    mail.close()
    assert not mail.wait_free("file")
