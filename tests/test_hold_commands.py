"""A hold from the custodian's desk to the node and back, through the commands that people type."""

import json
import os

import pytest
from click.testing import CliRunner

from homeplate.app.node import open_slots
from homeplate.cli import main as node_main
from homeplate.clock import SystemClock, utc_text
from homeplate.domain.record import NANOSECONDS, RecordId, StorageClass
from homeplate.hold import SEALED
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.spool import FileSpool
from homeplate_custodian.cli import main as custodian_main
from tests.custodian import sealed_kit
from tools import stage


@pytest.fixture
def desk(simulation_node, tmp_path):
    """Return a function that runs a command and gives its exit code and output."""

    def run(program, *arguments):
        done = CliRunner().invoke(program, [str(argument) for argument in arguments])
        return done.exit_code, done.output

    assert run(custodian_main, "key", tmp_path / "hold-key")[0] == 0
    assert run(custodian_main, "hold", "allow", simulation_node.custody, tmp_path / "hold-key")[0] == 0
    simulation_node.publish()
    return run


def put_record(node, camera, record=None, captured_s=None):
    """Put a record where capture would: some bytes, or an id and a sealed record's bytes."""
    paths, (record_id, sealed) = node.paths, record or (RecordId(os.urandom(16)), b"sealed")
    store = open_slots(paths, StorageClass.LOCAL, check=False)
    blob = store.wrap(store.slot_for("hits", stage.now_s() + 500, 100_000), record_id, sealed)
    spool = FileSpool(paths.spool)
    spool.stage(record_id, blob, StorageClass.LOCAL)
    with MerkleLog(paths.log("capture"), SystemClock(paths.clock, "capture")) as log:
        log.append(SEALED, source=camera, records=str(record_id), captured_s=captured_s or stage.now_s() - 5)
    spool.release([record_id])
    store.close()
    return record_id


def make_hold(desk, tmp_path, pseudonym, **changed):
    now_s, out = stage.now_s(), tmp_path / "hold.txt"
    options = {
        "--key": tmp_path / "hold-key", "--node": pseudonym, "--case": "26-1234", "--ground": "evidence",
        "--camera": "road", "--from": utc_text((now_s - 60) * NANOSECONDS), "--to": utc_text((now_s - 2) * NANOSECONDS),
        "--most": 10, "--for": "90d", "--out": out,
    } | changed  # fmt: skip
    code, output = desk(custodian_main, "hold", "make", *(part for pair in options.items() for part in pair))
    assert code == 0, output
    return out


def test_a_hold_is_made_applied_listed_exported_and_released(simulation_node, desk, tmp_path):
    record_id, config = put_record(simulation_node, "road"), ["--config", simulation_node.config]
    pseudonym = desk(node_main, *config, "check")[1].partition("pseudonym ")[2][:32]
    file = make_hold(desk, tmp_path, pseudonym)
    code, output = desk(node_main, *config, "hold", "apply", file)
    assert code == 0, output
    assert "of case 26-1234 keeps 1 records until" in output
    hold_id = output.split()[1]
    assert desk(node_main, *config, "hold", "list")[1].startswith(f"{hold_id} case 26-1234 (evidence): camera road")
    assert "1 holds keep 1 records" in desk(node_main, *config, "purge")[1]
    assert desk(node_main, *config, "hold", "export", hold_id, tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / f"{record_id}.rec").read_bytes() == b"sealed"
    ended = tmp_path / "release.txt"
    assert desk(custodian_main, "hold", "release", "--key", tmp_path / "hold-key", file, "--out", ended)[0] == 0
    code, output = desk(node_main, *config, "hold", "release", ended)
    assert code == 0, output
    assert "0 holds keep 0 records" in output
    assert desk(node_main, *config, "hold", "list")[1] == "no hold is in force\n"
    shown = desk(node_main, *config, "ledger", "show", "hold")[1]
    events = ("hold.accepted", "hold.applied", "hold.exported", "hold.released")
    assert [word for word in shown.split() if word in events] == list(events)


def test_a_hold_for_another_node_is_refused_by_name_with_exit_code_6(simulation_node, desk, tmp_path):
    put_record(simulation_node, "road")
    code, output = desk(
        node_main, "--config", simulation_node.config, "hold", "apply", make_hold(desk, tmp_path, "00" * 16)
    )
    assert code == 6
    assert "other-node: " in output


def test_a_hold_key_that_was_taken_back_counts_no_more(simulation_node, desk, tmp_path):
    put_record(simulation_node, "road")
    config = ["--config", simulation_node.config]
    pseudonym = desk(node_main, *config, "check")[1].partition("pseudonym ")[2][:32]
    file = make_hold(desk, tmp_path, pseudonym)
    code, _ = desk(custodian_main, "hold", "allow", simulation_node.custody, tmp_path / "hold-key", "--remove")
    assert code == 0
    simulation_node.publish()
    code, output = desk(node_main, *config, "hold", "apply", file)
    assert code == 6
    assert "unknown-signer: " in output


def test_what_was_exported_for_a_hold_opens_past_its_keep_until_after_the_access_record(
    simulation_node, desk, tmp_path
):
    config, paths = ["--config", simulation_node.config], simulation_node.paths
    pseudonym = desk(node_main, *config, "check")[1].partition("pseudonym ")[2][:32]
    kit = sealed_kit.Node(pseudonym=bytes.fromhex(pseudonym), signing=load_signing_key(paths.record_key))
    record = kit.facts(load_sealing_key(simulation_node.agency_key))
    put_record(simulation_node, "gate", record, sealed_kit.NOW_S)
    at = utc_text(sealed_kit.NOW_S * NANOSECONDS)
    file = make_hold(desk, tmp_path, pseudonym, **{"--camera": "gate", "--from": at, "--to": at})
    code, output = desk(node_main, *config, "hold", "apply", file)
    assert code == 0, output
    assert desk(node_main, *config, "hold", "export", output.split()[1], tmp_path / "out")[0] == 0
    who = ["--agency", stage.AGENCY, "--user", "b7", "--organisation", "o", "--purpose", stage.PURPOSE]
    who += ["--case", "26-1234", "--json"]
    code, shown = desk(custodian_main, "hold", "open", simulation_node.custody, tmp_path / "out", *who)
    assert code == 0, shown
    line, reminder = shown.splitlines()
    assert json.loads(line)["plate"] == sealed_kit.PLATE
    assert reminder.startswith("reminder: a read is a lead")
    [row] = [row for row in read_rows(simulation_node.custody / "access.log") if row.event == "records.opened"]
    assert (row.fields["records"], row.fields["user"]) == (str(record[0]), "b7")
    assert row.fields["query"].endswith("of case 26-1234")
    desk(custodian_main, "hold", "allow", simulation_node.custody, tmp_path / "hold-key", "--remove")
    simulation_node.publish()
    code, shown = desk(custodian_main, "hold", "open", simulation_node.custody, tmp_path / "out", *who)
    assert code == 6
    assert "unknown-signer" in shown


def test_a_hold_is_made_for_no_case_that_has_the_form_of_a_plate(desk, tmp_path):
    out = tmp_path / "hold.txt"
    code, output = desk(
        custodian_main, "hold", "make", "--key", tmp_path / "hold-key", "--node", "00" * 16, "--case", "1 abc 234",
        "--ground", "evidence", "--camera", "road", "--from", "2026-11-22T17:00:00", "--to", "2026-11-22T17:00:01",
        "--most", 10, "--for", "90d", "--out", out,
    )  # fmt: skip
    assert code == 2
    assert "--case has the form of a plate" in output
    assert "abc" not in output
    assert not out.exists()
