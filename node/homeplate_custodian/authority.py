"""The custodian's own certificate authority: an agency's broker and its nodes, and nobody else.

EC P-256 throughout. A broker's certificate says server, a node's says client, so that neither can pass for the other.
Time comes in from outside.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ConfigError
from homeplate.sealing.keys import write_new
from homeplate.trust.certificates import UNREADABLE
from homeplate.trust.files import read_bounded, write_durably

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
_BACKDATED_S = 3600  # a node's clock may be a little behind when it first connects
_MAX_PEM_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A broker's certificate and key on disk, and the pin for its registry entry (SHA-256 of its public key info)."""

    certificate: Path
    key: Path
    pin: bytes


def create_authority(folder: Path, *, name: str, now_s: int) -> Path:
    """Make an authority in `folder` (`ca.key`, `ca.crt`) and return the certificate's path.

    Raises:
        SealingError: where one is there already, or the key cannot be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(
            subject=subject,
            issuer=subject,
            public=key.public_key(),
            issuer_public=key.public_key(),
            now_s=now_s,
            days=AUTHORITY_DAYS,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, SHA256())
    )
    write_new(folder / "ca.key", _key_pem(key))
    write_durably(folder / "ca.crt", certificate.public_bytes(Encoding.PEM))
    return folder / "ca.crt"


def issue_client(folder: Path, csr_pem: str, *, common_name: str, now_s: int, days: int = LEAF_DAYS) -> str:
    """Return a node's client certificate as PEM.

    Args:
        folder: the authority's.
        csr_pem: the node's request, already checked (`trust.enrolment.read_request`); only its key is taken.
        common_name: the pseudonym in hexadecimal; the broker's ACL goes by it.
        now_s: seconds since 1970.
        days: how long it is good.

    Raises:
        ConfigError: where there is no authority.
    """
    authority, key = _load(folder)
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    certificate = (
        _builder(
            subject=_name(common_name),
            issuer=authority.subject,
            public=public,
            issuer_public=key.public_key(),
            now_s=now_s,
            days=days,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()


def issue_server(folder: Path, *, tls_name: str, addresses: Sequence[str], now_s: int, days: int = LEAF_DAYS) -> Server:
    """Make a broker's key and certificate in `folder/servers` and return where they are.

    Args:
        folder: the authority's.
        tls_name: the name that nodes expect.
        addresses: literal addresses that it may answer at, besides.
        now_s: seconds since 1970.
        days: how long it is good.

    Raises:
        ConfigError: where there is no authority, or an address is none.
        SealingError: where the broker has a key already.
    """
    authority, signing = _load(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        names = [x509.DNSName(tls_name), *(x509.IPAddress(ipaddress.ip_address(text)) for text in addresses)]
    except ValueError as error:
        raise ConfigError(f"{error}; give literal addresses") from error
    certificate = (
        _builder(
            subject=_name(tls_name),
            issuer=authority.subject,
            public=key.public_key(),
            issuer_public=signing.public_key(),
            now_s=now_s,
            days=days,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signing, SHA256())
    )
    servers = folder / "servers"
    servers.mkdir(mode=0o700, exist_ok=True)
    write_new(servers / f"{tls_name}.key", _key_pem(key))
    write_durably(servers / f"{tls_name}.crt", certificate.public_bytes(Encoding.PEM))
    return Server(
        certificate=servers / f"{tls_name}.crt",
        key=servers / f"{tls_name}.key",
        pin=spki_pin(certificate.public_bytes(Encoding.PEM)),
    )


def spki_pin(certificate_pem: bytes) -> bytes:
    """Return SHA-256 over a certificate's SubjectPublicKeyInfo (DER), 32 bytes.

    Raises:
        ConfigError: where it is no certificate.
    """
    try:
        public = x509.load_pem_x509_certificate(certificate_pem).public_key()
    except UNREADABLE as error:
        raise ConfigError("that is no certificate in PEM form; give the broker's own") from error
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _load(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(read_bounded(folder / "ca.crt", _MAX_PEM_BYTES))
        key = load_pem_private_key(read_bounded(folder / "ca.key", _MAX_PEM_BYTES), password=None)
    except UNREADABLE as error:
        raise ConfigError(f"{folder} holds a damaged authority; restore it from a copy") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{folder}: ca.key and ca.crt are not of one key; restore both from a copy")
    return certificate, key


def _builder(
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuer_public: ec.EllipticCurvePublicKey,
    now_s: int,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(now_s - _BACKDATED_S, tz=UTC))
        .not_valid_after(datetime.fromtimestamp(now_s + days * DAY_SECONDS, tz=UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
