"""One deployment, made once, and copies of it: a custody, an enrolled node, an agency's broker, records that wait."""

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from homeplate.app.node import Paths, init_node, install, load_identity, open_slots
from homeplate.clock import NANOSECONDS, SystemClock, WallClock
from homeplate.config import load_config
from homeplate.domain.record import Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.store.ledger import read_rows
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import install_bundle
from homeplate_custodian import provision
from homeplate_custodian.authority import issue_client, issue_server
from homeplate_custodian.receive import receiver_name
from tests.adversarial.net import BROKER_ADDRESS, PORT, find, inside
from tests.custodian.sealed_kit import Node
from tools.broker import start_broker

GOOD = "us-ca-city"
TLS_NAME = "broker.agency.example"
PURPOSE = "stolen vehicles"
RETENTION_S = 3600
HOMEPLATE = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "homeplate"
TIMEOUT_S = 60


def now_s():
    return WallClock().now_ns() // NANOSECONDS


@dataclass(frozen=True)
class Ran:
    """What became of one run of the process."""

    code: int
    output: str
    confirmed: int = 0
    refused: int = 0
    failed: int = 0


@dataclass
class Estate:
    """A custody and a node in one folder. `copy` makes another one that a case may spoil."""

    folder: Path

    @property
    def custody(self):
        return self.folder / "custody"

    @property
    def config(self):
        return self.folder / "homeplate.toml"

    @property
    def paths(self):
        return Paths(data=self.folder / "node", runtime=self.folder / "runtime")

    @classmethod
    def make(cls, folder):
        estate = cls(folder)
        now = now_s()
        provision.init(estate.custody, registry_body="State Registry", operator_body="City", now_s=now, demo=True)
        server = estate.server()
        estate.add_agency(GOOD, "City of Somewhere", pins=[server.pin])
        estate.grant(GOOD)
        provision.add_purpose(estate.custody, PURPOSE)
        provision.add_rule(
            estate.custody,
            name="all",
            trigger=Trigger.EVERYTHING,
            recipients=[GOOD],
            parts=[Part.FACTS, Part.CROP],
            storage=StorageClass.OUTGOING,
            retention_s=RETENTION_S,
            purpose=PURPOSE,
        )
        estate.write_config()
        request, certificate = folder / "request.json", folder / "client.crt"
        init_node(load_config(estate.config), root=estate.custody / "root.json", request=request, simulation=True)
        certificate.write_text(provision.enrol(estate.custody, request.read_bytes(), now_s=now))
        bundle = provision.publish_bundle(estate.custody, now_s=now)
        install(load_config(estate.config), bundle, certificate, lambda: SystemClock(estate.paths.clock, "bundle"))
        # From here on it is a road's node: nothing looks at the bundle before uplink does.
        identity = estate.paths.identity
        identity.write_text(identity.read_text().replace('"simulation":true', '"simulation":false'))
        return estate

    def server(self, *, name=TLS_NAME, now=None):
        """Issue a broker's certificate with a new key, by the custody's own authority."""
        for old in (self.custody / "authority" / "servers").glob(f"{name}.*"):
            old.unlink()
        return issue_server(self.custody / "authority", tls_name=name, addresses=(), now_s=now or now_s())

    def copy(self, folder):
        shutil.copytree(self.folder, folder)
        made = Estate(folder)
        made.write_config()
        return made

    def write_config(self, more=""):
        lines = [
            "[node]",
            f"data_dir = {json.dumps(str(self.folder / 'node'))}",
            f"runtime_dir = {json.dumps(str(self.folder / 'runtime'))}",
            "allow_swap = true",
        ]
        self.config.write_text("\n".join(lines) + "\n" + more)

    def add_agency(self, identifier, name, **changed):
        fields = {
            "kind": "city",
            "jurisdiction": "US-CA",
            "network": BROKER_ADDRESS,
            "port": PORT,
            "tls_name": TLS_NAME,
            "pins": [bytes(32)],
            "now_s": now_s(),
            "unsafe_unchecked": True,
        }
        return provision.add_agency(self.custody, identifier=identifier, legal_name=name, **(fields | changed))

    def grant(self, identifier, **changed):
        fields = {
            "need": "recover stolen vehicles",
            "purpose": PURPOSE,
            "approver": "the council",
            "approved_on": "2026-01-01",
            "expires_s": now_s() + 3600,
            "attested": True,
        }
        provision.grant(self.custody, identifier=identifier, **(fields | changed))

    def move_good(self, *, pins=None, **changed):
        """Let the registry give the good agency another endpoint; its sealing key stays the one that records have."""
        path = self.custody / "registry" / "registry.json"
        document = json.loads(path.read_bytes())
        endpoint = next(one for one in document["agencies"] if one["identifier"] == GOOD)["endpoints"][0]
        endpoint.update(changed)
        if pins is not None:
            endpoint["pins"] = [pin.hex() for pin in pins]
        path.write_text(json.dumps(document))

    def publish(self, now=None):
        return provision.publish_bundle(self.custody, now_s=now or now_s())

    def install(self, bundle=None):
        """Publish what is drafted and put it in force."""
        install_bundle(bundle or self.publish(), self.paths.bundle, WallClock().now_ns())

    def key_of(self, identifier):
        return load_sealing_key(next((self.custody / "agencies" / identifier).glob("*.key")))

    def put(self, count=1, *, to=GOOD, **facts):
        """Seal, wrap, stage and release records, as capture does; return their ids."""
        paths, until = self.paths, now_s() + RETENTION_S
        node = Node(pseudonym=load_identity(paths).raw, signing=load_signing_key(paths.record_key))
        key, spool, ids = self.key_of(to), FileSpool(paths.spool), []
        slots = open_slots(paths, StorageClass.OUTGOING, check=False)
        try:
            slot = slots.slot_for("all", until, RETENTION_S)
            for _ in range(count):
                record, sealed = node.facts(key, keep_until_s=until, **facts)
                spool.stage(record, slots.wrap(slot, record, sealed), StorageClass.OUTGOING)
                spool.release([record])
                ids.append(record)
        finally:
            slots.close()
        return ids

    def waiting(self):
        return len(list(FileSpool(self.paths.spool).pending()))

    def rows(self, event, process="uplink"):
        log = self.paths.log(process)
        return [row for row in read_rows(log) if row.event == event] if log.exists() else []


