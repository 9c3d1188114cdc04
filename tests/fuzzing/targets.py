"""The parsers of what comes from outside, one target each: good inputs to begin with, and what any input may come to.

A target takes bytes. It returns where the parser gave a value or refused by an error of its own; anything else that is
raised is a fault of ours. `tests/test_fuzz.py` gives it damaged seeds; `tools/fuzz.py` lets atheris look for new paths.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from homeplate.camera import open_source
from homeplate.camera.replay import Unusable, load_picture
from homeplate.clock import SimulatedClock
from homeplate.config import MAX_CONFIG_BYTES, narrowing, parse_config, source_settings
from homeplate.domain.record import SealedRecord
from homeplate.domain.witness import Witness
from homeplate.errors import CameraError, ConfigError, HomeplateError, LedgerError, SealingError, TrustError
from homeplate.sealing import envelope
from homeplate.sealing.facts import FACTS_BYTES, decode_facts, encode_facts, pad_crop, unpad_crop
from homeplate.store import cosignatures
from homeplate.store.checkpoints import MAXIMUM_NOTE_BYTES, Checkpoint, sign, verify
from homeplate.store.ledger import MerkleLog, scan
from homeplate.store.merkle import Frontier
from homeplate.store.reading import Scan, read_lines
from homeplate.store.rows import Header, encode, show, withhold
from homeplate.trust.hotlist import encode_hot_list, parse_hot_list
from homeplate_custodian.commands_provision import parse_lines
from tests.sealing.samples import NODE_KEY, NODE_PUBLIC, make_facts, make_header
from tests.trust import forge

KIB = 1024
HEADER = b'{"peaks":'
"""How a closed file's successor begins; what that claims is worth what a checkpoint says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One parser.

    Attributes:
        read: takes bytes; raises one of `refusals` where they are refused, and nothing else.
        refusals: the parser's own errors.
        seeds: good inputs: `read` refuses none of them.
        most_bytes: the longest input worth trying: what is longer is refused before it is parsed, or only more of it.
    """

    read: Callable[[bytes], object] = field(repr=False)
    refusals: tuple[type[HomeplateError], ...]
    seeds: Sequence[bytes] = field(repr=False)
    most_bytes: int

    def run(self, data: bytes) -> None:
        """Give the parser any bytes; raises only where it did what it may not."""
        with suppress(*self.refusals):
            self.read(data)


def parsers(folder: Path) -> dict[str, Target]:
    """Return the targets by name; `folder` is theirs to write in, and each is made when this is called."""
    from tests.fuzzing import bundles

    made = {"envelope": _envelope(), "facts": _facts(), "config": _config(), "hot-list": _hot_list()}
    made |= {"ledger": _ledger(folder), "exported": _exported(folder), "checkpoint": _checkpoint()}
    made |= {"witness": _witness(), "picture": _picture(folder), "clip": _clip(folder)}
    return made | bundles.parsers(folder)


def any_of(readers: Sequence[Callable[[bytes], object]]) -> Callable[[bytes], object]:
    """Return a reader that gives what follows the first byte to the one which that byte names."""

    def read(data: bytes) -> object:
        return readers[data[0]](data[1:]) if data and data[0] < len(readers) else None

    return read


def _envelope() -> Target:
    record = SealedRecord(header=make_header(), ciphertext=bytes(range(200)), signature=bytes(64))

    def read(data: bytes) -> None:
        assert envelope.encode(envelope.decode(data)) == data, "two encodings of one record"

    return Target(read=read, refusals=(SealingError,), seeds=[envelope.encode(record)], most_bytes=KIB)


def _facts() -> Target:
    def facts(data: bytes) -> None:
        padded = data.ljust(FACTS_BYTES, b"\0") if len(data) < FACTS_BYTES else data
        assert encode_facts(decode_facts(padded)) == padded, "two encodings of the same facts"

    good, other = (encode_facts(make_facts(**change)).rstrip(b"\0") for change in ({}, {"confidence": 1.0, "seen": 9}))
    crop = pad_crop(b"\xff\xd8" + bytes(range(1, 90)))
    seeds = [b"\0" + good, b"\0" + other, b"\1" + crop]
    return Target(read=any_of([facts, unpad_crop]), refusals=(SealingError,), seeds=seeds, most_bytes=5 * KIB)


CONFIG = b"""
[node]
data_dir = "/var/lib/homeplate"
allow_swap = false

[models]
threads = 2
provider = "cpu"

[[source]]
name = "lane-1"
kind = "video"
path = "/clips/a.avi"
region = [[0, 0.2], [1, 0.2], [1, 1], [0, 1]]
masks = [[[0, 0], [0.5, 0], [0, 0.5]]]
directions = ["receding"]
realtime_fps = 25.0

