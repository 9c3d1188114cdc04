"""What somebody does to a ledger at a place that hypothesis chooses, each found with its row; exports and archives."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeplate.clock import NANOSECONDS, SimulatedClock
from homeplate.store.archive import archive
from homeplate.store.ledger import MerkleLog, scan
from homeplate.store.reading import closed_segments
from homeplate.store.rows import encode, show
from tests.custodian.test_verify import NOW_S, Ledgers

ROWS = 24
EACH = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    ledgers = Ledgers(tmp_path_factory.mktemp("original"))
    for _ in range(3):
        ledgers.write("capture", ROWS // 3)
        ledgers.sign("capture")
    return ledgers, ledgers.lines()


def first_bad(original, lines):
    ledgers, sound = original
    ledgers.path("capture").write_bytes(b"".join(lines))
    try:
        return ledgers.bad()
    finally:
        ledgers.path("capture").write_bytes(b"".join(sound))


@given(at=st.integers(0, ROWS - 1))
@EACH
def test_a_deleted_row_is_named_wherever_it_was(original, at):
    lines = list(original[1])
    del lines[at]
    assert first_bad(original, lines).number == at + 1


@given(at=st.integers(0, ROWS - 1), bit=st.integers(0, 7), data=st.data())
@EACH
def test_a_flipped_bit_is_named_wherever_it_was(original, at, bit, data):
    lines = list(original[1])
    changed = bytearray(lines[at])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= 1 << bit
    lines[at] = bytes(changed)
    assert first_bad(original, lines).number == at + 1


@given(pair=st.sets(st.integers(0, ROWS - 1), min_size=2, max_size=2))
@EACH
def test_two_rows_that_changed_places_are_found_at_the_first(original, pair):
    first, second = sorted(pair)
    lines = list(original[1])
    lines[first], lines[second] = lines[second], lines[first]
    assert first_bad(original, lines).number == first + 1


@given(keep=st.integers(0, ROWS - 1))
@EACH
def test_a_log_that_was_cut_off_is_found_at_the_first_missing_row(original, keep):
    assert first_bad(original, original[1][:keep]).number == keep + 1


@given(taken=st.integers(0, ROWS - 1), put=st.integers(0, ROWS))
@EACH
def test_a_row_that_was_replayed_is_found_where_it_stands(original, taken, put):
    lines = list(original[1])
    lines.insert(put, lines[taken])
    bad = first_bad(original, lines)
    assert bad.number == (put + 1 if put != taken else put + 2)


@given(at=st.integers(0, ROWS - 1))
@settings(EACH, max_examples=15)
def test_a_log_that_was_written_anew_from_some_row_on_is_found_by_its_checkpoints(original, tmp_path_factory, at):
    fork = tmp_path_factory.mktemp("fork") / "capture.log"
    fork.write_bytes(b"".join(original[1][:at]))
    with MerkleLog(fork, SimulatedClock(NOW_S * NANOSECONDS)) as log:
        for _ in range(ROWS - at):
            log.append("uplink.refused", recipient="nobody", reason="forged")
    bad = first_bad(original, fork.read_bytes().splitlines(keepends=True))
    assert bad.number == at // 8 * 8 + 1  # the checkpoints cover 8, 16 and 24 rows: the first that is not borne out


def test_an_export_shows_the_day_alone_and_verifies_and_a_changed_field_does_not(original, tmp_path):
    path, public, lines = original[0].path("capture"), tmp_path / "capture.export", []
    scan(path, visit=lambda line, _: lines.append(encode(show(line, {"reason"})) + b"\n"))
    public.write_bytes(b"".join(lines))
    shutil.copytree(original[0].checkpoints, tmp_path / "checkpoints")
    exported = Ledgers(tmp_path, original[0].key)
    exported.folder, exported.checkpoints = tmp_path, tmp_path / "checkpoints"
    assert exported.bad() is None
    assert str(NOW_S).encode() not in public.read_bytes()
    assert b"agency-" not in public.read_bytes()
    lines[4] = lines[4].replace(b"not on the list", b"not on any list")
    public.write_bytes(b"".join(lines))
    assert exported.bad().number == 5


def test_archived_files_verify_with_the_log_and_young_or_unsigned_ones_stay(tmp_path):
    ledgers = Ledgers(tmp_path)
    path, folder = ledgers.path("capture"), tmp_path / "archive"
    with MerkleLog(path, ledgers.clock, segment_bytes=1_500) as log:
        for _ in range(40):
            log.append("uplink.refused", recipient=f"agency-{log.size}", reason="not on the list")
    public = ledgers.key.public_key().public_bytes_raw()

    def move(before_s):
        where = {"checkpoints": ledgers.checkpoints, "public": public, "before_ns": before_s * NANOSECONDS}
        return archive(path, folder, **where)

    assert move(NOW_S + 10) == []
    ledgers.sign("capture")
    assert move(NOW_S) == []
    before = len(closed_segments(path))
    assert len(move(NOW_S + 10)) == before - 1
    assert len(closed_segments(path)) == 1
    assert ledgers.bad().number == 1
    assert ledgers.bad(partial=True) is None
    assert ledgers.bad(archives=[folder]) is None
    with MerkleLog(path, ledgers.clock, segment_bytes=1_500) as log:
        log.append("uplink.refused", recipient="agency", reason="not on the list")
    ledgers.sign("capture")
    assert ledgers.bad(archives=[folder]) is None
    moved = closed_segments(path, [folder])[0]
    moved.write_bytes(moved.read_bytes().replace(b"agency-3", b"agency-8"))
    assert ledgers.bad(archives=[folder]).number == 4
