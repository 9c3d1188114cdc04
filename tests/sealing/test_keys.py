"""Keys and key files."""

import hashlib
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from homeplate.domain.agency import KemKind
from homeplate.sealing.errors import KeyFileError, RecipientError
from homeplate.sealing.keys import (
    SealingPrivateKey,
    check_sealing_key,
    generate_sealing_key,
    generate_signing_key,
    key_id,
    load_sealing_key,
    load_signing_key,
    save_sealing_key,
    save_signing_key,
)

each_kem = pytest.mark.parametrize("kem", KemKind)


def test_a_signing_key_comes_back_from_its_file_and_only_its_owner_can_read_it(tmp_path):
    key = generate_signing_key()
    save_signing_key(key, tmp_path / "record.pem")
    assert load_signing_key(tmp_path / "record.pem").private_bytes_raw() == key.private_bytes_raw()
    assert stat.S_IMODE((tmp_path / "record.pem").stat().st_mode) == 0o600


@each_kem
def test_a_sealing_key_comes_back_from_its_file_and_only_its_owner_can_read_it(tmp_path, kem):
    key = generate_sealing_key(kem)
    save_sealing_key(key, tmp_path / "key")
    assert load_sealing_key(tmp_path / "key") == key
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_key_file_is_never_overwritten(tmp_path):
    save_signing_key(generate_signing_key(), tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(KeyFileError, match="already there"):
        save_signing_key(generate_signing_key(), tmp_path / "key")
    with pytest.raises(KeyFileError, match="already there"):
        save_sealing_key(generate_sealing_key(KemKind.X25519), tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_key_that_does_not_fit_on_the_disk_leaves_nothing_behind(tmp_path):
    script = """
import resource, signal, sys
from pathlib import Path
from homeplate.sealing.keys import generate_signing_key, save_signing_key
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
save_signing_key(generate_signing_key(), Path(sys.argv[1]))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "key")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyFileError" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_not_written_through_a_link(tmp_path):
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        save_signing_key(generate_signing_key(), tmp_path / "key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_in_a_folder_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(KeyFileError, match="nowhere"):
        save_signing_key(generate_signing_key(), tmp_path / "nowhere" / "key")
    for load in (load_signing_key, load_sealing_key):
        with pytest.raises(KeyFileError, match="nowhere"):
            load(tmp_path / "nowhere" / "key")


@pytest.mark.parametrize("load", [load_signing_key, load_sealing_key])
def test_a_key_file_that_anyone_can_read_is_refused(tmp_path, load):
    path = tmp_path / "key"
    save_sealing_key(generate_sealing_key(KemKind.X25519), path)
    path.chmod(0o604)
    with pytest.raises(KeyFileError, match="anyone"):
        load(path)


@pytest.mark.parametrize("data", [b"", b"no key", b"\xff" * 100, b"x" * 5000])
@pytest.mark.parametrize("load", [load_signing_key, load_sealing_key])
def test_what_is_no_key_file_is_refused(tmp_path, load, data):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(KeyFileError, match=re.escape(str(path))):
        load(path)


def test_a_signing_key_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_signing_key(path)


def test_a_sealing_key_file_with_another_kem_or_a_flipped_digit_is_refused(tmp_path):
    key = generate_sealing_key(KemKind.MLKEM768_X25519)
    save_sealing_key(key, tmp_path / "good")
    good = (tmp_path / "good").read_bytes()
    last = b"0" if good[-2:-1] != b"0" else b"1"
    for number, data in enumerate(
        (good.replace(b"mlkem768-x25519", b"x25519"), good.replace(b"mlkem768", b"mlkem"), good[:-2] + last + b"\n")
    ):
        path = tmp_path / str(number)
        path.touch(mode=0o600)
        path.write_bytes(data)
        with pytest.raises(KeyFileError):
            load_sealing_key(path)


@each_kem
def test_a_key_id_names_the_kem_and_the_key(kem):
    key = generate_sealing_key(kem)
    expected = hashlib.sha256(kem.value.encode() + b"\0" + key.public_bytes).digest()[:16]
    assert key.key_id == key_id(kem, key.public_bytes) == expected
    assert key.key_id != key_id(next(other for other in KemKind if other is not kem), key.public_bytes)


@each_kem
def test_a_registry_entry_whose_id_and_key_do_not_match_is_refused(kem):
    entry = generate_sealing_key(kem).sealing_key(not_before_s=1, not_after_s=2)
    assert check_sealing_key(entry) == entry
    for changed in (
        replace(entry, key_id=bytes(16)),
        replace(entry, public=entry.public[:-1]),
        replace(entry, public=entry.public[:-1] + bytes([entry.public[-1] ^ 1])),
    ):
        with pytest.raises(RecipientError):
            check_sealing_key(changed)


def test_the_hybrid_is_x_wing():
    """The seed and the start of its public key are the first vector of draft-connolly-cfrg-xwing-kem, appendix C."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    public = SealingPrivateKey(kem=KemKind.MLKEM768_X25519, private_bytes=seed).public_bytes
    assert public.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5b19cfc3d")


def test_private_bytes_are_not_in_a_repr():
    key = generate_sealing_key(KemKind.X25519)
    assert key.private_bytes.hex() not in repr(key)
    assert repr(key.private_bytes) not in repr(key)


def test_a_sealing_key_has_32_private_bytes():
    with pytest.raises(ValueError, match="32"):
        SealingPrivateKey(kem=KemKind.X25519, private_bytes=os.urandom(31))
