"""A reader of every format from section 8 on, written from docs/record-format.md alone: nothing of Homeplate in it.

Each function takes a vector and returns what its good form says; whatever is wrong raises an error of some kind.
"""

import base64
import hashlib
import hmac
import json
import struct
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.sealing.opener import X25519, decrypt, expand
from tests.store import ledger_reader

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BEGIN, END = "-----BEGIN HOMEPLATE DATA-----\n", "-----END HOMEPLATE DATA-----"


class Vector:
    """A vector's fields and blocks."""

    def __init__(self, path):
        head, *blocks = path.read_text("utf-8").split(BEGIN)
        self.name, self.fields = path.stem, dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        self.blocks = [base64.b64decode(block.split(END)[0]) for block in blocks]

    def __getitem__(self, name):
        return self.fields[name]


def require(condition):
    if not condition:
        raise ValueError("not in the form of the page")


def unpad(padded):
    length = int.from_bytes(padded[:4], "big")
    require(length <= len(padded) - 4 and not any(padded[4 + length :]))
    return padded[4 : 4 + length]


def opened(vector, label, blob):
    """Return what is sealed in `blob` behind its label, unpadded."""
    require(blob.startswith(label))
    plaintext = decrypt(X25519(bytes.fromhex(vector["private"])), blob[len(label) :], label)
    require(plaintext is not None)
    return unpad(plaintext)


def hot_list(vector):
    content = opened(vector, b"homeplate/v1/hot-list\n", vector.blocks[0])
    length = int.from_bytes(content[:4], "big")
    header, codes = json.loads(content[4 : 4 + length]), content[4 + length :]
    require(len(codes) == 8 * sum(group["count"] for group in header["groups"]))
    require(ledger_reader.canonical(header) == content[4 : 4 + length])
    return " ".join(plate(code) for (code,) in struct.iter_unpack(">Q", codes))


def plate(code):
    values = [code >> shift & 63 for shift in range(54, -1, -6)]
    return "".join(ALPHABET[value - 1] for value in values if value)


def access(vector):
    info = b"homeplate/v1/access\n" + vector["context"].encode() + b"\n"
    plaintext = decrypt(X25519(bytes.fromhex(vector["private"])), vector.blocks[0], info)
    require(plaintext is not None)
    return unpad(plaintext).decode()


def recovery(vector):
    label = vector.blocks[0][: len(b"homeplate/v1/recovery\n") + 16]
    return hashlib.sha256(opened(vector, label, vector.blocks[0])).hexdigest()


def key_file(vector):
    first, kem, key_id, private, rest = vector.blocks[0].decode().split("\n")
    require(first == "homeplate/v1/sealing-key" and kem == "kem: x25519" and not rest)
    public = X25519PrivateKey.from_private_bytes(bytes.fromhex(private.removeprefix("private: "))).public_key()
    found = hashlib.sha256(b"x25519\0" + public.public_bytes_raw()).digest()[:16].hex()
    require(key_id == f"key-id: {found}")
    return found


def stored(vector):
    cell, blob = vector.blocks
    require(cell[:4] == b"slot" and cell[129:145] == hashlib.sha256(cell[:129]).digest()[:16] and not cell[68])
    slot, record = blob[18:34], blob[34:50]
    require(blob.startswith(b"homeplate/v1/slot\n") and slot == cell[4:20] and record.hex() == vector["record"])
    require(cell[20:60].rstrip(b"\0").decode() == vector["rule"])
    require(int.from_bytes(cell[60:68], "big") == int(vector["expiry-s"]))
    key = expand(hmac.digest(record, cell[81:113], "sha256"), b"homeplate/v1/slot", 32)
    return AESGCM(key).decrypt(blob[50:62], blob[62:], blob[:50]).decode()


def hold(vector):
    return _signed_lines(vector, "homeplate/v1/hold", 10)


def release(vector):
    return _signed_lines(vector, "homeplate/v1/hold-release", 4)


def _signed_lines(vector, first, keys):
    kind, said, last, rest = vector.blocks[0].decode().split("\n")
    public, signature = (bytes.fromhex(part) for part in last.split(" "))
    Ed25519PublicKey.from_public_bytes(public).verify(signature, f"{kind}\n{said}\n".encode())
    values = json.loads(said)
    require((kind, rest, len(values), public.hex()) == (first, "", keys, vector["signer"]))
    require(ledger_reader.canonical(values) == said.encode())
    return values["case"]


def ledger(vector):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(vector.blocks))]
        for file, block in zip(files, vector.blocks, strict=True):
            file.write_bytes(block)
        roots = ledger_reader.read(files)
    require(len(roots) == int(vector["rows"]))
    return roots[-1]


