"""The attacks, by family. Each case changes one thing in a copy of a deployment that would deliver, and runs uplink.

A case says which peers the bundle names while it runs. Whatever else the wire carries, and whatever a stranger who
ended TLS got out of it, is leaked. A case that does not come to the end it expects (a refusal by its name, or a
delivery in spite of the attack) has failed too: a zero from a process that never started would be worth nothing.
"""

import json
import os
import random
import shutil
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.agency import Jurisdiction
from homeplate.errors import TrustError
from homeplate.trust.bundle import load_bundle
from homeplate.trust.inbox import hand_in
from homeplate.trust.packed import pack
from homeplate_custodian import provision
from homeplate_custodian.authority import create_authority, issue_server, spki_pin
from tests.adversarial.estate import GOOD, TLS_NAME, client_files, now_s
from tests.adversarial.net import (
    BROKER_ADDRESS,
    OTHER_ADDRESS,
    PORT,
    TRAP_ADDRESS,
    WORLD_ADDRESS,
    call,
    find,
    inside,
)
from tests.adversarial.peers import Impostor, context_of, forward
from tests.bodies import REFUSED
from tests.trust.forge import Forge

GOOD_PEER = ("tcp", BROKER_ADDRESS, PORT)
OTHER_PEER = ("tcp", OTHER_ADDRESS, PORT)
NOBODY = frozenset()
STRANGER = "stranger"
BROKER_PORT = 18883
UPLINK_UID = 64001


@dataclass(frozen=True)
class Outcome:
    """How a case went: the peers that the bundle named, and the application bytes that a stranger ended TLS for."""

    named: frozenset = frozenset({GOOD_PEER})
    decrypted: int = 0
    late: int = 0
    """Payload bytes to a peer after it was named no more."""


@dataclass(frozen=True)
class Case:
    """One attack. `act` is given the site and returns an outcome, or raises AssertionError."""

    family: str
    name: str
    act: Callable = field(repr=False)


def all_cases(seed=1) -> Iterator[Case]:
    """Yield every case; `seed` draws what is drawn."""
    draw = random.Random(seed)  # noqa: S311 - which cases are tried is no secret
    for family in (
        recipients, moved_names, men_in_the_middle, swapped_keys, redirects, edited_files, environments, older_bundles,
        configurations, lapses, kernel_rules, systemd_drop_in,
    ):  # fmt: skip
        for name, act in family(draw):
            yield Case(family.__name__.replace("_", "-"), name, act)


class LeftOutError(Exception):
    """This machine lacks what the case needs; the message says what."""


def spoiled(site, change=None, *, records=1):
    """Return a copy with records that wait, after `change`."""
    estate = site.estate()
    estate.put(records)
    if change is not None:
        change(estate)
    return estate


def expect(ran, **counts):
    found = {name: getattr(ran, name) for name in counts}
    assert found == counts, f"{found} instead of {counts}: {ran.output[-400:]}"


def reasons(estate, event="broker.refused"):
    return {str(row.fields["reason"]).split(":")[0] for row in estate.rows(event)}


# --- who may receive ------------------------------------------------------------------------------------------------


def recipients(draw):
    """Operator-signed brokers of those who may not receive; each is real and would take the records."""
    others = [("Springfield Police Department", "city_agency", str(state), "other-state")
              for state in draw.sample([one for one in Jurisdiction if one is not Jurisdiction.CA], 9)]  # fmt: skip
    for name, kind, where, code in [*REFUSED, *others]:
        yield f"{name}, {kind} of {where}", _stranger(code, legal_name=name, kind=kind, jurisdiction=where)
    yield "an ORI of another state", _stranger("other-state", ori="TX0371100")
    yield "a wildcard as TLS name", _stranger("wildcard", tls_name="*.agency.example")
    yield "an address as TLS name", _stranger("tls-address", tls_name=OTHER_ADDRESS)
    yield "half the internet as address", _stranger("address-range", network="128.0.0.0/1")
    yield "not granted", _unnamed(lambda estate: provision.revoke_grant(estate.custody, STRANGER))
    yield "not registered", _unnamed(lambda estate: provision.remove_agency(estate.custody, STRANGER))
    yield "not attested", _unnamed(lambda estate: _spoil_grant(estate, attested=False))
    yield "a grant that is over", _unnamed(lambda estate: _spoil_grant(estate, expires_s=now_s() - 1))


def _stranger(code, *, legal_name="City of Elsewhere", **changed):
    def act(site):
        estate = _with_stranger(site, legal_name, **changed)
        found = load_bundle(estate.paths.bundle, WallClock().now_ns()).unregistered
        assert found[STRANGER].startswith(f"{code}:"), found
        return _good_alone(site, estate)

    return act


