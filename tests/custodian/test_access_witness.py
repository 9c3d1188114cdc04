"""The access log is watched from outside, as a node's logs are: asked by file, cosigned, judged by `audit verify`."""

import shutil

import pytest
from click.testing import CliRunner

from homeplate.clock import NANOSECONDS, SimulatedClock, WallClock
from homeplate.errors import ConfigError
from homeplate_custodian import provision
from homeplate_custodian.access import read_keys
from homeplate_custodian.access_witness import signers
from homeplate_custodian.cli import main
from tests.custodian.sealed_kit import Node
from tests.custodian.test_access import Desk

NAME = "witness.example/w1"


def call(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


class Office:
    """A custody with a published bundle, the accesses made in it, and a witness elsewhere that the bundle may name."""

    def __init__(self, root):
        self.root, self.custody, self.witness = root, root / "custody", root / "witness"
        self.now_s = WallClock().now_ns() // NANOSECONDS
        provision.init(self.custody, registry_body="State Registry", operator_body="City of Example", now_s=self.now_s)
        provision.publish_bundle(self.custody, now_s=self.now_s)
        self.desk = Desk(self.custody)
        self.desk.clock = SimulatedClock(self.now_s * NANOSECONDS)
        self.desk.open()
        self.copy = root / "keys.pub"  # handed to the witness once
        shutil.copy(self.custody / "access" / "keys.pub", self.copy)

    def name_witness(self):
        key = call("witness", "init", self.witness, "--name", NAME).splitlines()[0]
        call("bundle", "witness", "add", self.custody, key)
        provision.publish_bundle(self.custody, now_s=self.now_s + 1)

    def public(self):
        return ["--bundle", self.custody / "bundle", "--root", self.custody / "root.json"]

    def ask(self, *words):
        return call("audit", "request", self.custody, self.root / "asked.json", *words)

    def cosign(self, code=0):
        words = [self.witness, self.root / "asked.json", *self.public(), "--access-log", self.copy]
        return call("witness", "cosign", *words, "--out", self.root / "cosigned.json", code=code)

    def take(self, code=0):
        return call("audit", "cosigned", self.custody, self.root / "cosigned.json", code=code)

    def verify(self, *words, code=0):
        return call("audit", "verify", self.custody, *words, code=code)


@pytest.fixture
def office(tmp_path):
    return Office(tmp_path)


@pytest.fixture
def watched(office):
    office.name_witness()
    return office


def test_audit_verify_says_where_nobody_outside_watches_the_access_log(office):
    assert "note: no-witness: the registry names none" in office.verify()
    assert "names no witness" in call("audit", "request", office.custody, office.root / "asked.json", code=2)
    office.name_witness()
    said = office.verify()
    assert "note: never-cosigned: no witness has cosigned the access log" in said
    assert "homeplate-custodian audit request" in said
    shutil.rmtree(office.custody / "bundle")
    said = office.verify()
    assert "2 rows are good" in said
    assert "note: no-witness: this custody's bundle names none that counts" in said
    assert "is missing" in office.verify("--bundle", office.witness, "--root", office.custody / "root.json", code=6)


def test_a_witness_cosigns_the_access_log_as_it_grows_and_audit_verify_says_up_to_which_row(watched):
    for rows in (2, 4):
        watched.ask()
        assert b"badge 12" not in (watched.root / "asked.json").read_bytes()
        assert f"{rows} rows cosigned" in watched.cosign()
        assert f"access: {rows} rows cosigned by {NAME}" in watched.take()
        said = watched.verify(*watched.public())
        assert f"witnessed up to row {rows} at " in said
        assert "note:" not in said
        watched.desk.open()
    assert "6 rows are good, 0 of them not signed yet\nwitnessed up to row 4 at " in watched.verify()


def test_an_access_log_that_was_set_back_is_not_cosigned_and_the_witnesss_memory_shows_it(watched):
    early = watched.root / "early"
    shutil.copytree(watched.custody, early)
    watched.desk.open()
    watched.ask()
    watched.cosign()
    shutil.rmtree(watched.custody)
    shutil.copytree(early, watched.custody)
    assert "2 rows are good" in watched.verify()
    watched.ask()
    assert "set-back: the log had 4 rows" in watched.cosign(code=10)
    memory = watched.witness / "logs" / read_keys(watched.copy).custodian.hex()
    assert "row 3: it is missing" in watched.verify("--known", memory, code=10)
    assert len(list((watched.witness / "evidence").rglob("*.note"))) == 1
    watched.desk.open()  # as many rows as were seen, and other ones
    watched.ask()
    assert "fork: of its 4 rows another root was signed before" in watched.cosign(code=10)


def test_a_cosignature_on_the_access_log_that_is_wrong_is_a_bad_row(watched):
    watched.ask()
    watched.cosign()
    watched.take()
    (note,) = (watched.custody / "checkpoints").glob("access-*.note")
    text = note.read_text()
    note.write_text(text[:-20] + ("A" if text[-20] != "A" else "B") + text[-19:])
    assert f"the cosignature of the witness {NAME} is wrong" in watched.verify(code=10)


def test_an_access_log_of_which_the_witness_has_no_copy_of_the_keys_gets_no_cosignature(watched, tmp_path):
    watched.ask()
    other = Desk(tmp_path / "other")
    other.open()
    watched.copy = other.folder / "access" / "keys.pub"
    assert "names no node that has the log" in watched.cosign(code=10)
    assert watched.verify().count("note: never-cosigned") == 1


def test_a_cosigned_file_of_another_custody_is_refused(watched, tmp_path):
    watched.ask()
    watched.cosign()
    shutil.rmtree(watched.custody / "access")
    (watched.custody / "access.log").unlink()
    shutil.rmtree(watched.custody / "checkpoints")
    watched.desk.open()
    assert "no signature of the node's ledger key" in watched.take(code=10)


def test_a_witness_that_knows_another_size_says_how_to_ask_and_nothing_else_is_taken_for_a_size(watched):
    watched.ask()
    watched.cosign()
    watched.desk.open()
    watched.ask()  # what was cosigned never came back
    assert "--since access=2" in watched.cosign(code=10)
    watched.ask("--since", "access=2")
    assert "4 rows cosigned" in watched.cosign()
    for words in ("capture=2", "access=", "access=-1", "2"):
        assert "--since is access=SIZE" in call(
            "audit", "request", watched.custody, watched.root / "asked.json", "--since", words, code=2
        )


def test_no_copy_of_keys_may_bear_a_nodes_name_or_be_there_twice(office):
    custodian = read_keys(office.copy).custodian
    assert [one.pseudonym for one in signers([], [office.copy])] == [custodian]
    for nodes, copies in (([Node(custodian).entry()], [office.copy]), ([], [office.copy, office.copy])):
        with pytest.raises(ConfigError, match="the name of a node or of another access log"):
            signers(nodes, copies)
