"""Verifying a node's ledgers: what was deleted, changed, reordered, cut off or rewritten is found and named."""

import json
import shutil
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import NANOSECONDS, SimulatedClock, WallClock
from homeplate.domain.node import NodeEntry
from homeplate.domain.record import StorageClass
from homeplate.errors import LedgerError
from homeplate.purge import purge
from homeplate.sealing.slots import SlotStore
from homeplate.store import checkpoints
from homeplate.store.checkpoints import Checkpoint, origin_of, sign, sign_checkpoints
from homeplate.store.ledger import MerkleLog, export, read_lines
from homeplate.store.spool import FileSpool
from homeplate.trust.enrolment import make_request
from homeplate_custodian import provision
from homeplate_custodian.cli import main
from homeplate_custodian.verify import Evidence, verify_ledger

PSEUDONYM = bytes(range(16))
NOW_S = 1_790_000_000
LOGS = ("capture", "uplink")


class Ledgers:
    """A node's ledger folder, its signer, and what an intruder does to it."""

    def __init__(self, root, key=None):
        self.folder = root / "ledger"
        self.checkpoints = self.folder / "checkpoints"
        self.key = key or Ed25519PrivateKey.generate()
        self.clock = SimulatedClock(NOW_S * NANOSECONDS)

    def write(self, name, rows):
        with MerkleLog(self.path(name), self.clock) as log:
            for _ in range(rows):
                log.append("uplink.refused", recipient=f"agency-{log.size}", reason="not on the list")

    def sign(self, *names):
        logs = {name: self.path(name) for name in names or LOGS}
        return sign_checkpoints(logs, key=self.key, pseudonym=PSEUDONYM, folder=self.checkpoints)

    def path(self, name):
        return self.folder / f"{name}.log"

    def lines(self, name="capture"):
        return self.path(name).read_bytes().splitlines(keepends=True)

    def node(self, **other):
        fields = {
            "pseudonym": PSEUDONYM,
            "record_public": bytes(32),
            "ledger_public": self.key.public_key().public_bytes_raw(),
            "hot_list_public": bytes(32),
            "cameras": ("west",),
            "not_before_s": NOW_S - 10,
            "not_after_s": NOW_S + 10,
        }
        return NodeEntry(**{**fields, **other})

    def verify(self, **other):
        return verify_ledger(self.folder, other.pop("nodes", [self.node()]), Evidence(**other))

    def bad(self, name="capture", **other):
        return next(log.bad for log in self.verify(**other).logs if log.name == name)


@pytest.fixture
def ledgers(tmp_path):
    ledgers = Ledgers(tmp_path)
    ledgers.write("capture", 4)
    ledgers.write("uplink", 2)
    ledgers.sign()
    ledgers.write("capture", 5)
    ledgers.sign()
    ledgers.write("uplink", 1)
    return ledgers


def test_sound_ledgers_verify_and_unsigned_rows_are_counted(ledgers):
    report = ledgers.verify()
    assert report.ok
    assert report.node == PSEUDONYM.hex()
    assert [(log.name, log.rows, log.signed) for log in report.logs] == [("capture", 9, 9), ("uplink", 3, 2)]


@pytest.mark.parametrize("at", range(9))
def test_a_deleted_row_is_named(ledgers, at):
    lines = ledgers.lines()
    ledgers.path("capture").write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    assert ledgers.bad().number == at + 1
    assert not ledgers.verify().ok


@pytest.mark.parametrize("keep", range(9))
def test_a_log_that_was_cut_off_is_found_by_its_checkpoint(ledgers, keep):
    ledgers.path("capture").write_bytes(b"".join(ledgers.lines()[:keep]))
    bad = ledgers.bad()
    assert bad.number == keep + 1
    assert "the log has" in bad.reason


def test_a_log_that_vanished_is_found_by_its_checkpoint(ledgers):
    ledgers.path("capture").unlink()
    assert ledgers.bad().number == 1


@pytest.mark.parametrize("at", [0, 3, 4, 8])
def test_a_changed_row_is_named(ledgers, at):
    lines = ledgers.lines()
    lines[at] = lines[at].replace(b"not on the list", b"not on the lisp")
    ledgers.path("capture").write_bytes(b"".join(lines))
    assert ledgers.bad().number == at + 1


def test_reordered_rows_are_named(ledgers):
    lines = ledgers.lines()
    lines[2], lines[6] = lines[6], lines[2]
    ledgers.path("capture").write_bytes(b"".join(lines))
    assert ledgers.bad().number == 3


