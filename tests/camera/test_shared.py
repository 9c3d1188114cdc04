"""Pictures from a grabber to capture through a file that capture does not trust."""

import contextlib
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.camera import shared
from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.planes import Layout, PixelFormat, Planes
from homeplate.camera.shared import FrameFile, FrameWriter, State, frames_path, state_of

LAYOUT = Layout(width=64, height=48, stride=64, pixels=PixelFormat.NV12)


def picture(level, layout=LAYOUT, age_ns=1000):
    data = np.full(layout.size, 128, np.uint8)
    data[: layout.stride * layout.height] = level
    return Planes(data=data, layout=layout, age_ns=age_ns)


@pytest.fixture
def haste(monkeypatch):
    """Capture waits a moment only."""
    monkeypatch.setattr(shared, "TAKE_S", 0.05)


@pytest.fixture
def ends(tmp_path):
    path = frames_path(tmp_path, "gate")
    path.parent.mkdir()
    writer = FrameWriter("gate", path)
    reader = FrameFile("gate", path)
    yield writer, reader, path
    reader.close()
    writer.close()


def reason(reader):
    with pytest.raises(SourceError) as caught:
        reader.take()
    return caught.value.reason


def test_the_newest_picture_comes_once_with_its_age(ends, haste):
    writer, reader, _ = ends
    for level in (50, 100, 200):
        writer.write(picture(level, age_ns=5_000_000))
    taken = reader.take()
    assert taken.image.shape == (48, 64, 3)
    assert abs(int(taken.image[0, 0, 0]) - round((200 - 16) * 255 / 219)) <= 2
    assert 5_000_000 <= taken.age_ns < 10**9
    assert reason(reader) is Reason.STALLED
    writer.write(picture(60))
    assert reader.take().image[0, 0, 0] < 60


def test_pictures_may_change_their_size_between_two(ends):
    writer, reader, _ = ends
    for width in (64, 1920):
        layout = Layout(width=width, height=48, stride=width, pixels=PixelFormat.I420)
        writer.write(picture(90, layout))
        assert reader.take().image.shape == (48, width, 3)


def test_a_grabber_that_is_started_again_goes_on_in_the_same_file(ends):
    writer, reader, path = ends
    writer.write(picture(100))
    reader.take()
    writer.close()
    again = FrameWriter("gate", path)
    again.write(picture(220))
    assert reader.take().image[0, 0, 0] > 200
    writer._file = os.dup(again._file)
    again.close()


def test_a_file_has_one_grabber(ends):
    _, _, path = ends
    with pytest.raises(SourceError, match="does another grabber run"):
        FrameWriter("gate", path)


@pytest.mark.parametrize("why", [Reason.UNAUTHORIZED, Reason.UNREACHABLE, Reason.FORMAT, Reason.SOFTWARE])
def test_capture_is_told_why_there_is_no_picture(ends, haste, why):
    writer, reader, _ = ends
    writer.tell(state_of(why))
    assert reason(reader) is why


def test_a_grabber_that_says_nothing_is_named(ends, haste, monkeypatch):
    monkeypatch.setattr(shared, "SILENT_NS", -1)
    assert reason(ends[1]) is Reason.GRABBER


def test_a_missing_a_foreign_and_a_linked_file_are_refused(tmp_path):
    for make in (lambda _: None, lambda p: p.write_bytes(b"x" * 100), lambda p: p.symlink_to("/etc/passwd"), os.mkfifo):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.frames"
        make(path)
        with pytest.raises(SourceError) as caught:
            FrameFile("gate", path)
        assert caught.value.reason is Reason.GRABBER


def test_a_file_that_is_cut_short_while_capture_reads_is_an_error_and_no_signal(ends, haste):
    writer, reader, path = ends
    writer.write(picture(100))
    os.truncate(path, 200)
    assert reason(reader) is Reason.GRABBER
    os.truncate(path, 0)
    assert reason(reader) is Reason.GRABBER


def test_a_picture_that_is_being_written_is_not_read(ends, haste):
    writer, reader, path = ends
    writer.write(picture(100))
    with path.open("r+b") as file:
        file.seek(shared._slot_at(0))
        file.write(struct.pack("<Q", 1))
    assert reason(reader) is Reason.STALLED


def test_a_picture_that_is_too_large_for_a_slot_is_refused(ends):
    large = Layout(width=8192, height=4096, stride=8192, pixels=PixelFormat.NV12)
    with pytest.raises(ValueError, match="smaller stream"):
        ends[0].write(picture(1, large))


@given(
    head=st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 2**64 - 1)),
    number=st.integers(0, 2**64 - 1) | st.just(None),
    shape=st.tuples(*[st.integers(0, 2**32 - 1) | st.integers(0, 9000)] * 3, st.integers(0, 3)),
)
def test_whatever_a_grabber_writes_capture_has_a_picture_or_an_error(tmp_path_factory, head, number, shape):
    path = tmp_path_factory.getbasetemp() / "hostile.frames"
    writer = FrameWriter("gate", path)
    reader = FrameFile("gate", path)
    state, count = head
    number = 2 * count % 2**64 if number is None else number
    os.pwrite(writer._file, shared._HEAD.pack(shared.MAGIC, state, 0, shared.boot_ns(), count), 0)
    os.pwrite(writer._file, shared._SLOT.pack(number, 0, *shape), shared._slot_at(count - 1))
    taken = None
    with contextlib.suppress(SourceError):
        taken = reader._read(count)
    assert taken is None or taken.image.nbytes <= 2 * shared.SLOT_BYTES
    assert reader._why(reader._head()).reason in set(Reason)
    os.ftruncate(writer._file, 0)
    reader.close()
    writer.close()


def test_every_state_has_a_reason_and_comes_back_from_it():
    assert {state_of(reason) for reason in Reason} >= set(State) - {State.STARTING, State.RUNNING}
