"""Reading a log from its files: names, order, what is passed over, and which row is bad and why."""

import re

import pytest

from homeplate.clock import SimulatedClock
from homeplate.errors import LedgerError, StoreError
from homeplate.store import reading
from homeplate.store.ledger import MerkleLog
from homeplate.store.merkle import EMPTY_ROOT, Frontier
from homeplate.store.reading import (
    closed_segments,
    first_row,
    log_files,
    log_name,
    read_lines,
    read_rows,
    scan,
    segment_path,
)
from homeplate.store.rows import DAY_NS, BadRow, Header, Line, Row, Span, encode, leaf_of, show, withhold

START_NS = 20_000 * DAY_NS
ROWS = 12


@pytest.fixture
def path(tmp_path):
    """A log in several files; row n is of START_NS + n."""
    path, clock = tmp_path / "capture.log", SimulatedClock(START_NS)
    with MerkleLog(path, clock, segment_bytes=700) as log:
        for number in range(1, ROWS + 1):
            clock.advance_to(START_NS + number)
            log.append("row", n=number)
    return path


def files(path):
    return [*closed_segments(path), path]


def all_lines(path):
    return [line for file in files(path) for line in file.read_bytes().splitlines(keepends=True)]


def bad(path, **how):
    found = scan(path, **how).bad
    return None if found is None else (found.number, found.reason)


def test_a_segment_is_named_after_its_log_and_its_first_row(tmp_path):
    log = tmp_path / "capture.log"
    assert segment_path(log, 42) == tmp_path / "capture.000000000042.segment"
    assert first_row(segment_path(log, 42)) == 42
    for name in ("capture.log", "capture.x.segment", "capture.42.note", "segment", ".segment"):
        assert first_row(tmp_path / name) == 0
    assert log_name(log) == log_name(segment_path(log, 42)) == "capture"
    assert log_name(tmp_path / "a.b.000000000001.segment") == "a.b"


def test_the_segments_of_a_log_are_its_own_oldest_first_each_once(path, tmp_path):
    segments = closed_segments(path)
    assert [first_row(one) for one in segments] == sorted(first_row(one) for one in segments)
    assert len(segments) > 2
    for name in ("capture.000000000000.segment", "capture.x.segment", "capture.2.000000000001.segment",
                 "uplink.000000000001.segment", "capture.000000000001.note"):  # fmt: skip
        (tmp_path / name).touch()
    away = tmp_path / "away"
    away.mkdir()
    segments[0].rename(away / segments[0].name)
    (away / segments[1].name).write_bytes(b"a copy")
    assert closed_segments(path) == segments[1:]
    assert closed_segments(path, [away]) == [away / segments[0].name, *segments[1:]]
    assert closed_segments(path, [tmp_path / "nowhere"]) == segments[1:]
    (tmp_path / "capture.000000000099.segment").hardlink_to(path)
    assert closed_segments(path) == segments[1:]
    assert closed_segments(tmp_path / "other.log") == []


def test_files_whose_rows_all_come_before_are_left_out(path):
    segments = closed_segments(path)
    firsts = [first_row(one) for one in segments]
    assert log_files(path) == log_files(path, after=0) == [*segments, path]
    assert log_files(path, after=firsts[1] - 1) == [*segments, path]
    assert log_files(path, after=firsts[1]) == [*segments[1:], path]
    assert log_files(path, after=firsts[-1]) == [segments[-1], path]
    assert log_files(path, after=10**6) == [segments[-1], path]


def test_what_a_reading_shows(path):
    seen = []
    state = scan(path, [0, 3, ROWS, ROWS + 1], lambda line, leaf: seen.append((line.row.number, leaf)))
    tree, roots = Frontier(), {0: EMPTY_ROOT}
    for number, leaf in seen:
        tree.append(leaf)
        roots[number] = tree.root()
    assert [number for number, _ in seen] == list(range(1, ROWS + 1))
    assert state.points == {
        0: (EMPTY_ROOT, Span(0, 0)),
        3: (roots[3], Span(START_NS + 3, START_NS + 3)),
        ROWS: (roots[ROWS], Span(START_NS + ROWS, START_NS + ROWS)),
    }
    assert {size: found.root() for size, found in state.trees.items()} == {size: roots[size] for size in (0, 3, ROWS)}
    assert (state.frontier.root(), state.frontier.size) == (roots[ROWS], ROWS)
    assert (state.bad, state.start, state.tail, state.withheld, state.begun) == (None, 0, 0, 0, True)
    assert (state.time_ns, state.latest_ns, state.first_root) == (START_NS + ROWS, START_NS + ROWS, EMPTY_ROOT)
    assert state.last.row.number == ROWS
    assert state.end == path.stat().st_size


