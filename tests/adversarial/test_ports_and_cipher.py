"""A port scan of the node, and the cipher that its connection has on the wire."""

import socket
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from homeplate.app.node import load_identity
from tests.adversarial import families, net, suite
from tests.adversarial.estate import HOMEPLATE, TLS_NAME
from tests.e2e.conftest import end, wait_until
from tools import stage

TLS_AES_256_GCM_SHA384 = 0x1302
TLS_13 = 0x0304
SUPPORTED_VERSIONS = 43
HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA = 22, 20, 23
LISTEN, CONNECTED = "0A", "01"
TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6")
LISTENER = "import socket, sys; s = socket.create_server(('', 4711)); print(flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def site():
    if why := net.why_not():
        pytest.skip(why)
    with suite.sited() as made:
        suite._reset(made)
        yield made


@contextmanager
def recorded(site):
    """Yield what the broker's connections carry in both directions, by the port on the node's side."""
    with net.inside(site.world.world):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    said = defaultdict(lambda: (bytearray(), bytearray()))
    with closing(wire):
        wire.setsockopt(socket.SOL_SOCKET, 33, 8 * 1024 * 1024)  # SO_RCVBUFFORCE
        wire.bind(("wire", 0))
        wire.setblocking(False)
        yield said
        with suppress(BlockingIOError):
            while True:
                _sort(wire.recv(70_000), said)


def _sort(frame, said):
    if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_TCP:
        return
    length, header = int.from_bytes(frame[16:18], "big"), (frame[14] & 15) * 4
    segment = frame[14 + header : 14 + length]
    source, target = int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big")
    if net.PORT in {source, target}:
        said[target if source == net.PORT else source][source == net.PORT].extend(segment[(segment[12] >> 4) * 4 :])


def records(stream):
    """Yield the kind and the body of each TLS record."""
    while stream:
        length = int.from_bytes(stream[3:5], "big")
        assert len(stream) >= 5 + length, "half a record"
        yield stream[0], bytes(stream[5 : 5 + length])
        stream = stream[5 + length :]


def server_hello(body):
    """Return the version and the cipher suite that a ServerHello settles (RFC 8446, section 4.1.3)."""
    assert body[0] == 2
    at = 38 + 1 + body[38]
    suite_, at = int.from_bytes(body[at : at + 2], "big"), at + 5
    version = int.from_bytes(body[4:6], "big")
    while at < len(body):
        kind, length = int.from_bytes(body[at : at + 2], "big"), int.from_bytes(body[at + 2 : at + 4], "big")
        if kind == SUPPORTED_VERSIONS:
            version = int.from_bytes(body[at + 4 : at + 4 + length], "big")
        at += 4 + length
    return version, suite_


def test_cjis_5_10_1_2_on_the_wire_a_delivery_is_tls_13_with_aes_of_256_bits_and_nothing_of_it_is_in_clear(site):
    estate = families.spoiled(site)
    with recorded(site) as said:
        families.expect(site.run(estate), confirmed=1)
    ((asked, answered),) = said.values()
    assert TLS_NAME.encode() in asked, "the name of the broker is in clear, so the capture does see the bytes"
    settled = list(records(answered))
    assert server_hello(settled[0][1]) == (TLS_13, TLS_AES_256_GCM_SHA384)
    kinds = [kind for kind, _ in [*list(records(asked))[1:], *settled[1:]]]
    assert set(kinds) == {CHANGE_CIPHER_SPEC, APPLICATION_DATA}
    assert Counter(kinds)[APPLICATION_DATA] > 5
    pseudonym = load_identity(estate.paths).pseudonym.encode()
    assert not any(word in bytes(asked + answered) for word in (pseudonym, b"MQTT", b"homeplate/"))


def listening(pid):
    """Return what listens in the network namespace of a process, of every process in it: TCP, UDP and raw."""
    found = set()
    for table in TABLES:
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            local, state = line.split()[1], line.split()[3]
            if state == LISTEN or not (table.startswith("tcp") or state == CONNECTED):
                found.add((table, int(local.rpartition(":")[2], 16)))
    return found


def scan(site, last=65535):
    """Return the TCP ports of the node, up to the last one, that take a connection."""
    found = []
    with net.inside(site.world.world):
        for port in range(1, last + 1):
            with socket.socket() as probe:
                if probe.connect_ex((net.NODE_ADDRESS, port)) == 0:
                    found.append(port)
    return found


@contextmanager
def started(site, *command):
    with net.inside(site.world.node):
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    try:
        yield process
    finally:
        end(process)
        process.stdin.close()


def test_a_port_that_something_listens_on_is_found_by_both_looks(site):
    with started(site, sys.executable, "-c", LISTENER) as process:
        process.stdout.readline()
        assert listening(process.pid) == {("tcp", 4711)}
        assert scan(site, last=5000) == [4711]


def test_civil_code_1798_90_51_a_no_process_of_a_node_listens_on_a_port(site, rendered, tmp_path):
    estate = families.spoiled(site, records=3)
    built = stage.build(tmp_path / "stage", sources=[{"name": "lane-1", "kind": "video", "path": rendered[0]}])
    heard, words = set(), (HOMEPLATE, "--config", built.config)
    with (
        started(site, HOMEPLATE, "--config", estate.config, "uplink") as uplink,
        started(site, *words, "bundle", "serve") as service,
    ):
        wait_until(lambda: heard.update(listening(uplink.pid)) or not estate.waiting())
        for verb in (["capture"], ["purge"], ["ledger", "sign"], ["check"]):
            with started(site, *words, *verb) as process:
                while process.poll() is None:
                    heard |= listening(uplink.pid)
                assert process.returncode == 0, f"{verb}: {process.stdout.read()}"
        assert scan(site) == []
        assert (uplink.poll(), service.poll()) == (None, None), "both were there while the ports were scanned"
    built.runtime.cleanup()
    assert heard == set()
