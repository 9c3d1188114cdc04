"""Which rows of a log an export shows, and in which form; and that nothing is written where it may not be."""

import json
import os
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.domain.record import DAY_SECONDS, NANOSECONDS
from homeplate.errors import LedgerError, StoreError
from homeplate.store import reading
from homeplate.store.checkpoints import Checkpoint, origin_of, sign, sign_checkpoints, verify
from homeplate.store.ledger import MerkleLog, read_lines, scan
from homeplate.store.publishing import Exported, public_form, publish
from homeplate.store.reading import closed_segments, first_row
from homeplate.store.rows import Shown, Withheld, show, withhold

DAY_NS = DAY_SECONDS * NANOSECONDS
START_NS = 20_000 * DAY_NS
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC_KEY = KEY.public_key().public_bytes_raw()
PSEUDONYM = bytes(range(16))


class Logged:
    """A log with three rows a day from START_NS on; of each three the second is of an event that no list knows."""

    def __init__(self, root):
        self.log, self.checkpoints, self.folder = root / "capture.log", root / "checkpoints", root / "export"

    def grow(self, days, first_day=0, segment_bytes=10**6):
        clock = SimulatedClock(START_NS)
        with MerkleLog(self.log, clock, segment_bytes=segment_bytes) as log:
            for day in range(first_day, first_day + days):
                for event in ("capture.refused", "an.event", "capture.stopped"):
                    clock.advance_to(START_NS + day * DAY_NS + log.size)
                    log.append(event, recipient="nobody", reason="not-listed", camera="west", records=1)

    def sign(self):
        sign_checkpoints({"capture": self.log}, key=KEY, pseudonym=PSEUDONYM, folder=self.checkpoints)

    def publish(self, day, **more):
        return publish(
            self.log, self.folder, checkpoints=self.checkpoints, key=KEY, pseudonym=PSEUDONYM,
            now_ns=START_NS + day * DAY_NS, **more,
        )  # fmt: skip

    def exported(self):
        return scan(self.folder / "capture.export", exported=True)


@pytest.fixture
def logged(tmp_path):
    return Logged(tmp_path)


