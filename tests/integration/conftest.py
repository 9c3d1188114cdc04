"""An operator, an agency with its broker, and a node: all real, on loopback, made anew for each test."""

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from homeplate.broker.mqtt import MqttPublisher
from homeplate.broker.tls import ClientIdentity
from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.record import Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.sealing.keys import load_sealing_key
from homeplate.sealing.slots import SlotStore
from homeplate.store.delivery import DeliveryLog
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import install_bundle, load_bundle, pin_root
from homeplate.trust.enrolment import make_request
from homeplate.trust.installed import InstalledBundle
from homeplate.uplink import InstalledRecipients, Uplink
from homeplate_custodian import provision
from homeplate_custodian.authority import issue_client, issue_server
from homeplate_custodian.commands_records import PublishedNodes, broker_access, sealing_keys
from homeplate_custodian.receive import Receiver, Subscriber, receiver_name
from homeplate_custodian.records import Inbox
from tests.custodian.sealed_kit import Node
from tools.broker import free_port, mosquitto_path, start_broker

AGENCY = "us-ca-city"
NAME = "broker.agency.example"


@dataclass
class Estate:
    root: Path
    kind: str
    node: Node = field(default_factory=Node)
    clock: WallClock = field(default_factory=WallClock)
    opened: list = field(default_factory=list)
    receipts: list = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.custody = self.root / "custody"
        self.installed = self.root / "node" / "bundle"
        self.port = free_port()
        self._provision()
        self.spool = FileSpool(self.root / "node" / "spool")
        self.slots = SlotStore(self.root / "disk.slots", self.root / "memory.slots")
        self.slot = self.slots.slot_for("all", self.now_s + 3600, 3600)

    @property
    def now_s(self):
        return self.clock.now_ns() // NANOSECONDS

    def _provision(self):
        now_s = self.now_s
        provision.init(
            self.custody, registry_body="Secretary of State", operator_body="City Council", now_s=now_s, demo=True
        )
        self.server = issue_server(self.custody / "authority", tls_name=NAME, addresses=(), now_s=now_s)
        self.key_path = provision.add_agency(
            self.custody,
            identifier=AGENCY,
            legal_name="City of Somewhere",
            kind="city",
            jurisdiction="US-CA",
            network="127.0.0.1",
            port=self.port,
            tls_name=NAME,
            pins=[self.server.pin],
            now_s=now_s,
        )
        self.key = load_sealing_key(self.key_path)
        self.grant(expires_s=now_s + 3600)
        provision.add_purpose(self.custody, "stolen-vehicle")
        provision.add_rule(
            self.custody,
            name="all",
            trigger=Trigger.EVERYTHING,
            recipients=[AGENCY],
            parts=[Part.FACTS, Part.CROP],
            storage=StorageClass.OUTGOING,
            retention_s=3600,
            purpose="stolen-vehicle",
        )
        self._enrol()
        provision.publish_bundle(self.custody, now_s=now_s)
        pin_root((self.custody / "root.json").read_bytes(), self.installed)
        install_bundle(self.custody / "bundle", self.installed, self.clock.now_ns())

    def grant(self, *, expires_s):
        provision.grant(
            self.custody,
            identifier=AGENCY,
            need="stolen vehicles",
            purpose="stolen-vehicle",
            approver="the council",
            approved_on="2026-01-01",
            expires_s=expires_s,
            attested=True,
        )

    def _enrol(self):
        entry, name = self.node.entry(), self.node.pseudonym.hex()
        key, csr_pem = client_key(name)
        request = make_request(
            pseudonym=self.node.pseudonym,
            record_public=entry.record_public,
            ledger_public=b"\1" * 32,
            hot_list_public=b"\2" * 32,
            csr_pem=csr_pem,
            cameras=["gate"],
        )
        certificate = provision.enrol(self.custody, request, now_s=self.now_s)
        self.identity = self.save_identity("node", certificate, key)

    def save_identity(self, name, certificate, key):
        folder = self.root / "identities"
        folder.mkdir(exist_ok=True)
        identity = ClientIdentity(certificate=folder / f"{name}.crt", key=folder / f"{name}.key")
        identity.certificate.write_text(certificate)
        identity.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return identity

    def client(self, common_name):
        """Return a client identity of the agency's authority under any name."""
        key, csr_pem = client_key(common_name)
        certificate = issue_client(self.custody / "authority", csr_pem, common_name=common_name, now_s=self.now_s)
        return self.save_identity(common_name, certificate, key)

    @property
    def endpoint(self):
        return load_bundle(self.installed, self.clock.now_ns()).registry[0].endpoints[0]

    def connect(self, address="127.0.0.1", identity=None, **changes):
        return MqttPublisher.open(
            address,
            replace(self.endpoint, **changes),
            client_id=self.node.pseudonym.hex(),
            identity=identity or self.identity,
            timeout_s=5.0,
        )

    def put(self, *, key=None, storage=StorageClass.OUTGOING, record=None, **changes):
        """Seal, wrap, stage and release a record, as capture does; return its id."""
        changes.setdefault("keep_until_s", self.now_s + 3600)
        record_id, sealed = record or self.node.facts(key or self.key, **changes)
        self.spool.stage(record_id, self.slots.wrap(self.slot, record_id, sealed), storage)
        self.spool.release([record_id])
        return record_id

    def put_passage(self, **changes):
        """Put a crop and the facts that name it; return both ids, facts first."""
        changes.setdefault("keep_until_s", self.now_s + 3600)
        crop, facts = self.node.passage(self.key, **changes)
        return self.put(record=facts), self.put(record=crop)

    def uplink(self, connect=None):
        """Start uplink anew, as after a crash."""
        self.close()
        folder = self.root / "node"
        self.ledger = MerkleLog(folder / "ledger" / "uplink.log", self.clock)
        self.delivery = DeliveryLog.open(folder / "uplink" / "delivery.sqlite")
        self.opened = [self.ledger, self.delivery]
        return Uplink(
            node=self.node.pseudonym,
            spool=self.spool,
            slots=SlotStore.open_existing(self.root / "disk.slots", self.root / "memory.slots"),
            who=InstalledRecipients(InstalledBundle(self.installed)),
            clock=self.clock,
            ledger=self.ledger,
            delivery=self.delivery,
            connect=connect or (lambda address, _endpoint: self.connect(address)),
        )

    def close(self):
        for part in self.opened:
            part.close()
        self.opened = []

    def rows(self, event):
        return [row.fields for row in self.ledger.rows() if row.event == event]

    def receiver(self, take=None):
        """Return a receiver of the agency, and its connection; `take` stands between them where it is given."""
        inbox = Inbox(self.custody / "received" / AGENCY)
        receiver = Receiver(
            inbox=inbox,
            nodes=PublishedNodes(self.custody),
            keys=sealing_keys(self.custody, AGENCY),
            clock=self.clock,
            report=self.receipts.append,
        )
        access = broker_access(self.custody, AGENCY, self.now_s)
        return receiver, Subscriber(access, take or receiver.take)

    @contextmanager
    def receiving(self, take=None):
        """Run the receiver on a thread; what it raises is raised at the end."""
        receiver, subscriber = self.receiver(take)
        stop, failures = threading.Event(), []
        self.ready.clear()

        def work():
            try:
                subscriber.run(stop.is_set, lambda _message: None, self.ready.set)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            assert self.ready.wait(10), "the receiver was not accepted"
            yield receiver
        finally:
            stop.set()
            thread.join(15)
        assert not thread.is_alive()
        for failure in failures:
            raise failure

    def subscribe_once(self):
        """Make the agency's stored session at the broker, as a receiver that was there once."""
        with self.receiving():
            pass

    def broker_settings(self):
        return {
            "authority_pem": (self.custody / "authority" / "ca.crt").read_text(),
            "certificate_pem": self.server.certificate.read_text(),
            "key_pem": self.server.key.read_text(),
            "receivers": (receiver_name(AGENCY), "watcher"),
            "port": self.port,
            "kind": self.kind,
        }


def client_key(common_name):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return key, request.public_bytes(Encoding.PEM).decode()


@contextmanager
def running(tmp_path, kind):
    made = Estate(tmp_path, kind)
    with start_broker(tmp_path / "broker", **made.broker_settings()) as broker:
        made.broker = broker
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def estate(tmp_path):
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    with running(tmp_path, "mosquitto") as made:
        yield made


@pytest.fixture
def embedded(tmp_path):
    pytest.importorskip("iotcore", reason="iotcore is not installed: pip install iotcore")
    with running(tmp_path, "iotcore") as made:
        yield made


def wait_until(condition, seconds=15.0):
    """Wait for another thread's or process's work; an event of its own is not to be had across a broker."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen in time")
