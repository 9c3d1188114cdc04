"""Opens the only kind of connection the node makes: to an address, checked against a registry entry before any use.

The address is dialled as it is (no DNS, no proxy); the certificate must carry the entry's TLS name, chain to the
entry's authority and to nothing else, and its key must be pinned. Which entry may be dialled is policy's to say.
"""

import hashlib
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeplate.broker.errors import NotConnectedError
from homeplate.domain.agency import Endpoint

# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH (x509_vfy.h); Python names neither.
_NAME_MISMATCH = frozenset({62, 64})
_X509_EXPIRED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """The node's TLS client certificate and key, as PEM files."""

    certificate: Path
    key: Path


def spki_pin(certificate_der: bytes) -> bytes:
    """Return SHA-256 over the certificate's DER SubjectPublicKeyInfo (RFC 7469, section 2.4), 32 bytes."""
    public = x509.load_der_x509_certificate(certificate_der).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def client_context(endpoint: Endpoint, identity: ClientIdentity | None) -> ssl.SSLContext:
    """Return a context that trusts the entry's authority alone and shows the node's certificate.

    A bare `SSLContext` is meant: `create_default_context` would load the system's authorities and honour SSLKEYLOGFILE.

    Raises:
        NotConnectedError: `bad-authority` or `no-client-certificate`, where either cannot be loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the chain and the name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        context.load_verify_locations(cadata=endpoint.authority_pem)
    except (ssl.SSLError, ValueError) as error:
        message = f"the authority of {endpoint.tls_name!r} is not a PEM certificate: have the registry entry mended"
        raise NotConnectedError("bad-authority", message) from error
    if identity is not None:
        try:
            context.load_cert_chain(identity.certificate, identity.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            message = f"{identity.certificate}: no usable client certificate with key {identity.key}: enrol the node"
            raise NotConnectedError("no-client-certificate", message) from error
    return context


def open_tls(address: str, endpoint: Endpoint, identity: ClientIdentity | None, timeout_s: float) -> ssl.SSLSocket:
    """Connect to `address` and return the socket after chain, name and pin were checked; nothing was sent on it yet.

    TCP and the handshake take `timeout_s` each at most.

    Raises:
        NotConnectedError: with one of the reasons `not-an-address`, `unreachable`, `wrong-authority`,
            `wrong-tls-name`, `certificate-expired`, `tls-failed`, `wrong-pin`, or those of `client_context`.
    """
    context = client_context(endpoint, identity)
    where = f"{address} port {endpoint.port}"
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        message = f"{address!r} is not an IP address: names are never resolved, write the address"
        raise NotConnectedError("not-an-address", message) from error
    try:
        plain = socket.create_connection((address, endpoint.port), timeout=timeout_s)
    except OSError as error:
        raise NotConnectedError("unreachable", f"{where} cannot be reached: {error}") from error
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = context.wrap_socket(plain, server_hostname=endpoint.tls_name)
    except (OSError, ValueError) as error:
        plain.close()
        raise _handshake_error(where, endpoint.tls_name, error) from error
    # The pin is a second lock behind the authority: a mis-issued certificate of the right authority stops here.
    if not _is_pinned(secured.getpeercert(binary_form=True), endpoint):
        secured.close()
        raise NotConnectedError("wrong-pin", f"{where} shows a key that the entry of {endpoint.tls_name!r} pins not")
    return secured


def _is_pinned(leaf: bytes | None, endpoint: Endpoint) -> bool:
    """Tell whether a peer's certificate (DER) shows a pinned key; one that cannot be read shows none."""
    try:
        return leaf is not None and spki_pin(leaf) in endpoint.pins
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return False


def _handshake_error(where: str, name: str, error: Exception) -> NotConnectedError:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NotConnectedError("tls-failed", f"{where}: no TLS 1.2 or later with {name!r}: {error}")
    if error.verify_code in _NAME_MISMATCH:
        return NotConnectedError("wrong-tls-name", f"{where} does not carry the name {name!r}")
    if error.verify_code == _X509_EXPIRED:
        return NotConnectedError("certificate-expired", f"{where}: the certificate of {name!r} is past its date")
    why = error.verify_message
    return NotConnectedError("wrong-authority", f"{where}: not issued by the authority of {name!r} ({why})")
