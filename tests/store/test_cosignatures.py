"""Requests to witnesses, their cosignatures and their keys: one accepted form of each, and a reason for any other."""

import base64
import json
import re

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.domain.witness import Witness
from homeplate.errors import LedgerError
from homeplate.store.checkpoints import SIGNATURE_MARK, Checkpoint, sign
from homeplate.store.cosignatures import (
    MAXIMUM_PROOF,
    Cosignature,
    Request,
    cosign,
    cosignatures,
    decode_cosigned,
    decode_requests,
    encode_cosigned,
    encode_requests,
    read_request,
    read_verifier_key,
    verifier_key,
)

NAME = "witness.example/w1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS = Witness(name=NAME, public=KEY.public_key().public_bytes_raw())
POINT = Checkpoint(origin="homeplate/00/capture", size=7, root=bytes(32))
NOTE = sign(POINT, Ed25519PrivateKey.from_private_bytes(bytes(32)))
HASHES = tuple(bytes([number]) * 32 for number in range(MAXIMUM_PROOF))
NO_REQUEST = "that is no request to a witness (C2SP tlog-witness, add-checkpoint); have it written anew"
NO_BASE64 = "the request's proof is not in base64; have the node write it anew"
NOT_ACCEPTED = "the request to the witness is not in its one accepted form; have the node write it anew"


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(LedgerError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize("proof", [(), HASHES[:1], HASHES[:2], HASHES], ids=len)
@pytest.mark.parametrize("old_size", [0, 1, 10**18 - 1])
def test_a_request_is_read_as_it_was_written(old_size, proof):
    request = Request(old_size=old_size, proof=proof, note=NOTE)
    body = request.encode()
    assert read_request(body) == request
    lines = body.split("\n")
    assert lines[0] == f"old {old_size}"
    assert [base64.b64decode(line) for line in lines[1 : 1 + len(proof)]] == list(proof)
    assert "\n".join(lines[1 + len(proof) :]) == f"\n{NOTE.decode()}"


ONE = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("old 1\n!!!!\n\nx", NO_BASE64),
        (f"old 1\n{ONE[:-4]}!{ONE[-4:]}\n\nx", NO_BASE64),
        ("", NO_REQUEST),
        ("old 1", NO_REQUEST),
        (f"old 1\n{ONE}", NO_REQUEST),
        ("old 01\n\nx", NO_REQUEST),
        ("old -1\n\nx", NO_REQUEST),
        (f"old {10**18}\n\nx", NO_REQUEST),
        ("Old 1\n\nx", NO_REQUEST),
        (f"old 1\n{base64.b64encode(bytes(31)).decode()}\n\nx", NO_REQUEST),
        ("old 1\n" + f"{ONE}\n" * (MAXIMUM_PROOF + 1) + "\nx", NO_REQUEST),
        (f"old 1\n{ONE[:-2]}B=\n\nx", NOT_ACCEPTED),  # another spelling of the same 32 bytes
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused_with_what_is_wrong(body, message):
    with says(message):
        read_request(body)


def test_a_file_of_requests_gives_each_witness_its_own():
    mine, other = (Request(old_size=size, proof=HASHES[:size], note=NOTE) for size in (1, 2))
    data = encode_requests([(NAME, mine), ("other.example/w", other), (NAME, other)])
    assert decode_requests(data, NAME) == [mine, other]
    assert decode_requests(data, "other.example/w") == [other]
    assert decode_requests(data, "nobody") == []
    found = json.loads(data)
    assert found["format"] == "homeplate/v1/witness-requests"
    assert list(found) == ["format", "requests"]
    assert list(found["requests"][0]) == ["body", "witness"]
    assert data.startswith(b'{\n "format": ')
    assert data.endswith(b"}\n")


def test_a_file_of_cosigned_checkpoints_gives_them_back():
    notes = [NOTE, cosign(NOTE, NAME, KEY, 5)]
    data = encode_cosigned(notes)
    assert decode_cosigned(data) == notes
    assert json.loads(data) == {"format": "homeplate/v1/cosigned", "notes": [note.decode() for note in notes]}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'"\xff"', b"[" * 100_000, encode_cosigned([NOTE])[:-2], b'{"format":"x"}']
)
def test_what_is_no_file_of_its_kind_is_refused_with_who_writes_it(data):
    with says("the file holds no requests to witnesses: `ledger request` writes them"):
        decode_requests(data, NAME)
    with says("the file holds no cosigned checkpoints: `witness cosign` writes them"):
        decode_cosigned(data)


def test_a_file_of_one_kind_does_not_pass_for_the_other():
    with says("the file holds no requests to witnesses: `ledger request` writes them"):
        decode_requests(encode_cosigned([]), NAME)
    with says("the file holds no cosigned checkpoints: `witness cosign` writes them"):
        decode_cosigned(encode_requests([]))


