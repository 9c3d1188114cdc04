"""Receives sealed records from the agency's own broker and keeps them sealed. It opens nothing.

`judge` decides about one message from the signed bundle alone; `Receiver` keeps what passes, once a record id, and
counts the rest by reason; `Subscriber` is the connection: a stored session, and an acknowledgement only after the
record is on disk, so that a crash here loses nothing. What the broker says of a message counts for nothing.
"""

import ipaddress
import re
import select
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.domain.agency import Endpoint
from homeplate.domain.node import NodeEntry
from homeplate.domain.record import DAY_SECONDS, RecordId, SealedRecord
from homeplate.errors import BrokerError, ConfigError, HomeplateError, SealingError
from homeplate.policy.enrolment import enrolled
from homeplate.policy.verdict import Refused
from homeplate.ports import Clock
from homeplate.sealing.envelope import MAX_RECORD_BYTES, decode
from homeplate.sealing.keys import write_new
from homeplate.sealing.seal import verify
from homeplate.trust.files import write_durably
from homeplate_custodian.authority import issue_client, spki_pin
from homeplate_custodian.records import Inbox, Stored

TOPIC_FILTER = "homeplate/+/records"
# How long the broker keeps the session of a receiver that is away: longer than any message's expiry (a day).
SESSION_S = 7 * DAY_SECONDS
TIMEOUT_S = 10.0
KEEPALIVE_S = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 1, 60
# How many messages the broker may send before one is acknowledged: the bound of what waits in memory here (a record
# has 66 KiB at most). It is wide, because mosquitto acknowledges a node before it saves, and what it has not forwarded
# by then dies with it (docs/decisions/0072: with 64, 5 of 64 kills lost their last record; here none).
IN_FLIGHT = 256
_PACKET_FRAME_BYTES = 1024
_TOPIC = re.compile(r"homeplate/([0-9a-f]{32})/records")