@pytest.mark.parametrize(("keep", "first"), [(0, 1), (3, 1), (4, 5), (8, 5)])
def test_rows_rewritten_with_fresh_hashes_are_found_by_the_checkpoint(ledgers, keep, first):
    """Without the key the intruder makes a log that is sound in itself; the rows past the last good signature fall."""
    ledgers.path("capture").write_bytes(b"".join(ledgers.lines()[:keep]))
    ledgers.write("capture", 12 - keep)
    bad = ledgers.bad()
    assert bad.number == first
    assert "are not those that" in bad.reason


def test_a_log_set_back_with_its_checkpoints_is_found_by_a_copy_of_the_checkpoints(ledgers, tmp_path):
    shutil.copytree(ledgers.checkpoints, tmp_path / "copy")
    (ledgers.checkpoints / "capture-000000000009.note").unlink()
    ledgers.path("capture").write_bytes(b"".join(ledgers.lines()[:4]))
    assert ledgers.bad() is None
    assert ledgers.bad(known=[tmp_path / "copy"]).number == 5


def test_a_checkpoint_that_another_key_signed_vouches_for_nothing(ledgers):
    shutil.rmtree(ledgers.checkpoints)
    ledgers.key, own = Ed25519PrivateKey.generate(), ledgers.key
    ledgers.sign()
    ledgers.key = own
    bad = ledgers.bad()
    assert bad.number == 1
    assert "no signature of the node's ledger key" in bad.reason


def test_a_damaged_checkpoint_leaves_the_rows_past_the_one_before_unvouched(ledgers):
    note = ledgers.checkpoints / "capture-000000000009.note"
    note.write_bytes(note.read_bytes()[:-10])
    assert ledgers.bad().number == 5


def test_a_checkpoint_of_another_log_does_not_pass(ledgers):
    shutil.copy(ledgers.checkpoints / "uplink-000000000002.note", ledgers.checkpoints / "capture-000000000002.note")
    assert ledgers.bad().number == 1


def test_a_checkpoint_of_another_log_does_not_pass_with_the_right_root_either(ledgers):
    """The key signs for all of a node's logs: the origin alone tells which one it speaks of."""
    good = checkpoints.parse((ledgers.checkpoints / "capture-000000000009.note").read_bytes())
    other = Checkpoint(origin=origin_of(PSEUDONYM, "uplink"), size=good.size, root=good.root)
    (ledgers.checkpoints / "capture-000000000009.note").write_bytes(sign(other, ledgers.key))
    bad = ledgers.bad()
    assert bad.number == 5
    assert "/uplink" in bad.reason


def test_a_log_without_a_checkpoint_is_bad_from_its_first_row(ledgers):
    for note in ledgers.checkpoints.glob("capture-*"):
        note.unlink()
    assert ledgers.bad().number == 1
    assert ledgers.bad("uplink") is None


def test_signatures_outside_the_nodes_dates_do_not_count(ledgers):
    assert ledgers.bad(nodes=[ledgers.node(not_after_s=NOW_S - 1)]).number == 1
    assert ledgers.bad(nodes=[ledgers.node(not_before_s=NOW_S + 1)]).number == 1


def test_whose_ledgers_cannot_be_told_is_refused(ledgers, tmp_path):
    for nodes, message in (
        ([], "is not in the bundle"),
        ([ledgers.node(pseudonym=bytes(16))], "is not in the bundle"),
        ([ledgers.node(revoked=True)], "is revoked"),
    ):
        with pytest.raises(LedgerError, match=message):
            ledgers.verify(nodes=nodes)
    shutil.rmtree(ledgers.checkpoints)
    with pytest.raises(LedgerError, match="no readable checkpoint"):
        ledgers.verify()
    (tmp_path / "empty").mkdir()
    with pytest.raises(LedgerError, match="holds no ledger"):
        verify_ledger(tmp_path / "empty", [])
    with pytest.raises(LedgerError, match="is no folder"):
        verify_ledger(tmp_path / "none", [])


def test_an_export_that_withholds_rows_verifies_and_a_false_one_does_not(ledgers):
    path = ledgers.path("capture")
    public = ledgers.folder / "capture.export"
    public.write_bytes(b"".join(export(read_lines(path), lambda row: row.number in {2, 9})))
    path.unlink()
    report = ledgers.verify()
    assert report.ok
    assert (report.logs[0].rows, report.logs[0].withheld) == (9, 2)
    lines = public.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"agency-4", b"agency-7")
    public.write_bytes(b"".join(lines))
    assert ledgers.bad().number == 5


def append(ledgers, name, *rows):
    with MerkleLog(ledgers.path(name), ledgers.clock) as log:
        for event, fields in rows:
            log.append(event, **fields)
    ledgers.sign(name)


