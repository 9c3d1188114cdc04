"""`homeplate-custodian open` as a person uses it: what it demands, what it shows, what it says of a read."""

import json

import pytest
from click.testing import CliRunner

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.store.ledger import read_rows
from homeplate_custodian.access import KEYS, plates_of
from homeplate_custodian.cli import main
from homeplate_custodian.records import Inbox
from tests.custodian import sealed_kit
from tools import stage

WHO = {"--user": "b7", "--organisation": "o", "--purpose": stage.PURPOSE, "--case": "26-1234"}


@pytest.fixture
def received(simulation_node):
    """Return a custody that has received two plates from its node."""
    identity = json.loads(simulation_node.paths.identity.read_text())
    signing = load_signing_key(simulation_node.paths.record_key)
    node = sealed_kit.Node(pseudonym=bytes.fromhex(identity["pseudonym"]), signing=signing)
    key, inbox = (
        load_sealing_key(simulation_node.agency_key),
        Inbox(simulation_node.custody / "received" / stage.AGENCY),
    )
    keep_until_s = WallClock().now_ns() // NANOSECONDS + 3600
    for plate in (sealed_kit.PLATE, "8XYZ999"):
        inbox.store(*node.facts(key, plate=plate, keep_until_s=keep_until_s))
    return simulation_node.custody


def call(custody, *more, code=0, text=None, without=(), **changed):
    options = {name: value for name, value in (WHO | changed).items() if name not in without}
    words = [part for pair in options.items() for part in pair]
    result = CliRunner().invoke(main, ["open", str(custody), "--agency", stage.AGENCY, *words, *more], input=text)
    assert result.exit_code == code, result.output
    return result


def test_all_that_was_received_is_shown_after_its_record_and_a_read_is_called_a_lead(received):
    result = call(received, "--json")
    assert {json.loads(line)["plate"] for line in result.stdout.splitlines()} == {sealed_kit.PLATE, "8XYZ999"}
    assert "reminder: a read is a lead, not proof" in result.stderr
    assert [row.event for row in read_rows(received / "access.log")] == ["records.opened", "records.shown"]


@pytest.mark.parametrize("missing", WHO)
def test_each_field_of_the_access_record_is_demanded(received, missing):
    assert missing in call(received, "--json", code=2, without=[missing]).output
    call(received, "--json", code=2, **{missing: "  "})
    assert not (received / "access.log").exists()


def test_a_purpose_that_is_not_on_the_operators_list_opens_nothing(received):
    result = call(received, "--json", code=2, **{"--purpose": "immigration"})
    assert "is not authorised" in result.output
    assert not (received / "access.log").exists()


def test_a_search_by_plate_reads_it_from_the_input_and_shows_no_other(received):
    result = call(received, "--json", "--by-plate", text="8xyz 999\n")
    assert [json.loads(line)["plate"] for line in result.stdout.splitlines()] == ["8XYZ999"]
    opened, _ = read_rows(received / "access.log")
    reviewer = load_sealing_key(received / KEYS / "reviewer.key")
    assert [plate.reveal() for plate in plates_of(opened, reviewer)] == ["8XYZ999"]
    assert b"8XYZ999" not in (received / "access.log").read_bytes()


def test_what_is_no_plate_is_refused_and_opens_nothing(received):
    for text in ("7ABC-123\n", "12345678901\n", "é\n"):
        result = call(received, "--json", "--by-plate", text=text, code=2)
        assert "a plate has 1 to 10 characters" in result.stderr
    assert not (received / "access.log").exists()


def test_a_key_of_the_agency_that_is_the_reviewers_too_opens_nothing(received, simulation_node):
    call(received, "--json")
    reviewer = load_sealing_key(received / KEYS / "reviewer.key")
    (simulation_node.agency_key.parent / f"{reviewer.key_id.hex()}.key").write_bytes(
        (received / KEYS / "reviewer.key").read_bytes()
    )
    (simulation_node.agency_key.parent / f"{reviewer.key_id.hex()}.key").chmod(0o600)
    result = call(received, "--json", code=2)
    assert "is a sealing key of the agency too" in result.output
    assert sealed_kit.PLATE not in result.output
