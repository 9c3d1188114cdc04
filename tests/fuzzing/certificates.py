"""Certificates that are whole and yet unreadable: each makes the library raise another error than `ValueError`."""

import base64

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_VERSION_3 = b"\xa0\x03\x02\x01\x02"
_KEY_USAGE, _BASIC_CONSTRAINTS = b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x13"
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_P_256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"


def pem_of(kind: str, der: bytes) -> str:
    """Return DER as PEM."""
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n"


def of_version_6(der: bytes) -> bytes:
    """Return a certificate that calls itself of a version that there is not."""
    return _once(der, _VERSION_3, _VERSION_3[:-1] + b"\x05")


def with_an_extension_twice(der: bytes) -> bytes:
    """Return a certificate with two extensions that say whether it is an authority."""
    return _once(der, _KEY_USAGE, _BASIC_CONSTRAINTS)


def on_an_unknown_curve(der: bytes) -> bytes:
    """Return a certificate or a request whose key is on a curve that nobody has."""
    return _once(der, _P_256, _P_256[:-1] + b"\x7f")


def with_a_name_in_bits(der: bytes) -> bytes:
    """Return a certificate or a request whose common name is no text but a string of bits."""
    at = der.index(_COMMON_NAME) + len(_COMMON_NAME)
    return der[:at] + b"\x03" + der[at + 1 :]


def der_of(pem: str) -> bytes:
    """Return a certificate's DER."""
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def _once(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)