def _unnamed(change):
    def act(site):
        estate = _with_stranger(site, "City of Elsewhere")
        change(estate)
        estate.install()
        return _good_alone(site, estate)

    return act


def _with_stranger(site, legal_name, **changed):
    """Put the stranger's broker behind the other address: the good one's own, so that nothing else would stop it."""
    estate = site.estate()
    pin = _good_pin(estate)
    estate.add_agency(STRANGER, legal_name, **({"network": OTHER_ADDRESS, "pins": [pin]} | changed))
    _spoil_grant(estate)
    estate.put(1, to=STRANGER)
    estate.put(1)
    estate.install()
    return estate


def _spoil_grant(estate, **changed):
    """Draft the stranger's grant past the custodian's own tool, which refuses what is wrong with it."""
    path = estate.custody / "operator" / "allowlist.json"
    document = json.loads(path.read_bytes())
    good = next(one for one in document["grants"] if one["identifier"] == GOOD)
    kept = [one for one in document["grants"] if one["identifier"] != STRANGER]
    document["grants"] = [*kept, good | {"identifier": STRANGER} | changed]
    path.write_text(json.dumps(document))


def _good_alone(site, estate):
    expect(site.run(estate), confirmed=1, refused=1)
    return Outcome()


def _good_pin(estate):
    registry = json.loads((estate.custody / "registry" / "registry.json").read_bytes())
    entry = next(one for one in registry["agencies"] if one["identifier"] == GOOD)
    return bytes.fromhex(entry["endpoints"][0]["pins"][0])


# --- names that move ------------------------------------------------------------------------------------------------


def moved_names(_draw):
    """A resolver, a hosts file and search lists that would send the broker's name to the trap."""
    hosts = f"{TRAP_ADDRESS} {TLS_NAME} broker\n127.0.0.1 localhost\n"
    nameserver = f"nameserver {WORLD_ADDRESS}\n"
    for name, etc, environment in (
        ("a resolver that lies", {"resolv.conf": nameserver}, {}),
        ("a hosts file that lies", {"hosts": hosts}, {}),
        ("both", {"resolv.conf": nameserver, "hosts": hosts}, {}),
        ("a search list", {"resolv.conf": nameserver + "search agency.example evil.example\n"}, {}),
        ("LOCALDOMAIN", {"resolv.conf": nameserver}, {"LOCALDOMAIN": "evil.example"}),
        ("RES_OPTIONS", {"resolv.conf": nameserver}, {"RES_OPTIONS": "use-vc ndots:9"}),
        ("HOSTALIASES", {"resolv.conf": nameserver}, {"HOSTALIASES": "aliases"}),
        ("hosts before all", {"hosts": hosts, "nsswitch.conf": "hosts: files dns\n"}, {}),
    ):
        yield name, _resolving(etc, environment)
    for network in (TLS_NAME, "localhost", "broker.agency.example.", "0x7f000001", "3325256714"):
        yield f"a registry that gives {network!r} for an address", _named_network(network)


def _resolving(etc, environment):
    def act(site):
        estate = spoiled(site)
        files = {}
        for name, text in etc.items():
            files[name] = estate.folder / name
            files[name].write_text(text)
        (estate.folder / "aliases").write_text(f"{TLS_NAME} evil.example\n")
        expect(site.run(estate, environment=environment, etc=files), confirmed=1)
        assert not site.world.dns_queries, "the node asked a resolver"
        return Outcome()

    return act


def _named_network(network):
    def act(site):
        estate = spoiled(site)
        etc = estate.folder / "resolv.conf"
        etc.write_text(f"nameserver {WORLD_ADDRESS}\n")
        estate.move_good(network=network)
        estate.install()
        expect(site.run(estate, etc={"resolv.conf": etc}), confirmed=0, refused=1)
        assert not site.world.dns_queries, "the node asked a resolver"
        return Outcome(named=NOBODY)

    return act


# --- a man in the middle --------------------------------------------------------------------------------------------


def men_in_the_middle(_draw):
    """Somebody else at the broker's address, with a certificate that is good somewhere."""
    for kind in trustme.KeyType:
        yield f"another authority, {kind.name}", _impostor(lambda _e, k=kind: _foreign(key_type=k), "wrong-authority")
    yield "another authority that the system trusts", _system_trusted()
    yield "an authority under the same name", _impostor(_same_name, "wrong-authority")
    yield "a certificate that signs itself", _impostor(_self_signed, "wrong-authority")
    yield "another name, its key pinned", _impostor(_pinned(name="other.agency.example"), "wrong-tls-name")
    yield "a subdomain's name, its key pinned", _impostor(_pinned(name=f"x.{TLS_NAME}"), "wrong-tls-name")
    yield "past its date, its key pinned", _impostor(_pinned(now=now_s() - 400 * 86_400), "certificate-expired")
    yield "not yet valid, its key pinned", _impostor(_pinned(now=now_s() + 40 * 86_400), "wrong-authority")
    yield "a client's certificate, its key pinned", _impostor(_clients, "wrong-authority")
    yield "another authority past its date", _impostor(lambda _e: _foreign(over=True), "wrong-authority")
    yield "no TLS at all", _plain
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        yield f"the right key, but {version.name}", _impostor(lambda e, v=version: _own(e, maximum=v), "tls-failed")


