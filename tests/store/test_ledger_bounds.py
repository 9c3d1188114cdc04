"""A ledger at its bounds and on a failing disk: what it refuses says which log and what to do, and no row is lost."""

import os
import re

import pytest

from homeplate.clock import SimulatedClock
from homeplate.errors import ClockError, LedgerError, StoreError
from homeplate.store import ledger as ledger_module
from homeplate.store.ledger import (
    FULL,
    MAXIMUM_FIELDS,
    MAXIMUM_REASON,
    MAXIMUM_TEXT,
    CoalescingLedger,
    MerkleLog,
    fit,
    read_lines,
    read_rows,
    scan,
)
from homeplate.store.reading import closed_segments

START_NS = 1_790_000_000 * 10**9


def says(kind, message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def clock():
    return SimulatedClock(START_NS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "capture.log"


def fill(path, clock, rows, **bounds):
    with MerkleLog(path, clock, **bounds) as log:
        for _ in range(rows):
            log.append("row")


def test_a_full_log_says_once_how_many_segments_it_has_and_then_what_to_do(path, clock):
    message = (
        f"the ledger {path} has 2 closed segments, all that it may have: sign it (`homeplate ledger sign`), then take"
        " the oldest away with `homeplate ledger archive DIR`"
    )
    with MerkleLog(path, clock, segment_bytes=600, maximum_segments=2) as log:
        while len(closed_segments(path)) < 2 or path.stat().st_size < 600:
            log.append("row")
        for _ in range(3):
            with says(StoreError, message):
                log.append("row")
        told = [row for row in log.rows() if row.event == FULL]
    assert [row.fields for row in told] == [{"segments": 2}]


def test_a_file_is_closed_at_the_row_after_it_reached_its_length(path, clock):
    fill(path, clock, 3)
    length = path.stat().st_size
    with MerkleLog(path, clock, segment_bytes=length + 1) as log:
        log.append("row")
        assert closed_segments(path) == []
        log.append("row")
        assert len(closed_segments(path)) == 1
    path.with_name("other").mkdir()
    other = path.with_name("other") / "capture.log"
    with MerkleLog(other, clock, lambda size: b"s" * size, segment_bytes=10**6) as log:
        log.append("row")
    with MerkleLog(other, clock, segment_bytes=other.stat().st_size) as log:
        log.append("row")
    assert len(closed_segments(other)) == 1


def test_a_new_file_begins_with_what_its_process_carries_over(path, clock):
    with MerkleLog(path, clock, segment_bytes=500) as log:
        log.carry_over(lambda: [("carried", {"rows": log.size}), ("carried.too", {})])
        while not closed_segments(path):
            log.append("row", size=log.size)
        size = int(closed_segments(path)[0].name.split(".")[1])
        first = log.size - 2
        rows = {row.number: row for row in log.rows()}
        assert size == 1
    assert [rows[first + offset].event for offset in range(3)] == ["carried", "carried.too", "row"]
    assert rows[first].fields == {"rows": first - 1}
    assert scan(path).bad is None


def test_what_is_carried_over_is_bound_like_any_row(path, clock):
    with MerkleLog(path, clock, segment_bytes=1) as log:
        log.append("row")
        log.carry_over(lambda: [("Bad Name", {})])
        with says(StoreError, "a ledger event is 1 to 64 characters of a-z, 0-9, dot and hyphen"):
            log.append("row")


@pytest.mark.parametrize(
    ("event", "fields", "message"),
    [
        ("a" * 65, {}, "a ledger event is 1 to 64 characters of a-z, 0-9, dot and hyphen"),
        (".a", {}, "a ledger event is 1 to 64 characters of a-z, 0-9, dot and hyphen"),
        ("e", {f"a{n}": n for n in range(25)}, "a ledger row of event e has 25 fields, over 24"),
        ("e", {"a" * 41: 1}, "a field's name in a ledger row of event e is not a-z, 0-9 and underscore"),
        ("e", {"a": 0.5}, "field a of ledger event e is a float: only str, int, bool"),
        ("e", {"a": "x" * 4097}, "field a of ledger event e is over 4096 characters or unprintable"),
        ("e", {"a": "\t"}, "field a of ledger event e is over 4096 characters or unprintable"),
        ("e", {"a": 2**63}, "field a of ledger event e does not fit 64 bits"),
        ("e", {"a": -(2**63) - 1}, "field a of ledger event e does not fit 64 bits"),
    ],
)
def test_what_a_row_may_not_hold_is_refused_by_name(path, clock, event, fields, message):
    with MerkleLog(path, clock) as log, says(StoreError, message):
        log.append(event, **fields)


def test_what_a_row_may_hold_at_most_is_taken(path, clock):
    longest = {"a": "x" * MAXIMUM_TEXT, "b": 2**63 - 1, "c": -(2**63), "d": True, "e" * 40: ""}
    many = {f"f{n}": n for n in range(MAXIMUM_FIELDS)}
    with MerkleLog(path, clock) as log:
        log.append("a" * 64, **longest)
        log.append("0", **many)
        assert [row.fields for row in log.rows()] == [longest, many]
    assert scan(path).bad is None


def test_a_row_is_as_long_as_a_line_may_be_and_no_longer(path, clock):
    wide = {"a": "x" * 4096, "b": "x" * 4096, "c": "x" * 4096}
    with MerkleLog(path, clock) as log:
        log.append("e", **wide, d="")
        room = 16_384 - path.stat().st_size
        log.append("e", **wide, d="x" * room)
        assert path.stat().st_size == 2 * 16_384 - room
        with says(StoreError, "a ledger row of event e has 16385 bytes, over 16384"):
            log.append("e", **wide, d="x" * (room + 1))
        assert log.size == 2
    assert scan(path).bad is None


def test_the_folder_of_a_log_and_its_file_have_the_rights_that_the_signer_needs(tmp_path, clock):
    old = os.umask(0)
    try:
        with MerkleLog(tmp_path / "a" / "b" / "x.log", clock, segment_bytes=1) as log:
            log.append("row")
            log.append("row")
    finally:
        os.umask(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o750, "x.log": 0o640, "x.000000000001.segment": 0o640}


def test_a_log_that_cannot_be_opened_or_has_a_writer_says_so(tmp_path, path, clock):
    (tmp_path / "file").touch()
    with says(StoreError, f"the ledger {tmp_path}/file/x.log cannot be opened: File exists"):
        MerkleLog(tmp_path / "file" / "x.log", clock)
    with MerkleLog(path, clock) as log:
        log.append("row")
        with says(StoreError, f"the ledger {path} has a writer already: stop the other process first"):
            MerkleLog(path, clock)
        log.append("row")


def test_a_log_that_does_not_verify_says_where_and_what_to_do(path, clock):
    fill(path, clock, 3)
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":7'))
    with says(
        LedgerError,
        "ledger capture.log, row 2: row 7 stands in its place; keep the ledger folder for the auditor, then move it"
        " away to start a new one",
    ):
        MerkleLog(path, clock)


def test_a_log_that_does_not_continue_its_segment_says_which(path, clock):
    fill(path, clock, 3, segment_bytes=1)
    segment = closed_segments(path)[-1]
    for data in (b"", b"[" * 100_000, b"\xff", segment.read_bytes().replace(b'"root":"', b'"root":"0')):
        segment.write_bytes(data)
        with pytest.raises(LedgerError, match=rf"^ledger .*, row 3: its file does not continue {segment.name};"):
            MerkleLog(path, clock)


def test_a_log_whose_segment_is_none_says_so_and_a_log_gives_its_lines_with_their_roots(path, clock):
    with MerkleLog(path, clock, segment_bytes=1) as log:
        log.append("one")
        log.append("two")
        roots = [line.root for line in log.lines()]
        assert (len(roots), roots[-1]) == (2, log.root().hex())
    (segment,) = closed_segments(path)
    segment.unlink()
    segment.mkdir()
    with pytest.raises(LedgerError, match=rf"^ledger .*, row 2: its file does not continue {segment.name};"):
        MerkleLog(path, clock)


def test_a_segment_with_the_longest_row_at_its_end_is_continued(path, clock):
    wide = {"a": "x" * 4096, "b": "x" * 4096, "c": "x" * 4096}
    with MerkleLog(path, clock) as log:
        log.append("e", **wide, d="")
        room = 16_384 - path.stat().st_size
        log.append("e", **wide, d="x" * room)
    fill(path, clock, 1, segment_bytes=1)
    fill(path, clock, 1)
    assert scan(path).frontier.size == 4


def test_a_row_that_cannot_be_written_is_cut_off_and_the_log_goes_on(path, clock, monkeypatch):
    with MerkleLog(path, clock) as log:
        log.append("one")
        monkeypatch.setattr(ledger_module.os, "write", failing(28))
        with says(StoreError, f"the ledger {path} cannot be written: No space left on device; free its disk"):
            log.append("two")
        monkeypatch.undo()
        log.append("three")
    assert [row.event for row in read_rows(path)] == ["one", "three"]


def test_a_log_that_cannot_even_be_cut_takes_nothing_more(path, clock, monkeypatch):
    with MerkleLog(path, clock) as log:
        log.append("one")
        monkeypatch.setattr(ledger_module.os, "write", failing(28))
        monkeypatch.setattr(ledger_module.os, "ftruncate", failing(5))
        with says(StoreError, f"the ledger {path} cannot be cut back to its last row: Input/output error"):
            log.append("two")
        monkeypatch.undo()
        for _ in range(2):
            with says(StoreError, f"the ledger {path} failed to sync before: mend its disk and start again"):
                log.append("three")
    assert [row.event for row in read_rows(path)] == ["one"]


def test_a_row_that_cannot_be_synced_says_that_the_disk_fails(path, clock, monkeypatch):
    with MerkleLog(path, clock) as log:
        monkeypatch.setattr(ledger_module.os, "fsync", failing(5))
        with says(StoreError, f"the ledger {path} cannot be synced: Input/output error; its disk fails"):
            log.append("one")
        monkeypatch.undo()
        with says(StoreError, f"the ledger {path} failed to sync before: mend its disk and start again"):
            log.append("two")


def test_a_folder_that_cannot_be_synced_opens_no_log(path, clock, monkeypatch):
    fill(path, clock, 1)
    monkeypatch.setattr(ledger_module.os, "fsync", failing(5))
    with says(StoreError, f"the ledger's folder {path.parent} cannot be synced: Input/output error"):
        MerkleLog(path, clock)
    monkeypatch.undo()
    fill(path, clock, 1)  # its lock is free again


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_segment_that_cannot_be_begun_leaves_the_full_file_in_use(path, clock, monkeypatch, call):
    with MerkleLog(path, clock, segment_bytes=1) as log:
        log.append("one")
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        monkeypatch.setattr(ledger_module.os, call, failing(28))
        with pytest.raises(
            StoreError,
            match=rf"^the ledger {re.escape(str(path))} cannot begin a new segment: .*No space.*; free its disk$",
        ):
            log.append("two")
        monkeypatch.undo()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
        assert [row.event for row in log.rows()] == ["one"]
        log.append("three")
        log.append("four")
    assert [row.event for row in read_rows(path)] == ["one", "three", "four"]
    assert scan(path).bad is None
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "capture.000000000001.segment", "capture.000000000002.segment", "capture.log",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_synced_after_a_rotation_ends_the_log(path, clock, monkeypatch):
    real, calls = os.fsync, []

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:  # the new file, the folder, and the folder again once the new file has its name
            raise OSError(5, os.strerror(5))
        real(descriptor)

    with MerkleLog(path, clock, segment_bytes=1) as log:
        log.append("one")
        monkeypatch.setattr(ledger_module.os, "fsync", fsync)
        with says(StoreError, f"the ledger's folder {path.parent} cannot be synced: Input/output error"):
            log.append("two")
        monkeypatch.undo()
        with says(StoreError, f"the ledger {path} failed to sync before: mend its disk and start again"):
            log.append("three")


def test_a_torn_row_is_cut_off_at_opening_with_its_length_in_a_row(path, clock):
    fill(path, clock, 2)
    with path.open("ab") as file:
        file.write(b"half a row")
    with MerkleLog(path, clock) as log:
        assert log.last.row.event == "ledger.recovered"
        assert log.last.row.fields == {"bytes_cut": 10}
        assert (log.size, log.last.root) == (3, log.root().hex())
    assert [line.row.number for line in read_lines(path)] == [1, 2, 3]


def test_a_reopened_log_writes_no_time_before_its_last_row(path):
    fill(path, SimulatedClock(START_NS + 50), 1)
    fill(path, SimulatedClock(START_NS), 1)
    fill(path, SimulatedClock(START_NS + 60), 1, segment_bytes=1)
    fill(path, SimulatedClock(START_NS), 1)
    assert [row.time_ns - START_NS for row in read_rows(path)] == [50, 50, 60, 60]


def test_foreign_words_are_cut_to_length_and_put_on_one_line():
    assert fit("a\n\tb  c\x00d\u2028e") == "a b c d e"
    assert fit("x" * (MAXIMUM_REASON + 1)) == "x" * MAXIMUM_REASON
    assert fit("") == ""


def rows_of(log):
    return [(row.event, row.fields.get("n"), row.fields.get("repeats")) for row in log.rows()]


def test_repeats_are_gathered_for_a_minute_unless_told_otherwise(path, clock):
    with MerkleLog(path, clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"r"}))
        rows.append("r", n=1)
        clock.advance_to(START_NS + 59_999_999_999)
        rows.append("r", n=1)
        assert log.size == 1
        clock.advance_to(START_NS + 60_000_000_000)
        rows.append("r", n=1)
        assert rows_of(log) == [("r", 1, None), ("r", 1, 1), ("r", 1, None)]


