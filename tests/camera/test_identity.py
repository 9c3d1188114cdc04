"""A file source is known by its content."""

from dataclasses import replace
from pathlib import PurePath

import pytest

from homeplate.camera.identity import identity
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import CameraError

VIDEO = SourceSettings(name="gate", kind=SourceKind.VIDEO, path=PurePath("x"))


def test_a_copy_has_the_same_identity_and_another_video_has_not(tmp_path):
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (identity(replace(VIDEO, path=PurePath(tmp_path / name))) for name in "abc")
    assert a == b != c
    assert len(a) == 16


def test_a_folder_is_known_by_names_and_bytes(tmp_path):
    folder = replace(VIDEO, kind=SourceKind.FOLDER, path=PurePath(tmp_path))
    (tmp_path / "1.jpg").write_bytes(b"one")
    first = identity(folder)
    (tmp_path / "2.jpg").write_bytes(b"two")
    second = identity(folder)
    (tmp_path / "2.jpg").write_bytes(b"twO")
    assert len({first, second, identity(folder)}) == 3


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(CameraError, match="source gate"):
        identity(replace(VIDEO, path=PurePath(tmp_path / "none")))
