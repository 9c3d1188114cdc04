"""Every test vector is taken or refused as its `expect:` line says, by the program and by an opener of its own."""

import hashlib
from pathlib import Path

import pytest

from homeplate.domain.agency import KemKind
from homeplate.domain.record import Part
from homeplate.errors import SealingError
from homeplate.sealing import errors
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import check_crop, check_header, decode_facts, unpad_crop
from homeplate.sealing.keys import SealingPrivateKey
from homeplate.sealing.seal import open_sealed
from tests.sealing.opener import RefusedError, Vector, open_vector, read_vector

VECTORS = [read_vector(path) for path in sorted((Path(__file__).parent.parent / "vectors").glob("*.txt"))]
FAILURES = {
    "malformed": errors.MalformedError,
    "version": errors.VersionError,
    "signature": errors.SignatureError,
    "recipient": errors.RecipientError,
    "seal": errors.UnopenedError,
    "contents": errors.ContentsError,
    "crop": errors.CropError,
}
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def open_with_homeplate(vector: Vector) -> list[bytes]:
    private = SealingPrivateKey(
        kem=KemKind(vector.fields["kem"]), private_bytes=bytes.fromhex(vector.fields["private"])
    )
    facts, plaintexts = None, []
    for data in vector.records:
        record = decode(data)
        part, plaintext = open_sealed(record, private, bytes.fromhex(vector.fields["node-public"]))
        plaintexts.append(plaintext)
        if part is Part.FACTS:
            facts = decode_facts(plaintext)
            check_header(facts, record.header)
        else:
            jpeg = unpad_crop(plaintext)
            if facts is not None:
                check_crop(facts, record.header.record_id, jpeg)
    return plaintexts


def hashes(plaintexts: list[bytes]) -> str:
    return " ".join(hashlib.sha256(plaintext).hexdigest() for plaintext in plaintexts)


def test_the_vectors_cover_every_way_to_fail() -> None:
    assert {vector.fields["expect"] for vector in VECTORS} == {"opens", *FAILURES}


@each_vector
def test_homeplate_treats_the_vector_as_it_says(vector: Vector) -> None:
    expect = vector.fields["expect"]
    if expect == "opens":
        assert hashes(open_with_homeplate(vector)) == vector.fields["plaintext-sha256"]
        return
    with pytest.raises(SealingError) as caught:
        open_with_homeplate(vector)
    assert type(caught.value) is FAILURES[expect]


@each_vector
def test_an_opener_written_from_the_page_agrees(vector: Vector) -> None:
    expect = vector.fields["expect"]
    if expect == "opens":
        assert hashes(open_vector(vector)) == vector.fields["plaintext-sha256"]
        return
    with pytest.raises(RefusedError) as caught:
        open_vector(vector)
    assert caught.value.args == (expect,)


@each_vector
def test_no_refusal_quotes_what_was_inside(vector: Vector) -> None:
    if vector.fields["expect"] == "opens":
        open_with_homeplate(vector)
        return
    with pytest.raises(SealingError) as caught:
        open_with_homeplate(vector)
    chain = [caught.value, caught.value.__cause__]
    assert all("V3CT" not in repr(error) for error in chain)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
