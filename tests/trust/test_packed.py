"""A bundle as one file: what is packed is judged as its folder is, and bytes of any shape end in a reason."""

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.errors import TrustError
from homeplate.trust import packed
from homeplate.trust.metadata import MAX_METADATA_BYTES, MAX_TARGET_BYTES
from homeplate.trust.packed import pack, unpack
from homeplate.trust.reasons import NamedTrustError
from tests.trust import forge
from tests.trust.saying import says


def test_a_packed_bundle_holds_every_file_of_its_folder(tmp_path):
    folder = forge.published(forge.custody(tmp_path / "custody"))
    files = unpack(pack(folder))
    for path in folder.rglob("*"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            assert name in files
            assert files.read(name, MAX_METADATA_BYTES) == path.read_bytes()


def test_what_is_no_regular_file_or_has_another_name_is_left_out(tmp_path):
    (tmp_path / "targets").mkdir()
    (tmp_path / "timestamp.json").symlink_to("/etc/hostname")
    (tmp_path / ".hidden").write_bytes(b"x")
    (tmp_path / "two words").write_bytes(b"x")
    (tmp_path / "1.root.json").write_bytes(b"root")
    files = unpack(pack(tmp_path))
    assert "1.root.json" in files
    for name in ("timestamp.json", ".hidden", "two words"):
        assert name not in files
    with pytest.raises(NamedTrustError, match="is missing"):
        files.read("timestamp.json", 10)


def test_a_file_that_is_too_long_is_packed_up_to_one_byte_too_many(tmp_path):
    with (tmp_path / "timestamp.json").open("wb") as file:
        file.truncate(10 * MAX_METADATA_BYTES)
    data = pack(tmp_path)
    assert len(data) < MAX_METADATA_BYTES + 100
    with pytest.raises(NamedTrustError) as caught:
        unpack(data).read("timestamp.json", MAX_METADATA_BYTES)
    assert caught.value.reason == "too-large"


def test_a_folder_larger_than_any_bundle_is_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MAX_PACKED_BYTES", 1000)
    (tmp_path / "1.root.json").write_bytes(bytes(1001))
    with pytest.raises(NamedTrustError) as caught:
        pack(tmp_path)
    assert caught.value.reason == "too-large"


@pytest.mark.parametrize(
    "name", ["../1.root.json", "/etc/passwd", "targets/../x", "targets//x", ".x", "", "a/b", "a" * 200, "x\n"]
)
def test_a_name_that_no_file_of_a_bundle_has_is_refused(name):
    with pytest.raises(NamedTrustError) as caught:
        unpack(msgspec.msgpack.encode({"format": 1, "files": {name: b""}}))
    assert caught.value.reason == "not-packed"


@given(
    data=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["format", "files", "x"]), inner),
        max_leaves=8,
    ).map(msgspec.msgpack.encode)
)
def test_bytes_of_any_shape_are_a_packed_bundle_or_a_reason(data):
    try:
        files = unpack(data)
    except TrustError:
        return
    assert "timestamp.json" not in files


def test_a_refused_pack_says_what_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "1.root.json").write_bytes(b"root")
    files = unpack(pack(tmp_path))
    with says("2.root.json is missing; copy the whole folder that the custodian published", "missing"):
        files.read("2.root.json", 9)
    with says("1.root.json is larger than the 3 bytes that it may have; it was not read further", "too-large"):
        files.read("1.root.json", 3)
    assert files.read("1.root.json", 4) == b"root"
    with pytest.raises(NamedTrustError) as caught:
        unpack(b"\xc1")
    assert str(caught.value) == f"the file is no packed bundle: {caught.value.__cause__}"
    assert caught.value.reason == "not-packed"
    (tmp_path / "file").touch()
    assert unpack(pack(tmp_path / "nowhere"))._files == unpack(pack(tmp_path / "file"))._files == {}
    too_large = f"{tmp_path} is larger than the 30 bytes that it may have; it was not read further"
    (tmp_path / "file").unlink()
    monkeypatch.setattr(packed, "MAX_PACKED_BYTES", len(pack(tmp_path)))
    assert pack(tmp_path)
    monkeypatch.setattr(packed, "MAX_PACKED_BYTES", 30)
    (tmp_path / "2.root.json").write_bytes(bytes(20))  # with the names it is too long, though the contents are not
    with says(too_large, "too-large"):
        pack(tmp_path)
    (tmp_path / "3.root.json").write_bytes(bytes(31))
    with says(too_large, "too-large"):
        pack(tmp_path)


def test_as_many_files_are_packed_as_a_bundle_may_have_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "MAX_FILES", 2)
    for name in ("1.root.json", "2.root.json"):
        (tmp_path / name).write_bytes(b"x")
    assert len(unpack(pack(tmp_path))._files) == 2
    (tmp_path / "3.root.json").write_bytes(b"x")
    with pytest.raises(NamedTrustError, match="is larger than"):
        pack(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "1.root.json").write_bytes(b"root")

    def fail(*_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(packed, "read_at_most", fail)
    with says(f"{tmp_path} cannot be read: Input/output error", "unreadable"):
        pack(tmp_path)


def test_the_same_folder_has_one_packed_form_with_targets_up_to_their_own_bound(tmp_path):
    (tmp_path / "targets" / "hot-lists").mkdir(parents=True)
    (tmp_path / "targets" / "deeper" / "still").mkdir(parents=True)
    (tmp_path / "targets" / "deeper" / "a").write_bytes(b"left out")
    for name, size in (("b.json", MAX_METADATA_BYTES), ("targets/a", MAX_METADATA_BYTES + 9),
                       ("targets/hot-lists/c", 1), ("targets/big", MAX_TARGET_BYTES + 9)):  # fmt: skip
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    files = unpack(pack(tmp_path))
    assert {name: len(data) for name, data in files._files.items()} == {
        "b.json": MAX_METADATA_BYTES, "targets/a": MAX_METADATA_BYTES + 9, "targets/hot-lists/c": 1,
        "targets/big": MAX_TARGET_BYTES + 1,
    }  # fmt: skip
    assert list(files._files) == sorted(files._files)
    assert msgspec.msgpack.decode(pack(tmp_path))["format"] == 1
