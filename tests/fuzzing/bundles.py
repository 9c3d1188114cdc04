"""The targets of what is signed: bundles as a node is given them, what they say, requests, holds, and chunks of them.

Signatures keep a fuzzer out, as they should; what they protect is still parsed. So some targets sign what they are
given with the right key, and the contents of files are read without one.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate, load_pem_x509_csr
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from homeplate.errors import TrustError
from homeplate.trust import chunks, contents
from homeplate.trust.agencies import agencies
from homeplate.trust.bundle import judge_bundle
from homeplate.trust.enrolment import read_request
from homeplate.trust.hold import HOLD_LINE, MAX_HOLD_BYTES, read_hold, read_release
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate.trust.packed import HeldFiles, pack, unpack
from homeplate.trust.places import PlacesFile, places
from homeplate.trust.schema import (
    AllowlistFile,
    ModelsFile,
    NodesFile,
    PolicyFile,
    RegistryFile,
    RulesFile,
    decode,
    encode,
)
from tests.fuzzing.targets import KIB, Target, any_of, as_json
from tests.holding import KEY, a_hold, released, signed
from tests.trust import forge

ROLES = ("timestamp", "snapshot", "targets", "registry", "operator", "root")
"""In the order of a seed's first byte."""
SIGNERS = {"targets": "root", "snapshot": "online", "timestamp": "online"}


def parsers(folder: Path) -> dict[str, Target]:
    """Return the targets by name; `folder` is theirs to write in."""
    custody = forge.custody(folder / "custody")
    published, installed = pack(forge.published(custody)), forge.node(folder / "node", custody)
    made = {"bundle": _bundle(published, installed), "signed": _signed(published, installed, custody)}
    made |= {"contents": _contents(custody), "certificate": _certificate(custody)}
    return made | {"request": _request(), "hold": _hold(), "chunk": _chunk(published)}


def _bundle(published: bytes, installed: Path) -> Target:
    good = judge_bundle(unpack(published), installed, forge.NOW_NS).bundle

    def read(data: bytes) -> None:
        assert judge_bundle(unpack(data), installed, forge.NOW_NS).bundle == good, "altered, and taken"

    return Target(read=read, refusals=(TrustError,), seeds=[published], most_bytes=2 * len(published))


def _signed(published: bytes, installed: Path, custody: Path) -> Target:
    """One role's metadata, signed with its own key, and snapshot and timestamp made to fit."""
    names = _names(published)
    files = {names[role]: unpack(published).read(names[role], MAX_METADATA_BYTES) for role in ROLES[:-1]}
    keys = {role: forge.Forge(custody).key(SIGNERS.get(role, role)) for role in ROLES}

    def read(data: bytes) -> None:
        made = dict(files)
        if data and data[0] < len(ROLES) and _resign(made, names, keys, ROLES[data[0]], data[1:]):
            judge_bundle(_Over(unpack(published), made), installed, forge.NOW_NS)

    seeds = [bytes([i]) + as_json(json.loads(files[names[role]])["signed"]) for i, role in enumerate(ROLES[:-1])]
    root = json.loads((custody / "root.json").read_bytes())["signed"]
    seeds.append(bytes([5]) + as_json(root | {"version": 2}))
    return Target(read=read, refusals=(TrustError,), seeds=seeds, most_bytes=6 * KIB)


def _names(published: bytes) -> dict[str, str]:
    """Return each role's file: of the first publication, and the root that would come next."""
    names = {role: f"1.{role}.json" for role in ROLES} | {"timestamp": "timestamp.json", "root": "2.root.json"}
    assert all(name in unpack(published) for role, name in names.items() if role != "root")
    return names


def _resign(
    files: dict[str, bytes], names: dict[str, str], keys: dict[str, CryptoSigner], role: str, said: bytes
) -> bool:
    """Put what a role is to say into `files`, signed; tell whether it can be signed at all."""
    try:
        signed = json.loads(said)
        canonical = encode_canonical(signed).encode()
    except Exception:
        return False
    name = names[role]
    files[name] = as_json({"signed": signed, "signatures": [keys[role].sign(canonical).to_dict()]})
    chain = {"targets": "snapshot", "registry": "snapshot", "operator": "snapshot", "snapshot": "timestamp"}
    above = chain.get(role)
    if above is None:
        return True
    outer = json.loads(files[names[above]])["signed"]
    digest = hashlib.sha256(files[name]).hexdigest()
    outer["meta"][f"{role}.json"] |= {"length": len(files[name]), "hashes": {"sha256": digest}}
    return _resign(files, names, keys, above, as_json(outer))


class _Over:
    """Implements `trust.files.Files`: a bundle in which some files have other bytes."""

    def __init__(self, files: HeldFiles, other: dict[str, bytes]) -> None:
        self._files, self._other = files, HeldFiles(other)

    def __contains__(self, name: object) -> bool:
        return name in self._other or name in self._files

    def read(self, name: str, limit: int) -> bytes:
        return (self._other if name in self._other else self._files).read(name, limit)


