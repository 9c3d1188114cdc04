"""The Merkle log: every kind of damage is found, and the first bad row is named."""

import base64
import hashlib
import hmac
import json
import os
import threading
from contextlib import suppress

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate.clock import SimulatedClock
from homeplate.domain.plate import PlateText
from homeplate.errors import ClockError, LedgerError, StoreError
from homeplate.store import checkpoints, ledger
from homeplate.store.checkpoints import origin_of, sign, sign_checkpoints, sign_note, verify
from homeplate.store.ledger import CoalescingLedger, MerkleLog, fit, read_rows, scan
from homeplate.store.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash

START_NS = 1_790_000_000_000_000_000
PSEUDONYM = bytes(range(16))

# Inputs and roots of RFC 6962's reference implementation (certificate-transparency, merkle_tree_test).
RFC6962 = (
    ("", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
    ("00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
    ("10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
    ("2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"),
    ("3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
    ("40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"),
    ("5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ("606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
)


def fill(path, rows, clock=None):
    clock = clock or SimulatedClock(START_NS)
    with MerkleLog(path, clock) as log:
        for index in range(rows):
            clock.advance_to(START_NS + index)
            log.append("uplink.refused", recipient=f"agency-{index}", reason="not on the list", attempt=index)
        return log.root()


def test_roots_are_those_of_rfc_6962():
    tree = Frontier()
    assert tree.root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    for data, root in RFC6962:
        tree.append(leaf_hash(bytes.fromhex(data)))
        assert tree.root().hex() == root


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_the_growing_tree_equals_the_rfcs_recursive_definition(leaves):
    def tree_hash(part):
        if len(part) <= 1:
            return leaf_hash(part[0]) if part else EMPTY_ROOT
        split = 1 << ((len(part) - 1).bit_length() - 1)
        return node_hash(tree_hash(part[:split]), tree_hash(part[split:]))

    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf_hash(leaf))
    assert tree.size == len(leaves)
    assert tree.root() == tree_hash(leaves)


def test_rows_come_back_as_they_were_written_and_a_reopened_log_goes_on(tmp_path):
    path, clock = tmp_path / "ledger" / "capture.log", SimulatedClock(START_NS)
    with MerkleLog(path, clock) as log:
        log.append("sealed", source="west", records="a,b", first_frame=3, hit=False)
        root = log.root()
    with MerkleLog(path, clock) as log:
        assert log.root() == root
        log.append("source-finished", input="00ff")
        rows = list(log.rows())
    assert [row.number for row in rows] == [1, 2]
    assert rows[0].fields == {"source": "west", "records": "a,b", "first_frame": 3, "hit": False}
    assert rows[0].fields["hit"] is False
    assert rows[1].event == "source-finished"
    assert path.stat().st_mode & 0o777 == 0o640


def by_hand(line):
    """The leaf hash as docs/record-format.md describes it."""

    def part(name, value):
        salt = hmac.new(bytes.fromhex(line.salt), name.encode(), "sha256").digest()[:16]
        return hashlib.sha256(salt + json.dumps([name, value], separators=(",", ":")).encode()).hexdigest()

    row = line.row
    covered = {
        "day": row.time_ns // (86_400 * 10**9),
        "event": row.event,
        "fields": {name: part(name, value) for name, value in row.fields.items()},
        "number": row.number,
        "time": part("/time", row.time_ns),
    }
    return hashlib.sha256(b"\x00" + json.dumps(covered, separators=(",", ":"), sort_keys=True).encode()).digest()


def test_a_leaf_is_the_hash_of_salt_and_row_and_no_salt_repeats(tmp_path):
    path, salts = tmp_path / "a.log", []
    fill(path, 20)
    tree = Frontier()

    def visit(line, _):
        salts.append(line.salt)
        tree.append(by_hand(line))

    scan(path, visit=visit)
    assert len(set(salts)) == 20
    assert scan(path).frontier.root() == tree.root()


def test_a_row_is_synced_before_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    with MerkleLog(tmp_path / "a.log", SimulatedClock(START_NS)) as log:
        monkeypatch.setattr(ledger.os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
        log.append("sealed", records="a")
    assert synced == [(tmp_path / "a.log").stat().st_size]


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_torn_last_line_is_cut_off_and_a_row_says_so(tmp_path, cut):
    path = tmp_path / "a.log"
    fill(path, 3)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    torn = whole[: -min(cut, last - 1)]
    path.write_bytes(torn)
    with MerkleLog(path, SimulatedClock(START_NS)) as log:
        rows = list(log.rows())
    assert [row.event for row in rows] == ["uplink.refused", "uplink.refused", "ledger.recovered"]
    assert rows[-1].fields == {"bytes_cut": len(torn) - len(whole) + last}
    assert scan(path).bad is None


def test_a_reader_sees_the_whole_rows_while_one_is_being_written(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 3)
    with path.open("ab") as file:
        file.write(b'{"root":"00')
    assert len(list(read_rows(path))) == 3


def test_a_second_writer_is_refused(tmp_path):
    path = tmp_path / "a.log"
    with MerkleLog(path, SimulatedClock(START_NS)), pytest.raises(StoreError, match="has a writer already"):
        MerkleLog(path, SimulatedClock(START_NS))
    MerkleLog(path, SimulatedClock(START_NS)).close()


def test_a_log_that_does_not_verify_is_not_appended_to(tmp_path):
    path = tmp_path / "capture.log"
    fill(path, 5)
    damaged = path.read_bytes().replace(b"agency-2", b"agency-9")
    path.write_bytes(damaged)
    with pytest.raises(LedgerError, match=r"capture.log, row 3: its running root") as caught:
        MerkleLog(path, SimulatedClock(START_NS))
    assert caught.value.exit_code == 10
    assert path.read_bytes() == damaged
    with pytest.raises(LedgerError, match="row 3"):
        list(read_rows(path))


def test_an_export_withholds_rows_and_still_verifies(tmp_path):
    path, public = tmp_path / "a.log", tmp_path / "a.export"
    root = fill(path, 9)
    public.write_bytes(b"".join(ledger.export(ledger.read_lines(path), lambda row: row.number in {1, 4, 9})))
    result = scan(public, sizes=[9], exported=True)
    assert result.bad is None
    assert result.withheld == 3
    assert result.points == {9: (root, (START_NS + 7, START_NS + 7))}
    assert b"agency-3" not in public.read_bytes()
    assert b"agency-2" in public.read_bytes()
    lines = public.read_bytes().splitlines(keepends=True)
    for changed, number in (
        (lines[:3] + lines[4:], 4),
        ([*lines[:3], lines[3].replace(b'"leaf":"', b'"leaf":"0', 1), *lines[4:]], 4),
        ([*lines[:4], lines[4].replace(b"agency-4", b"agency-5"), *lines[5:]], 5),
    ):
        public.write_bytes(b"".join(changed))
        bad = scan(public, exported=True).bad
        assert bad is not None
        assert bad.number == number


def test_a_withheld_row_is_a_bad_row_in_the_nodes_own_log(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 3)
    path.write_bytes(b"".join(ledger.export(list(ledger.read_lines(path)), lambda row: row.number == 2)))
    with pytest.raises(LedgerError, match="row 2"):
        MerkleLog(path, SimulatedClock(START_NS))


def _delete(lines, at, _):
    return lines[:at] + lines[at + 1 :], at


def _swap(lines, at, other):
    lines = list(lines)
    lines[at], lines[other] = lines[other], lines[at]
    return lines, min(at, other)


def _duplicate(lines, at, _):
    return lines[: at + 1] + lines[at:], at + 1


def _insert(lines, at, other):
    return [*lines[:at], lines[other], *lines[at:]], at if other != at else at + 1


def _flip(lines, at, other):
    line = bytearray(lines[at])
    where = other % (len(line) - 1)  # the newline is the torn-tail test's
    line[where] ^= 1 << (other % 8)
    return [*lines[:at], bytes(line), *lines[at + 1 :]], at


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([_delete, _swap, _duplicate, _insert, _flip]),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 10_000),
)
def test_a_deleted_changed_reordered_or_added_row_is_found_and_named(shared_log, damage, at, other, bit):
    path, lines = shared_log
    changed, first = damage(lines, at, bit if damage is _flip else other)
    path.write_bytes(b"".join(changed))
    bad = scan(path).bad
    if changed == lines[: len(changed)]:  # nothing changed, or the end was cut: a checkpoint's affair
        assert bad is None
    else:
        assert bad is not None
        assert bad.number == first + 1


@pytest.fixture(scope="module")
def shared_log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "a.log"
    fill(path, 9)
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("name", ["salt", "root"])
def test_capital_hexadecimal_digits_are_not_another_form_of_the_same_row(tmp_path, name):
    path = tmp_path / "a.log"
    fill(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    value = msgspec.json.decode(second)[name].encode()
    path.write_bytes(first + second.replace(value, value.upper()) + third)
    bad = scan(path).bad
    assert bad is not None
    assert bad.number == 2


def test_the_same_row_in_another_spelling_is_bad(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for other in (
        second.replace(b'","', b'", "', 1),
        b" " + second,
        json.dumps(dict(reversed(json.loads(second).items()))).encode() + b"\n",
        second.replace(b'"row":', b'"row":{},"row":'),
    ):
        path.write_bytes(first + other + third)
        bad = scan(path).bad
        assert bad is not None
        assert bad.number == 2


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_judged_without_an_exception(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "a.log"
    path.write_bytes(data + b"\n")
    bad = scan(path).bad
    assert bad is not None
    assert bad.number == 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"root":"' + b"0" * 64 + b'","row":{"event":"a","fields":{"n":' + b"9" * 40 + b'},"number":1,"time_ns":1},'
        b'"salt":"' + b"0" * 32 + b'"}',
        b"[" * 5000,
        b'{"root":"\xff"}',
        b"0" * 70_000,
    ],
)
def test_hostile_lines_are_bad_rows(tmp_path, line):
    path = tmp_path / "a.log"
    path.write_bytes(line + b"\n")
    bad = scan(path).bad
    assert bad is not None
    assert bad.number == 1


def test_a_row_whose_time_is_before_the_row_above_is_bad(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 2)
    state, lines = Frontier(), []
    for number, time_ns in ((1, 500), (2, 400)):
        row = ledger.Row(number=number, time_ns=time_ns, event="a", fields={})
        state.append(ledger.leaf_of(row, bytes(16)))
        line = ledger.Line(root=state.root().hex(), row=row, salt=bytes(16).hex())
        lines.append(msgspec.json.encode(line, order="sorted") + b"\n")
    path.write_bytes(b"".join(lines))
    assert scan(path).bad == ledger.BadRow(number=2, reason="its time is before the row above")


def test_a_clock_that_went_back_or_is_quarantined_never_makes_a_bad_row(tmp_path):
    class Quarantined:
        def now_ns(self):
            raise ClockError("quarantined")

        def least_ns(self):
            return START_NS + 7

    path = tmp_path / "a.log"
    fill(path, 1)
    with MerkleLog(path, SimulatedClock(START_NS - 10**9)) as log:
        log.append("again")
    with MerkleLog(path, Quarantined()) as log:
        log.append("clock.quarantined", step_s=5)
        assert [row.time_ns for row in log.rows()] == [START_NS, START_NS, START_NS + 7]


@pytest.mark.parametrize(
    ("event", "fields", "message"),
    [
        ("Sealed", {}, "ledger event is"),
        ("", {}, "ledger event is"),
        ("a b", {}, "ledger event is"),
        ("sealed\n", {}, "ledger event is"),
        ("sealed", {"Plate": "x"}, "field's name"),
        ("sealed", {"a": 1.5}, "field a of ledger event sealed is a float"),
        ("sealed", {"a": None}, "is a NoneType"),
        ("sealed", {"a": PlateText("CANARY7")}, "is a PlateText"),
        ("sealed", {"a": "x" * 4097}, "over 4096 characters"),
        ("sealed", {"a": "x\ny"}, "unprintable"),
        ("sealed", {"a": "\ud800"}, "unprintable"),
        ("sealed", {"a": 2**63}, "64 bits"),
        ("sealed", {f"a{n}": n for n in range(25)}, "25 fields"),
        ("sealed", {f"a{n}": "x" * 4096 for n in range(5)}, "over 16384"),
    ],
)
def test_a_row_out_of_bounds_is_refused_without_its_value(tmp_path, event, fields, message):
    with MerkleLog(tmp_path / "a.log", SimulatedClock(START_NS)) as log:
        with pytest.raises(StoreError, match=message) as caught:
            log.append(event, **fields)
        assert "CANARY7" not in str(caught.value)
        assert log.size == 0
    assert (tmp_path / "a.log").read_bytes() == b""


def test_a_full_disk_leaves_the_log_as_it_was_and_it_goes_on_later(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    real = os.write
    with MerkleLog(path, SimulatedClock(START_NS)) as log:
        log.append("first")
        before = path.read_bytes()

        def short(fd, data):
            if len(data) < 100:
                raise OSError(28, os.strerror(28))
            return real(fd, data[: len(data) - 50])

        monkeypatch.setattr(ledger.os, "write", short)
        with pytest.raises(StoreError, match="No space left"):
            log.append("second", text="x" * 200)
        monkeypatch.undo()
        assert path.read_bytes() == before
        log.append("third")
    assert [row.event for row in read_rows(path)] == ["first", "third"]


def test_after_a_failed_sync_nothing_more_is_acknowledged(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, os.strerror(5))

    with MerkleLog(tmp_path / "a.log", SimulatedClock(START_NS)) as log:
        monkeypatch.setattr(ledger.os, "fsync", fail)
        with pytest.raises(StoreError, match="its disk fails"):
            log.append("first")
        monkeypatch.undo()
        with pytest.raises(StoreError, match="failed to sync before"):
            log.append("second")


def test_repeats_of_a_refusal_are_counted_and_nothing_else_is(tmp_path):
    clock = SimulatedClock(START_NS)
    with MerkleLog(tmp_path / "a.log", clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"uplink.refused"}), window_ns=1_000)
        for _ in range(5):
            rows.append("uplink.refused", recipient="a", reason="expired")
        rows.append("uplink.refused", recipient="b", reason="expired")
        rows.append("uplink.confirmed", recipient="a")
        rows.append("uplink.confirmed", recipient="a")
        assert log.size == 4
        clock.advance_to(START_NS + 1_000)
        rows.append("uplink.refused", recipient="a", reason="expired")
        rows.append("uplink.refused", recipient="a", reason="expired")
        rows.flush()
        rows.flush()
        told = [(row.event, row.fields.get("recipient"), row.fields.get("repeats")) for row in log.rows()]
    assert told == [
        ("uplink.refused", "a", None),
        ("uplink.refused", "b", None),
        ("uplink.confirmed", "a", None),
        ("uplink.confirmed", "a", None),
        ("uplink.refused", "a", 4),
        ("uplink.refused", "a", None),
        ("uplink.refused", "a", 1),
    ]


def test_the_memory_for_repeats_is_bounded(tmp_path):
    clock = SimulatedClock(START_NS)
    with MerkleLog(tmp_path / "a.log", clock) as log:
        rows = CoalescingLedger(log, clock, events=frozenset({"r"}), maximum=2)
        for name in "aabc":
            rows.append("r", recipient=name)
        assert [(row.fields["recipient"], row.fields.get("repeats")) for row in log.rows()] == [
            ("a", None),
            ("b", None),
            ("c", None),
            ("a", 1),
        ]


# The example of golang.org/x/mod/sumdb/note, which defines the form.
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_PUBLIC = base64.b64decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_notes_are_signed_as_gos_note_package_signs_them():
    key = Ed25519PrivateKey.from_private_bytes(GO_SEED)
    assert key.public_key().public_bytes_raw() == GO_PUBLIC
    assert checkpoints.key_id("PeterNeumann", GO_PUBLIC).hex() == "c74f20a3"
    assert sign_note("PeterNeumann", GO_TEXT, key).decode() == f"{GO_TEXT}\n{GO_LINE}"


@pytest.fixture
def key():
    return Ed25519PrivateKey.generate()


def point(size=3):
    return checkpoints.Checkpoint(origin=origin_of(PSEUDONYM, "capture"), size=size, root=bytes(32))


def test_a_checkpoint_verifies_also_with_a_witness_signature_added(key):
    note = sign(point(), key)
    assert note.startswith(b"homeplate/000102030405060708090a0b0c0d0e0f/capture\n3\nAAAA")
    public = key.public_key().public_bytes_raw()
    witness = sign_note("witness.example/w1", point().body, Ed25519PrivateKey.generate()).split(b"\n\n")[1]
    for good in (note, note + witness, note.replace(b"\n\n", b"\n\n" + witness)):
        assert verify(good, public) == point()


def test_a_checkpoint_that_was_altered_or_signed_by_another_key_is_refused(key):
    public = key.public_key().public_bytes_raw()
    note = sign(point(), key)
    for bad in (
        note.replace(b"\n3\n", b"\n4\n"),
        note.replace(b"/capture\n3", b"/uplink\n3"),
        note.replace(b"\n3\n", b"\n03\n"),
        note.replace(b"\n3\n", b"\n-3\n"),
        note.replace(b"\n\n", b"\nextension\n\n"),
        note.replace(b"\n\n", b"\n"),
        note[:-20],
        note.split(b"\n\n")[0] + b"\n\n",
        sign(point(), Ed25519PrivateKey.generate()),
        note.replace("— homeplate".encode(), "— witness".encode()),
        sign(checkpoints.Checkpoint(origin=point().origin, size=3, root=bytes(31)), key),
        sign(checkpoints.Checkpoint(origin="homeplate/a b", size=3, root=bytes(32)), key),
        b"",
        b"\xff" * 10,
        note + b"x" * 70_000,
    ):
        with pytest.raises(LedgerError):
            verify(bad, public)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_in_a_checkpoint_is_never_a_different_checkpoint(where, bit):
    key = Ed25519PrivateKey.from_private_bytes(GO_SEED)
    note = bytearray(sign(point(), key))
    note[where % len(note)] ^= 1 << bit
    with suppress(LedgerError):
        assert verify(bytes(note), GO_PUBLIC) == point()


def test_the_signer_signs_each_log_as_it_grows(tmp_path, key):
    logs = {name: tmp_path / f"{name}.log" for name in ("capture", "uplink", "purge")}
    folder = tmp_path / "checkpoints"
    root = fill(logs["capture"], 4)
    fill(logs["uplink"], 2)
    signed = sign_checkpoints(logs, key=key, pseudonym=PSEUDONYM, folder=folder)
    assert {name: point.size for name, point in signed.items()} == {"capture": 4, "uplink": 2}
    assert signed["capture"].root == root
    assert sign_checkpoints(logs, key=key, pseudonym=PSEUDONYM, folder=folder) == signed
    fill(logs["capture"], 3)
    sign_checkpoints(logs, key=key, pseudonym=PSEUDONYM, folder=folder)
    assert [path.name for path in checkpoints.checkpoint_files(folder, "capture")] == [
        "capture-000000000004.note",
        "capture-000000000007.note",
    ]


def test_the_signer_signs_only_rows_that_are_surely_on_the_disk(tmp_path, key, monkeypatch):
    path, real, synced = tmp_path / "capture.log", os.fsync, []
    with MerkleLog(path, SimulatedClock(START_NS)) as log:
        log.append("sealed", records="a")

        def fsync(fd):
            real(fd)
            if not synced:  # another row is written while the signer syncs, and not synced yet
                synced.append(os.fstat(fd).st_ino)
                log.append("sealed", records="b")

        monkeypatch.setattr(checkpoints.os, "fsync", fsync)
        signed = sign_checkpoints({"capture": path}, key=key, pseudonym=PSEUDONYM, folder=tmp_path / "checkpoints")
    assert signed["capture"].size == 1
    assert synced == [path.stat().st_ino]
    assert scan(path).frontier.size == 2


def test_threads_may_share_a_log(tmp_path):
    path = tmp_path / "a.log"
    with MerkleLog(path, SimulatedClock(START_NS)) as log:
        rows = CoalescingLedger(log, SimulatedClock(START_NS), events=frozenset({"r"}))

        def write(name):
            for number in range(20):
                rows.append("faults.row", thread=name, mark=number)
                rows.append("r", reason="same")

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows.flush()
    assert scan(path).bad is None
    told = [row for row in read_rows(path) if row.event == "r"]
    assert [row.fields.get("repeats") for row in told] == [None, 79]
    assert len(list(read_rows(path))) == 82


@pytest.mark.parametrize("keep", [0, 2, 3])
def test_the_signer_signs_nothing_that_contradicts_what_it_signed(tmp_path, key, keep):
    path, folder = tmp_path / "capture.log", tmp_path / "checkpoints"
    fill(path, 4)
    sign_checkpoints({"capture": path}, key=key, pseudonym=PSEUDONYM, folder=folder)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))
    fill(path, 9)  # another history, longer than the signed one and sound in itself
    with pytest.raises(LedgerError, match="contradicts its checkpoint of 4 rows"):
        sign_checkpoints({"capture": path}, key=key, pseudonym=PSEUDONYM, folder=folder)
    assert len(list(folder.iterdir())) == 1


def test_the_signer_signs_no_log_that_does_not_verify(tmp_path, key):
    path = tmp_path / "capture.log"
    fill(path, 4)
    path.write_bytes(path.read_bytes().replace(b"agency-2", b"agency-9"))
    with pytest.raises(LedgerError, match=r"capture.log, row 3: .*nothing was signed"):
        sign_checkpoints({"capture": path}, key=key, pseudonym=PSEUDONYM, folder=tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_a_disk_error_while_reading_is_named(tmp_path):
    folder = tmp_path / "a.log"
    folder.mkdir()
    with pytest.raises(StoreError, match=r"a\.log cannot be read"):
        scan(folder)
    with pytest.raises(StoreError, match="cannot be opened"):
        MerkleLog(folder, SimulatedClock(START_NS))


@given(st.text(max_size=2000))
def test_foreign_words_fit_into_a_row(text):
    said = fit(text)
    assert said.isprintable()
    assert len(said) <= 400
    assert all(word in text for word in said[:300].split()[:-1])