[narrow]
drop_rules = ["near"]
profile = "chp"
retention = { hits = "12h" }
"""


def _config() -> Target:
    def read(data: bytes) -> None:
        config = parse_config(data, name="x.toml")
        narrowing(config.narrow)
        for section in config.source:
            source_settings(section)

    least = b'source = [{name = "a", kind = "folder", path = "/x", stills = true}]\n'
    return Target(read=read, refusals=(ConfigError,), seeds=[CONFIG, least], most_bytes=min(64 * KIB, MAX_CONFIG_BYTES))


def _hot_list() -> Target:
    entries = forge.hot_list("7ABC123", "B0D1ES") + forge.hot_list("XYZ", expires_s=forge.NOW_S + 5)
    opened = encode_hot_list(entries, issued_s=forge.NOW_S, expires_s=forge.NOW_S + 9)
    lines = b"7ABC123,US-CA,passenger,state-stolen,stolen-vehicle,2026-12-31\n"

    readers = [
        lambda data: parse_hot_list(data, forge.NOW_S),
        lambda data: parse_lines(data.decode("ascii", "replace")),
    ]
    seeds = [b"\0" + opened, b"\1" + lines * 2]
    return Target(read=any_of(readers), refusals=(TrustError, ConfigError), seeds=seeds, most_bytes=4 * KIB)


def _rows(folder: Path) -> Path:
    path = folder / "written" / "a.log"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        with MerkleLog(path, SimulatedClock(forge.NOW_NS)) as written:
            for number in range(3):
                written.append("uplink.refused", recipient="agency", reason="expired", count=number, last=number == 2)
    return path


def _ledger(folder: Path) -> Target:
    """A damaged log has a bad row, or lost whole rows at its end, which the checkpoints find."""
    good, path = _rows(folder).read_bytes(), folder / "damaged.log"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _sound(scan(path))
        whole = data[: data.rfind(b"\n") + 1]
        assert good.startswith(whole) or data.startswith(HEADER), "other bytes pass for the same rows"

    return Target(read=read, refusals=(LedgerError,), seeds=[good], most_bytes=4 * KIB)


def _exported(folder: Path) -> Target:
    """What the public gets: rows as they are, in part, or withheld; and a segment's header."""
    lines = list(read_lines(_rows(folder)))
    rows = [encode(lines[0]), encode(show(lines[1], ["reason"])), encode(withhold(lines[2]))]
    header = encode(Header.of(Frontier.of(1, [bytes(range(32))]), forge.NOW_NS))
    path = folder / "exported.log"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        _sound(scan(path, exported=True))

    seeds = [b"".join(row + b"\n" for row in some) for some in (rows, [header])]
    return Target(read=read, refusals=(LedgerError,), seeds=seeds, most_bytes=4 * KIB)


def _sound(read: Scan) -> None:
    if read.bad:
        raise LedgerError(read.bad.reason)


WITNESS = Witness(name="witness.example/w1", public=NODE_PUBLIC)


def _checkpoint() -> Target:
    note = sign(Checkpoint(origin="homeplate/00/capture", size=3, root=bytes(range(32))), NODE_KEY)
    cosigned = cosignatures.cosign(note, WITNESS.name, NODE_KEY, forge.NOW_S)

    readers = [lambda data: cosignatures.cosignatures(data, [WITNESS]), lambda data: verify(data, NODE_PUBLIC)]
    seeds = [b"\0" + cosigned, b"\1" + cosigned, b"\1" + note]
    return Target(
        read=any_of(readers), refusals=(LedgerError,), seeds=seeds, most_bytes=min(8 * KIB, MAXIMUM_NOTE_BYTES)
    )


def _witness() -> Target:
    note = sign(Checkpoint(origin="homeplate/00/capture", size=3, root=bytes(range(32))), NODE_KEY)
    request = cosignatures.Request(old_size=2, proof=(bytes(32), bytes(range(32))), note=note)
    seeds = [
        b"\0" + cosignatures.encode_requests([(WITNESS.name, request)]),
        b"\1" + cosignatures.encode_cosigned([cosignatures.cosign(note, WITNESS.name, NODE_KEY, forge.NOW_S)]),
        b"\2" + request.encode().encode(),
        b"\3" + cosignatures.verifier_key(WITNESS).encode(),
    ]
    readers = [
        lambda data: cosignatures.decode_requests(data, WITNESS.name),
        cosignatures.decode_cosigned,
        lambda data: cosignatures.read_request(data.decode("utf-8", "replace")),
        lambda data: cosignatures.read_verifier_key(data.decode("utf-8", "replace")),
    ]
    return Target(read=any_of(readers), refusals=(LedgerError,), seeds=seeds, most_bytes=4 * KIB)


def _noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (48, 64, 3), np.uint8)


def _picture(folder: Path) -> Target:
    path = folder / "picture"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        found = load_picture(path)
        if isinstance(found, Unusable):
            raise CameraError(found.what)
        assert found.ndim == 3

    seeds = [cv2.imencode(kind, _noise())[1].tobytes() for kind in (".jpg", ".png", ".webp")]
    return Target(read=read, refusals=(CameraError,), seeds=seeds, most_bytes=16 * KIB)


def _clip(folder: Path) -> Target:
    good, path = folder / "good.avi", folder / "damaged.avi"
    written = cv2.VideoWriter(str(good), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(6):
        written.write(_noise())
    written.release()
    section = parse_config(CONFIG.replace(b"/clips/a.avi", str(path).encode()), name="x.toml").source[0]

    def read(data: bytes) -> None:
        path.write_bytes(data)
        source = open_source(source_settings(section), forge.NOW_NS, now_ns=lambda: forge.NOW_NS, runtime=path.parent)
        for frame in source.frames():
            assert frame.image.ndim == 3
            if frame.index > 20:
                break

    return Target(read=read, refusals=(CameraError,), seeds=[good.read_bytes()], most_bytes=32 * KIB)


def as_json(value: object) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()