def _impostor(context_for, reason):
    def act(site):
        estate = spoiled(site)
        impostor = Impostor(context_for(estate), site.world, BROKER_PORT)
        site.world.handlers[BROKER_ADDRESS] = impostor
        expect(site.run(estate), confirmed=0, failed=1)
        site.world.settle()
        assert impostor.connections, "the node did not even try"
        assert reasons(estate) == {reason}
        assert estate.waiting() == 1
        return Outcome(decrypted=impostor.decrypted)

    return act


def _plain(site):
    """Answer the first bytes with a plain CONNACK, as a broker without TLS does."""
    estate = spoiled(site)
    accepted = _packet(2, 0, before=b"\0")
    broker = Impostor(None, script={1: accepted, "then": 1})  # a ClientHello's first byte looks like a CONNECT's
    site.world.handlers[BROKER_ADDRESS] = broker
    expect(site.run(estate), confirmed=0, failed=1)
    assert broker.connections
    assert reasons(estate) == {"tls-failed"}
    return Outcome(decrypted=broker.decrypted)


def _foreign(*, key_type=trustme.KeyType.ECDSA, over=False):
    end = datetime.fromtimestamp(now_s(), UTC) - timedelta(days=1) if over else None
    begin = end - timedelta(days=9) if end else None
    leaf = trustme.CA(key_type=key_type).issue_cert(TLS_NAME, key_type=key_type, not_before=begin, not_after=end)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


