"""Checkpoints as files: read with a bound, written whole or not at all, and each failure named."""

import os
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.errors import LedgerError, StoreError
from homeplate.store.checkpoints import (
    MAXIMUM_NOTE_BYTES,
    MAXIMUM_ORIGIN,
    SIGNATURE_MARK,
    Checkpoint,
    checkpoint_files,
    parse,
    parse_signatures,
    read_note,
    sign,
    sign_checkpoints,
    verify,
    write_durably,
)
from homeplate.store.ledger import MerkleLog
from homeplate.store.reading import closed_segments

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
POINT = Checkpoint(origin="homeplate/00/capture", size=3, root=bytes(range(32)))
NOTE = sign(POINT, KEY)
NO_CHECKPOINT = "the file is no checkpoint (C2SP tlog-checkpoint with a signature)"


def says(kind, message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_what_a_note_claims_is_read_without_any_key():
    assert parse(NOTE) == POINT
    point, ((name, raw),) = parse_signatures(NOTE)
    assert (point, name, len(raw)) == (POINT, POINT.origin, 4 + 64)
    assert NOTE.decode().endswith("\n")


@pytest.mark.parametrize("origin", ["x", "o" * MAXIMUM_ORIGIN, "é"])
def test_an_origin_within_its_bounds_is_read(origin):
    point = Checkpoint(origin=origin, size=0, root=bytes(32))
    assert verify(sign(point, KEY), PUBLIC) == point


@pytest.mark.parametrize("origin", ["", "o" * (MAXIMUM_ORIGIN + 1), "a b", "a+b", "a\tb", "a\u2028b"], ids=range(6))
def test_an_origin_out_of_its_bounds_is_no_checkpoint(origin):
    body = Checkpoint(origin=origin, size=3, root=bytes(32)).body
    with says(LedgerError, NO_CHECKPOINT):
        parse(f"{body}\n{SIGNATURE_MARK}name AAAA\n".encode())


@pytest.mark.parametrize(
    "note",
    [
        b"", b"\xff\n\n", NOTE.replace(b"\n\n", b"\n"), NOTE.replace(b"\n3\n", b"\nthree\n"),
        NOTE.replace(b"\n3\n", b"\n3\nextension\n"), NOTE.replace(b"\n3\n", b"\n 3\n"),
        NOTE.replace("\N{EM DASH} ".encode(), b"- "), NOTE.replace(b"AAEC", b"AA!EC"), NOTE[:-3] + b"!=\n",
        NOTE.replace(b"/capture ", b"/capture  "), NOTE + b"\n", NOTE + b"line\n",
        Checkpoint(origin="x", size=3, root=bytes(31)).body.encode() + b"\n\xe2\x80\x94 x AAAA\n",
        Checkpoint(origin="x", size=3, root=bytes(33)).body.encode() + b"\n\xe2\x80\x94 x AAAA\n",
    ],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused_as_such(note):
    with says(LedgerError, NO_CHECKPOINT):
        parse(note)


def test_a_signature_that_is_not_in_base64_to_its_last_character_makes_it_no_checkpoint():
    for encoded in ("AA!AA", "AAAA AAAA", "AAA"):
        with says(LedgerError, NO_CHECKPOINT):
            parse(NOTE + f"{SIGNATURE_MARK}w {encoded}\n".encode())


def test_a_log_is_signed_on_from_its_last_checkpoint_and_says_what_to_keep_where_it_contradicts_it(tmp_path):
    path, folder = tmp_path / "capture.log", tmp_path / "checkpoints"

    def grow(rows):
        with MerkleLog(path, SimulatedClock(10**18), segment_bytes=700) as log:
            for _ in range(rows):
                log.append("row")

    def signed():
        return sign_checkpoints({"capture": path}, key=KEY, pseudonym=bytes(16), folder=folder)["capture"].size

    grow(12)
    assert signed() == 12
    closed_segments(path)[0].write_bytes(b"damaged")  # its rows were signed: verifying them again is the verifier's
    grow(1)
    assert signed() == 13
    for file in [*closed_segments(path), path]:
        file.unlink()
    grow(14)
    with says(
        LedgerError,
        "ledger capture.log contradicts its checkpoint of 13 rows: rows were cut off or rewritten; keep the ledger"
        " folder for the auditor; nothing was signed",
    ):
        signed()


def test_a_note_is_bounded_and_its_last_byte_counts():
    line = f"{SIGNATURE_MARK}w ".encode()
    room = MAXIMUM_NOTE_BYTES - len(NOTE) - len(line) - 1
    longest = NOTE + line + b"A" * (room - room % 4) + b"\n"
    pad = MAXIMUM_NOTE_BYTES - len(longest)
    longest = NOTE + f"{SIGNATURE_MARK}w{'w' * pad} ".encode() + b"A" * (room - room % 4) + b"\n"
    assert len(longest) == MAXIMUM_NOTE_BYTES
    assert verify(longest, PUBLIC) == POINT
    with says(LedgerError, NO_CHECKPOINT):
        parse(NOTE + f"{SIGNATURE_MARK}w{'w' * (pad + 1)} ".encode() + b"A" * (room - room % 4) + b"\n")


def test_a_checkpoint_without_the_nodes_signature_or_with_a_wrong_one_is_told_apart():
    other = Ed25519PrivateKey.generate()
    with says(LedgerError, "the checkpoint bears no signature of the node's ledger key"):
        verify(sign(POINT, other), PUBLIC)
    with says(LedgerError, "the checkpoint bears no signature of the node's ledger key"):
        verify(NOTE.replace(b"\xe2\x80\x94 homeplate/00/capture", b"\xe2\x80\x94 homeplate/00/uplink"), PUBLIC)
    wrong = sign(Checkpoint(origin=POINT.origin, size=4, root=POINT.root), KEY).replace(b"\n4\n", b"\n3\n")
    with says(LedgerError, "the checkpoint's signature by the node's ledger key is wrong"):
        verify(wrong, PUBLIC)
    both = NOTE + wrong.splitlines(keepends=True)[-1]
    with says(LedgerError, "the checkpoint's signature by the node's ledger key is wrong"):
        verify(both, PUBLIC)


def test_the_checkpoints_of_a_log_are_its_own_smallest_first(tmp_path):
    for name in ("capture-000000000010.note", "capture-000000000009.note", "capture-x.note", "capture-.note",
                 "capture-000000000011.new", "capture-2-000000000001.note", "uplink-000000000001.note"):  # fmt: skip
        (tmp_path / name).touch()
    assert [path.name for path in checkpoint_files(tmp_path, "capture")] == [
        "capture-000000000009.note", "capture-000000000010.note",
    ]  # fmt: skip
    assert checkpoint_files(tmp_path / "nowhere", "capture") == []


def test_a_note_is_read_up_to_one_byte_over_its_bound(tmp_path):
    path = tmp_path / "a.note"
    with says(StoreError, f"the checkpoint {path} cannot be read: No such file or directory"):
        read_note(path)
    path.write_bytes(NOTE)
    assert read_note(path) == NOTE
    os.truncate(path, 1 << 40)  # sparse; to read it all would take a tebibyte of memory
    assert len(read_note(path)) == MAXIMUM_NOTE_BYTES + 1


def test_a_small_file_is_synced_then_named_then_its_folder_is_synced(tmp_path, monkeypatch):
    path, steps = tmp_path / "a" / "b" / "x.note", []
    real_sync, real_rename = os.fsync, os.replace

    def fsync(descriptor):
        steps.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        real_sync(descriptor)

    def rename(one, other):
        steps.append("renamed")
        real_rename(one, other)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    old = os.umask(0)
    try:
        write_durably(path, b"note")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"note"
    assert steps == [str(path.with_suffix(".new")), "renamed", str(path.parent)]
    assert path.parent.stat().st_mode & 0o777 == 0o750
    write_durably(path, b"again")
    assert [one.name for one in path.parent.iterdir()] == ["x.note"]
    assert path.read_bytes() == b"again"


def test_a_file_that_cannot_be_written_says_so_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "x.note"
    write_durably(path, b"old")

    def fail(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with says(StoreError, f"{path} cannot be written: No space left on device; free its disk"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with says(StoreError, f"{path}/y.note cannot be written: File exists; free its disk"):
        write_durably(path / "y.note", b"new")
