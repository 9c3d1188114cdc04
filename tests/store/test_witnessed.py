"""What a node asks of its witnesses and takes back: only of its own checkpoints, with the proof that each needs."""

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.domain.witness import Witness
from homeplate.errors import LedgerError
from homeplate.store.checkpoints import Checkpoint, checkpoint_files, origin_of, parse, sign, sign_checkpoints
from homeplate.store.cosignatures import cosign
from homeplate.store.ledger import MerkleLog, read_lines
from homeplate.store.merkle import EMPTY_ROOT, is_consistent
from homeplate.store.reading import closed_segments
from homeplate.store.witnessed import last_cosigned_s, requests, take

PSEUDONYM = bytes(range(16))
START_NS = 1_790_000_000 * 10**9
KEYS = {name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)) for name in ("w1", "w2", "node")}
PUBLIC = KEYS["node"].public_key().public_bytes_raw()
W1, W2 = (Witness(name=name, public=KEYS[name].public_key().public_bytes_raw()) for name in ("w1", "w2"))


class Node:
    def __init__(self, root):
        self.root, self.checkpoints = root, root / "checkpoints"
        self.logs = {name: root / f"{name}.log" for name in ("uplink", "capture", "purge")}

    def grow(self, name, rows, **bounds):
        with MerkleLog(self.logs[name], SimulatedClock(START_NS), **bounds) as log:
            for _ in range(rows):
                log.append("uplink.refused", recipient="agency", reason="not on the list")
        return self.note(name)

    def note(self, name):
        sign_checkpoints(self.logs, key=KEYS["node"], pseudonym=PSEUDONYM, folder=self.checkpoints)
        return checkpoint_files(self.checkpoints, name)[-1].read_bytes()

    def roots(self, name):
        return [EMPTY_ROOT, *(bytes.fromhex(line.root) for line in read_lines(self.logs[name]))]

    def ask(self, *witnesses, **since):
        return requests(self.logs, self.checkpoints, witnesses or [W1], since)

    def take(self, *notes, witnesses=(W1, W2), pseudonym=PSEUDONYM):
        return take(notes, self.checkpoints, witnesses, pseudonym=pseudonym, public=PUBLIC)


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def says(message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(LedgerError, match=f"^{re.escape(message)}$")


def test_each_witness_is_asked_about_each_signed_log_from_where_it_saw_it_last(node):
    node.grow("capture", 3)
    seen = node.grow("uplink", 5)
    assert node.take(cosign(seen, "w2", KEYS["w2"], 7)) == ["uplink: 5 rows cosigned by w2"]
    node.grow("uplink", 4)
    asked = node.ask(W1, W2)
    assert [(name, parse(one.note).origin.rpartition("/")[2], one.old_size) for name, one in asked] == [
        ("w1", "capture", 0), ("w2", "capture", 0), ("w1", "uplink", 0), ("w2", "uplink", 5),
    ]  # fmt: skip
    roots = node.roots("uplink")
    for _, one in asked[2:]:
        assert is_consistent(one.old_size, roots[one.old_size], 9, roots[9], one.proof)
    assert len(asked[3][1].proof) > 0


def test_a_witness_that_says_what_it_saw_last_gets_the_proof_from_there(node):
    node.grow("capture", 11)
    roots = node.roots("capture")
    for since in range(12):
        ((_, one),) = node.ask(capture=since)
        assert one.old_size == since
        assert is_consistent(since, roots[since], 11, roots[11], one.proof)
    with says("ledger capture.log has no tree of 12 rows here: no proof from there can be made"):
        node.ask(capture=12)


def test_rows_that_are_not_signed_yet_are_in_no_proof(node):
    node.grow("capture", 4)
    with MerkleLog(node.logs["capture"], SimulatedClock(START_NS)) as log:
        log.append("unsigned")
        log.append("unsigned")
    roots = node.roots("capture")
    ((_, one),) = node.ask(capture=2)
    assert is_consistent(2, roots[2], 4, roots[4], one.proof)
    with says("ledger capture.log has no tree of 5 rows here: no proof from there can be made"):
        node.ask(capture=5)


def test_a_log_in_several_files_is_proved_from_the_file_that_holds_the_rest(node):
    node.grow("capture", 30, segment_bytes=1_500)
    roots, segments = node.roots("capture"), closed_segments(node.logs["capture"])
    assert len(segments) > 2
    segments[0].unlink()
    since = int(segments[1].name.split(".")[1]) + 2
    ((_, one),) = node.ask(capture=since)
    assert is_consistent(since, roots[since], 30, roots[30], one.proof)
    with says("ledger capture.log has no tree of 1 rows here: no proof from there can be made"):
        node.ask(capture=1)


def test_a_witness_is_told_no_other_witness_word(node):
    node.take(cosign(node.grow("capture", 3), "w2", KEYS["w2"], 7))
    ((_, one),) = node.ask()
    assert one.note == sign(parse(one.note), KEYS["node"])
    assert b"w2" in node.note("capture")


def test_nothing_is_asked_about_a_log_that_is_bad_or_not_what_was_signed(node, tmp_path):
    node.grow("capture", 5)
    path = node.logs["capture"]
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"agency", b"nobody", 1))
    with pytest.raises(LedgerError, match=r"^ledger capture\.log, row 1: its running root .*; nothing was asked$"):
        node.ask()
    for lines in (sound.splitlines(keepends=True)[:4], []):
        path.write_bytes(b"".join(lines))
        with says("ledger capture.log is not what capture-000000000005.note signed; nothing was asked"):
            node.ask()
    other = Node(tmp_path / "other")
    other.grow("capture", 6)
    path.write_bytes(other.logs["capture"].read_bytes())
    with says("ledger capture.log is not what capture-000000000005.note signed; nothing was asked"):
        node.ask()