POINT = {"latitude_deg": 1, "longitude_deg": 2}
NODE = {"pseudonym": "00" * 16, "record_public": "01" * 32, "ledger_public": "02" * 32, "hot_list_public": "03" * 32,
        "cameras": ["north"], "not_before_s": 0, "not_after_s": 1, "camera_positions": {"north": POINT}}  # fmt: skip
RULE = {"name": "hits", "trigger": "hit", "recipients": ["CA1"], "parts": ["facts"], "storage": "local",
        "retention_s": 20, "purpose": "p"}  # fmt: skip
CORNERS = [POINT, POINT | {"latitude_deg": 1.01}, {"latitude_deg": 1.01, "longitude_deg": 2.01}]
PLACES = [
    {"shape": "circle", "name": "a", "kind": "court", "source": "s", "centre": POINT, "radius_m": 5},
    {"shape": "polygon", "name": "b", "kind": "school", "source": "s", "corners": CORNERS},
]
GRANT = {"identifier": "CA1", "need": "n", "purpose": "p", "approver": "a", "approved_on": "2026-01-01",
         "expires_s": 9, "attested": True}  # fmt: skip


def _contents(custody: Path) -> Target:
    """What the files of a bundle say; a seed's first byte says which of them it is."""
    pem = (custody / "authority" / "ca.crt").read_text()
    empty = NodesFile(nodes=[])
    known = RegistryFile(agencies=[forge.entry(pem)])
    files = [
        (RegistryFile, lambda file: (agencies(file.agencies, "US-CA"), contents.witnesses(file, empty)), {}),
        (AllowlistFile, contents.grants, {"grants": [GRANT]}),
        (RulesFile, lambda file: contents.rules(file, demo=False), {"purposes": ["p"], "rules": [RULE]}),
        (NodesFile, contents.nodes, {"nodes": [NODE]}),
        (ModelsFile, lambda file: [bytes.fromhex(text) for text in file.manifests], {"manifests": ["ab" * 32]}),
        (PolicyFile, contents.usage, {"purposes": "p", "meeting_on": "2026-01-01", "sha256": "00" * 32}),
        (PlacesFile, places, {"places": PLACES}),
    ]
    readers = [lambda data, kind=kind, read=read: read(decode(data, kind, "file")) for kind, read, _ in files]
    said = [encode(known), *(as_json({"format": 1} | good) for _, _, good in files[1:])]
    seeds = [bytes([i]) + one for i, one in enumerate(said)]
    return Target(read=any_of(readers), refusals=(TrustError,), seeds=seeds, most_bytes=4 * KIB)


def _pem(kind: bytes, der: bytes) -> str:
    return (b"-----BEGIN %s-----\n%s-----END %s-----\n" % (kind, base64.encodebytes(der), kind)).decode()


def _certificate(custody: Path) -> Target:
    """An authority in the registry, and a node's signing request; the bytes are the DER inside."""
    authority = load_pem_x509_certificate((custody / "authority" / "ca.crt").read_bytes())
    csr = load_pem_x509_csr(forge.csr(forge.PSEUDONYM.hex()).encode())
    request = json.loads(forge.enrolment()[0])
    readers = [
        lambda der: agencies([forge.entry(_pem(b"CERTIFICATE", der))], "US-CA"),
        lambda der: read_request(as_json(request | {"csr_pem": _pem(b"CERTIFICATE REQUEST", der)})),
    ]
    seeds = [b"\0" + authority.public_bytes(Encoding.DER), b"\1" + csr.public_bytes(Encoding.DER)]
    return Target(read=any_of(readers), refusals=(TrustError,), seeds=seeds, most_bytes=2 * KIB)


def _request() -> Target:
    return Target(read=read_request, refusals=(TrustError,), seeds=[forge.enrolment()[0]], most_bytes=4 * KIB)


def _hold() -> Target:
    """A hold, a release, and the first of them signed whatever it says."""
    said = signed(a_hold()).removeprefix(HOLD_LINE).partition(b"\n")[0]

    def resigned(data: bytes) -> None:
        body = HOLD_LINE + data + b"\n"
        read_hold(body + f"{KEY.public_key().public_bytes_raw().hex()} {KEY.sign(body).hex()}\n".encode())

    seeds = [b"\0" + signed(a_hold()), b"\1" + released(a_hold()), b"\2" + said]
    readers = [read_hold, read_release, resigned]
    return Target(read=any_of(readers), refusals=(TrustError,), seeds=seeds, most_bytes=MAX_HOLD_BYTES)


def _chunk(published: bytes) -> Target:
    seeds = list(chunks.split(published[:3000], KIB))
    return Target(read=chunks.decode, refusals=(TrustError,), seeds=seeds, most_bytes=4 * KIB)