def test_a_witness_key_is_read_as_it_was_written():
    text = verifier_key(WITNESS)
    name, key_id, encoded = text.split("+", 2)
    assert (name, len(key_id)) == (NAME, 8)
    assert base64.b64decode(encoded) == b"\x04" + WITNESS.public
    assert read_verifier_key(text) == read_verifier_key(f" {text}\n") == WITNESS


def key_text(name, kind, public):
    return f"{name}+00000000+{base64.b64encode(kind + public).decode()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "that is no witness key: NAME+ID+KEY, as `homeplate-custodian witness init` prints"),
        ("a+b", "that is no witness key: NAME+ID+KEY, as `homeplate-custodian witness init` prints"),
        ("a+b+!", "that is no witness key: NAME+ID+KEY, as `homeplate-custodian witness init` prints"),
        (
            verifier_key(WITNESS)[:-4] + "!" + verifier_key(WITNESS)[-4:],
            "that is no witness key: NAME+ID+KEY, as `homeplate-custodian witness init` prints",
        ),
        *(
            (text, "that is no key of an Ed25519 witness (C2SP tlog-cosignature); ask the witness for that one")
            for text in (
                key_text(NAME, b"\x01", bytes(32)),
                key_text(NAME, b"\x04", bytes(31)),
                key_text(NAME, b"\x04", bytes(33)),
                key_text("two words", b"\x04", bytes(32)),
                key_text("-w", b"\x04", bytes(32)),
                key_text("w" * 101, b"\x04", bytes(32)),
            )
        ),
        (
            key_text(NAME, b"\x04", WITNESS.public),
            "the witness key is mistyped: its id is not the key's; copy it anew",
        ),
    ],
    ids=range(11),
)
def test_a_witness_key_that_is_wrong_is_refused_with_what_is_wrong(text, message):
    with says(message):
        read_verifier_key(text)


def test_a_cosignature_says_who_and_when_and_others_are_ignored():
    once = cosign(NOTE, NAME, KEY, 1_790_000_000)
    assert once.startswith(NOTE)
    assert cosignatures(once, [WITNESS]) == [Cosignature(name=NAME, time_s=1_790_000_000)]
    twice = cosign(once, NAME, KEY, 1_790_000_001)
    stranger = cosign(twice, "stranger.example/w", Ed25519PrivateKey.generate(), 3)
    assert [said.time_s for said in cosignatures(stranger, [WITNESS])] == [1_790_000_000, 1_790_000_001]
    namesake = Witness(name=NAME, public=bytes(32))
    assert cosignatures(stranger, [namesake]) == []
    assert cosignatures(stranger, []) == []
    assert cosignatures(NOTE, [WITNESS]) == []


def cosigned_with(raw):
    return NOTE + f"{SIGNATURE_MARK}{NAME} {base64.b64encode(raw).decode()}\n".encode()


def test_a_cosignature_that_is_not_the_witness_word_on_this_tree_is_named():
    last = cosign(NOTE, NAME, KEY, 9).decode().splitlines()[-1]
    raw = base64.b64decode(last.split(" ")[2])
    assert cosignatures(cosigned_with(raw), [WITNESS]) == [Cosignature(name=NAME, time_s=9)]
    later = raw[:11] + bytes([raw[11] ^ 1]) + raw[12:]
    for wrong in (raw[:-1] + bytes([raw[-1] ^ 1]), later, raw[:4], raw[:-1]):
        with says(f"the cosignature of the witness {NAME} is wrong"):
            cosignatures(cosigned_with(wrong), [WITNESS])
    padded = raw[:4] + b"\0" + raw[4:]  # the same time in nine bytes
    with says(f"the cosignature of the witness {NAME} has another length"):
        cosignatures(cosigned_with(padded), [WITNESS])
    other = sign(Checkpoint(origin=POINT.origin, size=8, root=POINT.root), KEY)
    with says(f"the cosignature of the witness {NAME} is wrong"):
        cosignatures(other + last.encode() + b"\n", [WITNESS])


def test_a_request_file_bounds_what_it_holds():
    request = Request(old_size=0, proof=(), note=NOTE)
    assert len(decode_requests(encode_requests([(NAME, request)] * 256), NAME)) == 256
    for changed in ({"requests": [{"witness": NAME, "body": "x"}] * 257}, {"requests": [{"witness": "", "body": "x"}]}):
        data = msgspec.json.encode({"format": "homeplate/v1/witness-requests"} | changed)
        with says("the file holds no requests to witnesses: `ledger request` writes them"):
            decode_requests(data, NAME)
