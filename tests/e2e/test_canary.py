"""Invariant 1: a plate appears nowhere but in sealed records, the sealed hot list and the vision process's memory."""

import base64
import hashlib
import re

from homeplate.domain.hotlist import code_of
from homeplate.domain.plate import PlateText
from homeplate.store.ledger import read_rows
from tests.e2e.conftest import end, wait_until
from tools.stage import PUBLISH_EVERYTHING, RuleSpec


def spellings(plate):
    """How a plate could be written down: as it is, in other cases, spaced, in hexadecimal, in UTF-16, as its code."""
    texts = {plate, plate.lower(), " ".join(plate), f"{plate[:3]} {plate[3:]}", f"{plate[:3]}-{plate[3:]}"}
    code = code_of(PlateText(plate))
    codes = {str(code).encode(), *(code.to_bytes(8, order) for order in ("big", "little"))}
    hashes = {digest for text in texts for digest in hashes_of(text)}
    return (
        hashes | {text.encode() for text in texts} | {plate.encode().hex().encode(), plate.encode("utf-16-le")} | codes
    )


def hashes_of(text):
    """What a plate is where somebody hashed it with a common function: raw, hexadecimal, base64."""
    for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "blake2b", "blake2s"):
        digest = hashlib.new(name, text.encode()).digest()
        yield from (digest, digest.hex().encode(), digest.hex().upper().encode(), base64.b64encode(digest))


def found_in(folder, needles):
    """Return the files below `folder` whose name or content holds a needle."""
    hits = []
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder)).encode()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if any(needle in name or needle in content for needle in needles):
            hits.append(path)
    return hits


def test_the_canary_plate_is_found_nowhere(deploy, rendered, tmp_path, monkeypatch):
    clip, truth = rendered
    canary = truth[0]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    rules = [PUBLISH_EVERYTHING, RuleSpec(name="local-too", storage="local", retention_s=3600)]
    node = deploy(sources=[{"name": "lane-1", "kind": "video", "path": clip}], rules=rules, hot_list=[canary])
    said = []
    with node.stage.broker("mosquitto") as broker:
        receiver, uplink = node.receiver(), node.start("uplink")
        said.append(node.node("capture"))
        wait_until(lambda: not node.pending())
        end(receiver)
        end(uplink)
        said += [node.node("purge"), node.node("ledger", "show", "capture"), node.node("ledger", "show", "uplink")]
        said += [node.node("ledger", "sign"), node.node("check"), node.node("bundle", "show")]
        said.append((node.stage.folder / "receive.log").read_text())
        said.append((broker.folder / "broker.log").read_text(errors="replace"))
    needles = spellings(canary)
    assert not [text for text in said if any(needle in text.encode() for needle in needles)]
    searched = [node.stage.paths.data, node.stage.paths.runtime, temporary, node.stage.folder / "broker"]
    assert not [hit for folder in searched for hit in found_in(folder, needles)]
    assert not found_in(node.stage.custody / "received", needles), "what was received is kept sealed"
    assert not found_in(node.stage.custody / "bundle", needles), "the hot list travels sealed"
    # The test can fail: the canary did pass, was a hit, and is found where it may be.
    assert canary in {facts["plate"] for facts in node.open() if facts["hit"] == "exact"}
    assert found_in(node.stage.custody, needles) == [node.stage.custody / "operator" / "hot-list.bin"]
    assert any(re.fullmatch(r"capture\.sealed", row.event) for row in read_rows(node.stage.paths.log("capture")))