def _system_trusted():
    """The node's environment names the attacker's authority as one that this system trusts."""

    def act(site):
        estate = spoiled(site)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(estate.folder / "ca.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(TLS_NAME).configure_cert(context)
        impostor = Impostor(context, site.world, BROKER_PORT)
        site.world.handlers[BROKER_ADDRESS] = impostor
        trusted = {"SSL_CERT_FILE": str(estate.folder / "ca.pem"), "SSL_CERT_DIR": str(estate.folder)}
        expect(site.run(estate, environment=trusted), failed=1)
        assert reasons(estate) == {"wrong-authority"}
        return Outcome(decrypted=impostor.decrypted)

    return act


def _same_name(estate):
    folder = estate.folder / "false"
    create_authority(folder, name="City record custodian", now_s=now_s())
    server = issue_server(folder, tls_name=TLS_NAME, addresses=(), now_s=now_s())
    return context_of(server.certificate, server.key)


def _self_signed(estate):
    folder = estate.folder / "self"
    create_authority(folder, name=TLS_NAME, now_s=now_s())
    return context_of(folder / "ca.crt", folder / "ca.key")


def _pinned(*, name=TLS_NAME, now=None):
    """Return what issues a certificate of the custody's authority that is wrong in one thing, and pins its key."""

    def context_for(estate):
        server = estate.server(name=name, now=now)
        estate.move_good(pins=[server.pin])
        estate.install()
        return context_of(server.certificate, server.key)

    return context_for


def _clients(estate):
    certificate, key = client_files(estate.custody, estate.folder / "client-as-server", TLS_NAME)
    estate.move_good(pins=[spki_pin(certificate.read_bytes())])
    estate.install()
    return context_of(certificate, key)


def _own(estate, **limits):
    """Return a context with the good broker's own certificate and key."""
    stem = estate.custody / "authority" / "servers" / TLS_NAME
    return context_of(stem.with_name(f"{TLS_NAME}.crt"), stem.with_name(f"{TLS_NAME}.key"), **limits)


# --- another key ----------------------------------------------------------------------------------------------------


def swapped_keys(_draw):
    """The right authority and the right name, and a key that nobody pinned: a mis-issued certificate."""
    for number in range(3):
        yield f"a new key of the same authority ({number})", _impostor(_reissued, "wrong-pin")
    yield "the broker's old key after a new one was pinned", _impostor(_old_key, "wrong-pin")
    yield "a pin of the authority instead of the broker", _impostor(_authority_pinned, "wrong-pin")
    yield "a pin with one bit turned", _impostor(_one_bit, "wrong-pin")


def _reissued(estate):
    server = estate.server()
    return context_of(server.certificate, server.key)


def _old_key(estate):
    context = _own(estate)
    estate.move_good(pins=[estate.server().pin])
    estate.install()
    return context


def _authority_pinned(estate):
    estate.move_good(pins=[spki_pin((estate.custody / "authority" / "ca.crt").read_bytes())])
    estate.install()
    return _own(estate)


def _one_bit(estate):
    pin = _good_pin(estate)
    estate.move_good(pins=[bytes([pin[0] ^ 1]) + pin[1:]])
    estate.install()
    return _own(estate)


# --- a broker that sends the node elsewhere -------------------------------------------------------------------------


def _packet(kind, reason, *properties, before=b""):
    listed = b"".join(properties)
    body = before + bytes([reason, len(listed)]) + listed
    return bytes([kind << 4, len(body)]) + body


def _text(identifier, text):
    return bytes([identifier]) + struct.pack(">H", len(text)) + text.encode()


def redirects(_draw):
    """The real broker, gone bad: it names another server by every means of MQTT 5, and by some that are none of it."""
    elsewhere = f"{TRAP_ADDRESS}:8883"
    accepted = _packet(2, 0, before=b"\0")
    for code, says in ((0x9C, "use another server"), (0x9D, "server moved")):
        for where in (elsewhere, "evil.example", f"{elsewhere} evil.example:8883"):
            refusal = _packet(2, code, _text(0x1C, where), before=b"\0")
            yield f"CONNACK, {says}: {where}", _sent_elsewhere({1: refusal, "then": 1})
        goodbye = _packet(14, code, _text(0x1C, elsewhere))
        yield f"DISCONNECT after CONNACK, {says}", _sent_elsewhere({1: accepted + goodbye, "then": 1})
        yield f"DISCONNECT instead of PUBACK, {says}", _sent_elsewhere({1: accepted, 3: goodbye, "then": 3})
    response = _packet(2, 0, _text(0x1A, f"homeplate/{TRAP_ADDRESS}"), _text(0x12, "evil"), before=b"\0")
    yield "another client id and response information", _sent_elsewhere({1: response, 3: b"", "then": 3})
    refused = _packet(4, 0x97, _text(0x1F, f"go to {elsewhere}"), before=b"\0\1")
    yield "PUBACK with a reason text", _sent_elsewhere({1: accepted, 3: refused, "then": 3})
    web = f"HTTP/1.1 301 Moved\r\nLocation: https://{TRAP_ADDRESS}/\r\n\r\n".encode()
    yield "an HTTP redirect", _sent_elsewhere({1: web, "then": 1})


def _sent_elsewhere(script):
    def act(site):
        estate = spoiled(site)
        broker = Impostor(_own(estate), script=script)
        site.world.handlers[BROKER_ADDRESS] = broker
        expect(site.run(estate), confirmed=0, failed=1)
        assert broker.decrypted, "the node did not speak to the broker that its bundle names"
        assert estate.waiting() == 1
        return Outcome()

    return act


# --- files of the node, edited --------------------------------------------------------------------------------------


def edited_files(draw):
    """The installed bundle, changed on disk by somebody who has no signer's key."""

    def replaced(pattern, old, new):
        def change(estate):
            for path in _signed(estate, pattern):
                data = path.read_bytes()
                assert old.encode() in data, f"{old} is not in {path.name}"
                path.write_bytes(data.replace(old.encode(), new.encode()))

        return change

    registry, allowlist, rules = "*registry.json", "*allowlist.json", "*rules.json"
    yield "registry: another address", _edited(replaced(registry, BROKER_ADDRESS, TRAP_ADDRESS))
    yield "registry: another port", _edited(replaced(registry, f'"port":{PORT}', '"port":8443'))
    yield "registry: another TLS name", _edited(replaced(registry, TLS_NAME, "broker.evil-one.example"))
    yield "registry: another kind", _edited(replaced(registry, '"kind":"city"', '"kind":"county"'))
    yield "allowlist: a longer grant", _edited(replaced(allowlist, '"expires_s":', '"expires_s":9'))
    yield "allowlist: another recipient", _edited(replaced(allowlist, GOOD, "us-tx-city"))
    yield "rules: another recipient", _edited(replaced(rules, GOOD, "us-tx-city"))
    for name in ("registry.json", "allowlist.json"):
        pattern = f"*{name}"
        yield f"{name}: one bit turned", _edited(lambda e, p=pattern: [_flip(f, draw) for f in _signed(e, p)])
        yield f"{name}: gone", _edited(lambda e, p=pattern: [f.unlink() for f in _signed(e, p)])
        yield f"{name}: empty", _edited(lambda e, p=pattern: [f.write_bytes(b"") for f in _signed(e, p)])
        yield f"{name}: a blank more", _edited(lambda e, p=pattern: [_append(f, b" ") for f in _signed(e, p)])
        yield f"{name}: a link elsewhere", _edited(lambda e, p=pattern: [_link(f) for f in _signed(e, p)])
    for role in ("targets", "registry", "operator", "snapshot", "timestamp"):
        yield f"metadata of {role}: signed by nobody", _edited(lambda e, r=role: _strip(e, r))
    yield "everything but the root: another custody's", _edited(_another_custody)


def _edited(change):
    def act(site):
        estate = spoiled(site)
        change(estate)
        ran = site.run(estate)
        assert ran.code == TrustError.exit_code, ran.output
        assert "nothing was tried" in ran.output, ran.output
        expect(ran, confirmed=0, refused=0, failed=0)
        assert estate.waiting() == 1
        return Outcome(named=NOBODY)

    return act


def _signed(estate, pattern):
    found = [path for path in (estate.paths.bundle / "targets").rglob(pattern) if path.is_file()]
    assert found, f"no {pattern} in {estate.paths.bundle}"
    return found


def _flip(path, draw):
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _append(path, data):
    path.write_bytes(path.read_bytes() + data)


def _link(path):
    elsewhere = path.with_name("elsewhere")
    elsewhere.write_bytes(path.read_bytes().replace(b"City of Somewhere", b"City of Elsewhere"))
    path.unlink()
    path.symlink_to(elsewhere)
    if b"City of Elsewhere" not in elsewhere.read_bytes():
        _append(elsewhere, b" ")


def _strip(estate, role):
    for path in estate.paths.bundle.glob(f"*{role}.json"):
        if "root" in path.name:
            continue
        document = json.loads(path.read_bytes())
        document["signatures"] = []
        path.write_text(json.dumps(document))


def _another_custody(estate):
    """Put what an attacker's own custody signed in the place of everything but the pinned root."""
    folder = estate.folder / "attacker"
    provision.init(folder, registry_body="a", operator_body="b", now_s=now_s(), demo=True)
    bundle = provision.publish_bundle(folder, now_s=now_s())
    for path in bundle.rglob("*"):
        wanted = estate.paths.bundle / path.relative_to(bundle)
        if path.is_file() and "root" not in path.name:
            wanted.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, wanted)


