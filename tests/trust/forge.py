"""A custody to attack: a published bundle, and the means to sign anything with any of its keys.

`Forge` edits a role's metadata and signs it, the snapshot and the timestamp anew, so that only what is wrong is wrong.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from homeplate.domain.agency import KemKind
from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.sealing.keys import SealingPrivateKey, generate_sealing_key, generate_signing_key
from homeplate.trust.bundle import pin_root
from homeplate.trust.enrolment import make_request
from homeplate.trust.schema import AgencyEntry, EndpointEntry, SealingKeyEntry
from homeplate_custodian import provision
from homeplate_custodian.authority import issue_server
from homeplate_custodian.keyring import signer

NOW_S = 1_790_000_000
NOW_NS = NOW_S * NANOSECONDS
SAN_DIEGO = "CA0371100"
PSEUDONYM = bytes(range(16))
PURPOSE = "stolen vehicles"


def custody(folder: Path, *, demo: bool = False, operator_body: str = "City of San Diego") -> Path:
    """Make a custody with one agency, its grant and a rule for hits; nothing is published yet."""
    provision.init(folder, registry_body="Department of Justice", operator_body=operator_body, now_s=NOW_S, demo=demo)
    server = issue_server(folder / "authority", tls_name="broker.example", addresses=["192.0.2.7"], now_s=NOW_S)
    add_agency(folder, SAN_DIEGO, "San Diego Police Department", pin=server.pin)
    add_grant(folder, SAN_DIEGO)
    provision.add_purpose(folder, PURPOSE)
    add_rule(folder, "hits")
    return folder


def add_agency(folder: Path, identifier: str, name: str, *, pin: bytes = bytes(32), **changed: Any) -> Path:
    fields: dict[str, Any] = {
        "kind": "city_agency",
        "jurisdiction": "US-CA",
        "network": "192.0.2.7",
        "port": 8883,
        "tls_name": "broker.example",
        "pins": [pin],
        "now_s": NOW_S,
    }
    return provision.add_agency(folder, identifier=identifier, legal_name=name, **(fields | changed))


def add_grant(folder: Path, identifier: str, **changed: Any) -> None:
    fields: dict[str, Any] = {
        "need": "recover stolen vehicles",
        "purpose": PURPOSE,
        "approver": "Chief of Police",
        "approved_on": "2026-09-01",
        "expires_s": NOW_S + 300 * DAY_SECONDS,
        "attested": True,
    }
    provision.grant(folder, identifier=identifier, **(fields | changed))


def add_rule(folder: Path, name: str, **changed: Any) -> None:
    fields: dict[str, Any] = {
        "trigger": Trigger.HIT,
        "recipients": [SAN_DIEGO],
        "parts": [Part.FACTS, Part.CROP],
        "storage": StorageClass.OUTGOING,
        "retention_s": 30 * DAY_SECONDS,
        "purpose": PURPOSE,
    }
    provision.add_rule(folder, name=name, **(fields | changed))


def enrolment(pseudonym: bytes = PSEUDONYM) -> tuple[bytes, SealingPrivateKey]:
    """Return a node's enrolment request and its hot list key."""
    hot_list = generate_sealing_key(KemKind.X25519)
    request = make_request(
        pseudonym=pseudonym,
        record_public=generate_signing_key().public_key().public_bytes_raw(),
        ledger_public=generate_signing_key().public_key().public_bytes_raw(),
        hot_list_public=hot_list.public_bytes,
        csr_pem=csr(pseudonym.hex()),
        cameras=["north"],
    )
    return request, hot_list


def csr(name: str, curve: ec.EllipticCurve | None = None) -> str:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def hot_list(*plates: str, expires_s: int = NOW_S + DAY_SECONDS) -> list[HotListEntry]:
    return [HotListEntry(text=PlateText(plate), terms=hot_list_terms(expires_s=expires_s)) for plate in plates]


def hot_list_terms(**changed: Any) -> HotListTerms:
    values = {
        "list_name": "stolen",
        "purpose": HotListPurpose.STOLEN_VEHICLE,
        "state": "US-CA",
        "kind": PlateKind.PASSENGER,
        "expires_s": NOW_S + DAY_SECONDS,
    }
    return HotListTerms(**(values | changed))