def test_a_missing_log_is_an_empty_one(tmp_path):
    state = scan(tmp_path / "none.log", [0])
    assert (state.bad, state.frontier.size, state.begun, state.end, state.last) == (None, 0, False, 0, None)
    assert state.points == {0: (EMPTY_ROOT, Span(0, 0))}
    assert list(read_lines(tmp_path / "none.log")) == []


def test_reading_may_begin_at_any_segment_and_takes_its_header_at_its_word(path):
    roots = [line.root for line in read_lines(path)]
    second = first_row(closed_segments(path)[1])
    state = scan(path, [second - 1, second], after=second)
    assert (state.start, state.first_root.hex()) == (second - 1, roots[second - 2])
    assert (state.bad, state.frontier.size, state.frontier.root().hex()) == (None, ROWS, roots[-1])
    assert state.points[second - 1][1] == Span(START_NS + second - 1, START_NS + second - 1)
    only = scan(path, only=True)
    assert (only.bad, only.frontier.size) == (None, ROWS)
    assert only.start == first_row(segment_path(path, 0)) or only.start > second
    closed_segments(path)[0].unlink()
    assert [row.number for row in read_rows(path)] == list(range(second, ROWS + 1))


def test_rows_are_read_from_archived_files_too(path, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    first = closed_segments(path)[0]
    first.rename(away / first.name)
    assert scan(path, folders=[away]).start == 0
    assert [line.row.number for line in read_lines(path, [away])] == list(range(1, ROWS + 1))


def test_a_torn_end_is_counted_in_the_last_file_and_bad_in_a_closed_one(path):
    with path.open("ab") as file:
        file.write(b'{"half')
    state = scan(path)
    assert (state.bad, state.tail, state.end) == (None, 6, path.stat().st_size - 6)
    assert len(list(read_lines(path))) == ROWS
    segment = closed_segments(path)[0]
    following = first_row(closed_segments(path)[1])
    with segment.open("ab") as file:
        file.write(b"x")
    assert bad(path) == (following, "a closed segment ends in half a line")
    with pytest.raises(LedgerError, match=rf"^ledger capture\.log, row {following}: a closed segment ends in half"):
        list(read_lines(path))


@pytest.mark.parametrize("length", [16_384, 70_000, 200_000])
def test_a_line_of_any_length_is_judged_and_a_long_one_is_named(tmp_path, length):
    path = tmp_path / "a.log"
    path.write_bytes(b"x" * length)
    if length == 16_384:
        assert (bad(path), scan(path).tail) == (None, length)
        path.write_bytes(b"x" * (length + 1))
    assert bad(path) == (1, "the line is too long")


def test_each_way_to_be_bad_has_its_reason(path):
    segments, sound = closed_segments(path), path.read_bytes()
    second = first_row(segments[1])
    kept = segments[1].read_bytes()

    def with_second(data):
        segments[1].write_bytes(data)
        try:
            return bad(path)
        finally:
            segments[1].write_bytes(kept)

    header, *rest = kept.splitlines(keepends=True)
    tail = b"".join(rest)
    assert with_second(tail) == (second, "its file does not say what precedes")
    assert with_second(b'{"peaks":1}\n' + tail) == (second, "its file begins with no header")
    assert with_second(header.replace(b'"rows":', b'"rows": ') + tail) == (
        second, "its file does not continue the one before it",
    )  # fmt: skip
    for time in (START_NS, START_NS + second):
        other = header.replace(str(START_NS + second - 1).encode(), str(time).encode())
        assert with_second(other + tail) == (second, "its file does not continue the one before it")
    moved = encode(Header(peaks=["00" * 32] * (second - 1).bit_count(), rows=second - 1, time_ns=START_NS + second - 1))
    assert with_second(moved + b"\n" + tail) == (second, "its file does not continue the one before it")
    third = first_row(segments[2])
    segments[1].unlink()
    assert bad(path) == (second, f"rows {second} to {third - 1} are missing: a segment is gone")
    segments[1].write_bytes(kept)
    assert bad(path) is None
    lines = sound.splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b'"n":', b'"n":1')]))
    number = ROWS - len(lines) + 2
    assert bad(path) == (number, "its running root does not match: it or its order was changed")
    path.write_bytes(b"".join([lines[0], lines[1].replace(f'"number":{number}'.encode(), b'"number":77')]))
    assert bad(path) == (number, "row 77 stands in its place")