@dataclass
class Site:
    """The estate in the world: its broker behind the good address, and the process in the node's namespace."""

    world: object
    base: Estate
    folder: Path
    stack: ExitStack = field(default_factory=ExitStack)
    numbers: int = 0

    def __enter__(self):
        with inside(self.world.world):
            server = self.base.custody / "authority" / "servers" / TLS_NAME
            self.broker = self.stack.enter_context(
                start_broker(
                    self.folder / "broker",
                    authority_pem=(self.base.custody / "authority" / "ca.crt").read_text(),
                    certificate_pem=server.with_name(server.name + ".crt").read_text(),
                    key_pem=server.with_name(server.name + ".key").read_text(),
                    receivers=(receiver_name(GOOD),),
                    port=18883,
                    kind="mosquitto",
                )
            )
            self.stack.callback(self.broker.stop)
        self.receiver = client_files(self.base.custody, self.folder / "receiver", receiver_name(GOOD))
        return self

    def __exit__(self, *_):
        self.stack.close()

    def estate(self):
        self.numbers += 1
        return self.base.copy(self.folder / f"case-{self.numbers}")

    def start(self, estate, *words, environment=None, etc=None, user=None):
        """Start `homeplate` in the node's namespace, with a bare environment and more; `etc` is laid over /etc."""
        command = [str(HOMEPLATE), "--config", str(estate.config), *words]
        if etc:
            mounts = " && ".join(f'mount --bind "{file}" "/etc/{name}"' for name, file in etc.items())
            command = [find("unshare"), "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *command]
        if user is not None:
            command = [find("setpriv"), f"--reuid={user}", "--clear-groups", *command]
        bare = {"PATH": os.environ["PATH"], "HOME": str(estate.folder), "LANG": "C.UTF-8"}
        with inside(self.world.node):
            return subprocess.Popen(
                command,
                env=bare | (environment or {}),
                cwd=estate.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, estate, *words, **more):
        process = self.start(estate, *(words or ("uplink", "--once")), **more)
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise RuntimeError(f"homeplate did not end in {TIMEOUT_S} s: {output}") from None
        return ran(process.returncode, output)


def client_files(custody, stem, name):
    """Issue a client's certificate under `name` and return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    pem = request.public_bytes(Encoding.PEM).decode()
    certificate, key_file = stem.with_suffix(".crt"), stem.with_suffix(".key")
    certificate.write_text(issue_client(custody / "authority", pem, common_name=name, now_s=now_s()))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, key_file


def ran(code, output):
    counts = {}
    for line in output.splitlines():
        if line.startswith("confirmed "):
            counts = {name: int(number) for name, number in (part.split() for part in line.split(", "))}
    return Ran(code, output, **{name: counts.get(name, 0) for name in ("confirmed", "refused", "failed")})
