"""A log line holds plain values and dotted names; a plate cannot get into one by accident."""

import io
import json
import sys
import threading
from pathlib import Path

import pytest
import structlog

from homeplate import log
from homeplate.domain.plate import PlateText
from homeplate.errors import StoreError

CANARY = "CANARY7"


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    stream = io.StringIO()
    log.configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    assert CANARY not in stream.getvalue()
    structlog.reset_defaults()


def test_events_and_plain_fields_come_out_as_json(lines):
    structlog.get_logger().info("uplink.confirmed", count=3, share=0.5, path=Path("/x"), ok=True, none=None)
    assert lines() == [
        {"event": "uplink.confirmed", "level": "info", "count": 3, "share": 0.5, "path": "/x", "ok": True, "none": None}
    ]


def test_what_is_no_plain_value_is_shown_as_its_type(lines):
    plate = PlateText(CANARY)
    structlog.get_logger().warning("a.b", plate=plate, many=[CANARY], table={"p": CANARY}, raw=CANARY.encode())
    assert lines()[0] == {
        "event": "a.b",
        "level": "warning",
        "plate": "<PlateText>",
        "many": "<list>",
        "table": "<dict>",
        "raw": "<bytes>",
    }


def test_an_event_that_is_a_sentence_is_not_written(lines):
    structlog.get_logger().info(f"read {CANARY} at the gate")
    structlog.get_logger().info(PlateText(CANARY))
    assert [line["event"] for line in lines()] == ["log.unnamed-event"] * 2


def test_of_an_exception_the_type_and_places_are_shown_and_our_own_messages(lines):
    try:
        {}[CANARY]
    except KeyError:
        structlog.get_logger().exception("capture.failed")
    structlog.get_logger().error("capture.failed", exc_info=StoreError("the disk is full"))
    first, second = lines()
    assert first["error"] == "<KeyError>"
    assert "test_log.py" in first["places"]
    assert second["error"] == "StoreError: the disk is full"


def test_a_long_text_is_cut(lines):
    structlog.get_logger().info("a", text="x" * 10_000)
    assert len(lines()[0]["text"]) == log.MAXIMUM_TEXT


def test_crashes_of_the_process_and_of_threads_are_log_lines_without_their_message(lines, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    stream = io.StringIO()
    log.configure(stream)

    def fail():
        raise ValueError(CANARY)

    thread = threading.Thread(target=fail, name="vision")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["error"]) for line in told] == [
        ("thread.crashed", "<ValueError>"),
        ("process.crashed", "<ValueError>"),
    ]
    assert told[0]["thread"] == "vision"
    assert CANARY not in stream.getvalue()


def test_a_terminal_gets_lines_for_people():
    stream = io.StringIO()
    log.configure(stream, as_json=False)
    structlog.get_logger().info("uplink.confirmed", count=3)
    assert "uplink.confirmed" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    structlog.reset_defaults()
