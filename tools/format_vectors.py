"""Test vectors of docs/record-format.md from section 8 on; `tools/make_vectors.py` writes them with the records'.

Each is what the program writes, or that with one thing changed. The keys are derived from their names, in public.
"""

import base64
import hashlib
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.domain.agency import KemKind
from homeplate.domain.hold import Ground, Hold, Release
from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, RecordId
from homeplate.sealing.keys import SealingPrivateKey, save_sealing_key
from homeplate.sealing.seal import seal_access, seal_hot_list, seal_recovery
from homeplate.sealing.slots import CELL_BYTES, SlotStore
from homeplate.store.checkpoints import Checkpoint, origin_of, sign
from homeplate.store.cosignatures import Request, cosign, encode_requests
from homeplate.store.ledger import MerkleLog
from homeplate.store.reading import closed_segments, read_lines, scan
from homeplate.store.rows import encode, show, withhold
from homeplate.trust.chunks import split
from homeplate.trust.hold import sign_hold, sign_release
from homeplate.trust.hotlist import encode_hot_list
from homeplate.trust.packed import pack
from homeplate_custodian import provision

NOW_S = 1_790_000_000
WITNESS = "witness.example/w1"


def derived(name: str) -> bytes:
    return hashlib.sha256(b"homeplate test vector " + name.encode()).digest()


KEY, WITNESS_KEY, HOLD_KEY = (
    Ed25519PrivateKey.from_private_bytes(derived(name)) for name in ("ledger key", "witness key", "hold key")
)
NODE = derived("pseudonym")[:16]
SEALING = SealingPrivateKey(kem=KemKind.X25519, private_bytes=derived("recipient x25519"))


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def vector(kind: str, expect: str, about: str, *blocks: bytes, **fields: object) -> str:
    """Return a vector's text: its fields, then each block in base64."""
    lines = ["homeplate test vector 2", f"kind: {kind}", f"expect: {expect}", f"about: {about}"]
    lines.append("warning: THROW-AWAY TEST KEYS: published with this file, never to be used")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    for block in blocks:
        body = base64.encodebytes(block).decode().rstrip("\n")
        lines += ["", "-----BEGIN HOMEPLATE DATA-----", body, "-----END HOMEPLATE DATA-----"]
    return "\n".join([*lines, ""])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if at >= 0 else flipped(data, len(data) + at)


def pair(kind: str, about: str, wrong: str, *blocks: bytes, at: int = -1, **fields: object) -> dict[str, str]:
    """Return a good vector, and one in which a bit of the last block is another."""
    altered = [*blocks[:-1], flipped(blocks[-1], at)]
    return {
        f"{kind}-good": vector(kind, "good", about, *blocks, **fields),
        f"{kind}-altered": vector(kind, "refused", wrong, *altered, **fields),
    }


def sealed_vectors() -> dict[str, str]:
    terms = HotListTerms(
        list_name="state-stolen", purpose=HotListPurpose.STOLEN_VEHICLE, state="US-CA", kind=PlateKind.PASSENGER,
        expires_s=NOW_S + DAY_SECONDS,
    )  # fmt: skip
    entries = [HotListEntry(text=PlateText(plate), terms=terms) for plate in ("7ABC123", "V3CT0R1")]
    content = encode_hot_list(entries, issued_s=NOW_S, expires_s=NOW_S + 7 * DAY_SECONDS)
    private, mine = SEALING.private_bytes.hex(), SEALING.public_bytes
    recipient = SEALING.sealing_key(not_before_s=0, not_after_s=NOW_S)
    context = "records.shown 7 00112233445566778899aabbccddeeff"
    with tempfile.TemporaryDirectory() as folder:
        save_sealing_key(SEALING, Path(folder) / "key")
        key_file = (Path(folder) / "key").read_bytes()
    return {
        **pair("hot-list", "two plates", "the last bit of the seal is another", seal_hot_list(content, mine),
               private=private, plates="7ABC123 V3CT0R1", now_s=NOW_S),
        **pair("access", "one plate, in row 7", "the last bit of the seal is another",
               seal_access(b"V3CT0R1", mine, f"{context}\n".encode()), private=private, context=context,
               content="V3CT0R1"),
        **pair("recovery", "a sealing key's file", "the last bit of the seal is another",
               seal_recovery(key_file, recipient), private=private,
               content_sha256=hashlib.sha256(key_file).hexdigest()),
        **pair("key-file", "a sealing key's file", "the key's id is another", key_file,
               at=key_file.index(b"key-id: ") + 8,
               key_id=SEALING.key_id.hex(), public=mine.hex()),
    }  # fmt: skip


