"""Rows as bytes: what a node's own log may hold, what an export may, and why anything else is a bad row."""

import hashlib
import json

import msgspec
import pytest

from homeplate.errors import LedgerError
from homeplate.store.merkle import Frontier
from homeplate.store.rows import (
    DAY_NS,
    MAXIMUM_LINE_BYTES,
    BadRow,
    BadRowError,
    Header,
    Line,
    Row,
    Span,
    decode,
    encode,
    export,
    leaf_of,
    number_of,
    show,
    span_of,
    withhold,
)

ROOT, SALT = "ab" * 32, "0f" * 16
ROW = Row(number=3, time_ns=5 * DAY_NS + 7, event="delivery.refused", fields={"recipient": "é", "reason": "no", "n": 1})
LINE = Line(root=ROOT, row=ROW, salt=SALT)
SHOWN = show(LINE, {"reason", "n"})
WITHHELD = withhold(LINE)
NO_ROW, WRONG_LENGTH = "the line is no ledger row", "the line has a wrong length"
NOT_CANONICAL = "the line is not in canonical form"


def reason(raw, *, exported):
    with pytest.raises(BadRowError) as caught:
        decode(raw, 9, exported=exported)
    assert caught.value.bad.number == 9
    assert str(caught.value) == f"row 9: {caught.value.bad.reason}"
    return caught.value.bad.reason


def changed(line, **parts):
    return json.dumps(
        json.loads(encode(line)) | parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def test_each_form_of_a_row_has_the_same_leaf():
    leaf = leaf_of(ROW, bytes.fromhex(SALT))
    assert decode(encode(LINE), 3, exported=False) == (LINE, leaf)
    for line in (LINE, SHOWN, WITHHELD):
        assert decode(encode(line), 3, exported=True) == (line, leaf)
    assert WITHHELD.leaf == leaf.hex()


def test_what_an_export_shows_is_the_day_and_the_named_fields_and_no_others():
    assert (SHOWN.day, SHOWN.event, SHOWN.number, SHOWN.root) == (5, "delivery.refused", 3, ROOT)
    assert SHOWN.fields == {"reason": "no", "n": 1}
    assert SHOWN.salts.keys() == {"reason", "n"}
    assert SHOWN.withheld.keys() == {"recipient"}
    assert (WITHHELD.number, WITHHELD.root) == (3, ROOT)
    assert show(LINE, set()).fields == {}
    salt = bytes.fromhex(SHOWN.salts["n"])
    assert len(salt) == 16
    assert show(LINE, {"recipient"}).withheld["n"] == hashlib.sha256(salt + b'["n",1]').hexdigest()


def test_a_row_is_known_by_its_number_and_its_time_as_far_as_it_is_shown():
    assert [number_of(line) for line in (LINE, SHOWN, WITHHELD)] == [3, 3, 3]
    assert span_of(LINE) == Span(5 * DAY_NS + 7, 5 * DAY_NS + 7)
    assert span_of(SHOWN) == Span(5 * DAY_NS, 6 * DAY_NS - 1)
    assert span_of(WITHHELD) is None


def test_an_export_may_withhold_rows_whole_and_leaves_the_others_as_they_are():
    assert list(export([LINE, LINE], lambda row: row.number == 3)) == [encode(WITHHELD) + b"\n"] * 2
    assert list(export([LINE], lambda _: False)) == [encode(LINE) + b"\n"]


def test_a_nodes_own_log_holds_whole_rows_alone():
    for line in (SHOWN, WITHHELD):
        assert reason(encode(line), exported=False) == NO_ROW


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", NO_ROW),
        (b"[" * 100_000, NO_ROW),
        (b'{"root":"\xff"}', NO_ROW),
        (changed(LINE, salt="xy" * 16), NO_ROW),
        (changed(LINE, more=1), NO_ROW),
        (changed(LINE, salt="0f" * 15), WRONG_LENGTH),
        (changed(LINE, salt="0f" * 17), WRONG_LENGTH),
        (changed(LINE, salt="0F" * 16), NOT_CANONICAL),
        (encode(LINE) + b" ", NOT_CANONICAL),
        (changed(SHOWN, time="0f" * 31), WRONG_LENGTH),
        (changed(SHOWN, withheld={"recipient": "0f" * 33}), WRONG_LENGTH),
        (changed(SHOWN, withheld={"recipient": "0F" * 32}), NOT_CANONICAL),
        (changed(SHOWN, time="0F" * 32), NOT_CANONICAL),
        (changed(SHOWN, salts={"reason": SALT, "n": SALT.upper()}), NOT_CANONICAL),
        (changed(SHOWN, salts={"reason": SALT, "n": "0f" * 15}), WRONG_LENGTH),
        (changed(SHOWN, salts={"reason": SALT}), NO_ROW),
        (changed(SHOWN, salts={"reason": SALT, "n": SALT, "more": SALT}), NO_ROW),
        (changed(SHOWN, withheld={"n": "0f" * 32}), NO_ROW),
        (changed(WITHHELD, leaf="0f" * 31), WRONG_LENGTH),
        (changed(WITHHELD, leaf="0f" * 33), WRONG_LENGTH),
        (changed(WITHHELD, leaf="0F" * 32), NOT_CANONICAL),
    ],
    ids=range(21),
)
def test_a_bad_line_says_whether_it_is_no_row_of_a_wrong_length_or_of_another_form(raw, why):
    assert reason(raw, exported=True) == why


def test_a_line_may_be_as_long_as_its_bound():
    def line(length):
        return Line(root=ROOT, row=Row(number=1, time_ns=1, event="e", fields={"a": "x" * length}), salt=SALT)

    room = MAXIMUM_LINE_BYTES - len(encode(line(0)))
    assert decode(encode(line(room)), 1, exported=False)[0] == line(room)
    assert reason(encode(line(room + 1)), exported=False) == WRONG_LENGTH


def test_a_bad_row_is_a_ledger_error_with_its_number():
    error = BadRowError(BadRow(number=4, reason="why"))
    assert isinstance(error, LedgerError)
    assert (error.bad, str(error)) == (BadRow(number=4, reason="why"), "row 4: why")


def test_a_header_holds_the_tree_before_its_file():
    tree = Frontier()
    for number in range(7):
        tree.append(bytes([number]) * 32)
    header = Header.of(tree, 42)
    assert (header.rows, header.time_ns, len(header.peaks)) == (7, 42, 3)
    assert header.frontier.root() == tree.root()
    assert msgspec.json.decode(encode(header), type=Header) == header
    for peaks in (header.peaks[:2], [*header.peaks[:2], "xy" * 32], [*header.peaks[:2], "00" * 31]):
        with pytest.raises(ValueError, match=r"."):
            _ = Header(peaks=peaks, rows=7, time_ns=42).frontier
