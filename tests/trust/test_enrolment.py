"""An enrolment request is whole, of one node, and signed by the TLS key that it brings."""

import base64
import hashlib
import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_csr

from homeplate.errors import TrustError
from homeplate.trust.enrolment import MAX_REQUEST_BYTES, fingerprint, make_request, read_request
from tests.fuzzing import certificates as unreadable
from tests.trust import forge
from tests.trust.forge import PSEUDONYM
from tests.trust.saying import says


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(forge.enrolment()[0]) | fields).encode()


def test_a_request_is_read_as_it_was_made():
    data, hot_list = forge.enrolment()
    request = read_request(data)
    assert request.pseudonym == PSEUDONYM.hex()
    assert request.hot_list_public == hot_list.public_bytes.hex()
    assert request.cameras == ["north"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pseudonym": "00" * 16}, "not of this node"),
        ({"pseudonym": "../x"}, "not what it should be"),
        ({"record_public": "00"}, "not what it should be"),
        ({"record_public": "00" * 32, "ledger_public": "00" * 32}, "one key for two uses"),
        ({"cameras": ["North Street"]}, "not what it should be"),
        ({"surprise": 1}, "unknown field"),
        ({"csr_pem": ""}, "no certificate signing request"),
        ({"csr_pem": forge.csr("another")}, "not of this node"),
        ({"csr_pem": forge.csr(PSEUDONYM.hex(), ec.SECP384R1())}, "not P-256"),
    ],
    ids=range(9),
)
def test_a_request_that_is_wrong_is_refused_by_name(fields: dict[str, Any], says: str):
    with pytest.raises(TrustError, match=says):
        read_request(changed(**fields))


def test_a_signing_request_that_its_key_did_not_sign_is_refused():
    pem = json.loads(forge.enrolment()[0])["csr_pem"]
    der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
    der[-1] ^= 1
    body = base64.b64encode(bytes(der)).decode()
    with pytest.raises(TrustError):
        read_request(
            changed(csr_pem=f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
        )


@pytest.mark.parametrize("damage", [unreadable.on_an_unknown_curve, unreadable.with_a_name_in_bits])
def test_a_signing_request_that_the_library_cannot_read_is_refused(damage):
    pem = json.loads(forge.enrolment()[0])["csr_pem"]
    der = damage(load_pem_x509_csr(pem.encode()).public_bytes(Encoding.DER))
    with pytest.raises(TrustError, match="no certificate signing request"):
        read_request(changed(csr_pem=unreadable.pem_of("CERTIFICATE REQUEST", der)))


def test_a_request_that_is_too_large_is_refused_before_it_is_parsed():
    with pytest.raises(TrustError, match="larger than"):
        read_request(b" " * (MAX_REQUEST_BYTES + 1))


def test_another_request_has_another_fingerprint():
    one, other = forge.enrolment()[0], forge.enrolment()[0]
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)
    assert len(fingerprint(one).split()) == 8


def test_a_refused_request_says_what_is_wrong_and_what_to_do():
    with says("the enrolment request is larger than 262144 bytes"):
        read_request(b" " * (MAX_REQUEST_BYTES + 1))
    assert read_request(forge.enrolment()[0].ljust(MAX_REQUEST_BYTES)).pseudonym == PSEUDONYM.hex()
    with says("the enrolment request gives one key for two uses; make the node anew"):
        read_request(changed(ledger_public="00" * 32, hot_list_public="00" * 32))
    with says("the enrolment request holds no certificate signing request; make the node anew"):
        read_request(changed(csr_pem="none"))
    with says("the enrolment request's TLS key is not P-256; make the node anew"):
        read_request(changed(csr_pem=forge.csr(PSEUDONYM.hex(), ec.SECP384R1())))
    with says("the enrolment request's signing request is not of this node; make the node anew"):
        read_request(changed(csr_pem=forge.csr("another")))
    with pytest.raises(TrustError, match=r"^the enrolment request is not what it should be: "):
        read_request(b"{}")


def test_a_request_whose_own_key_did_not_sign_it_is_not_of_this_node():
    pem = json.loads(forge.enrolment()[0])["csr_pem"]
    der = bytearray(base64.b64decode("".join(pem.splitlines()[1:-1])))
    at = der.rindex(PSEUDONYM.hex().encode()[-4:])
    renamed = PSEUDONYM.hex()[:-4] + "0000"
    der[at : at + 4] = b"0000"
    body = base64.b64encode(bytes(der)).decode()
    text = f"-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
    with says("the enrolment request's signing request is not of this node; make the node anew"):
        read_request(changed(csr_pem=text, pseudonym=renamed))


def test_a_request_that_the_custodian_would_refuse_is_not_made():
    request = json.loads(forge.enrolment()[0])
    halves = {name: bytes.fromhex(request[name]) for name in ("record_public", "ledger_public", "hot_list_public")}
    fields = {"pseudonym": PSEUDONYM, "csr_pem": request["csr_pem"], "cameras": ("north", "south"), **halves}
    made = read_request(make_request(**fields))
    assert made.cameras == ["north", "south"]
    assert {name: getattr(made, name) for name in halves} == {name: request[name] for name in halves}
    assert made.csr_pem == request["csr_pem"]
    with says("the enrolment request gives one key for two uses; make the node anew"):
        make_request(**(fields | {"record_public": halves["ledger_public"]}))


def test_a_fingerprint_is_eight_groups_of_four_digits_of_the_hash():
    digits = hashlib.sha256(b"request").hexdigest()[:32]
    assert fingerprint(b"request") == " ".join(re.findall("....", digits))
