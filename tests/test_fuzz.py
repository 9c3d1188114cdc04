"""Inputs that were good and are damaged: every parser answers with a value or with its own error, and nothing else.

Bounded here; `make fuzz` takes many more examples of each.
"""

import contextlib
import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.camera import open_source
from homeplate.camera.replay import Unusable, load_picture
from homeplate.clock import SimulatedClock
from homeplate.config import parse_config, source_settings
from homeplate.domain.record import SealedRecord
from homeplate.errors import CameraError, ConfigError, SealingError, TrustError
from homeplate.sealing import envelope
from homeplate.store.ledger import MerkleLog, scan
from homeplate.trust import contents
from homeplate.trust.bundle import judge_bundle
from homeplate.trust.hold import read_hold
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate.trust.packed import HeldFiles, pack, unpack
from homeplate.trust.places import PlacesFile, places
from homeplate.trust.schema import NodesFile, PolicyFile, RulesFile, decode
from tests.holding import a_hold, signed
from tests.sealing.samples import make_header
from tests.trust import forge

EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat", "drop"]), st.integers(0), st.binary(max_size=8)),
    min_size=1, max_size=6,
)  # fmt: skip


def damaged(good: bytes, edits) -> bytes:
    """Return `good` after the edits: a bit flipped, bytes cut off, inserted, repeated, dropped."""
    data = bytearray(good)
    for kind, number, some in edits:
        at = number % max(1, len(data))
        if kind == "flip" and data:
            data[at] ^= 1 << number % 8
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = some
        elif kind == "repeat":
            data[at:at] = data[at : at + 64]
        else:
            del data[at : at + len(some)]
    return bytes(data)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A published bundle as one file, and a node's folder that pins its root."""
    folder = tmp_path_factory.mktemp("bundle")
    made = forge.custody(folder / "custody")
    return pack(forge.published(made)), forge.node(folder / "node", made)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """A ledger's bytes, three rows, and a place for damaged ones."""
    path = tmp_path_factory.mktemp("log") / "a.log"
    with MerkleLog(path, SimulatedClock(forge.NOW_NS)) as written:
        for number in range(3):
            written.append("uplink.refused", recipient="agency", reason="expired", count=number)
    return path.read_bytes(), path.with_name("b.log")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A small clip's bytes, a picture's, and a folder for damaged ones."""
    folder = tmp_path_factory.mktemp("clip")
    written = cv2.VideoWriter(str(folder / "good.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    random = np.random.default_rng(3)
    for _ in range(6):
        written.write(random.integers(0, 255, (48, 64, 3), np.uint8))
    written.release()
    jpeg = cv2.imencode(".jpg", random.integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
    png = cv2.imencode(".png", random.integers(0, 255, (48, 64, 3), np.uint8))[1].tobytes()
    return folder, (folder / "good.avi").read_bytes(), (jpeg, png)


RECORD = envelope.encode(SealedRecord(header=make_header(), ciphertext=bytes(200), signature=bytes(64)))
HOLD = signed(a_hold())
CONFIG = b"""
[node]
data_dir = "/var/lib/homeplate"

[[source]]
name = "lane-1"
kind = "video"
path = "/clips/a.avi"
region = [[0, 0.2], [1, 0.2], [1, 1], [0, 1]]

