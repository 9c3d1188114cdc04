"""Witnesses outside the operator: what they cosign, what they refuse, and what a verifier and `check` say of it."""

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import NANOSECONDS
from homeplate.domain.witness import Witness
from homeplate.errors import LedgerError
from homeplate.policy.witnessing import COSIGNED_WITHIN_S, watched
from homeplate.store.cosignatures import (
    cosign,
    cosignatures,
    decode_requests,
    encode_requests,
    read_request,
    read_verifier_key,
)
from homeplate.store.ledger import MerkleLog
from homeplate.store.witnessed import last_cosigned_s, requests, take
from homeplate_custodian import provision
from homeplate_custodian.cli import main
from homeplate_custodian.witness import answer, make_witness
from tests.custodian.test_verify import NOW_S, PSEUDONYM, Ledgers, enrolled  # noqa: F401 - a fixture

NAME = "witness.example/w1"


class Watched(Ledgers):
    """A node's ledgers and the witness that its bundle names."""

    def __init__(self, root):
        super().__init__(root / "node")
        self.witness_folder = root / "witness"
        self.witness = read_verifier_key(make_witness(self.witness_folder, NAME))

    def ask(self, **since):
        logs = {"capture": self.path("capture")}
        return [one for _, one in requests(logs, self.checkpoints, [self.witness], since)]

    def answer(self, asked):
        return answer(self.witness_folder, asked, [self.node()], NOW_S)

    def visit(self, **since):
        (said,) = self.answer(self.ask(**since))
        if said.note:
            public = self.key.public_key().public_bytes_raw()
            take([said.note], self.checkpoints, [self.witness], pseudonym=PSEUDONYM, public=public)
        return said

    def report(self):
        return self.verify(witnesses=[self.witness]).logs[0]


@pytest.fixture
def watched_log(tmp_path):
    ledgers = Watched(tmp_path)
    ledgers.write("capture", 5)
    ledgers.sign("capture")
    return ledgers


def test_a_witness_cosigns_what_continues_the_log_and_the_verifier_says_up_to_which_row(watched_log):
    assert watched_log.report().witnessed == 0
    assert watched_log.visit().refused is None
    watched_log.write("capture", 6)
    watched_log.sign("capture")
    asked = watched_log.ask()
    assert (asked[0].old_size, len(asked[0].proof) > 0) == (5, True)
    assert watched_log.visit().refused is None
    report = watched_log.report()
    assert (report.bad, report.witnessed, report.witnessed_s) == (None, 11, NOW_S)
    assert last_cosigned_s(watched_log.checkpoints, "capture", [watched_log.witness]) == NOW_S


def test_what_a_witness_is_asked_holds_no_row(watched_log):
    data = encode_requests([(NAME, one) for one in watched_log.ask()])
    assert b"agency" not in data
    assert b"uplink.refused" not in data
    assert decode_requests(data, NAME) == watched_log.ask()
    assert decode_requests(data, "another.example/w") == []


def test_a_log_that_was_set_back_or_forked_is_not_cosigned_and_its_checkpoint_is_kept_as_evidence(
    watched_log, tmp_path
):
    watched_log.visit()
    other = Watched(tmp_path / "fork")
    other.key, other.witness, other.witness_folder = watched_log.key, watched_log.witness, watched_log.witness_folder
    for rows, code in ((3, "set-back"), (2, "fork")):
        other.write("capture", rows)
        other.sign("capture")
        (said,) = other.answer(other.ask())
        assert (said.note, said.refused.partition(":")[0]) == (None, code)
    other.write("capture", 4)
    other.sign("capture")
    (said,) = other.answer(other.ask(capture=5))
    assert (said.note, said.refused.partition(":")[0]) == (None, "fork")
    assert len(list((watched_log.witness_folder / "evidence").rglob("*.note"))) == 3
    known = watched_log.witness_folder / "logs" / PSEUDONYM.hex()
    assert other.bad(known=[known]).number == 4  # 3 rows were signed before; the witness knows another fifth
    assert watched_log.bad(known=[known]) is None


def test_a_request_that_continues_another_size_is_told_how_to_ask(watched_log):
    watched_log.visit()
    watched_log.write("capture", 2)
    watched_log.sign("capture")
    (said,) = watched_log.answer(watched_log.ask(capture=0))
    assert "--since capture=5" in said.refused
    assert watched_log.visit(capture=5).refused is None


def test_a_node_that_the_bundle_does_not_name_or_that_did_not_sign_gets_no_cosignature(watched_log):
    asked = watched_log.ask()
    for nodes in ([], [watched_log.node(revoked=True)], [watched_log.node(not_after_s=NOW_S - 1)]):
        (said,) = answer(watched_log.witness_folder, asked, nodes, NOW_S)
        assert said.note is None
    stranger = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    (said,) = answer(watched_log.witness_folder, asked, [watched_log.node(ledger_public=stranger)], NOW_S)
    assert "no signature" in said.refused


def test_a_cosignature_that_is_wrong_is_named_and_a_strangers_is_no_word(watched_log):
    said = watched_log.visit()
    stranger = cosign(said.note, "stranger.example/w", Ed25519PrivateKey.generate(), NOW_S)
    assert [one.name for one in cosignatures(stranger, [watched_log.witness])] == [NAME]
    forged = Witness(name=NAME, public=watched_log.witness.public)
    body, _, signatures = said.note.decode().rpartition("\n\n")
    own, word = signatures.splitlines()
    moved = word[:-20] + ("A" if word[-20] != "A" else "B") + word[-19:]
    with pytest.raises(LedgerError, match="is wrong"):
        cosignatures(f"{body}\n\n{own}\n{moved}\n".encode(), [forged])


