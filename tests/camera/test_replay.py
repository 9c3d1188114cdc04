"""Folders of pictures as sources of frames."""

from dataclasses import replace
from pathlib import Path, PurePath

import cv2
import pytest

from homeplate.camera import open_source
from homeplate.camera.replay import truncated
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import CameraError
from tests.camera.conftest import picture

SECOND = 1_000_000_000
SETTINGS = SourceSettings(name="lot", kind=SourceKind.FOLDER, path=PurePath("x"))


def source(path, **changes):
    settings = replace(SETTINGS, path=PurePath(path), **changes)
    return open_source(settings, 5 * SECOND, now_ns=lambda: 5 * SECOND, runtime=Path(path))


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(["b.jpg", "a.png", "c.webp"]):
        cv2.imwrite(str(tmp_path / name), picture(50 * i + 50))
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_come_in_the_order_of_their_names(folder):
    frames = list(source(folder).frames())
    assert [round(int(f.image.max()) / 50) for f in frames] == [2, 1, 3]
    assert [f.captured_ns - 5 * SECOND for f in frames] == [0, SECOND // 10, SECOND // 5]
    assert not any(f.still for f in frames)


def test_stills_are_marked_and_a_second_apart(folder):
    frames = list(source(folder, stills=True).frames())
    assert all(f.still for f in frames)
    assert [f.stream_ns for f in frames] == [0, SECOND, 2 * SECOND]


def test_masks_are_painted_over(folder):
    whole = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    assert all(f.image.max() == 0 for f in source(folder, masks=(whole,)).frames())


@pytest.mark.parametrize("name", ["b.jpg", "a.png", "c.webp"])
def test_a_truncated_picture_is_named_after_the_others_came(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) * 2 // 3])
    came = []
    with pytest.raises(CameraError, match=r"source lot: .*: 1 pictures .* is truncated") as caught:
        came.extend(frame.index for frame in source(folder).frames())
    assert len(came) == 2
    assert name not in str(caught.value), "people name pictures by the plate"


def test_empty_and_undecodable_pictures_are_named(folder):
    (folder / "b.jpg").write_bytes(b"")
    (folder / "c.webp").write_bytes(b"text")
    with pytest.raises(CameraError, match=r"2 pictures could not be read; number 2 in the order of names is empty"):
        list(source(folder).frames())


def test_a_missing_folder_and_one_without_pictures_are_named(tmp_path):
    with pytest.raises(CameraError, match=r"source lot: .*No such file"):
        list(source(tmp_path / "none").frames())
    with pytest.raises(CameraError, match="holds no"):
        list(source(tmp_path).frames())


def test_a_jpeg_with_bytes_after_its_end_is_whole():
    whole = cv2.imencode(".jpg", picture(90))[1].tobytes()
    assert not truncated(whole + b"trailer")
    assert truncated(whole[:-2])
