"""Signed holds as files: one form, bounded, and every byte of it counts."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.hold import MOST_RECORDS, Release
from homeplate.errors import TrustError
from homeplate.sealing.keys import generate_signing_key
from homeplate.trust.hold import MAX_HOLD_BYTES, read_hold, read_release, sign_hold, sign_release
from tests.policy.test_hold import GOOD

KEY = generate_signing_key()
PUBLIC = KEY.public_key().public_bytes_raw()
RELEASE = Release(hold_id=GOOD.hold_id, node=GOOD.node, case=GOOD.case, issued_s=GOOD.issued_s)
SIGNED = sign_hold(GOOD, KEY)


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(TrustError, match=f"^{re.escape(message)}$")


def test_a_signed_hold_and_a_signed_release_are_read_back_with_their_signer():
    assert read_hold(sign_hold(GOOD, KEY)) == (GOOD, PUBLIC)
    assert sign_hold(GOOD, KEY) == SIGNED
    assert read_release(sign_release(RELEASE, KEY)) == (RELEASE, PUBLIC)


def test_a_release_does_not_pass_for_a_hold_nor_a_hold_for_a_release():
    with pytest.raises(TrustError, match="does not begin with"):
        read_release(SIGNED)
    with pytest.raises(TrustError, match="does not begin with"):
        read_hold(sign_release(RELEASE, KEY))


@given(st.integers(0, len(SIGNED) - 1), st.integers(0, 7))
def test_a_hold_with_one_bit_changed_is_refused(at, bit):
    changed = bytearray(SIGNED)
    changed[at] ^= 1 << bit
    with pytest.raises(TrustError):
        read_hold(bytes(changed))


@given(st.binary(max_size=200))
def test_what_is_no_hold_is_refused_whatever_it_is(data):
    for file in (data, SIGNED + data + b"x", SIGNED[: len(data)], b"homeplate/v1/hold\n" + data):
        with pytest.raises(TrustError):
            read_hold(file)


def test_a_file_over_its_bound_is_refused_before_it_is_parsed():
    with pytest.raises(TrustError, match="longer than"):
        read_hold(SIGNED.ljust(MAX_HOLD_BYTES + 1, b"\n"))


@pytest.mark.parametrize(
    "changed",
    [
        {"case": ""},
        {"case": "a,b"},
        {"case": "x" * 41},
        {"case": "26\n1"},
        {"camera": "Road"},
        {"most_records": 0},
        {"most_records": MOST_RECORDS + 1},
        {"expires_s": 2**40},
    ],
)
def test_a_hold_that_a_node_could_not_read_is_not_signed(changed):
    with pytest.raises(TrustError):
        sign_hold(dataclasses.replace(GOOD, **changed), KEY)


def test_another_order_of_the_same_keys_is_not_the_one_accepted_form():
    line, body, _ = SIGNED.split(b"\n", 2)
    other = line + b"\n" + body.replace(b'","', b'", "', 1) + b"\n"
    signed = other + f"{PUBLIC.hex()} {KEY.sign(other).hex()}\n".encode()
    with pytest.raises(TrustError, match="one accepted form"):
        read_hold(signed)


def test_a_hold_and_a_release_that_are_refused_say_which_of_them_and_why():
    release = sign_release(RELEASE, KEY)
    with says("the hold is longer than the 4096 bytes that it may have"):
        read_hold(bytes(MAX_HOLD_BYTES + 1))
    for read, name, line, other in (
        (read_hold, "the hold", "homeplate/v1/hold", release),
        (read_release, "the release", "homeplate/v1/hold-release", SIGNED),
    ):
        for data in (other, bytes(MAX_HOLD_BYTES)):
            with says(f"{name} does not begin with {line!r}; give the file that was signed"):
                read(data)
    for read, name, data in ((read_hold, "the hold", SIGNED), (read_release, "the release", release)):
        with says(f"{name} does not end in a key and a signature; copy the file anew"):
            read(data[:-1])
        with says(f"{name} was altered: its signature is wrong"):
            read(data.replace(b"26-1234", b"26-1235"))
        head, _, _ = data.partition(b"{")
        said = head + b'{"case":1}\n'
        wrong = said + f"{PUBLIC.hex()} {KEY.sign(said).hex()}\n".encode()
        with pytest.raises(TrustError, match=f"^{name} is not what it should be: "):
            read(wrong)
        spaced = data.rpartition(b"\n")[0].rpartition(b"\n")[0].replace(b'","', b'", "', 1) + b"\n"
        with says(f"{name} is not in the one accepted form; make it with `homeplate-custodian hold`"):
            read(spaced + f"{PUBLIC.hex()} {KEY.sign(spaced).hex()}\n".encode())