def test_a_header_that_is_a_logs_first_line_is_sound_in_itself(tmp_path):
    path, tree = tmp_path / "a.log", Frontier()
    tree.append(bytes(32))
    good = encode(Header.of(tree, 5))
    path.write_bytes(good + b"\n")
    state = scan(path)
    assert (state.bad, state.start, state.time_ns, state.latest_ns) == (None, 1, 5, 5)
    assert state.first_root == tree.root()
    for wrong in (good.replace(b":5}", b": 5}"), encode(Header(peaks=[], rows=0, time_ns=5))):
        path.write_bytes(wrong + b"\n")
        assert bad(path) == (1, "its file does not continue the one before it")
    for wrong in (good.replace(b'"rows":1', b'"rows":2**9'), good.replace(b'"rows":1', b'"rows":3'), good + b"}"):
        path.write_bytes(wrong + b"\n")
        assert bad(path) == (1, "its file begins with no header")


def written(path, *lines):
    """Write lines with the roots that belong to them; each is (time, kind)."""
    tree, data = Frontier(), b""
    for number, (time_ns, kind) in enumerate(lines, 1):
        row = Row(number=number, time_ns=time_ns, event="e", fields={})
        tree.append(leaf_of(row, bytes(16)))
        line = Line(root=tree.root().hex(), row=row, salt=bytes(16).hex())
        data += encode(kind(line)) + b"\n"
    path.write_bytes(data)


def whole(line):
    return line


def in_part(line):
    return show(line, set())


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([(500, whole), (500, whole)], None),
        ([(500, whole), (499, whole)], 2),
        ([(DAY_NS, whole), (DAY_NS + 5, in_part), (DAY_NS, whole)], None),  # a day may hold an earlier second
        ([(DAY_NS + 9, whole), (DAY_NS, in_part), (DAY_NS + 8, whole)], 3),
        ([(2 * DAY_NS, in_part), (2 * DAY_NS - 1, in_part)], 2),
        ([(2 * DAY_NS, in_part), (5, withhold), (2 * DAY_NS - 1, whole)], 3),
        ([(2 * DAY_NS, in_part), (5, withhold), (2 * DAY_NS, whole)], None),
    ],
    ids=range(7),
)
def test_rows_go_forward_in_time_as_far_as_an_export_shows_it(tmp_path, lines, number):
    path = tmp_path / "a.export"
    written(path, *lines)
    found = scan(path, exported=True)
    assert found.bad == (None if number is None else BadRow(number=number, reason="its time is before the row above"))
    assert found.withheld == sum(kind is withhold for _, kind in lines[: number and number - 1])


def test_the_last_row_that_a_node_stores_is_known_with_the_bounds_of_its_time(tmp_path):
    path = tmp_path / "a.export"
    written(path, (DAY_NS + 5, whole), (DAY_NS + 6, in_part), (DAY_NS + 7, withhold))
    state = scan(path, [3], exported=True)
    assert state.last.row.number == 1
    assert (state.time_ns, state.latest_ns) == (DAY_NS + 5, 2 * DAY_NS - 1)
    assert state.points[3][1] == Span(DAY_NS + 5, 2 * DAY_NS - 1)


def test_what_an_export_shows_is_a_bad_row_in_a_nodes_own_log(tmp_path):
    for kind in (in_part, withhold):
        path = tmp_path / f"{kind.__name__}.log"
        written(path, (500, whole), (600, kind))
        assert bad(path) == (2, "the line is no ledger row")
        with pytest.raises(LedgerError, match=r"row 2: the line is no ledger row$"):
            list(read_lines(path))


def test_a_log_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.log").mkdir()
    message = f"^{re.escape(f'the ledger {tmp_path}/a.log cannot be read: Is a directory')}$"
    with pytest.raises(StoreError, match=message):
        scan(tmp_path / "a.log")
    with pytest.raises(StoreError, match=message):
        list(read_lines(tmp_path / "a.log"))


def test_files_that_change_at_every_look_are_given_up(path, monkeypatch):
    looks = []

    def changing(*_, **__):
        looks.append(None)
        return [path] * len(looks)

    monkeypatch.setattr(reading, "log_files", changing)
    with pytest.raises(StoreError, match=r"^the ledger's files change faster than they can be read; try again$"):
        scan(path)
    assert len(looks) == 40


def test_a_file_that_is_closed_as_a_segment_while_it_is_opened_is_opened_again(path, monkeypatch):
    real, calls = reading._is_at, []

    def once_elsewhere(file, where):
        calls.append(where)
        return real(file, where) and len(calls) > 1

    monkeypatch.setattr(reading, "_is_at", once_elsewhere)
    assert scan(path).frontier.size == ROWS
    assert len(calls) == 1 + len(files(path))
