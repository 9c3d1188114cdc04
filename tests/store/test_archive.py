"""Archiving: closed segments go with the checkpoint that covers them, and only what is sound, signed and old."""

import os
import re
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.errors import LedgerError, StoreError
from homeplate.store import archive as archive_module
from homeplate.store.archive import archive
from homeplate.store.checkpoints import checkpoint_files, sign_checkpoints
from homeplate.store.ledger import MerkleLog, read_lines, scan
from homeplate.store.reading import closed_segments, first_row

START_NS = 1_790_000_000 * 10**9
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()


class Logged:
    """A log of several files whose row n is of START_NS + n."""

    def __init__(self, root):
        self.log, self.checkpoints, self.folder = root / "capture.log", root / "checkpoints", root / "away"

    def grow(self, rows):
        clock = SimulatedClock(START_NS)
        with MerkleLog(self.log, clock, segment_bytes=1_000) as log:
            for _ in range(rows):
                clock.advance_to(START_NS + log.size + 1)
                log.append("uplink.refused", recipient="agency", reason="not on the list")

    def sign(self):
        sign_checkpoints({"capture": self.log}, key=KEY, pseudonym=bytes(16), folder=self.checkpoints)

    def archive(self, before=10**6):
        return archive(self.log, self.folder, checkpoints=self.checkpoints, public=PUBLIC, before_ns=START_NS + before)


@pytest.fixture
def logged(tmp_path):
    logged = Logged(tmp_path)
    logged.grow(20)
    logged.sign()
    return logged


def says(kind, message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_all_but_the_newest_segment_go_with_the_checkpoint_that_covers_them(logged):
    segments = closed_segments(logged.log)
    contents = [path.read_bytes() for path in segments]
    assert len(segments) > 3
    moved = logged.archive()
    assert moved == [logged.folder / path.name for path in segments[:-1]]
    assert [path.read_bytes() for path in moved] == contents[:-1]
    assert closed_segments(logged.log) == segments[-1:]
    (note,) = checkpoint_files(logged.folder / "checkpoints", "capture")
    assert note.read_bytes() == checkpoint_files(logged.checkpoints, "capture")[-1].read_bytes()
    assert len(list(read_lines(logged.log, [logged.folder]))) == 20


def test_a_segment_goes_once_its_last_row_is_older_than_asked(logged):
    segments = closed_segments(logged.log)
    last = first_row(segments[2]) - 1  # of the second
    assert logged.archive(before=last) == [logged.folder / segments[0].name]
    assert logged.archive(before=last + 1) == [logged.folder / segments[1].name]


def test_only_what_a_checkpoint_covers_goes(tmp_path):
    logged = Logged(tmp_path)
    logged.grow(9)
    assert logged.archive() == []
    logged.sign()
    signed = int(checkpoint_files(logged.checkpoints, "capture")[-1].stem[-12:])
    logged.grow(20)
    segments = closed_segments(logged.log)
    covered = [path for path, later in pairwise(segments) if first_row(later) - 1 <= signed]
    assert 0 < len(covered) < len(segments) - 1
    assert [path.name for path in logged.archive()] == [path.name for path in covered]


def test_a_checkpoint_at_the_very_end_of_a_segment_covers_it(tmp_path):
    logged = Logged(tmp_path)
    logged.grow(9)
    ends = [first_row(path) - 1 for path in closed_segments(logged.log)[1:]]
    whole = logged.log.parent / "whole"
    whole.mkdir()
    again = Logged(whole)
    again.grow(ends[0])
    again.sign()
    again.grow(9)
    assert [first_row(path) for path in again.archive()] == [1]


def test_a_log_with_fewer_than_two_segments_keeps_them(tmp_path):
    logged = Logged(tmp_path)
    logged.grow(1)
    logged.sign()
    assert logged.archive() == []
    while len(closed_segments(logged.log)) < 1:
        logged.grow(1)
    logged.sign()
    assert logged.archive() == []
    while len(closed_segments(logged.log)) < 2:
        logged.grow(1)
    logged.sign()
    assert len(logged.archive()) == 1


def test_a_log_that_is_bad_or_not_what_was_signed_keeps_everything(logged, tmp_path):
    sound = logged.log.read_bytes()
    logged.log.write_bytes(sound.replace(b"not on", b"not in"))
    with pytest.raises(LedgerError, match=r"^ledger capture\.log, row \d+: its running root .*; nothing was moved$"):
        logged.archive()
    logged.log.write_bytes(sound.splitlines(keepends=True)[0])
    with says(LedgerError, "ledger capture.log is not what capture-000000000020.note signed; nothing was moved"):
        logged.archive()
    (tmp_path / "other").mkdir()
    other = Logged(tmp_path / "other")
    other.grow(20)
    for path in [*closed_segments(other.log), other.log]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert scan(logged.log).bad is None
    with says(LedgerError, "ledger capture.log is not what capture-000000000020.note signed; nothing was moved"):
        logged.archive()
    assert not logged.folder.exists()


def test_a_copy_that_is_not_what_was_written_or_that_fails_leaves_the_original(logged, monkeypatch):
    first = closed_segments(logged.log)[0]
    real = archive_module.write_durably
    monkeypatch.setattr(archive_module, "write_durably", lambda path, data: real(path, data[:-1]))
    target = logged.folder / first.name
    with says(StoreError, f"{target} is not what was written; its disk fails, and {first.name} stays"):
        logged.archive()
    monkeypatch.undo()

    def fail(*_, **__):
        raise OSError(13, os.strerror(13))

    monkeypatch.setattr(os, "unlink", fail)
    with says(StoreError, f"{first} cannot be moved to {logged.folder}: Permission denied"):
        logged.archive()
    monkeypatch.undo()
    assert first.exists()
    assert len(logged.archive()) > 2
