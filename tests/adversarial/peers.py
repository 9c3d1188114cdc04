"""Who answers at a broker's address: the broker itself, a man in the middle, a broker that sends the node elsewhere.

A handler takes one accepted connection. Those that end TLS themselves count what came out of it: application data that
a stranger got. They would hand it on to a real broker, so nothing but the node's own checks makes them fail.
"""

import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from homeplate.clock import WallClock
from tests.adversarial.net import inside


def forward(world, port, *, before_answer=None):
    """Pass bytes on to a broker on the world's loopback; `before_answer` is called with each piece of its answers."""

    def handle(connection):
        with world.dial_local(port) as broker:
            back = threading.Thread(target=_pump, args=(broker, connection, before_answer), daemon=True)
            back.start()
            _pump(connection, broker, None)
            back.join(15)

    return handle


def _pump(source, sink, before):
    with suppress(OSError):
        while data := source.recv(65536):
            if before is not None:
                before(data)
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(1)


@dataclass
class Impostor:
    """Ends TLS with a certificate of its own choosing and counts the application bytes that it gets.

    Attributes:
        context: what it shows; None speaks no TLS at all.
        world, port: the broker that it hands everything on to.
        script: what it answers instead, by the MQTT packet type that came (1 CONNECT, 3 PUBLISH, 14 DISCONNECT).
    """

    context: ssl.SSLContext | None
    world: object = None
    port: int = 0
    script: dict | None = None
    decrypted: int = 0
    connections: int = 0
    shaken: int = 0

    def __call__(self, connection):
        self.connections += 1
        if self.context is None:
            return self._serve(connection)
        with self.context.wrap_socket(connection, server_side=True) as secured:
            self.shaken += 1
            self._serve(secured)
        return None

    def _serve(self, connection):
        if self.script is not None:
            self._recite(connection)
            return
        with self.world.dial_local(self.port) as broker:
            threading.Thread(target=_pump, args=(broker, connection, None), daemon=True).start()
            while data := connection.recv(65536):
                self.decrypted += len(data)
                broker.sendall(data)

    def _recite(self, connection):
        while data := connection.recv(65536):
            # Without TLS its hello and its alert arrive here as they are: 22 and 21 (RFC 8446, 5.1).
            self.decrypted += 0 if self.context is None and data[0] in {21, 22} else len(data)
            kind = data[0] >> 4
            if kind in self.script:
                connection.sendall(self.script[kind])
                if self.script.get("then") == kind:
                    return


def context_of(certificate, key, *, maximum=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if maximum is not None:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = maximum
        context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@contextmanager
def subscribed(site, *, client_id="agency", topic="homeplate/+/records"):
    """Read what the broker gets as the agency does; yields a list of (message, nanoseconds) that grows."""
    heard, ready = [], threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    context = ssl.create_default_context(cafile=str(site.base.custody / "authority" / "ca.crt"))
    context.check_hostname = False
    context.load_cert_chain(*site.receiver)
    client.tls_set_context(context)
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: heard.append((message, WallClock().now_ns()))
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 3600
    with inside(site.world.world):
        client.connect("127.0.0.1", site.broker.port, properties=properties)
    client.loop_start()
    try:
        if not ready.wait(10):
            raise RuntimeError("the observer was not accepted by the broker")
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
