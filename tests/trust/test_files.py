"""Files of a bundle: read with a bound and never through a link, written whole or not at all, each refusal named."""

import os
import stat

import pytest

from homeplate.trust.files import FolderFiles, make_folder, read_at_most, read_bounded, write_durably
from tests.trust.saying import says


@pytest.fixture
def steps(monkeypatch):
    """What is synced and renamed, in order."""
    found, sync, rename = [], os.fsync, os.replace

    def fsync(descriptor):
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        sync(descriptor)

    def replace(one, other):
        found.append("renamed")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return found


def failing(*_, **__):
    raise OSError(28, os.strerror(28))


def test_a_file_is_read_up_to_its_bound_and_refused_beyond(tmp_path):
    path = tmp_path / "a.json"
    with says(f"{path} is missing; copy the whole folder that the custodian published", "missing"):
        read_bounded(path, 3)
    path.write_bytes(b"abc")
    assert read_bounded(path, 3) == b"abc"
    assert read_at_most(path, 2) == b"ab"
    too_large = f"{path} is larger than the 2 bytes that it may have; it was not read further"
    with says(too_large, "too-large"):
        read_bounded(path, 2)
    os.truncate(path, 1 << 40)  # sparse; to read it all would take a tebibyte of memory
    with says(too_large, "too-large"):
        read_bounded(path, 2)


def test_what_is_no_regular_file_is_not_waited_for_and_not_followed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with says(f"{tmp_path / 'pipe'} is no regular file; copy the bundle's folder anew", "unreadable"):
        read_bounded(tmp_path / "pipe", 9)
    (tmp_path / "link").symlink_to("/etc/hostname")
    with says(f"{tmp_path / 'link'} cannot be read: Too many levels of symbolic links", "unreadable"):
        read_bounded(tmp_path / "link", 9)


def test_a_folder_gives_its_files_by_name(tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "a").write_bytes(b"x")
    files = FolderFiles(tmp_path)
    assert "targets/a" in files
    assert "targets/b" not in files
    assert 7 not in files
    assert files.read("targets/a", 1) == b"x"
    with says(f"{tmp_path / 'b'} is missing; copy the whole folder that the custodian published", "missing"):
        files.read("b", 1)


def test_a_file_is_synced_then_named_then_its_folder_is_synced(tmp_path, steps):
    path = tmp_path / "a" / "b" / "x.json"
    write_durably(path, b"data")
    assert steps == [
        str(tmp_path),
        str(tmp_path / "a"),
        str(path.with_name(".x.json.new")),
        "renamed",
        str(path.parent),
    ]
    assert path.read_bytes() == b"data"
    steps.clear()
    write_durably(path, b"again")
    assert steps == [str(path.with_name(".x.json.new")), "renamed", str(path.parent)]
    assert [one.name for one in path.parent.iterdir()] == ["x.json"]
    assert path.read_bytes() == b"again"


def test_a_file_has_the_rights_that_were_asked_for_also_over_what_a_crash_left(tmp_path):
    old = os.umask(0)
    try:
        (tmp_path / ".a.new").touch(mode=0o666)
        (tmp_path / ".b.new").symlink_to(tmp_path / "elsewhere")
        write_durably(tmp_path / "a", b"x")
        write_durably(tmp_path / "b", b"x", mode=0o600)
    finally:
        os.umask(old)
    assert [stat.S_IMODE((tmp_path / name).lstat().st_mode) for name in "ab"] == [0o644, 0o600]
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_cannot_be_written_says_so_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_durably(path, b"old")
    monkeypatch.setattr(os, "fsync", failing)
    message = f"{path} cannot be written: No space left on device; free some space or check its owner"
    with says(message, "not-written"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    with says(f"{path}/b cannot be written: File exists; free some space or check its owner", "not-written"):
        write_durably(path / "b", b"new")


def test_a_folder_is_made_with_those_above_it_each_synced_into_the_one_above(tmp_path, steps):
    make_folder(tmp_path / "a" / "b" / "c")
    assert steps == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert (tmp_path / "a" / "b" / "c").is_dir()
    steps.clear()
    make_folder(tmp_path / "a" / "b" / "c")
    assert steps == []