def test_the_node_takes_only_what_it_signed_and_what_a_witness_of_the_bundle_cosigned(watched_log):
    (said,) = watched_log.answer(watched_log.ask())
    public = watched_log.key.public_key().public_bytes_raw()
    with pytest.raises(LedgerError, match="no witness that the bundle names"):
        take([said.note], watched_log.checkpoints, [], pseudonym=PSEUDONYM, public=public)
    next(watched_log.checkpoints.iterdir()).unlink()
    with pytest.raises(LedgerError, match="keeps no such checkpoint"):
        take([said.note], watched_log.checkpoints, [watched_log.witness], pseudonym=PSEUDONYM, public=public)


@pytest.mark.parametrize("body", ["", "old 1", "old 01\n\nx", "old 1\n!!\n\nx", "old 1\nAAAA\n\nx", "old -1\n\nx"])
def test_what_is_no_request_is_refused(body):
    with pytest.raises(LedgerError):
        read_request(body)


def test_nobody_watching_a_witness_that_never_came_and_one_that_came_long_ago_are_told_apart():
    witness = Witness(name=NAME, public=bytes(32))
    assert watched([], "capture", None, NOW_S).reason.startswith("no-witness")
    assert watched([witness], "capture", None, NOW_S).reason.startswith("never-cosigned")
    assert watched([witness], "capture", NOW_S - COSIGNED_WITHIN_S, NOW_S) is None
    assert watched([witness], "capture", NOW_S - COSIGNED_WITHIN_S - 1, NOW_S).reason.startswith("cosigned-long-ago")


def test_the_witness_runs_with_the_bundle_and_its_folder_alone_and_verify_says_what_it_saw(enrolled, tmp_path):  # noqa: F811
    ledgers, custody = enrolled
    made = CliRunner().invoke(main, ["witness", "init", str(tmp_path / "w"), "--name", NAME])
    key = made.output.splitlines()[0]
    added = CliRunner().invoke(main, ["bundle", "witness", "add", str(custody), key])
    assert added.exit_code == 0, added.output
    provision.publish_bundle(custody, now_s=ledgers.clock.now_ns() // NANOSECONDS + 1)
    asked = requests({"capture": ledgers.path("capture")}, ledgers.checkpoints, [read_verifier_key(key)], {})
    (tmp_path / "asked.json").write_bytes(encode_requests(asked))
    public = ["--bundle", str(custody / "bundle"), "--root", str(custody / "root.json")]
    files = [str(tmp_path / name) for name in ("w", "asked.json", "cosigned.json")]
    done = CliRunner().invoke(main, ["witness", "cosign", *files[:2], *public, "--out", files[2]])
    assert done.exit_code == 0, done.output
    assert "3 rows cosigned" in done.output
    verified = CliRunner().invoke(
        main, ["verify", str(ledgers.folder), *public, "--known", str(tmp_path / "w" / "logs" / PSEUDONYM.hex())]
    )
    assert "witnessed up to row 3" in verified.output


def test_a_report_counts_records_by_agency_and_refusals_by_reason_and_nothing_of_another_year(enrolled):  # noqa: F811
    ledgers, custody = enrolled
    with MerkleLog(ledgers.path("uplink"), ledgers.clock) as log:
        for record, event in (
            ("r1", "delivery.outcome-unknown"), ("r1", "delivery.confirmed"), ("r2", "delivery.confirmed"),
            ("r3", "delivery.outcome-unknown"), ("r4", "delivery.not-sent"),
        ):  # fmt: skip
            log.append(event, record=record, recipient="city-pd", attempt=1)
        log.append("delivery.refused", record="r5", recipient="other", attempt=1, reason="not-listed: other", repeats=3)
    ledgers.sign()
    year = str(1970 + int(ledgers.clock.now_ns() / NANOSECONDS / 86_400 / 365.2425))
    args = ["report", "disclosures", str(ledgers.folder), "--custody", str(custody), "--year"]
    done = CliRunner().invoke(main, [*args, year])
    assert done.exit_code == 0, done.output
    assert f"{year}: 3 records disclosed" in done.output
    assert "city-pd (not in this bundle): 2 confirmed, 1 unknown" in done.output
    assert "other: 3 not-listed" in done.output
    assert "0 records disclosed" in CliRunner().invoke(main, [*args, "2001"]).output
    lines = ledgers.lines("uplink")
    ledgers.path("uplink").write_bytes(b"".join(lines[1:]))
    bad = CliRunner().invoke(main, [*args, year, "--json"])
    assert bad.exit_code == 10
    assert "row 1" in bad.output


def test_publishing_says_plainly_who_is_refused_and_why(enrolled):  # noqa: F811
    ledgers, custody = enrolled
    provision.add_purpose(custody, "Vehicle theft")
    provision.grant(
        custody, identifier="nobody-pd", need="Stolen vehicles", purpose="Vehicle theft", approver="City Council",
        approved_on="2026-01-01", expires_s=ledgers.clock.now_ns() // NANOSECONDS + 86_400, attested=True,
    )  # fmt: skip
    done = CliRunner().invoke(main, ["bundle", "publish", str(custody)])
    assert done.exit_code == 0, done.output
    assert "note: refused  nobody-pd: " in done.output
