"""A broker of its own on loopback, for the demo and the tests: mosquitto where it is installed, else iotcore.

mosquitto demands a client certificate, takes its name as the user and holds the access list; iotcore (rumqttd in a
wheel) speaks TLS 1.3 and MQTT 5 but takes any client on any topic, and `LocalBroker.shortfall` says so.
"""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

READY_S = 15.0
IOTCORE_SHORTFALL = (
    "iotcore stands in for mosquitto: client certificates, access lists and stored sessions are not shown"
)

MOSQUITTO_CONF = """\
per_listener_settings false
listener {port} 127.0.0.1
cafile {folder}/authority.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
tls_version {tls}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_on_changes true
autosave_interval 1
persistent_client_expiration 8d
max_inflight_messages 0
max_queued_messages 100000
max_packet_size 1100000
retain_available false
"""

IOTCORE_CONF = """\
id = 0

[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "v5-tls"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.tls]
capath = "{folder}/authority.pem"
certpath = "{folder}/server.pem"
keypath = "{folder}/server.key"

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1100000
max_inflight_count = 100
dynamic_filters = true
"""


@dataclass(slots=True)
class LocalBroker:
    """A running broker. `kind` is mosquitto or iotcore; `shortfall` says what it does not show (empty: nothing)."""

    kind: str
    port: int
    folder: Path
    shortfall: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start (again) on the same port with the same stored sessions, and wait until TLS answers."""
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        give_up = time.perf_counter() + READY_S
        while not _answers(self.port):
            if self.process.poll() is not None or time.perf_counter() > give_up:
                self.stop()
                raise RuntimeError(f"{self.kind} did not start: see {self.folder / 'broker.log'}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut of its host would."""
        if self.process is not None:
            self.process.kill()
        self._reap()

    def stop(self) -> None:
        """End it with SIGTERM."""
        if self.process is not None:
            self.process.terminate()
        self._reap()

    def _reap(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process = None


def mosquitto_path() -> str | None:
    """Return mosquitto's path, or None where it is not installed. Debian puts it where a user's PATH does not look."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


@contextlib.contextmanager
def start_broker(
    folder: Path,
    *,
    authority_pem: str,
    certificate_pem: str,
    key_pem: str,
    receivers: tuple[str, ...],
    port: int | None = None,
    kind: str | None = None,
    tls: str = "tlsv1.3",
) -> Iterator[LocalBroker]:
    """Run a broker on 127.0.0.1 while the context lasts.

    Args:
        folder: its configuration, keys, log and stored sessions; made with mode 0700.
        authority_pem: the only authority whose client certificates it takes.
        certificate_pem: its own certificate (chain).
        key_pem: the key of that certificate.
        receivers: common names that may read `homeplate/+/records`.
        port: a TCP port; None picks a free one.
        kind: "mosquitto" or "iotcore"; None takes mosquitto where it is installed.
        tls: mosquitto's only TLS version.

    Raises:
        RuntimeError: where no broker is installed or it does not start.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in (("authority.pem", authority_pem), ("server.pem", certificate_pem), ("server.key", key_pem)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    chosen = kind or ("mosquitto" if mosquitto_path() else "iotcore")
    port = port or free_port()
    broker = _mosquitto(folder, port, receivers, tls) if chosen == "mosquitto" else _iotcore(folder, port)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _mosquitto(folder: Path, port: int, receivers: tuple[str, ...], tls: str) -> LocalBroker:
    binary = mosquitto_path()
    if binary is None:
        raise RuntimeError("mosquitto is not installed: apt install mosquitto")
    readers = [f"user {name}\ntopic read homeplate/+/records\n" for name in receivers]
    # `pattern` lines hold for every user; %u is the certificate's common name, which is the node's pseudonym.
    nodes = "pattern write homeplate/%u/records\npattern read homeplate/bundles\n\n"
    (folder / "acl").write_text(nodes + "\n".join([*readers, "user bundles\ntopic write homeplate/bundles\n"]))
    config = MOSQUITTO_CONF.format(folder=folder.resolve(), port=port, tls=tls)
    if os.geteuid() == 0:
        config += "user root\n"  # it would drop to a user that cannot read this folder
    (folder / "mosquitto.conf").write_text(config)
    return LocalBroker("mosquitto", port, folder, "", [binary, "-c", str(folder / "mosquitto.conf")])


def _iotcore(folder: Path, port: int) -> LocalBroker:
    if find_spec("iotcore") is None:
        raise RuntimeError("no broker is installed: apt install mosquitto, or pip install iotcore")
    config = folder / "rumqttd.toml"
    config.write_text(IOTCORE_CONF.format(folder=folder.resolve(), port=port))
    command = [sys.executable, "-m", "iotcore", "--config", str(config)]
    return LocalBroker("iotcore", port, folder, IOTCORE_SHORTFALL, command)


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    """Tell whether TLS is spoken there; whose it is does not matter yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
