"""The enrolment request: what a new node says of itself to its custodian. Public halves only; nothing here is secret.

The file travels by hand. It proves that the sender holds the TLS key and nothing more, so both ends print the same
fingerprint, and the custodian compares it with the node's before enrolling.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from homeplate.errors import TrustError
from homeplate.trust.certificates import UNREADABLE
from homeplate.trust.schema import Camera, Entry, Hex16, Hex32, Pem, decode, encode

MAX_REQUEST_BYTES = 256 * 1024


class Request(Entry, frozen=True, kw_only=True):
    """A node's request, as JSON."""

    format: Literal[1] = msgspec.field(default=1)
    pseudonym: Hex16
    record_public: Hex32
    ledger_public: Hex32
    hot_list_public: Hex32
    csr_pem: Pem
    cameras: Annotated[list[Camera], msgspec.Meta(max_length=256)]


def make_request(
    *,
    pseudonym: bytes,
    record_public: bytes,
    ledger_public: bytes,
    hot_list_public: bytes,
    csr_pem: str,
    cameras: Iterable[str],
) -> bytes:
    """Return an enrolment request's bytes.

    Args:
        pseudonym: 16 random bytes; the CSR's common name in hexadecimal.
        record_public: raw Ed25519 public key for records, 32 bytes.
        ledger_public: raw Ed25519 public key for checkpoints, 32 bytes.
        hot_list_public: raw X25519 public key for the hot list, 32 bytes.
        csr_pem: the TLS client key's certificate signing request.
        cameras: names of the node's sources.

    Raises:
        TrustError: where the custodian would refuse it.
    """
    data = encode(
        Request(
            pseudonym=pseudonym.hex(),
            record_public=record_public.hex(),
            ledger_public=ledger_public.hex(),
            hot_list_public=hot_list_public.hex(),
            csr_pem=csr_pem,
            cameras=list(cameras),
        )
    )
    read_request(data)
    return data


def read_request(data: bytes) -> Request:
    """Return the request in `data`.

    Raises:
        TrustError: where it is too large, is no request, names one key for two uses, or its CSR is not P-256, not
            signed by its own key, or of another name.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise TrustError(f"the enrolment request is larger than {MAX_REQUEST_BYTES} bytes")
    request = decode(data, Request, "the enrolment request")
    if len({request.record_public, request.ledger_public, request.hot_list_public}) != len(
        ("record", "ledger", "list")
    ):
        raise TrustError("the enrolment request gives one key for two uses; make the node anew")
    _check_csr(request)
    return request


def _check_csr(request: Request) -> None:
    try:
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        names = [name.value for name in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        key = csr.public_key()
        signed = csr.is_signature_valid
    except UNREADABLE as error:
        raise TrustError("the enrolment request holds no certificate signing request; make the node anew") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise TrustError("the enrolment request's TLS key is not P-256; make the node anew")
    if not signed or names != [request.pseudonym]:
        raise TrustError("the enrolment request's signing request is not of this node; make the node anew")


def fingerprint(data: bytes) -> str:
    """Return what the two ends compare by voice: 32 hexadecimal digits of SHA-256, in groups of four."""
    digits = hashlib.sha256(data).hexdigest()[:32]
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))