# --- the environment ------------------------------------------------------------------------------------------------


def environments(_draw):
    """Variables that make other programs take a detour, tell their keys or trust somebody else."""
    proxy = f"http://{TRAP_ADDRESS}:3128"
    for names in (
        {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy},
        {"http_proxy": proxy, "https_proxy": proxy},
        {"ALL_PROXY": f"socks5://{TRAP_ADDRESS}:1080"},
        {"all_proxy": f"socks5h://{TRAP_ADDRESS}:1080", "no_proxy": ""},
        {"SOCKS_PROXY": f"{TRAP_ADDRESS}:1080", "SOCKS_SERVER": f"{TRAP_ADDRESS}:1080"},
        {"MQTT_PROXY": proxy, "MQTT_HOST": TRAP_ADDRESS, "MQTT_BROKER": TRAP_ADDRESS},
        {"HOMEPLATE_BROKER": TRAP_ADDRESS, "HOMEPLATE_HOST": TRAP_ADDRESS, "HOMEPLATE_CONFIG": "evil.toml"},
        {"SSLKEYLOGFILE": "keys.log"},
        {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/"},
        {"OPENSSL_CONF": "openssl.cnf"},
        {"SENTRY_DSN": f"http://a@{TRAP_ADDRESS}/1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{TRAP_ADDRESS}:4317", "OTEL_TRACES_EXPORTER": "otlp"},
        {"NTP_SERVER": TRAP_ADDRESS, "TZ": "Etc/GMT+12"},
        {"HF_ENDPOINT": f"http://{TRAP_ADDRESS}", "PIP_INDEX_URL": f"http://{TRAP_ADDRESS}/simple"},
    ):
        yield ", ".join(names), _with_environment(names)


def _with_environment(names):
    def act(site):
        estate = spoiled(site)
        (estate.folder / "openssl.cnf").write_text("[openssl_init]\n")
        (estate.folder / "evil.toml").write_text("[node]\n")
        expect(site.run(estate, environment=names), confirmed=1)
        assert not (estate.folder / "keys.log").exists(), "the keys of the connection were written down"
        assert not site.world.dns_queries
        return Outcome()

    return act


# --- an older bundle ------------------------------------------------------------------------------------------------


def older_bundles(_draw):
    """A bundle that was good once and named a recipient who is gone."""
    yield "installed again by the command", _older(_install_by_command)
    yield "put into the inbox", _older(_install_by_inbox)
    yield "its timestamp under a new name in the inbox", _older(_mixed("timestamp.json"))
    yield "its snapshot beside the new timestamp", _older(_mixed("*.snapshot.json"))
    yield "its allowlist's metadata beside the new ones", _older(_mixed("*.operator.json"))
    yield "a new one that the online key alone signed over the old roles", _older(_resealed)


def _older(bring):
    def act(site):
        estate = _with_stranger(site, "City of Elsewhere")
        old = estate.folder / "old"
        shutil.copytree(estate.custody / "bundle", old)
        provision.revoke_grant(estate.custody, STRANGER)
        estate.install()
        text = bring(site, estate, old)
        assert estate.rows("bundle.refused", "bundle"), f"the old bundle was not refused: {text}"
        return _good_alone(site, estate)

    return act


def _install_by_command(site, estate, old):
    ran = site.run(estate, "bundle", "install", str(old))
    assert ran.code != 0, ran.output
    return ran.output


def _install_by_inbox(site, estate, old):
    hand_in(estate.paths.inbox, pack(old), "candidate")
    return site.run(estate, "bundle", "serve", "--once").output


def _mixed(pattern):
    def bring(site, estate, old):
        mixed = estate.folder / "mixed"
        shutil.copytree(estate.custody / "bundle", mixed)
        for path in mixed.glob(pattern):
            path.unlink()
        for path in old.glob(pattern):
            shutil.copyfile(path, mixed / path.name)
        if pattern != "timestamp.json":  # let the timestamp speak of something new, so that it is looked at at all
            forge = Forge(estate.custody)
            forge.bundle = mixed
            forge.edit("timestamp", lambda signed: signed.update(version=signed["version"] + 1))
        return _install_by_command(site, estate, mixed)

    return bring


def _resealed(site, estate, old):
    forge = Forge(estate.custody)
    forge.bundle = old
    forge.edit("snapshot", lambda signed: signed.update(version=signed["version"]))
    forge.seal(version=99)
    return _install_by_command(site, estate, old)


# --- the configuration ----------------------------------------------------------------------------------------------


def configurations(_draw):
    """A configuration that names another host or widens a rule: it is refused by the key, and nothing is sent."""
    address = TRAP_ADDRESS
    for text, key in (
        (f'[uplink]\nhost = "{address}"\n', "uplink"),
        (f'[broker]\naddress = "{address}"\nport = 8883\n', "broker"),
        (f'[mqtt]\nhost = "{address}"\n', "mqtt"),
        (f'[[recipient]]\nnetwork = "{address}"\n', "recipient"),
        (f'[proxy]\nurl = "http://{address}"\n', "proxy"),
        (f'[telemetry]\nurl = "http://{address}"\n', "telemetry"),
        (f'[dns]\nservers = ["{WORLD_ADDRESS}"]\n', "dns"),
        (f'[time]\nserver = "{address}"\n', "time"),
        ("[tls]\nverify = false\n", "tls"),
        ("[allowlist]\nrecipients = []\n", "allowlist"),
        (f'[narrow]\nadd_recipients = ["{STRANGER}"]\n', "add_recipients"),
        ("[narrow]\nadd_rules = []\n", "add_rules"),
        ('[narrow]\nretention = { all = "9999d" }\n', "retention"),
        (f'[models]\nurl = "http://{address}"\n', "url"),
        (
            f'[[source]]\nname = "a"\nkind = "video"\npath = "http://{address}/a.mp4"\nsend_to = "{address}"\n',
            "send_to",
        ),
    ):
        yield text.split("\n", 2)[0] + " " + key, _configured(text, key)


def _configured(text, key):
    def act(site):
        estate = spoiled(site)
        estate.write_config("\n" + text)
        ran = site.run(estate)
        assert ran.code != 0, ran.output
        assert key in ran.output, ran.output
        assert estate.waiting() == 1
        return Outcome(named=NOBODY)

    return act


# --- an entry that ends while the node is connected -----------------------------------------------------------------


def lapses(_draw):
    """The right is over in the middle of a drain; the connection is open, and more records wait."""
    yield "the grant runs out", _runs_out(lambda estate, end: estate.grant(GOOD, expires_s=end), "grant-expired")
    yield "the grant is revoked", _changed(lambda estate: provision.revoke_grant(estate.custody, GOOD), "not-granted")
    yield (
        "the agency leaves the registry",
        _changed(lambda estate: provision.remove_agency(estate.custody, GOOD), "not-registered"),
    )
    yield "the registry gives another address", _changed(lambda estate: estate.move_good(network=OTHER_ADDRESS), None)
    yield "the attestation is taken back", _changed(_take_back, "not-attested")
    yield "the bundle is gone", _changed(None, "no-bundle")


def _take_back(estate):
    path = estate.custody / "operator" / "allowlist.json"
    path.write_text(path.read_text().replace('"attested":true', '"attested":false'))


def _runs_out(change, reason):
    def act(site):
        late = 0
        for lasts_s in (8, 40):  # on a busy machine the process may not be up before the short one is over
            estate, end = spoiled(site, records=16), now_s() + lasts_s
            change(estate, end)
            estate.install()
            # The broker holds each of its answers back, so that the drain is still going on when the grant ends.
            pause = _Pause(lasts_s / 11)
            site.world.handlers[BROKER_ADDRESS] = forward(site.world, BROKER_PORT, before_answer=pause)
            ran = site.run(estate)
            late += _after(site, end * NANOSECONDS)
            if ran.confirmed:
                break
        assert 1 <= ran.confirmed < 16, ran.output
        assert ran.refused == 16 - ran.confirmed, ran.output
        assert reasons(estate, "delivery.refused") == {reason}
        sent = [row for row in estate.rows("delivery.intended") if row.time_ns >= end * NANOSECONDS]
        assert not sent, "a record was sent after the grant was over"
        return Outcome(late=late)

    return act


class _Pause:
    def __init__(self, seconds):
        self._never, self._seconds = threading.Event(), seconds

    def __call__(self, _data):
        self._never.wait(self._seconds)


def _changed(change, reason):
    """Let `change` come into force while the PUBACK of the second record is under way."""

    def act(site):
        estate = spoiled(site, records=6)
        happened = []

        def before(_data):
            # Its answers are TLS records: hellos, session tickets, CONNACK, then one PUBACK a record.
            if happened or len(estate.rows("delivery.intended")) < 2:
                return
            if change is None:
                (estate.paths.bundle / "timestamp.json").unlink()
            else:
                change(estate)
                estate.install()
            happened.append(WallClock().now_ns())

        site.world.handlers[BROKER_ADDRESS] = forward(site.world, BROKER_PORT, before_answer=before)
        ran = site.run(estate)
        assert happened, "the change never came"
        if reason is None:
            expect(ran, confirmed=6)
            return Outcome(named=frozenset({GOOD_PEER, OTHER_PEER}), late=_after(site, happened[0]))
        expect(ran, confirmed=2, refused=4)
        assert reasons(estate, "delivery.refused") == {reason}
        return Outcome(late=_after(site, happened[0]))

    return act


def _after(site, since_ns):
    """Return the payload bytes to the good peer since a moment; what was under way then has 20 ms to arrive."""
    site.world.settle()
    times = site.world.capture.peek(site.world.node).times
    return sum(size for at, peer, size in times if peer == GOOD_PEER and at > since_ns + 20_000_000)


# --- the second lock ------------------------------------------------------------------------------------------------

PROBE = """
import socket, sys
for kind, address, port in (word.split(",") for word in sys.argv[1:]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(0.3)
        try:
            one.connect((address, int(port)))
            one.sendall(b"what must not leave")
            print("sent", kind, address, port)
        except OSError as error:
            print("stopped", kind, address, port, error)
"""
FORBIDDEN = [
    ("tcp", TRAP_ADDRESS, PORT), ("tcp", OTHER_ADDRESS, PORT), ("tcp", BROKER_ADDRESS, 1883),
    ("tcp", BROKER_ADDRESS, 443), ("tcp", "198.51.100.11", PORT), ("tcp", "198.51.100.9", PORT),
    ("udp", BROKER_ADDRESS, PORT), ("udp", WORLD_ADDRESS, 53), ("udp", TRAP_ADDRESS, 123),
    ("tcp", "2001:db8::10", PORT), ("udp", "2001:db8::10", 53), ("tcp", "8.8.8.8", 853),
]  # fmt: skip


def kernel_rules(_draw):
    """nftables rules from the bundle, against a process of uplink's user that tries to send where it likes."""
    for peer in FORBIDDEN:
        yield f"{peer[0]} to {peer[1]} port {peer[2]}", _behind_rules([peer], stopped=True)
    yield (
        "the good broker, a minute before its grant ends",
        _behind_rules([GOOD_PEER], stopped=True, change=lambda estate: estate.grant(GOOD, expires_s=now_s() + 50)),
    )
    yield (
        "the good broker, without a bundle",
        _behind_rules(
            [GOOD_PEER],
            stopped=True,
            change=lambda estate: (estate.paths.bundle / "timestamp.json").unlink(),
            new=False,
        ),
    )
    yield "uplink itself, behind its rules", _uplink_behind_rules


def rules_in_force(site, estate):
    """Load what `homeplate bundle egress` prints into the node's namespace."""
    process = site.start(estate, "bundle", "egress", "--format", "nftables", "--user", str(UPLINK_UID))
    text, _ = process.communicate(timeout=60)
    table = text[: text.rindex("}") + 1]
    call("ip", "netns", "exec", site.world.node, find("nft"), "-f", "-", text=table)


def rules_gone(site):
    call("ip", "netns", "exec", site.world.node, find("nft"), "flush", "ruleset")


def probe(site, *peers):
    """Let a process of uplink's user send to each of `peers`; return what it says."""
    words = [",".join(str(part) for part in peer) for peer in peers]
    command = [find("setpriv"), f"--reuid={UPLINK_UID}", "--clear-groups", sys.executable, "-c", PROBE, *words]
    with inside(site.world.node):
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout


def _behind_rules(peers, *, stopped, change=None, new=True):
    def act(site):
        estate = site.estate()
        if change is not None:
            change(estate)
            if new:
                estate.install()
        rules_in_force(site, estate)
        try:
            said = probe(site, *peers)
            # UDP and a local firewall's drop look alike to the sender: the wire is what tells.
            assert site.world.capture.peek(site.world.node).bytes_to_others(NOBODY) == 0, said
        finally:
            rules_gone(site)
        return Outcome(named=NOBODY if stopped else frozenset(peers))

    return act


def _uplink_behind_rules(site):
    estate = spoiled(site)
    rules_in_force(site, estate)
    call("chown", "-R", str(UPLINK_UID), str(estate.folder))
    try:
        expect(site.run(estate, user=UPLINK_UID), confirmed=1)
    finally:
        rules_gone(site)
    return Outcome()


# --- the drop-in, under a real systemd ------------------------------------------------------------------------------

UNIT = """\
[Unit]
DefaultDependencies=no
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart={python} /out/probe.py {peers}
StandardOutput=file:/out/said
"""


def systemd_drop_in(_draw):
    """`IPAddressAllow=` from the bundle, on a service of a systemd that has the node's network. It knows no ports."""
    elsewhere = [peer for peer in FORBIDDEN if peer[1] != BROKER_ADDRESS]
    yield "every other address", _under_drop_in(elsewhere)
    yield (
        "the good broker, a minute before its grant ends",
        _under_drop_in([GOOD_PEER], lambda estate: (estate.grant(GOOD, expires_s=now_s() + 50), estate.install())),
    )
    yield (
        "the good broker, without a bundle",
        _under_drop_in([GOOD_PEER], lambda estate: (estate.paths.bundle / "timestamp.json").unlink()),
    )


def _under_drop_in(peers, change=None):
    def act(site):
        estate = site.estate()
        if change is not None:
            change(estate)
        process = site.start(estate, "bundle", "egress", "--format", "systemd")
        text = process.communicate(timeout=60)[0].partition("nothing is allowed")[0]
        said = boot_probe(site, estate, text, peers)
        assert said.count("stopped") == len(peers), said
        return Outcome(named=NOBODY)

    return act


def boot_probe(site, estate, drop_in, peers):
    """Boot a systemd in the node's network whose one service has the drop-in and sends to `peers`; return its words.

    Raises:
        LeftOutError: where no container can be booted here.
    """
    nspawn = find("systemd-nspawn")
    if nspawn is None:
        raise LeftOutError("systemd-nspawn is not installed: apt install systemd-container")
    out = estate.folder / "out"
    folder = out / "homeplate-probe.service.d"
    folder.mkdir(parents=True)
    (folder / "50-egress.conf").write_text(drop_in)
    (out / "probe.py").write_text(PROBE)
    words = " ".join(",".join(str(part) for part in peer) for peer in peers)
    unit = out / "homeplate-probe.service"
    unit.write_text(UNIT.format(python=Path(sys.executable).resolve(), peers=words))
    command = [
        nspawn, "-D", "/", "--volatile=yes", f"--machine=hp-probe-{os.getpid()}", "--register=no", "--keep-unit",
        f"--bind-ro={sys.base_prefix}", f"--bind={out}:/out",
        f"--bind-ro={unit}:/etc/systemd/system/{unit.name}", f"--bind-ro={folder}:/etc/systemd/system/{folder.name}",
        f"--network-namespace-path=/run/netns/{site.world.node}",
        # Without both of these systemd ignores the drop-in in silence: its filters are BPF programs.
        "--capability=all", "--system-call-filter=bpf",
        "--console=read-only", "-b", "--", f"--unit={unit.name}",
    ]  # fmt: skip
    environment = os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=environment
    )
    if not (out / "said").exists():
        raise LeftOutError(f"a systemd cannot be booted in a container here: {(done.stderr or done.stdout)[-200:]}")
    return (out / "said").read_text()