def take_away(ledgers, name):
    """Remove a log and every checkpoint of it: nothing of itself is left."""
    ledgers.path(name).unlink()
    for note in ledgers.checkpoints.glob(f"{name}-*"):
        note.unlink()


SEALED_FOR = ("capture.sealed", {"storages": "local,outgoing", "recipients": "a,b"})


@pytest.mark.parametrize(
    ("gone", "speaks", "row", "why"),
    [
        ("uplink", "capture", SEALED_FOR, "sealed for recipients"),
        ("capture", "uplink", ("delivery.intended", {"record": "r"}), "uplink log speaks"),
        ("capture", "purge", ("purge.done", {"keys_destroyed": 1, "local_files": 0}), "records were destroyed"),
        ("hold", "purge", ("purge.done", {"keys_destroyed": 0, "holds": 1}), "evidence holds"),
        ("bundle", "capture", ("capture.started", {}), "a bundle was in force"),
    ],
)
def test_a_log_removed_with_its_checkpoints_is_named(ledgers, gone, speaks, row, why):
    for name in ("bundle", "hold", gone):
        append(ledgers, name, ("bundle.started", {}))
    append(ledgers, speaks, row)
    assert ledgers.verify().ok
    take_away(ledgers, gone)
    report = ledgers.verify()
    assert not report.ok
    (bad,) = [log.bad for log in report.logs if log.bad]
    assert ledgers.bad(gone) == bad
    assert bad.number == 1
    assert "the whole log is missing" in bad.reason
    assert why in bad.reason
    partial = ledgers.verify(partial=True)
    assert partial.ok
    assert why in partial.absent[gone]


def test_an_empty_log_without_a_checkpoint_stands_for_none(ledgers):
    append(ledgers, "capture", SEALED_FOR)
    append(ledgers, "bundle", ("bundle.installed", {}))
    take_away(ledgers, "uplink")
    ledgers.path("uplink").touch()
    assert "sealed for recipients" in ledgers.bad("uplink").reason


def test_a_purge_that_never_ran_is_missing_once_rows_of_more_than_a_day_are_there(ledgers):
    sealed = ("capture.sealed", {"storages": "local"})
    append(ledgers, "bundle", ("bundle.installed", {}))
    append(ledgers, "capture", sealed)
    ledgers.clock.advance_to((NOW_S + 86_400) * NANOSECONDS)
    append(ledgers, "capture", sealed)
    later = [ledgers.node(not_after_s=NOW_S + 10**6)]
    assert ledgers.verify(nodes=later).ok
    ledgers.clock.advance_to((NOW_S + 86_401) * NANOSECONDS)
    append(ledgers, "capture", sealed)
    assert "a purge runs each minute" in ledgers.bad("purge", nodes=later).reason
    append(ledgers, "purge", ("purge.done", {"keys_destroyed": 0}))
    assert ledgers.verify(nodes=later).ok


def test_logs_that_no_row_speaks_of_are_named_as_not_verified_and_no_more(ledgers):
    report = ledgers.verify()
    assert report.ok
    assert report.absent == {"bundle": "", "purge": ""}


@pytest.fixture
def purged(tmp_path):
    """A node that purged once; its certificates beside its ledger."""
    ledgers = Ledgers(tmp_path)
    (tmp_path / "slots").mkdir()
    stores = {
        storage: SlotStore(tmp_path / "slots" / f"{storage}.d", tmp_path / "slots" / f"{storage}.m")
        for storage in StorageClass
    }
    stores[StorageClass.LOCAL].slot_for("hits", NOW_S, 600)
    purge(
        clock=ledgers.clock,
        stores=stores,
        spool=FileSpool(tmp_path / "spool"),
        open_ledger=lambda: MerkleLog(ledgers.path("purge"), ledgers.clock),
        certificates=tmp_path / "certificates",
    )
    ledgers.sign("purge")
    yield ledgers
    for store in stores.values():
        store.close()


def test_a_purge_certificate_must_say_what_its_row_says(purged, tmp_path):
    folder = tmp_path / "certificates"
    assert purged.bad("purge", certificates=folder) is None
    path = folder / "purge-000000000002.json"
    good = path.read_text()
    for changed in (
        good.replace('"keys_destroyed": 1', '"keys_destroyed": 2'),
        good.replace('"row": 2', '"row": 1'),
        "{}",
    ):
        assert changed != good
        path.write_text(changed)
        assert purged.bad("purge", certificates=folder).number == 2
    path.unlink()
    for number in (1, 9):
        moved = folder / f"purge-{number:012}.json"
        moved.write_text(good)
        assert purged.bad("purge", certificates=folder).number == number
        moved.unlink()


