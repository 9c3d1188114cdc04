"""Sends a published bundle to a broker's topic, from which nodes take it. It is signed; the broker only holds it.

Each message is confirmed by the broker before the next one goes out, so sending again after a failure repeats what was
sent, which nodes drop by hash.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.errors import BrokerError
from homeplate.trust.chunks import CHUNK_BYTES, TOPIC, split
from homeplate.trust.packed import pack
from homeplate_custodian.receive import KEEPALIVE_S, SESSION_S, TIMEOUT_S, BrokerAccess, CheckedClient

SENDER = "bundles"
"""The common name of the sender's certificate, and so the broker's user; its access list lets it write the topic."""

_NO_MATCHING_SUBSCRIBERS = 0x10


def send_bundle(
    bundle: Path, access: BrokerAccess, progress: Callable[[int], None], *, chunk_bytes: int = CHUNK_BYTES
) -> int:
    """Send a bundle's folder; return how many messages were confirmed.

    Args:
        bundle: what `publish` wrote.
        access: how the broker is reached.
        progress: told how many were confirmed so far.
        chunk_bytes: how much of it a message carries at most.

    Raises:
        BrokerError: where the broker cannot be reached, is not who the registry names, or does not take a message;
            also where no node listens there yet, because then it keeps nothing.
        TrustError: where the folder cannot be packed.
    """
    messages = list(split(pack(bundle), chunk_bytes))
    sender = _Sender(access)
    try:
        for number, message in enumerate(messages, start=1):
            sender.send(message)
            progress(number)
    finally:
        sender.close()
    return len(messages)


class _Sender:
    """One connection. Callbacks only store values."""

    def __init__(self, access: BrokerAccess) -> None:
        self._client = CheckedClient(access.client_id, access.connect())
        self._connack: ReasonCode | None = None
        self._pubacks: dict[int, ReasonCode] = {}
        self._client.on_connect, self._client.on_publish = self._on_connect, self._on_publish
        self._client.connect(access.endpoint.network, access.endpoint.port, KEEPALIVE_S, clean_start=True)
        self._loop_until(lambda: self._connack is not None)
        if self._connack is None or self._connack.is_failure:
            raise BrokerError(f"the broker did not accept this sender: {self._connack or 'no answer'}")

    def send(self, message: bytes) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.MessageExpiryInterval = SESSION_S
        if not self._client.is_connected():  # paho would queue it
            raise BrokerError("the broker closed the connection; send the bundle again")
        mid = self._client.publish(TOPIC, message, qos=1, retain=False, properties=properties).mid
        self._loop_until(lambda: mid in self._pubacks)
        code = self._pubacks.pop(mid, None)
        if code is None or code.is_failure:
            raise BrokerError(f"the broker did not take the bundle: {code or 'no answer'} (see its access list)")
        if code.value == _NO_MATCHING_SUBSCRIBERS:
            raise BrokerError(
                "no node listens at this broker yet, and it keeps nothing for nobody: install a bundle that names this"
                " source on the nodes once, by hand"
            )

    def close(self) -> None:
        self._client.disconnect()
        self._loop_until(lambda: self._client.socket() is None)

    def _loop_until(self, done: Callable[[], bool]) -> None:
        deadline = perf_ns() + int(TIMEOUT_S * NANOSECONDS)
        while not done() and perf_ns() < deadline:
            if self._client.loop(0.2) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._connack = code

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, code: ReasonCode, _properties: Any) -> None:
        self._pubacks[mid] = code