def test_256_different_rows_are_remembered_unless_told_otherwise(path, clock):
    with MerkleLog(path, clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"r"}))
        for n in range(256):
            rows.append("r", n=n)
        rows.append("r", n=0)
        assert log.size == 256
        rows.append("r", n=256)
        assert rows_of(log)[-2:] == [("r", 256, None), ("r", 0, 1)]
        rows.append("r", n=0)
        assert rows_of(log)[-1] == ("r", 0, None)


def test_a_window_that_is_over_is_written_out_by_the_next_row_of_any_kind_that_is_counted(path, clock):
    with MerkleLog(path, clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"r"}), window_ns=10)
        rows.append("r", n=1)
        rows.append("r", n=1)
        clock.advance_to(START_NS + 5)
        rows.append("r", n=2)
        rows.append("r", n=2)
        clock.advance_to(START_NS + 10)
        rows.append("r", n=3)
        assert rows_of(log) == [("r", 1, None), ("r", 2, None), ("r", 1, 1), ("r", 3, None)]
        rows.flush()
        assert rows_of(log)[4:] == [("r", 2, 1)]


def test_without_a_clock_each_repeat_is_a_row(path):
    class Quarantined:
        def now_ns(self):
            raise ClockError("quarantined")

        def least_ns(self):
            return START_NS

    clock = Quarantined()
    with MerkleLog(path, clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"r"}))
        rows.append("r", n=1)
        rows.append("r", n=1)
        rows.append("other", n=2)
        rows.flush()
        assert rows_of(log) == [("r", 1, None), ("r", 1, None), ("other", 2, None)]
