"""A bundle as one file: what is packed is judged as its folder is, and bytes of any shape end in a reason."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.errors import TrustError
from homeplate.trust import packed
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate.trust.packed import pack, unpack
from homeplate.trust.reasons import NamedTrustError
from tests.trust import forge


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
