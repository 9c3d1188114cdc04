"""Video files as sources of frames."""

from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pytest

from homeplate.camera import VideoFileSource, expected_frames, open_source
from homeplate.camera.opencv import container
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import CameraError

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
SETTINGS = SourceSettings(name="gate", kind=SourceKind.VIDEO, path=PurePath("x"))


def frames(path, **changes):
    settings = replace(SETTINGS, path=PurePath(path), **changes)
    return list(open_source(settings, START, now_ns=lambda: START, runtime=Path()).frames())


def fails_after(path):
    """Return how many frames came, and the error after them."""
    came, source = [], VideoFileSource(replace(SETTINGS, path=PurePath(path)), START)
    with pytest.raises(CameraError) as caught:
        came.extend(frame.index for frame in source.frames())
    assert str(caught.value).startswith(f"source gate: {path}: ")
    return len(came), str(caught.value)


def test_every_frame_comes_once_in_order_with_the_files_own_time(video):
    came = frames(video(frames=20, fps=10))
    assert [f.index for f in came] == list(range(20))
    assert [f.stream_ns for f in came] == [i * SECOND // 10 for i in range(20)]
    assert all(f.captured_ns == START + f.stream_ns for f in came)
    levels = [int(f.image.max()) for f in came]
    assert levels == sorted(levels)
    assert (came[0].source, came[0].still, came[0].image.shape) == ("gate", False, (48, 64, 3))


def test_two_runs_give_the_same_frames(video):
    path = video()
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames(path), frames(path), strict=True))


def test_mp4_is_read_too(video):
    assert len(frames(video("good.mp4", codec="mp4v"))) == 20


def test_masks_are_painted_over_in_the_frame(video):
    [frame, *_] = frames(video(), masks=(((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)),))
    assert frame.image[:, 33:].max() == 0
    assert frame.image[:, :30].min() > 0


def test_a_file_that_breaks_off_delivers_what_it_has_and_then_says_so(video):
    path = video("cut-off.avi", frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    came, message = fails_after(path)
    assert 5 <= came <= 30
    assert "breaks off" in message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"not a video at all\n" * 100, "is no AVI"),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://203.0.113.1/a.ts\n", "is no AVI"),
        ("list.mp4", b"ffconcat version 1.0\nfile 'other.avi'\n", "is no AVI"),
        ("header-only.avi", b"RIFF\x00\x00\x00\x00AVI LIST", "cannot be opened"),
        ("no-index.mp4", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"\0" * 500, "cannot be opened"),
    ],
)
def test_what_is_no_video_is_named(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    came, message = fails_after(path)
    assert came == 0
    assert says in message


def test_frames_of_an_unknown_codec_are_named(video):
    path = video("unknown-codec.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"ZZZZ"))
    came, message = fails_after(path)
    assert came == 0
    assert "codec" in message or "cannot be opened" in message


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "no such file" in fails_after(tmp_path / "missing.avi")[1]
    assert "no regular file" in fails_after(tmp_path)[1]


@pytest.mark.parametrize(
    "address", ["http://203.0.113.1/a.avi", "concat:a.avi|b.avi", "rtsp://camera/1", "file:/etc/passwd", "tcp:x"]
)
def test_addresses_and_ffmpegs_protocols_are_refused(address):
    came, message = fails_after(PurePath(address))
    assert came == 0
    assert "is an address" in message


def test_a_frame_rate_that_no_camera_has_is_refused(video):
    came, message = fails_after(video("fast.avi", fps=1000))
    assert came == 0
    assert "1000 frames a second" in message


def test_close_ends_the_frames(video):
    source = VideoFileSource(replace(SETTINGS, path=PurePath(video())), START)
    came = []
    for frame in source.frames():
        came.append(frame.index)
        if frame.index == 3:
            source.close()
    assert came == [0, 1, 2, 3]


def test_containers_are_known_by_their_first_bytes(video):
    assert container(Path(video()).read_bytes()[:512])
    assert container(b"\x1aE\xdf\xa3" + b"\0" * 50)
    assert container((b"\x47" + b"\0" * 187) * 2)
    assert not container(b"v=0\no=- 0 0 IN IP4 203.0.113.1\n")


def test_the_expected_frames_are_those_of_the_container_and_none_of_what_is_no_video(video, tmp_path):
    assert expected_frames(replace(SETTINGS, path=PurePath(video(frames=20)))) == 20
    assert expected_frames(replace(SETTINGS, path=PurePath(tmp_path), kind=SourceKind.FOLDER)) == 0
    (tmp_path / "playlist.mp4").write_bytes(b"#EXTM3U\n#EXTINF:1,\nhttp://203.0.113.1/a.ts\n")
    assert expected_frames(replace(SETTINGS, path=PurePath(tmp_path / "playlist.mp4"))) == 0