def published(folder: Path, now_s: int = NOW_S) -> Path:
    return provision.publish_bundle(folder, now_s=now_s)


def node(folder: Path, custody_folder: Path) -> Path:
    """Return a node's bundle folder that pins the custody's root."""
    pin_root((custody_folder / "root.json").read_bytes(), folder)
    return folder


def entry(pem: str, **changed: Any) -> AgencyEntry:
    """Return a good registry entry, with what the test changes."""
    endpoint: dict[str, Any] = {
        "network": "192.0.2.7",
        "port": 8883,
        "tls_name": "broker.example",
        "authority_pem": pem,
        "pins": ["00" * 32],
    }
    key: dict[str, Any] = {
        "kem": KemKind.X25519,
        "public": "11" * 32,
        "not_before_s": NOW_S,
        "not_after_s": NOW_S + 1,
    }
    fields: dict[str, Any] = {
        "identifier": SAN_DIEGO,
        "legal_name": "San Diego Police Department",
        "kind": "city_agency",
        "jurisdiction": "US-CA",
        "ori": None,
        "endpoints": [EndpointEntry(**(endpoint | changed.pop("endpoint", {})))],
        "sealing_keys": [SealingKeyEntry(**(key | changed.pop("key", {})))],
    }
    return AgencyEntry(**(fields | changed))


class Forge:
    """Signs what no honest custodian would, with the custody's real keys."""

    def __init__(self, folder: Path) -> None:
        self.custody = folder
        self.bundle = folder / "bundle"

    def key(self, role: str) -> CryptoSigner:
        found = signer(self.custody / role)
        assert found is not None
        return found

    def edit(
        self, role: str, change: Callable[[dict[str, Any]], None], *, signs: str | None = None, seal: bool = True
    ) -> None:
        """Change a role's metadata in place, sign it with the key of `signs`, and fit snapshot and timestamp to it."""
        path = self._path(role)
        document = json.loads(path.read_bytes())
        change(document["signed"])
        self._write(path, document, signs or _SIGNERS.get(role, role))
        if role not in {"snapshot", "timestamp"} and seal:
            self.seal()

    def target(self, role: str, path: str, data: bytes) -> None:
        """Let `role` sign `data` as `path`."""
        name = self.bundle / "targets" / Path(path).parent
        name.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()
        (name / f"{digest}.{Path(path).name}").write_bytes(data)
        self.edit(
            role, lambda signed: signed["targets"].update({path: {"length": len(data), "hashes": {"sha256": digest}}})
        )

    def seal(self, *, version: int | None = None) -> None:
        """Sign snapshot and timestamp over the metadata as it lies there."""
        meta = {}
        for role in ("targets", "registry", "operator"):
            path = self._path(role)
            meta[f"{role}.json"] = MetaFile.from_data(
                int(path.name.split(".")[0]), path.read_bytes(), ["sha256"]
            ).to_dict()
        self.edit("snapshot", lambda signed: signed.update(meta=meta))
        snapshot = self._path("snapshot")
        number = int(snapshot.name.split(".")[0])
        data = {"snapshot.json": MetaFile.from_data(number, snapshot.read_bytes(), ["sha256"]).to_dict()}
        self.edit("timestamp", lambda signed: signed.update(meta=data, version=version or signed["version"]))

    def raw(self, role: str, signed: Any) -> None:
        """Sign anything that canonical JSON can hold as `role`'s metadata, and fit snapshot and timestamp to it."""
        path, key = self._path(role), self.key(_SIGNERS.get(role, role))
        signature = key.sign(encode_canonical(signed).encode())
        path.write_text(json.dumps({"signed": signed, "signatures": [signature.to_dict()]}))
        if role not in {"snapshot", "timestamp"}:
            self.seal()

    def _path(self, role: str) -> Path:
        if role == "timestamp":
            return self.bundle / "timestamp.json"
        return max(self.bundle.glob(f"*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))

    def _write(self, path: Path, document: dict[str, Any], role: str) -> None:
        metadata = Metadata.from_dict(json.loads(json.dumps(document)))
        metadata.sign(self.key(role))
        path.write_bytes(metadata.to_bytes())


_SIGNERS = {"targets": "root", "snapshot": "online", "timestamp": "online"}