def checkpoint(vector):
    (note,) = vector.blocks
    said = ledger_reader.signed(note, vector["origin"], bytes.fromhex(vector["public"]), 1)
    require(ledger_reader.signed(note, vector["witness"], bytes.fromhex(vector["witness-public"]), 4) == said)
    require(said[0] == int(vector["rows"]))
    return said[1]


def witness_request(vector):
    file = json.loads(vector.blocks[0])
    (asked,) = file["requests"]
    require((file["format"], asked["witness"]) == ("homeplate/v1/witness-requests", vector["witness"]))
    old, _, note = asked["body"].partition("\n\n")
    require(old == "old 0")
    return ledger_reader.signed(note.encode(), vector["origin"], bytes.fromhex(vector["public"]), 1)[1]


def packed(vector):
    root, data = vector.blocks
    value, rest = message_pack(data)
    require(not rest and value["format"] == 1)
    files = value["files"]
    trusted = json.loads(root)["signed"]
    stamp = signed(files["timestamp.json"], trusted, "timestamp")
    shot = signed(files["1.snapshot.json"], trusted, "snapshot", stamp["meta"]["snapshot.json"])
    top = signed(files["1.targets.json"], trusted, "targets", shot["meta"]["targets.json"])
    roles = {role["name"]: role for role in top["delegations"]["roles"]}
    delegations = {"keys": top["delegations"]["keys"], "roles": roles}
    operator = signed(files["1.operator.json"], delegations, "operator", shot["meta"]["operator.json"])
    digest = operator["targets"]["rules.json"]["hashes"]["sha256"]
    rules = files[f"targets/{digest}.rules.json"]
    require(hashlib.sha256(rules).hexdigest() == digest)
    return json.loads(rules)["purposes"][0]


def signed(data, trusted, role, meta=None):
    """Return what a role's file says, once enough of its keys have signed it and it is the one that was announced."""
    require(meta is None or hashlib.sha256(data).hexdigest() == meta["hashes"]["sha256"])
    document, good = json.loads(data), set()
    for signature in document["signatures"]:
        if signature["keyid"] in trusted["roles"][role]["keyids"]:
            key = bytes.fromhex(trusted["keys"][signature["keyid"]]["keyval"]["public"])
            said = ledger_reader.canonical(document["signed"])
            Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature["sig"]), said)
            good.add(key)
    require(len(good) >= trusted["roles"][role]["threshold"])
    return document["signed"]


def chunks(vector):
    (listed, _), *pieces = [message_pack(block) for block in vector.blocks]
    whole = b""
    for number, (piece, _) in enumerate(pieces):
        require((piece["type"], piece["number"], piece["bundle"]) == ("chunk", number, listed["bundle"]))
        require(hashlib.sha256(piece["data"]).digest() == listed["chunks"][number])
        whole += piece["data"]
    require(len(whole) == listed["size"] and len(pieces) == len(listed["chunks"]))
    return hashlib.sha256(whole).hexdigest()


def message_pack(data):  # noqa: PLR0911 - one for each form of value
    """Return the first value in MessagePack, of the types that the page needs, and the bytes after it."""
    kind, rest = data[0], data[1:]
    if kind < 0x80:
        return kind, rest
    if kind < 0x90:
        return _items(kind & 15, rest, pairs=True)
    if kind < 0xA0:
        return _items(kind & 15, rest, pairs=False)
    if kind < 0xC0:
        return rest[: kind & 31].decode(), rest[kind & 31 :]
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xD9: 1, 0xDA: 2, 0xDC: 2, 0xDE: 2}[kind]
    number, rest = int.from_bytes(rest[:width], "big"), rest[width:]
    if kind in {0xCC, 0xCD, 0xCE}:
        return number, rest
    if kind in {0xDC, 0xDE}:
        return _items(number, rest, pairs=kind == 0xDE)
    require(len(rest) >= number)
    return (rest[:number] if kind < 0xC7 else rest[:number].decode()), rest[number:]


def _items(count, rest, *, pairs):
    found = []
    for _ in range(2 * count if pairs else count):
        value, rest = message_pack(rest)
        found.append(value)
    return (dict(zip(found[::2], found[1::2], strict=True)) if pairs else found), rest


READERS = {
    "hot-list": (hot_list, "plates"), "access": (access, "content"), "recovery": (recovery, "content-sha256"),
    "key-file": (key_file, "key-id"), "stored": (stored, "content"), "hold": (hold, "case"),
    "release": (release, "case"), "ledger": (ledger, "root"), "export": (ledger, "root"),
    "checkpoint": (checkpoint, "root"), "witness-request": (witness_request, "root"), "packed": (packed, "purpose"),
    "chunks": (chunks, "bundle"),
}  # fmt: skip
"""By a vector's kind: the reader, and the field that says what it has to find."""
