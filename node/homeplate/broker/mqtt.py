"""MQTT 5 over paho: one connection, one record in flight, and success means a good PUBACK.

paho resolves, proxies and names by one host string, reconnects and re-sends by itself, and reports a refused PUBLISH
as published. So it is given a socket that `tls.open_tls` has already checked, is used for one connection only, has no
thread (`loop()` is called here, under a deadline), and the PUBACK's reason code decides. Callbacks only store values.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from homeplate.broker.errors import NotConnectedError, NotTakenError, OutcomeUnknownError
from homeplate.broker.tls import ClientIdentity, open_tls
from homeplate.clock import perf_ns
from homeplate.domain.agency import Endpoint

TIMEOUT_S = 10.0
KEEPALIVE_S = 30
# MQTT 5, 3.4.2.1: a success code, and yet the broker threw the message away because nobody was subscribed.
_NO_MATCHING_SUBSCRIBERS = 0x10
_NS = 1_000_000_000


class _Client(paho.Client):
    """paho on a given socket. `_create_socket` is where paho makes one; a test fails should a release rename it."""

    def __init__(self, client_id: str, sock: ssl.SSLSocket) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._given = sock

    def _create_socket(self) -> socket.socket:
        return self._given


class MqttPublisher:
    """`ports.Publisher` over one checked connection. Not for two threads."""

    def __init__(self, client: paho.Client, timeout_s: float) -> None:
        self._client = client
        self._timeout_ns = int(timeout_s * _NS)
        self._connack: ReasonCode | None = None
        self._goodbye: ReasonCode | None = None
        self._pubacks: dict[int, ReasonCode] = {}
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish

    @classmethod
    def open(
        cls,
        address: str,
        endpoint: Endpoint,
        *,
        client_id: str,
        identity: ClientIdentity | None,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Connect and return once the broker accepted the connection.

        TCP, the handshake and the CONNACK take `timeout_s` each at most.

        Raises:
            NotConnectedError: with the reasons of `tls.open_tls`, or `closed`, `no-connack`, or the CONNACK's own.
        """
        client = _Client(client_id, open_tls(address, endpoint, identity, timeout_s))
        publisher = cls(client, timeout_s)
        client.connect(address, endpoint.port, keepalive=KEEPALIVE_S, clean_start=True)
        heard = publisher._loop_until(lambda: publisher._connack is not None)
        code = publisher._connack
        if heard and code is not None and not code.is_failure:
            return publisher
        reason = _slug(code) if code is not None else _slug(publisher._goodbye, "no-connack")
        publisher.close()
        message = (
            f"{address} port {endpoint.port} did not accept the connection: {reason} (is the node enrolled there?)"
        )
        raise NotConnectedError(reason, message)

    def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish QoS 1, not retained, and return after a PUBACK that says the record was taken.

        Raises:
            NotConnectedError: where the connection is gone; nothing was sent.
            NotTakenError: where the PUBACK says no, or that nobody is subscribed and the record was thrown away.
            OutcomeUnknownError: where the connection broke or the deadline passed after the record was sent.
        """
        if not self._client.is_connected():  # paho would queue it, and send it at a time of its own choosing
            raise NotConnectedError("closed", "the broker closed the connection: connect again")
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = expiry_s
        mid = self._client.publish(topic, payload, qos=1, retain=False, properties=properties).mid
        self._loop_until(lambda: mid in self._pubacks)
        code = self._pubacks.pop(mid, None)
        if code is None:
            reason = _slug(self._goodbye, "no-puback")
            self.close()
            raise OutcomeUnknownError(reason, f"no PUBACK came ({reason}): the record is sent again under its id")
        if code.is_failure or code.value == _NO_MATCHING_SUBSCRIBERS:
            reason = _slug(code)
            raise NotTakenError(reason, f"the broker did not take the record: {reason} (see its access list)")

    def close(self) -> None:
        """Say DISCONNECT where that is still possible, and close the socket."""
        self._client.disconnect()
        self._loop_until(lambda: self._client.socket() is None)

    def _loop_until(self, done: Callable[[], bool]) -> bool:
        """Run paho's loop until `done`, the deadline or the end of the connection; return `done`."""
        deadline = perf_ns() + self._timeout_ns
        while not done() and (left := deadline - perf_ns()) > 0:
            if self._client.loop(min(left / _NS, 1.0)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return done()

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._connack = code

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._goodbye = code

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        self._pubacks[mid] = code


def _slug(code: ReasonCode | None, default: str = "closed") -> str:
    """Return the MQTT 5 name of a reason code in the ledger's spelling: `Not authorized` is `not-authorized`."""
    return default if code is None else code.getName().lower().replace(" ", "-")
