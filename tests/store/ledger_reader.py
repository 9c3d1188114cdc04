"""A ledger's reader written from docs/record-format.md, section 10, alone: it imports nothing of Homeplate."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DAY_NS = 86_400_000_000_000


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def tree(leaves):
    """Return the root of RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", tree(leaves[:half]), tree(leaves[half:]))


def peaks(leaves):
    """Return the roots of the complete subtrees, largest first."""
    found, start = [], 0
    for bit in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> bit & 1:
            found.append(tree(leaves[start : start + (1 << bit)]).hex())
            start += 1 << bit
    return found


def salt_of(salt, name):
    return hmac.digest(salt, name.encode(), "sha256")[:16]


def hidden(salt, name, value):
    return sha256(salt, canonical([name, value])).hex()


def leaf(line):
    """Return a line's leaf hash."""
    if "leaf" in line:
        return bytes.fromhex(line["leaf"])
    if "day" in line:
        shown = {
            name: hidden(bytes.fromhex(line["salts"][name]), name, value) for name, value in line["fields"].items()
        }
        covered = {key: line[key] for key in ("day", "event", "number", "time")} | {"fields": shown | line["withheld"]}
    else:
        row, salt = line["row"], bytes.fromhex(line["salt"])
        hashes = {name: hidden(salt_of(salt, name), name, value) for name, value in row["fields"].items()}
        time = hidden(salt_of(salt, "/time"), "/time", row["time_ns"])
        covered = {"day": row["time_ns"] // DAY_NS, "event": row["event"], "fields": hashes, "number": row["number"]}
        covered["time"] = time
    return sha256(b"\0", canonical(covered))


def read(files):
    """Return the root after each row of a log's files, oldest file first.

    Raises:
        ValueError: at the first line that is bad.
    """
    leaves, roots = [], []
    for raw in (raw for file in files for raw in Path(file).read_bytes().splitlines()):
        line = json.loads(raw)
        if canonical(line) != raw:
            raise ValueError(f"after row {len(leaves)}: not canonical")
        if "peaks" in line:
            if (line["rows"], line["peaks"]) != (len(leaves), peaks(leaves)):
                raise ValueError(f"after row {len(leaves)}: a header of another tree")
            continue
        leaves.append(leaf(line))
        roots.append(tree(leaves).hex())
        if (line.get("row", line)["number"], line["root"]) != (len(leaves), roots[-1]):
            raise ValueError(f"row {len(leaves)}")
    return roots


def signed(note, name, key, kind):
    """Return (rows, root) that `name`'s key signed in a note; `kind` is 1 for the log's own signer, 4 for a witness."""
    head, _, signatures = note.decode().partition("\n\n")
    _, size, root = head.split("\n")
    for _, who, text in (line.split(" ") for line in signatures.splitlines()):
        raw = base64.b64decode(text)
        if who == name and raw[:4] == sha256(name.encode(), b"\n", bytes([kind]), key)[:4]:
            said, signature = f"{head}\n", raw[4:]
            if kind == 4:
                said, signature = f"cosignature/v1\ntime {int.from_bytes(raw[4:12], 'big')}\n{said}", raw[12:]
            Ed25519PublicKey.from_public_bytes(key).verify(signature, said.encode())
            return int(size), base64.b64decode(root).hex()
    raise ValueError(f"{name} did not sign")