class ConflictError(HomeplateError):
    """A record id came with other bytes than before: a node's key is used twice, or somebody replays. Both are kept."""

    exit_code: ClassVar[int] = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one message. `record_id` is None where it was too damaged to have one."""

    outcome: str
    record_id: RecordId | None
    reason: str = ""


def judge(
    topic: str, payload: bytes, *, nodes: Iterable[NodeEntry], keys: Collection[bytes], now_s: int
) -> SealedRecord | Refused:
    """Decide whether a message is a record that this agency may keep.

    Args:
        topic: where it was published; the broker's access list ties it to the node's certificate.
        payload: what was published.
        nodes: the bundle's nodes.
        keys: ids of this agency's sealing keys.
        now_s: seconds since 1970.
    """
    try:
        record = decode(payload)
    except SealingError as error:
        return Refused(f"malformed: {error}")
    header = record.header
    if (why := _why_not_signed(record, topic, nodes, now_s)) is not None:
        return why
    if header.keep_until_day < now_s // DAY_SECONDS:
        return Refused(f"past-keep-until: record {header.record_id} came after the day until which it may be kept")
    if header.recipient_key not in keys:
        return Refused(f"other-recipient: record {header.record_id} is sealed to a key that is not this agency's")
    return record


def _why_not_signed(record: SealedRecord, topic: str, nodes: Iterable[NodeEntry], now_s: int) -> Refused | None:
    header = record.header
    named = _TOPIC.fullmatch(topic)
    if named is None or bytes.fromhex(named[1]) != header.node:
        return Refused(f"wrong-topic: record {header.record_id} came under a topic that is not its node's")
    node = enrolled(nodes, header.node, now_s)
    if isinstance(node, Refused):
        return node
    try:
        verify(record, node.record_public)
    except SealingError as error:
        return Refused(f"bad-signature: {error}")
    return None


@dataclass(slots=True)
class Receiver:
    """Keeps what `judge` lets through.

    Attributes:
        inbox: where records go.
        nodes: gives the bundle's nodes at a time (nanoseconds); raises TrustError where no bundle is in force.
        keys: ids of this agency's sealing keys.
        clock: wall time.
        report: called with each receipt.
        counts: how many messages had each outcome: new, double, conflict, or a refusal's short code.
    """

    inbox: Inbox
    nodes: Callable[[int], Iterable[NodeEntry]]
    keys: Collection[bytes]
    clock: Clock
    report: Callable[[Receipt], None]
    counts: Counter[str] = field(default_factory=Counter)

    def take(self, topic: str, payload: bytes) -> Receipt:
        """Judge a message and keep it where it passes; it is on disk once this returns.

        Raises:
            StoreError: where it cannot be kept; it must not be acknowledged then.
            TrustError: where no bundle is in force, so that nobody's signature counts.
            ClockError: where this machine's clock was never set.
        """
        now_ns = self.clock.now_ns()
        judged = judge(topic, payload, nodes=self.nodes(now_ns), keys=self.keys, now_s=now_ns // NANOSECONDS)
        if isinstance(judged, Refused):
            receipt = Receipt(outcome=judged.reason.partition(":")[0], record_id=None, reason=judged.reason)
        else:
            stored = self.inbox.store(judged.header.record_id, payload)
            reason = (
                "another record has this id: keep both files, ask the node's owner" if stored is Stored.CONFLICT else ""
            )
            receipt = Receipt(outcome=stored.value, record_id=judged.header.record_id, reason=reason)
        self.counts[receipt.outcome] += 1
        self.report(receipt)
        return receipt

    def check_conflicts(self) -> None:
        """Raise the alarm at the end of a run.

        Raises:
            ConflictError: where a record id came with other bytes.
        """
        if self.counts[Stored.CONFLICT]:
            raise ConflictError(
                f"{self.counts[Stored.CONFLICT]} records came with an id that another record has: see the files"
                " named *.conflict-*.rec, and have the node's operator explain them"
            )


class CheckedClient(paho.Client):
    """paho on a socket that was checked before; paho has one host for address, name and proxy."""

    def __init__(self, client_id: str, sock: ssl.SSLSocket) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._given = sock

    def _create_socket(self) -> socket.socket:
        return self._given


def receiver_name(agency: str) -> str:
    """Return the common name, and so the broker's user, of an agency's receiver."""
    return f"receiver-{agency}"


def client_identity(authority: Path, folder: Path, name: str, *, now_s: int) -> tuple[Path, Path]:
    """Return a client's certificate and key in `folder`; make them where they are missing.

    An agency whose broker has an authority of its own puts `tls.crt` and `tls.pem` there itself.

    Args:
        authority: who issues it.
        folder: where they lie.
        name: the certificate's common name, and so the broker's user.
        now_s: seconds since 1970.

    Raises:
        ConfigError: where there is no authority to issue it.
        SealingError: where the key cannot be written.
    """
    certificate, path = folder / "tls.crt", folder / "tls.pem"
    if certificate.exists():
        return certificate, path
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    pem = request.public_bytes(Encoding.PEM).decode()
    issued = issue_client(authority, pem, common_name=name, now_s=now_s)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # a crash left it without its certificate
    write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_durably(certificate, issued.encode())
    return certificate, path


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """How this agency's receiver reaches its own broker: the registry's endpoint, and its client certificate."""

    endpoint: Endpoint
    client_id: str
    certificate: Path
    key: Path

    def connect(self) -> ssl.SSLSocket:
        """Return a connection whose chain, name and pin were checked. The node does the same (`homeplate.broker`).

        Raises:
            BrokerError: where the broker cannot be reached or is not who the registry names.
        """
        endpoint = self.endpoint
        where = f"{endpoint.network} port {endpoint.port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        try:
            address = str(ipaddress.ip_address(endpoint.network))
            context.load_verify_locations(cadata=endpoint.authority_pem)
            context.load_cert_chain(self.certificate, self.key, password="")
            plain = socket.create_connection((address, endpoint.port), timeout=TIMEOUT_S)
        except (OSError, ValueError) as error:
            raise BrokerError(f"the broker at {where} cannot be reached: {error}") from error
        try:
            secured = context.wrap_socket(plain, server_hostname=endpoint.tls_name)
        except (OSError, ValueError) as error:
            plain.close()
            raise BrokerError(f"the broker at {where} is not {endpoint.tls_name!r}: {error}") from error
        leaf, pin = secured.getpeercert(binary_form=True), b""
        with suppress(ConfigError):  # one that cannot be read shows no key that could be pinned
            pin = spki_pin(ssl.DER_cert_to_PEM_cert(leaf).encode()) if leaf else b""
        if pin not in endpoint.pins:
            secured.close()
            raise BrokerError(f"the broker at {where} shows a key that the registry pins not")
        return secured


class Subscriber:
    """One receiver's connection. Callbacks only store values; all work is in `run`'s thread."""

    def __init__(self, access: BrokerAccess, take: Callable[[str, bytes], Receipt]) -> None:
        """Hand each message to `take`; acknowledge it when that returns."""
        self._access, self._take = access, take
        self._arrived: deque[paho.MQTTMessage] = deque()
        self._connack: ReasonCode | None = None
        self._suback: list[ReasonCode] = []
        self._ready: Callable[[], None] = lambda: None
        self._was_accepted = False
        self._wait_s = FIRST_WAIT_S
        self.last_arrival_ns = perf_ns()

    def run(self, stop: Callable[[], bool], complain: Callable[[str], None], ready: Callable[[], None]) -> None:
        """Receive until `stop`; connect again, less and less often, where the broker fails.

        Args:
            stop: asked a few times a second.
            complain: told why a connection failed or ended.
            ready: called each time the broker has accepted the subscription.

        Raises:
            BrokerError: at the end, where the broker never accepted the subscription.
            StoreError, TrustError, ClockError: from `take`; what was not acknowledged is sent again next time.
        """
        self._ready = ready
        pause = threading.Event()
        failure: BrokerError | None = None
        while not stop():
            try:
                self._session(stop)
            except BrokerError as error:
                failure = error
                complain(str(error))
            until = perf_ns() + self._wait_s * NANOSECONDS
            while not stop() and perf_ns() < until:
                pause.wait(0.1)
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        if failure is not None and not self._was_accepted:
            raise failure

    def _session(self, stop: Callable[[], bool]) -> None:
        client = CheckedClient(self._access.client_id, self._access.connect())
        client.on_connect, client.on_subscribe, client.on_message = (
            self._on_connect,
            self._on_subscribe,
            self._on_message,
        )
        self._connack, self._suback = None, []
        self._arrived.clear()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = IN_FLIGHT
        properties.MaximumPacketSize = MAX_RECORD_BYTES + _PACKET_FRAME_BYTES
        endpoint = self._access.endpoint
        client.connect(endpoint.network, endpoint.port, KEEPALIVE_S, clean_start=False, properties=properties)
        try:
            self._subscribe(client)
            while not stop():
                self._turn(client)
        finally:
            client.disconnect()
            client.loop(0.1)

    def _subscribe(self, client: paho.Client) -> None:
        if not self._loop_until(client, lambda: self._connack is not None) or _failed(self._connack):
            raise BrokerError(f"the broker did not accept this receiver: {self._connack or 'no answer'}")
        client.subscribe(TOPIC_FILTER, options=SubscribeOptions(qos=1))
        if not self._loop_until(client, lambda: bool(self._suback)) or self._suback[0].is_failure:
            raise BrokerError(
                f"the broker did not accept the subscription: {self._suback[0] if self._suback else 'no answer'}"
            )
        self._wait_s, self._was_accepted = FIRST_WAIT_S, True
        self.last_arrival_ns = perf_ns()
        self._ready()

    @staticmethod
    def _loop_until(client: paho.Client, done: Callable[[], bool]) -> bool:
        deadline = perf_ns() + int(TIMEOUT_S * NANOSECONDS)
        while not done() and perf_ns() < deadline:
            if client.loop(0.2) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        return done()

    def _turn(self, client: paho.Client) -> None:
        """Read what is there, keep it, and acknowledge it after it is on disk.

        A broker that dies may have forwarded a message that it will know nothing of when it returns, and a write that
        fails makes paho close the socket with what is unread in it. So everything is read before anything is written.
        """
        ended = self._read(client, 0.2)
        kept = self._keep()
        ended = ended or self._read(client, 0.0)
        for message in kept:
            client.ack(message.mid, message.qos)
        if ended:
            self._keep()
            raise BrokerError("the broker closed the connection; it is tried again")

    @staticmethod
    def _read(client: paho.Client, wait_s: float) -> bool:
        """Read until nothing more is there; return True where the connection ended. Bounded by Receive Maximum."""
        while client.loop(wait_s) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            sock, wait_s = client.socket(), 0.0
            if sock is None or not select.select([sock], [], [], 0)[0]:
                return sock is None
        return True

    def _keep(self) -> list[paho.MQTTMessage]:
        """Take what arrived, and return it to be acknowledged."""
        kept = list(self._arrived)
        self._arrived.clear()
        for message in kept:
            self.last_arrival_ns = perf_ns()
            self._take(message.topic, bytes(message.payload))
        return kept

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        self._connack = code

    def _on_subscribe(self, _client: Any, _data: Any, _mid: Any, codes: list[ReasonCode], _properties: Any) -> None:
        self._suback = codes

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived.append(message)


def _failed(code: ReasonCode | None) -> bool:
    return code is None or code.is_failure