def test_what_is_taken_is_added_once_below_the_nodes_own_signature(node):
    note = node.grow("capture", 3)
    first, second = cosign(note, "w1", KEYS["w1"], 7), cosign(note, "w2", KEYS["w2"], 8)
    assert node.take(first, second) == ["capture: 3 rows cosigned by w1", "capture: 3 rows cosigned by w2"]
    assert node.note("capture") == first + second.splitlines(keepends=True)[-1]
    assert node.take(first) == ["capture: 3 rows cosigned by w1"]
    assert node.note("capture") == first + second.splitlines(keepends=True)[-1]
    assert node.take() == []


def test_the_last_word_of_a_witness_is_the_latest_over_all_checkpoints(node):
    assert last_cosigned_s(node.checkpoints, "capture", [W1]) is None
    node.take(cosign(node.grow("capture", 3), "w1", KEYS["w1"], 70))
    node.take(cosign(node.grow("capture", 3), "w2", KEYS["w2"], 60))
    node.grow("capture", 1)
    assert last_cosigned_s(node.checkpoints, "capture", [W1, W2]) == 70
    assert last_cosigned_s(node.checkpoints, "capture", [W2]) == 60
    assert last_cosigned_s(node.checkpoints, "capture", []) is None
    assert last_cosigned_s(node.checkpoints, "uplink", [W1]) is None


def test_what_is_not_of_this_node_or_not_cosigned_or_not_signed_here_is_not_taken(node):
    note = node.grow("capture", 3)
    said = cosign(note, "w1", KEYS["w1"], 7)
    origin = origin_of(PSEUDONYM, "capture")
    with says(f"{origin} is no log that is kept here"):
        node.take(said, pseudonym=bytes(16))
    for name in ("cap-ture", "caturé", "log2"):
        odd = sign(Checkpoint(origin=origin_of(PSEUDONYM, name), size=3, root=bytes(32)), KEYS["node"])
        with says(f"{origin_of(PSEUDONYM, name)} is no log that is kept here"):
            node.take(cosign(odd, "w1", KEYS["w1"], 7))
    elsewhere = sign(Checkpoint(origin="elsewhere/capture", size=3, root=bytes(32)), KEYS["node"])
    with says("elsewhere/capture is no log that is kept here"):
        node.take(cosign(elsewhere, "w1", KEYS["w1"], 7))
    with says(f"{origin}: no witness that the bundle names has cosigned it"):
        node.take(said, witnesses=[W2])
    for size, root in ((3, bytes(32)), (2, parse(note).root)):
        other = sign(Checkpoint(origin=origin, size=size, root=root), KEYS["node"])
        with says(f"{origin}: {node.checkpoints} keeps no such checkpoint of {size} rows"):
            node.take(cosign(other, "w1", KEYS["w1"], 7))
    assert node.note("capture") == note


def test_a_log_of_which_nothing_was_seen_is_proved_from_its_beginning_only_where_that_is_here(node):
    node.grow("capture", 30, segment_bytes=1_500)
    ((_, one),) = node.ask(capture=0)
    assert (one.old_size, one.proof) == (0, ())
    closed_segments(node.logs["capture"])[0].unlink()
    ((_, one),) = node.ask(capture=0)
    assert (one.old_size, one.proof) == (0, ())


def test_only_the_files_from_the_size_on_that_a_witness_saw_are_read(node):
    node.grow("capture", 30, segment_bytes=1_500)
    roots, segments = node.roots("capture"), closed_segments(node.logs["capture"])
    segments[0].write_bytes(b"damaged")
    since = int(segments[2].name.split(".")[1])
    ((_, one),) = node.ask(capture=since)
    assert is_consistent(since, roots[since], 30, roots[30], one.proof)


def test_two_words_in_one_note_and_a_log_of_a_long_name_are_taken(node):
    name = "alogwithaverylongname"
    node.logs[name] = node.root / f"{name}.log"
    both = cosign(cosign(node.grow(name, 3), "w1", KEYS["w1"], 7), "w2", KEYS["w2"], 8)
    assert node.take(both) == [f"{name}: 3 rows cosigned by w1", f"{name}: 3 rows cosigned by w2"]
    assert node.note(name) == both