[narrow]
retention = { hits = "12h" }
"""
POINT = {"latitude_deg": 1, "longitude_deg": 2}
TARGETS = {
    "nodes": (NodesFile, contents.nodes, {"nodes": [{
        "pseudonym": "00" * 16, "record_public": "01" * 32, "ledger_public": "02" * 32, "hot_list_public": "03" * 32,
        "cameras": ["north"], "not_before_s": 0, "not_after_s": 1, "camera_positions": {"north": POINT}}]}),
    "rules": (RulesFile, lambda file: contents.rules(file, demo=False), {"purposes": ["p"], "rules": [{
        "name": "hits", "trigger": "hit", "recipients": ["CA1"], "parts": ["facts"], "storage": "local",
        "retention_s": 20, "purpose": "p"}]}),
    "policy": (PolicyFile, contents.usage, {"purposes": "p", "meeting_on": "2026-01-01", "sha256": "00" * 32}),
    "places": (PlacesFile, places, {"places": [
        {"shape": "circle", "name": "a", "kind": "court", "source": "s", "centre": POINT, "radius_m": 5},
        {"shape": "polygon", "name": "b", "kind": "school", "source": "s", "corners": [
            POINT, {"latitude_deg": 1.01, "longitude_deg": 2}, {"latitude_deg": 1.01, "longitude_deg": 2.01}]}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
@given(edits=EDITS)
def test_a_damaged_target_of_the_bundle_is_read_or_refused(name, edits):
    kind, read, good = TARGETS[name]
    raw = json.dumps({"format": 1} | good).encode()
    assert read(decode(raw, kind, name))
    with contextlib.suppress(TrustError):
        read(decode(damaged(raw, edits), kind, name))


@given(edits=EDITS)
def test_a_damaged_bundle_is_refused_or_says_what_the_good_one_says(bundle, edits):
    raw, installed = bundle
    good = judge_bundle(unpack(raw), installed, forge.NOW_NS).bundle
    with contextlib.suppress(TrustError):
        assert judge_bundle(unpack(damaged(raw, edits)), installed, forge.NOW_NS).bundle == good


@given(edits=EDITS, which=st.integers(0))
def test_a_bundle_with_one_damaged_file_is_refused_or_says_what_the_good_one_says(bundle, edits, which):
    raw, installed = bundle
    good = judge_bundle(unpack(raw), installed, forge.NOW_NS).bundle
    names = [
        path
        for path in ("1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.operator.json")
        if path in unpack(raw)
    ]
    assert len(names) > 2
    name = names[which % len(names)]
    files = {one: unpack(raw).read(one, MAX_METADATA_BYTES) for one in names}
    altered = _Altered(unpack(raw), name, damaged(files[name], edits))
    with contextlib.suppress(TrustError):
        assert judge_bundle(altered, installed, forge.NOW_NS).bundle == good


class _Altered:
    """Implements `trust.files.Files`: a bundle in which one file has other bytes."""

    def __init__(self, files: HeldFiles, name: str, data: bytes) -> None:
        self._files, self._other = files, HeldFiles({name: data})

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def read(self, name: str, limit: int) -> bytes:
        return (self._other if name in self._other else self._files).read(name, limit)


@given(edits=EDITS)
def test_a_damaged_hold_is_read_or_refused(edits):
    read_hold(HOLD)
    with contextlib.suppress(TrustError):
        read_hold(damaged(HOLD, edits))


@given(edits=EDITS)
def test_a_damaged_envelope_is_refused_or_has_its_one_encoding(edits):
    data = damaged(RECORD, edits)
    with contextlib.suppress(SealingError):
        assert envelope.encode(envelope.decode(data)) == data


@given(edits=EDITS)
def test_a_damaged_ledger_is_bad_or_lost_whole_rows_at_its_end(log, edits):
    """What was cut at a row's end is for the checkpoints to find."""
    raw, path = log
    data = damaged(raw, edits)
    path.write_bytes(data)
    assert scan(path).bad is not None or raw.startswith(data[: data.rfind(b"\n") + 1])


@given(edits=EDITS)
def test_a_damaged_configuration_is_read_or_refused(edits):
    parse_config(CONFIG, name="x.toml")
    with contextlib.suppress(ConfigError):
        parse_config(damaged(CONFIG, edits), name="x.toml")


@given(edits=EDITS, which=st.integers(0, 1))
def test_a_damaged_picture_is_a_picture_or_has_a_reason(clip, edits, which):
    folder, _, pictures = clip
    path = folder / "damaged"
    path.write_bytes(damaged(pictures[which], edits))
    found = load_picture(path)
    assert found.reason if isinstance(found, Unusable) else found.ndim == 3


@given(edits=EDITS)
def test_a_damaged_clip_gives_frames_or_a_camera_error(clip, edits):
    folder, raw, _ = clip
    path = folder / "damaged.avi"
    path.write_bytes(damaged(raw, edits))
    config = parse_config(CONFIG.replace(b"/clips/a.avi", str(path).encode()), name="x.toml")
    source = open_source(source_settings(config.source[0]), forge.NOW_NS)
    with contextlib.suppress(CameraError):
        for frame in source.frames():
            assert frame.image.shape == (48, 64, 3)
            if frame.index > 50:
                break
    source.close()
