"""Every vector from section 8 on is taken or refused as it says, by the program and by a reader of the page's own."""

import hashlib
import re
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag

from homeplate.domain.agency import KemKind
from homeplate.domain.record import NANOSECONDS
from homeplate.domain.witness import Witness
from homeplate.errors import HomeplateError, LedgerError
from homeplate.sealing.keys import SealingPrivateKey, load_sealing_key
from homeplate.sealing.seal import open_access, open_hot_list, open_recovery
from homeplate.sealing.slots import CELL_BYTES, SlotError, SlotStore
from homeplate.store.checkpoints import verify
from homeplate.store.cosignatures import cosignatures, decode_requests
from homeplate.store.reading import scan, segment_path
from homeplate.trust.bundle import judge_bundle, pin_root
from homeplate.trust.chunks import Arrivals
from homeplate.trust.hold import read_hold, read_release
from homeplate.trust.hotlist import parse_hot_list
from homeplate.trust.packed import unpack
from tests.requirements.format_reader import READERS, Vector, plate

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "formats"
VECTORS = [Vector(path) for path in sorted(FOLDER.glob("*.txt"))]
each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def private_of(vector):
    return SealingPrivateKey(kem=KemKind.X25519, private_bytes=bytes.fromhex(vector["private"]))


def hot_list(vector, _):
    found = parse_hot_list(open_hot_list(vector.blocks[0], private_of(vector)), int(vector["now-s"]))
    return " ".join(plate(int(code)) for code in found.codes)


def access(vector, _):
    return open_access(vector.blocks[0], private_of(vector), f"{vector['context']}\n".encode()).decode()


def recovery(vector, _):
    return hashlib.sha256(open_recovery(vector.blocks[0], private_of(vector))).hexdigest()


def key_file(vector, folder):
    path = folder / "key"
    path.write_bytes(vector.blocks[0])
    path.chmod(0o600)
    return load_sealing_key(path).key_id.hex()


def stored(vector, folder):
    """Put the cell into a slot file of a node."""
    files = folder / "disk", folder / "memory"
    SlotStore(*files).close()
    cell, blob = vector.blocks
    with files[0].open("r+b") as file:
        file.seek(CELL_BYTES)
        file.write(cell)
    store = SlotStore.open_existing(*files)
    try:
        content = store.unwrap(blob)
        live = [(info.rule, info.expiry_s) for info in store.live()]
    finally:
        store.close()
    if content is None:
        raise SlotError("destroyed")
    assert live == [(vector["rule"], int(vector["expiry-s"]))]
    return content.decode()


def _signed(read):
    def reader(vector, _):
        found, signer = read(vector.blocks[0])
        assert signer.hex() == vector["signer"]
        return found.case

    return reader


def ledger(vector, folder, *, exported=False):
    path = folder / "uplink.log"
    *closed, last = vector.blocks
    for block in closed:
        number = re.search(rb'"number":(\d+)', block)[1]
        segment_path(path, int(number)).write_bytes(block)
    path.write_bytes(last)
    found = scan(path, exported=exported)
    if found.bad or found.frontier.size != int(vector["rows"]):
        raise LedgerError("bad")
    return found.frontier.root().hex()


def checkpoint(vector, _):
    witness = Witness(name=vector["witness"], public=bytes.fromhex(vector["witness-public"]))
    said = cosignatures(vector.blocks[0], [witness])
    point = verify(vector.blocks[0], bytes.fromhex(vector["public"]))
    assert [(one.name, one.time_s) for one in said] == [(vector["witness"], int(vector["time-s"]))]
    return point.root.hex()


def witness_request(vector, _):
    (asked,) = decode_requests(vector.blocks[0], vector["witness"])
    return verify(asked.note, bytes.fromhex(vector["public"])).root.hex()


def packed(vector, folder):
    root, data = vector.blocks
    pin_root(root, folder)
    return judge_bundle(unpack(data), folder, int(vector["now-s"]) * NANOSECONDS).bundle.purposes[0]


def chunks(vector, folder):
    arrivals = Arrivals(folder)
    assert [arrivals.take(message) for message in vector.blocks] == [False] * (len(vector.blocks) - 1) + [True]
    return hashlib.sha256(next(folder.glob("*.bundle")).read_bytes()).hexdigest()


PROGRAM = {
    "hot-list": hot_list, "access": access, "recovery": recovery, "key-file": key_file, "stored": stored,
    "hold": _signed(read_hold), "release": _signed(read_release), "ledger": ledger,
    "export": lambda vector, folder: ledger(vector, folder, exported=True), "checkpoint": checkpoint,
    "witness-request": witness_request, "packed": packed, "chunks": chunks,
}  # fmt: skip


def test_every_format_has_a_vector_that_is_good_and_one_that_is_refused():
    assert set(PROGRAM) == set(READERS)
    found = {(vector["kind"], vector["expect"]) for vector in VECTORS}
    assert found == {(kind, expect) for kind in PROGRAM for expect in ("good", "refused")}


@each_vector
def test_homeplate_treats_a_formats_vector_as_it_says(vector, tmp_path):
    read, field = PROGRAM[vector["kind"]], READERS[vector["kind"]][1]
    if vector["expect"] == "good":
        assert read(vector, tmp_path) == vector[field]
        return
    with pytest.raises(HomeplateError):
        read(vector, tmp_path)


@each_vector
def test_a_reader_written_from_the_page_agrees_about_a_formats_vector(vector):
    read, field = READERS[vector["kind"]]
    if vector["expect"] == "good":
        assert read(vector) == vector[field]
        return
    with pytest.raises((ValueError, InvalidSignature, InvalidTag)):
        read(vector)