@pytest.fixture
def enrolled(tmp_path):
    """A custody that enrolled the node and published its bundle, by the wall clock; the node's ledgers, signed."""
    return made_at(tmp_path, WallClock().now_ns() // NANOSECONDS)


def made_at(tmp_path, now_s):
    record, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    ledgers = Ledgers(tmp_path / "node", key)
    ledgers.clock = SimulatedClock(now_s * NANOSECONDS)
    ledgers.write("capture", 3)
    ledgers.sign()
    custody = tmp_path / "custody"
    provision.init(custody, registry_body="State Registry", operator_body="City of Example", now_s=now_s)
    provision.enrol(custody, _request(record, key), now_s=now_s)
    provision.publish_bundle(custody, now_s=now_s)
    return ledgers, custody


def _request(record, key):
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    tls = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, PSEUDONYM.hex())])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(tls, SHA256())
    return make_request(
        pseudonym=PSEUDONYM,
        record_public=record.public_key().public_bytes_raw(),
        ledger_public=key.public_key().public_bytes_raw(),
        hot_list_public=bytes(range(32)),
        csr_pem=csr.public_bytes(Encoding.PEM).decode(),
        cameras=("west",),
    )


def run(*args):
    return CliRunner().invoke(main, ["verify", *map(str, args)])


def test_the_command_takes_the_nodes_from_the_custody_or_from_a_bundle_under_a_root(enrolled):
    ledgers, custody = enrolled
    done = run(ledgers.folder, "--custody", custody)
    assert (done.exit_code, done.output) == (
        0,
        f"node {PSEUDONYM.hex()}\ncapture: 3 rows are good, no witness has seen it\n"
        + "".join(
            f"note: {name}: no log is here, nothing of it was verified\n" for name in ("bundle", "purge", "uplink")
        ),
    )
    ledgers.write("capture", 2)
    done = run(ledgers.folder, "--bundle", custody / "bundle", "--root", custody / "root.json", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["logs"]["capture"] == {
        "rows": 5, "signed": 3, "first": 1, "withheld": 0, "witnessed": 0, "witnessed_at": None, "bad_row": None,
        "reason": None,
    }  # fmt: skip


def test_the_command_names_the_first_bad_row_and_exits_with_10(enrolled):
    ledgers, custody = enrolled
    lines = ledgers.lines()
    ledgers.path("capture").write_bytes(lines[0] + lines[2])
    done = run(ledgers.folder, "--custody", custody)
    assert done.exit_code == 10
    assert "capture: row 2 is bad: row 3 stands in its place" in done.output
    assert "error: ledger capture, row 2" in done.output


def days(seconds):
    return datetime.fromtimestamp(seconds, tz=UTC).date().isoformat()


def test_a_bundle_that_is_over_is_judged_as_of_a_day_on_which_it_was_in_force_and_that_is_said(tmp_path):
    then_s = WallClock().now_ns() // NANOSECONDS - 60 * 86_400
    ledgers, custody = made_at(tmp_path, then_s)
    public = ("--bundle", custody / "bundle", "--root", custody / "root.json")
    done = run(ledgers.folder, *public)
    assert done.exit_code == 6
    assert "`verify --at YYYY-MM-DD`" in done.output
    done = run(ledgers.folder, *public, "--at", days(then_s + 86_400))
    assert done.exit_code == 0, done.output
    assert f"note: judged as of {days(then_s + 86_400)}, not as of today\n" in done.output
    assert run(ledgers.folder, *public, "--at", days(then_s + 50 * 86_400)).exit_code == 6
    ahead = run(ledgers.folder, *public, "--at", "2999-01-01")
    assert ahead.exit_code == 2
    assert "is not there yet" in ahead.output


def test_what_a_revoked_node_wrote_up_to_the_day_is_judged_and_a_row_after_it_is_bad(ledgers):
    revoked = [ledgers.node(revoked=True, not_after_s=NOW_S + 10**6)]
    with pytest.raises(LedgerError, match="--at YYYY-MM-DD"):
        ledgers.verify(nodes=revoked)
    report = ledgers.verify(nodes=revoked, until_s=NOW_S + 1)
    assert report.ok
    assert report.revoked
    ledgers.clock.advance_to((NOW_S + 1) * NANOSECONDS)
    ledgers.write("capture", 1)
    ledgers.sign()
    bad = ledgers.bad(nodes=revoked, until_s=NOW_S + 1)
    assert bad.number == 10
    assert "the node is revoked" in bad.reason


def test_the_command_asks_whose_nodes_count(enrolled):
    ledgers, custody = enrolled
    for args in ((), ("--bundle", custody / "bundle"), ("--custody", custody, "--root", custody / "root.json")):
        done = run(ledgers.folder, *args)
        assert done.exit_code == 2
        assert "--custody FOLDER" in done.output
