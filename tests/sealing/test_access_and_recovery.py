"""What the access log seals to its reviewer, and what copies a key to its recovery: each opens for one key alone."""

from dataclasses import replace

import pytest

from homeplate.domain.agency import KemKind
from homeplate.errors import SealingError
from homeplate.sealing.errors import ContentsError, RecipientError, UnopenedError, VersionError
from homeplate.sealing.facts import pad
from homeplate.sealing.keys import PUBLIC_BYTES, generate_sealing_key
from homeplate.sealing.seal import (
    ACCESS_BYTES,
    ACCESS_LABEL,
    RECOVERY_LABEL,
    _encrypt,
    open_access,
    open_recovery,
    seal_access,
    seal_recovery,
)
from tests.sealing.samples import KEYS, X25519

HYBRID = KEYS[KemKind.MLKEM768_X25519]
OTHER = generate_sealing_key(KemKind.X25519)
ROW, ANOTHER_ROW = b"row 1", b"row 2"
each_kem = pytest.mark.parametrize("private", KEYS.values(), ids=str)


def public_half(private):
    return private.sealing_key(not_before_s=0, not_after_s=1)


@pytest.mark.parametrize("content", [b"", b"C4NARY7", b"x" * (ACCESS_BYTES - 4)], ids=len)
def test_what_the_access_log_seals_opens_for_the_reviewer_in_its_own_row_alone(content):
    sealed = seal_access(content, X25519.public_bytes, ROW)
    assert open_access(sealed, X25519, ROW) == content
    for blob, private, row in (
        (sealed, X25519, ANOTHER_ROW),
        (sealed, OTHER, ROW),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), X25519, ROW),
        (sealed[:-1], X25519, ROW),
        (b"", X25519, ROW),
    ):
        with pytest.raises(UnopenedError, match=r"^the access record's seal does not open with this key"):
            open_access(blob, private, row)


def test_what_the_access_log_seals_has_one_length_and_a_bound():
    lengths = {len(seal_access(b"x" * size, X25519.public_bytes, ROW)) for size in (0, 1, ACCESS_BYTES - 4)}
    assert lengths == {ACCESS_BYTES + 32 + 16}  # encapsulated key in front, tag behind
    with pytest.raises(SealingError, match=r"^an access record seals 2044 bytes at most, not 2045$"):
        seal_access(bytes(ACCESS_BYTES - 3), X25519.public_bytes, ROW)


def test_the_access_log_is_sealed_to_x25519_keys_alone():
    with pytest.raises(RecipientError, match=r"^a x25519 public key has 32 bytes, not 1216$"):
        seal_access(b"x", HYBRID.public_bytes, ROW)
    with pytest.raises(RecipientError, match=r"^what an access record seals opens with an X25519 key only$"):
        open_access(seal_access(b"x", X25519.public_bytes, ROW), HYBRID, ROW)


def test_an_access_record_whose_padding_is_another_is_refused():
    sealed = _encrypt(KemKind.X25519, X25519.public_bytes, pad(b"x", ACCESS_BYTES)[:-1] + b"\1", ACCESS_LABEL + ROW)
    with pytest.raises(ContentsError, match="padding"):
        open_access(sealed, X25519, ROW)


@each_kem
@pytest.mark.parametrize("content", [b"a key's file\n", b"x" * 508], ids=len)
def test_a_recovery_copy_names_its_key_and_opens_with_it_alone(private, content):
    blob = seal_recovery(content, public_half(private))
    assert blob.startswith(RECOVERY_LABEL + private.key_id)
    assert open_recovery(blob, private) == content
    with pytest.raises(RecipientError, match=rf"^the recovery copy is sealed to the key {private.key_id.hex()}, not"):
        open_recovery(blob, OTHER)
    with pytest.raises(UnopenedError, match=r"^the recovery copy does not open with the key that it names: it was"):
        open_recovery(blob[:-1] + bytes([blob[-1] ^ 1]), private)


def test_recovery_copies_have_one_length_and_a_bound():
    to = public_half(X25519)
    assert {len(seal_recovery(b"x" * size, to)) for size in (0, 1, 508)} == {len(RECOVERY_LABEL) + 16 + 512 + 32 + 16}
    with pytest.raises(SealingError, match=r"^that is too long for a sealing key's file$"):
        seal_recovery(bytes(509), to)


def test_a_recovery_copy_of_another_version_or_moved_to_another_key_is_refused():
    with pytest.raises(VersionError, match=r"^that is no recovery copy of a key of a version"):
        open_recovery(b"homeplate/v2/recovery\n" + bytes(600), X25519)
    blob = seal_recovery(b"x", public_half(X25519))
    moved = RECOVERY_LABEL + OTHER.key_id + blob[len(RECOVERY_LABEL) + 16 :]
    with pytest.raises(UnopenedError):
        open_recovery(moved, OTHER)


def test_a_recovery_copy_whose_padding_is_another_is_refused():
    label = RECOVERY_LABEL + X25519.key_id
    blob = label + _encrypt(KemKind.X25519, X25519.public_bytes, pad(b"x", 512)[:-1] + b"\1", label)
    with pytest.raises(ContentsError, match="padding"):
        open_recovery(blob, X25519)


def test_a_recovery_recipient_whose_id_is_not_its_keys_gets_no_copy():
    with pytest.raises(RecipientError, match="does not have the id of its"):
        seal_recovery(b"x", replace(public_half(X25519), key_id=OTHER.key_id))


@each_kem
def test_a_public_key_of_another_length_is_refused_with_both_lengths(private):
    size = PUBLIC_BYTES[private.kem]
    for public in (private.public_bytes[:-1], private.public_bytes + b"\0"):
        with pytest.raises(RecipientError, match=rf"^a {private.kem} public key has {size} bytes, not {len(public)}$"):
            _encrypt(private.kem, public, b"x", b"label")