def says(kind, message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_a_row_shows_what_the_list_names_and_one_that_no_list_knows_shows_nothing(logged):
    logged.grow(1)
    refused, unknown, stopped = read_lines(logged.log)
    assert public_form(refused) == show(refused, {"recipient", "reason"})
    assert public_form(stopped) == show(stopped, {"records"})
    assert public_form(unknown) == withhold(unknown)
    assert public_form(refused, frozenset({"capture.stopped"})) == public_form(refused)
    assert public_form(refused, frozenset({"capture.refused"})) == withhold(refused)


def test_the_days_before_today_are_shown_with_a_checkpoint_at_their_end(logged):
    logged.grow(3)
    assert logged.publish(2) == Exported(first=1, last=6, withheld=2)
    state = logged.exported()
    assert (state.bad, state.frontier.size, state.withheld) == (None, 6, 2)
    (note,) = (logged.folder / "checkpoints").iterdir()
    assert note.name == "capture-000000000006.note"
    point = verify(note.read_bytes(), PUBLIC_KEY)
    assert (point.origin, point.size, point.root) == (origin_of(PSEUDONYM, "capture"), 6, state.frontier.root())


def test_today_begins_at_midnight_and_what_was_before_is_over(logged):
    logged.grow(2)
    assert logged.publish(0) is None
    assert not logged.folder.exists()
    assert logged.publish(1).last == 3


def test_an_empty_log_exports_nothing(logged):
    logged.log.touch()
    assert logged.publish(5) is None


def test_events_that_the_operator_withholds_are_counted_with_the_others(logged):
    logged.grow(2)
    assert logged.publish(9, withheld=frozenset({"capture.refused"})).withheld == 4
    forms = []
    scan(logged.folder / "capture.export", visit=lambda line, _: forms.append(type(line)), exported=True)
    assert forms == [Withheld, Withheld, Shown] * 2


def test_a_log_whose_beginning_is_elsewhere_begins_with_its_tree_and_the_days_first_second(logged, tmp_path):
    logged.grow(12, segment_bytes=2_000)
    logged.sign()
    segments = closed_segments(logged.log)
    (tmp_path / "away").mkdir()
    segments[0].rename(tmp_path / "away" / segments[0].name)
    start = first_row(segments[1])
    found = logged.publish(20)
    assert (found.first, found.last) == (start, 36)
    assert logged.exported().bad is None
    header = json.loads((logged.folder / "capture.export").read_bytes().splitlines()[0])
    first = next(read_lines(logged.log))
    assert (header["rows"], header["time_ns"]) == (start - 1, first.row.time_ns // DAY_NS * DAY_NS)
    logged.folder = tmp_path / "whole"
    assert logged.publish(20, archives=[tmp_path / "away"]) == Exported(first=1, last=36, withheld=12)
    assert logged.exported().frontier.size == 36


def test_a_checkpoint_of_rows_that_are_elsewhere_by_now_does_not_hinder(logged):
    logged.grow(1)
    logged.sign()
    logged.grow(11, first_day=1, segment_bytes=2_000)
    segments = closed_segments(logged.log)
    for path in segments[:2]:
        path.unlink()
    assert first_row(segments[2]) > 4
    assert logged.publish(20).first == first_row(segments[2])


def test_a_log_that_is_bad_or_not_what_was_signed_is_not_exported(logged, tmp_path):
    logged.grow(3)
    logged.sign()
    sound = logged.log.read_bytes()
    logged.log.write_bytes(sound.replace(b"nobody", b"nowhere", 1))
    with pytest.raises(LedgerError, match=r"^ledger capture\.log, row 1: .*"):
        logged.publish(2)
    lines = sound.splitlines(keepends=True)
    logged.log.write_bytes(b"".join([*lines[:5], lines[5].replace(b"nobody", b"nowhere"), *lines[6:]]))
    with pytest.raises(LedgerError, match=r"^ledger capture\.log, row 6: .*; nothing was exported$"):
        logged.publish(2)
    logged.log.write_bytes(b"".join(lines[:8]))
    with says(LedgerError, "ledger capture.log is not what capture-000000000009.note signed; nothing was exported"):
        logged.publish(2)
    (tmp_path / "other").mkdir()
    other = Logged(tmp_path / "other")
    other.grow(3)
    logged.log.write_bytes(other.log.read_bytes())
    with says(LedgerError, "ledger capture.log is not what capture-000000000009.note signed; nothing was exported"):
        logged.publish(2)
    assert not logged.folder.exists()


def test_an_export_is_never_written_over_another(logged):
    logged.grow(2)
    logged.publish(1)
    before = (logged.folder / "capture.export").read_bytes()
    with says(StoreError, f"{logged.folder / 'capture.export'} cannot be written: File exists"):
        logged.publish(2)
    assert (logged.folder / "capture.export").read_bytes() == before


def test_an_export_makes_the_folders_that_it_needs(logged, tmp_path):
    logged.grow(2)
    logged.folder = tmp_path / "one" / "two"
    assert logged.publish(1).last == 3
    assert logged.exported().bad is None


def test_only_rows_that_are_surely_on_the_disk_are_exported(logged, monkeypatch):
    logged.grow(1)
    real, late = os.fsync, []

    def fsync(descriptor):
        real(descriptor)
        if not late:  # a row is written while the export syncs the log
            late.append(os.fstat(descriptor).st_ino)
            logged.grow(1, first_day=1)

    monkeypatch.setattr(reading.os, "fsync", fsync)
    assert logged.publish(9).last == 3
    monkeypatch.undo()
    assert late == [logged.log.stat().st_ino]
    assert scan(logged.log).frontier.size == 6


def test_a_log_whose_only_checkpoint_covers_what_is_elsewhere_and_one_row_here_is_compared(logged):
    logged.grow(12, segment_bytes=2_000)
    start = first_row(closed_segments(logged.log)[0])
    assert start == 1
    logged.sign()
    for path in closed_segments(logged.log):
        path.unlink()
    first = next(read_lines(logged.log)).row.number
    point = Checkpoint(origin=origin_of(PSEUDONYM, "capture"), size=first - 1, root=bytes(32))
    for note in logged.checkpoints.iterdir():
        note.unlink()
    (logged.checkpoints / f"capture-{first - 1:012}.note").write_bytes(sign(point, KEY))
    with pytest.raises(LedgerError, match=r"is not what capture-.* signed; nothing was exported"):
        logged.publish(20)
