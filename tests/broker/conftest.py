"""A peer of our own making on loopback: it speaks TLS with a given certificate and answers MQTT by a script."""

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from homeplate.broker.tls import ClientIdentity, spki_pin
from homeplate.domain.agency import Endpoint

NAME = "broker.agency.example"
NODE = "ab" * 16


def pin_of(leaf: trustme.LeafCert) -> bytes:
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    return spki_pin(certificate.public_bytes(Encoding.DER))


@dataclass
class Peer:
    """One connection's worth of server: sends `answers` one by one, each after some bytes arrived."""

    leaf: trustme.LeafCert
    authority: trustme.CA
    answers: tuple[bytes, ...] = ()
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    client_authority: trustme.CA | None = None
    close_after: bool = True
    received: list[bytes] = field(default_factory=list)
    shaken: bool = False

    def __post_init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.5)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def endpoint(self, **changes) -> Endpoint:
        values = {
            "network": "127.0.0.1",
            "port": self.port,
            "tls_name": NAME,
            "authority_pem": self.authority.cert_pem.bytes().decode(),
            "pins": (pin_of(self.leaf),),
        }
        return Endpoint(**(values | changes))

    def _serve(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.maximum < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = self.maximum
        context.maximum_version = self.maximum
        self.leaf.configure_cert(context)
        if self.client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            self.client_authority.configure_trust(context)
        with contextlib.suppress(OSError), self.listener:
            plain, _ = self.listener.accept()
            plain.settimeout(5)
            with plain, context.wrap_socket(plain, server_side=True) as secured:
                self.shaken = True
                self._talk(secured)

    def _talk(self, secured):
        for answer in self.answers:
            self.received.append(secured.recv(65536))
            secured.sendall(answer)
        # What still comes, until the client leaves or, where the script ends in a cut, nothing.
        if self.answers and self.close_after:
            self.received.append(secured.recv(65536))
            return
        while chunk := secured.recv(65536):
            self.received.append(chunk)

    def finish(self) -> bytes:
        self.thread.join(6)
        assert not self.thread.is_alive()
        return b"".join(self.received)


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def leaf(authority):
    return authority.issue_cert(NAME)


@pytest.fixture
def identity(authority, tmp_path):
    certificate = authority.issue_cert("node.example", common_name=NODE)
    paths = ClientIdentity(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.pem")
    certificate.cert_chain_pems[0].write_to_path(str(paths.certificate))
    certificate.private_key_pem.write_to_path(str(paths.key))
    return paths


@pytest.fixture
def peer(authority, leaf):
    """Make a peer; whatever it still does at the end of the test is waited for."""
    peers = []

    def make(**settings):
        peers.append(Peer(**({"leaf": leaf, "authority": authority} | settings)))
        return peers[-1]

    yield make
    for made in peers:
        with contextlib.suppress(OSError):
            made.listener.close()
        made.finish()
