"""A configured source is one process's."""

import os

import pytest

from homeplate.camera.claims import ClaimedSource, claimed
from homeplate.camera.errors import Reason, SourceError
from homeplate.domain.passage import Frame


class Endless:
    """A source of empty frames."""

    name = "lane-1"

    def __init__(self):
        self.closed = False

    def frames(self):
        while not self.closed:
            yield Frame(source=self.name, index=0, stream_ns=0, captured_ns=0, image=None)

    def close(self):
        self.closed = True


def test_a_source_is_held_from_its_first_frame_to_its_last(tmp_path):
    source = ClaimedSource(Endless(), tmp_path / "cameras", "capture")
    frames = source.frames()
    assert source.name == "lane-1"
    assert not (tmp_path / "cameras").exists()
    next(frames)
    with pytest.raises(SourceError, match=rf"lane-1: is read by capture \(process {os.getpid()}\)") as refused:
        next(ClaimedSource(Endless(), tmp_path / "cameras", "aim").frames())
    assert refused.value.reason is Reason.BUSY
    with claimed(tmp_path / "cameras", "lane-2", "aim"):
        pass
    source.close()
    assert list(frames) == []
    next(ClaimedSource(Endless(), tmp_path / "cameras", "aim").frames())
    assert (tmp_path / "cameras/lane-1.lock").read_text() == f"aim {os.getpid()}"


def test_what_a_lock_file_says_is_not_believed_further_than_it_goes(tmp_path):
    with claimed(tmp_path, "lane-1", "capture"):
        (tmp_path / "lane-1.lock").write_bytes(b"\xff<b>8ABC123\x00")
        with (
            pytest.raises(SourceError, match=r"is read by another process \(process unknown\)"),
            claimed(tmp_path, "lane-1", "aim"),
        ):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cameras").write_text("a file")
    with (
        pytest.raises(SourceError, match=r"its lock .* cannot be made") as refused,
        claimed(tmp_path / "cameras", "lane-1", "aim"),
    ):
        pass
    assert refused.value.reason is Reason.UNREADABLE
