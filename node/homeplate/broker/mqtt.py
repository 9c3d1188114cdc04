"""MQTT 5 over paho: a publisher with one record in flight, whose success is a good PUBACK, and a listener.

paho resolves, proxies and names by one host string, reconnects and re-sends by itself, and reports a refused PUBLISH
as published. So it is given a socket that `tls.open_tls` has already checked, is used for one connection only, has no
thread (`loop()` is called here, under a deadline), and the PUBACK's reason code decides. Callbacks only store values.
"""

import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from homeplate.broker.errors import NotConnectedError, NotTakenError, OutcomeUnknownError
from homeplate.broker.tls import ClientIdentity, open_tls
from homeplate.clock import perf_ns
from homeplate.domain.agency import Endpoint

TIMEOUT_S = 10.0
KEEPALIVE_S = 30
# MQTT 5, 3.4.2.1: a success code, and yet the broker threw the message away because nobody was subscribed.
_NO_MATCHING_SUBSCRIBERS = 0x10
_NS = 1_000_000_000
_FRAME_BYTES = 1024
# How many messages a broker may send to a listener before one is acknowledged: the bound of what waits in memory.
_IN_FLIGHT = 8
# How long the broker keeps what came for a listener that is away: longer than its pause between two looks, by far.
_SESSION_S = 7 * 86_400


class _Client(paho.Client):
    """paho on a given socket, with a bound on what it receives.

    `_create_socket` is where paho makes one, and `_sock_recv` where it asks for the rest of a packet, whose length the
    peer chose. paho would wake its loop by a pair of TCP sockets, for which it listens on loopback: a port that the
    node must not have, and that the kernel's rules for uplink close, so that the process would wait for ever. A test
    fails should a release rename one of these.
    """

    def __init__(self, client_id: str, sock: ssl.SSLSocket, largest: int = _FRAME_BYTES) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._given, self._largest = sock, largest
        self._sockpairR, self._sockpairW = socket.socketpair()
        for end in (self._sockpairR, self._sockpairW):
            end.settimeout(0)

    def _create_socket(self) -> socket.socket:
        return self._given

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self._largest:
            raise ConnectionError("the broker sends a larger packet than was agreed")
        return super()._sock_recv(bufsize)

    def leave(self) -> None:
        """Close the socket without a word.

        A DISCONNECT is application data too, and the peer may be no recipient any more: a grant that ends while records
        are sent is why the connection ends. Without a will (there is none) the broker takes both alike.
        """
        self._sock_close()


class MqttPublisher:
    """`ports.Publisher` over one checked connection. Not for two threads."""

    def __init__(self, client: _Client, timeout_s: float) -> None:
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
        if (
            self._client.socket() is None or not self._client.is_connected()
        ):  # paho would queue it, and send it at a time of its own choosing
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
        """Close the socket; nothing more is said."""
        self._client.leave()

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


class MqttListener:
    """One checked connection that takes what came on a topic. The broker keeps it while nobody is connected.

    Args:
        address: what policy allowed.
        endpoint: the registry's, for name, authority and pins.
        client_id: the stored session's name.
        identity: the node's client certificate.
        largest: bytes that a message may have.
        timeout_s: for TCP, handshake, CONNACK and SUBACK each.
    """

    def __init__(
        self,
        address: str,
        endpoint: Endpoint,
        *,
        client_id: str,
        identity: ClientIdentity | None,
        largest: int,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Connect; `listen` subscribes.

        Raises:
            NotConnectedError: with the reasons of `MqttPublisher.open`.
        """
        self._timeout_s, self._where = timeout_s, f"{address} port {endpoint.port}"
        self._client = _Client(client_id, open_tls(address, endpoint, identity, timeout_s), largest + _FRAME_BYTES)
        self._connack: ReasonCode | None = None
        self._suback: list[ReasonCode] = []
        self._arrived: deque[paho.MQTTMessage] = deque()
        self._client.on_connect, self._client.on_subscribe = self._on_connect, self._on_subscribe
        self._client.on_message = self._on_message
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = _SESSION_S
        properties.ReceiveMaximum = _IN_FLIGHT
        properties.MaximumPacketSize = largest + _FRAME_BYTES
        self._client.connect(address, endpoint.port, KEEPALIVE_S, clean_start=False, properties=properties)
        self._require(lambda: self._connack, "connection")

    def listen(self, topic: str, take: Callable[[bytes], None], go_on: Callable[[], bool], *, idle_s: float) -> None:
        """Take messages until none came for `idle_s` seconds or `go_on` says no; it is asked before each one.

        A message is acknowledged after `take` returned: what raises is sent again at the next connection.

        Raises:
            NotConnectedError: where the broker does not accept the subscription, or closes the connection.
        """
        self._client.subscribe(topic, options=SubscribeOptions(qos=1))
        self._require(lambda: self._suback[0] if self._suback else None, "subscription")
        quiet_until = perf_ns() + int(idle_s * _NS)
        while perf_ns() < quiet_until and go_on():
            alive = self._client.loop(0.2) == MQTTErrorCode.MQTT_ERR_SUCCESS
            while self._arrived and go_on():
                message = self._arrived.popleft()
                take(bytes(message.payload))
                self._client.ack(message.mid, message.qos)
                quiet_until = perf_ns() + int(idle_s * _NS)
            if not alive:
                raise NotConnectedError("closed", f"{self._where} closed the connection; it is tried again")

    def close(self) -> None:
        """Close the socket; nothing more is said, and the session stays."""
        self._client.leave()

    def _require(self, answer: Callable[[], ReasonCode | None], what: str) -> None:
        deadline, alive = perf_ns() + int(self._timeout_s * _NS), True
        while alive and answer() is None and perf_ns() < deadline:
            alive = self._client.loop(0.2) == MQTTErrorCode.MQTT_ERR_SUCCESS
        code = answer()
        if code is None or code.is_failure:
            reason = _slug(code, "no-answer")
            self.close()
            raise NotConnectedError(reason, f"{self._where} did not accept the {what}: {reason} (see its access list)")

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._connack = code

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: list[ReasonCode], _properties: Any) -> None:
        self._suback = codes

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived.append(message)


def _slug(code: ReasonCode | None, default: str = "closed") -> str:
    """Return the MQTT 5 name of a reason code in the ledger's spelling: `Not authorized` is `not-authorized`."""
    return default if code is None else code.getName().lower().replace(" ", "-")
