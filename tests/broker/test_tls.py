"""Who answers is checked before anything is said: address, name, authority, pin, version."""

import hashlib
import os
import ssl
import warnings

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from homeplate.broker import tls
from homeplate.broker.errors import NotConnectedError
from homeplate.broker.tls import ClientIdentity, client_context, open_tls, spki_pin
from tests.fuzzing import certificates as unreadable

NAME = "broker.agency.example"


def refused(reason, address, endpoint, identity):
    with pytest.raises(NotConnectedError) as caught:
        open_tls(address, endpoint, identity, 3.0)
    assert caught.value.reason == reason, caught.value
    return str(caught.value)


def test_a_peer_that_matches_its_entry_is_connected_over_tls_13(peer, identity):
    server = peer()
    with open_tls("127.0.0.1", server.endpoint(), identity, 3.0) as sock:
        assert sock.version() == "TLSv1.3"
    assert server.finish() == b""


def test_tls_12_is_still_taken(peer, identity):
    server = peer(maximum=ssl.TLSVersion.TLSv1_2)
    with open_tls("127.0.0.1", server.endpoint(), identity, 3.0) as sock:
        assert sock.version() == "TLSv1.2"


def test_tls_11_is_refused(peer, identity):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        server = peer(maximum=ssl.TLSVersion.TLSv1_1)
        refused("tls-failed", "127.0.0.1", server.endpoint(), identity)
        server.finish()
    assert not server.shaken


def test_a_key_that_is_not_pinned_gets_no_byte(peer, identity):
    server = peer()
    refused("wrong-pin", "127.0.0.1", server.endpoint(pins=(bytes(32),)), identity)
    assert server.finish() == b""
    assert server.shaken


def test_an_entry_without_pins_allows_nobody(peer, identity):
    server = peer()
    refused("wrong-pin", "127.0.0.1", server.endpoint(pins=()), identity)
    assert server.finish() == b""


def test_the_next_pin_is_as_good_as_the_current_one(peer, identity):
    server = peer()
    endpoint = server.endpoint(pins=(bytes(32), server.endpoint().pins[0]))
    open_tls("127.0.0.1", endpoint, identity, 3.0).close()


def test_another_authority_is_refused(peer, identity):
    server = peer()
    other = trustme.CA().cert_pem.bytes().decode()
    message = refused("wrong-authority", "127.0.0.1", server.endpoint(authority_pem=other), identity)
    assert NAME in message
    assert not server.finish()


def test_the_systems_authorities_are_never_loaded(peer, identity):
    assert len(client_context(peer().endpoint(), identity).get_ca_certs()) == 1


def test_another_name_is_refused(peer, identity, authority):
    server = peer(leaf=authority.issue_cert("elsewhere.example"))
    refused("wrong-tls-name", "127.0.0.1", server.endpoint(), identity)


def test_an_address_is_no_substitute_for_the_name(peer, identity, authority):
    server = peer(leaf=authority.issue_cert("127.0.0.1"))
    refused("wrong-tls-name", "127.0.0.1", server.endpoint(), identity)


def test_a_certificate_past_its_date_is_refused(peer, identity, authority):
    from datetime import UTC, datetime

    server = peer(leaf=authority.issue_cert(NAME, not_after=datetime(2020, 1, 1, tzinfo=UTC)))
    refused("certificate-expired", "127.0.0.1", server.endpoint(), identity)


@pytest.mark.parametrize("name", ["localhost", NAME, "127.1", ""])
def test_a_host_name_is_never_resolved(peer, identity, name):
    server = peer()
    refused("not-an-address", name, server.endpoint(), identity)
    server.listener.close()


def test_proxy_settings_of_the_environment_are_ignored(peer, identity, monkeypatch):
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setitem(os.environ, variable, "http://127.0.0.1:9")
    server = peer()
    open_tls("127.0.0.1", server.endpoint(), identity, 3.0).close()


def test_nobody_there_is_unreachable(peer, identity):
    server = peer()
    endpoint = server.endpoint()
    server.listener.close()
    server.finish()
    refused("unreachable", "127.0.0.1", endpoint, identity)


def test_a_peer_that_does_not_speak_tls_is_given_up_within_the_deadline(peer, identity):
    import socket

    server = peer()
    endpoint = server.endpoint()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        silent = server.endpoint(port=mute.getsockname()[1])
        with pytest.raises(NotConnectedError) as caught:
            open_tls("127.0.0.1", silent, identity, 0.3)
    assert caught.value.reason == "tls-failed"
    open_tls("127.0.0.1", endpoint, identity, 3.0).close()


def test_a_node_without_its_certificate_says_so_by_file(peer, tmp_path):
    server = peer()
    missing = ClientIdentity(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.pem")
    assert "tls.crt" in refused("no-client-certificate", "127.0.0.1", server.endpoint(), missing)
    server.listener.close()


def test_an_authority_that_is_no_certificate_is_refused(peer, identity):
    server = peer()
    refused("bad-authority", "127.0.0.1", server.endpoint(authority_pem="no certificate"), identity)
    server.listener.close()


def test_a_certificate_that_cannot_be_read_shows_no_pinned_key(leaf, peer):
    der = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    server = peer()
    server.listener.close()
    assert tls._is_pinned(der, server.endpoint())
    for damage in (unreadable.of_version_6, unreadable.on_an_unknown_curve):
        assert not tls._is_pinned(damage(der), server.endpoint())


def test_the_pin_is_the_hash_of_the_leafs_public_key_info(leaf):
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki_pin(certificate.public_bytes(Encoding.DER)) == hashlib.sha256(info).digest()