def stored_vectors() -> dict[str, str]:
    record, content = RecordId(derived("facts id")[:16]), b"a sealed record, byte for byte"
    with tempfile.TemporaryDirectory() as folder:
        store = SlotStore(Path(folder) / "disk", Path(folder) / "memory")
        blob = store.wrap(store.slot_for("hits", NOW_S, 30 * DAY_SECONDS), record, content)
        store.close()
        cell = (Path(folder) / "disk").read_bytes()[CELL_BYTES : 2 * CELL_BYTES]
    fields = {"record": record, "rule": "hits", "expiry_s": NOW_S, "content": content.decode()}
    return pair("stored", "a slot's cell, and a record under its key", "the record's last bit is another",
                cell, blob, **fields) | {
        "stored-destroyed": vector("stored", "refused", "the cell is overwritten", bytes(CELL_BYTES), blob, **fields),
    }  # fmt: skip


def hold_vectors() -> dict[str, str]:
    hold = Hold(
        hold_id=derived("hold")[:16], node=NODE, case="26-1234", ground=Ground.EVIDENCE, camera="north",
        from_s=NOW_S - 600, to_s=NOW_S, most_records=4, issued_s=NOW_S, expires_s=NOW_S + DAY_SECONDS,
    )  # fmt: skip
    release = sign_release(Release(hold_id=hold.hold_id, node=NODE, case=hold.case, issued_s=NOW_S), HOLD_KEY)
    signed, said = sign_hold(hold, HOLD_KEY), {"signer": public(HOLD_KEY), "case": hold.case}
    return pair("hold", "a signed hold", "the case is another", signed, at=signed.index(b"26-1234"), **said) | pair(
        "release", "a signed release", "the last digit of the signature is another", release, at=-2, **said
    ) | {"release-as-hold": vector("hold", "refused", "a release under a hold's first line",
                                   release.replace(b"hold-release", b"hold", 1), **said)}  # fmt: skip


def ledger_vectors() -> dict[str, str]:
    clock = SimulatedClock(NOW_S * NANOSECONDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "uplink.log"
        with MerkleLog(path, clock, derived_salt, segment_bytes=900) as log:
            for number in range(5):
                log.append("delivery.refused", recipient="example-pd", reason="expired: over", count=number)
                clock.advance_to(clock.now_ns() + DAY_SECONDS * NANOSECONDS)
        files = [file.read_bytes() for file in (*closed_segments(path), path)]
        lines, state = list(read_lines(path)), scan(path)
    root, size = state.frontier.root(), state.frontier.size
    exported = [encode(lines[0]), encode(show(lines[1], ["reason"])), *(encode(withhold(line)) for line in lines[2:])]
    point = Checkpoint(origin=origin_of(NODE, "uplink"), size=size, root=root)
    note = cosign(sign(point, KEY), WITNESS, WITNESS_KEY, NOW_S)
    asked = encode_requests([(WITNESS, Request(old_size=0, proof=(), note=sign(point, KEY)))])
    tree = {"rows": size, "root": root.hex()}
    signed = tree | {"origin": point.origin, "public": public(KEY)}
    seen = {"witness": WITNESS, "witness_public": public(WITNESS_KEY), "time_s": NOW_S}
    return {
        **pair("ledger", "a log of five rows in its files, oldest first", "a reason is another", *files,
               at=files[-1].index(b"expired"), **tree),
        "ledger-reordered": vector("ledger", "refused", "two files in another order", *reversed(files), **tree),
        **pair("export", "the same log with a row in part and three withheld", "a shown reason is another",
               b"".join(line + b"\n" for line in exported),
               at=b"\n".join(exported).rindex(b"expired"), **tree),
        **pair("checkpoint", "signed by the node, cosigned by a witness", "the number of rows is another", note,
               at=len(point.origin) + 1, **signed, **seen),
        **pair("witness-request", "what a witness is asked", "the note is another", asked,
               at=asked.index(b"homeplate/" + NODE.hex().encode()) + 12, **signed, witness=WITNESS),
    }  # fmt: skip


def derived_salt(size: int) -> bytes:
    return derived("salt")[:size]


def bundle_vectors() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as made:
        custody = Path(made) / "custody"
        provision.init(custody, registry_body="State Registry", operator_body="City", now_s=NOW_S)
        provision.add_purpose(custody, "recover stolen vehicles")
        packed = pack(provision.publish_bundle(custody, now_s=NOW_S))
        root = (custody / "root.json").read_bytes()
    messages = list(split(packed, 4096))
    return {
        **pair("packed", "a root, and a packed bundle under it", "the purpose in rules.json is another", root, packed,
               at=packed.index(b"recover stolen"), now_s=NOW_S, purpose="recover stolen vehicles"),
        **pair("chunks", "a packed bundle's messages", "the last chunk is another", *messages,
               bundle=hashlib.sha256(packed).hexdigest()),
    }  # fmt: skip


def all_vectors() -> dict[str, str]:
    """Return every vector by name."""
    return sealed_vectors() | stored_vectors() | hold_vectors() | ledger_vectors() | bundle_vectors()
