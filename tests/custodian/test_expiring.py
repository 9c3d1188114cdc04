"""A dated private key is destroyed once nothing that was sealed to it may be kept, or early by a name and a reason."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from homeplate.clock import NANOSECONDS, WallClock, utc_text
from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import RETENTION_CAP_S
from homeplate.errors import ConfigError
from homeplate.sealing.keys import save_sealing_key
from homeplate.store.ledger import read_rows
from homeplate_custodian.cli import main
from homeplate_custodian.commands_access import chosen
from homeplate_custodian.expiring import EXPIRED, EXPIRING, UNTIL, DatedKey, dated_keys, destroy
from homeplate_custodian.records import Inbox
from tests.custodian.sealed_kit import NOW_S, Node, new_key

END_S = NOW_S - RETENTION_CAP_S


def kept(folder, *, until_s=END_S, key=None):
    key = key or new_key()
    path = folder / f"{key.key_id.hex()}.key"
    folder.mkdir(parents=True, exist_ok=True)
    save_sealing_key(key, path)
    if until_s is not None:
        path.with_suffix(UNTIL).write_text(f"{until_s}\n")
    return key, path


def dated(**changes):
    return DatedKey(**{"key_id": "ab" * 16, "path": Path("k.key"), "sealed_until_s": END_S, "records": 0} | changes)


def test_a_key_is_due_in_the_second_in_which_the_last_record_sealed_to_it_is_past_the_longest_retention():
    assert dated().why_not(NOW_S) is None
    assert dated().why_not(NOW_S - 1) == "not-due: what was sealed to it may be kept for 1 days more"


def test_a_key_that_received_records_need_or_that_has_no_date_is_not_due():
    assert dated(records=2).why_not(NOW_S).startswith("in-use: 2 received records")
    assert dated(sealed_until_s=None).why_not(NOW_S).startswith("not-dated")


def test_only_what_is_due_is_chosen_and_anything_earlier_needs_its_name_and_a_reason():
    due, young = dated(), dated(key_id="cd" * 16, sealed_until_s=NOW_S)
    assert chosen([due, young], NOW_S, None, "me", None) == [due]
    assert chosen([due, young], NOW_S, young.key_id, "me", "it was stolen") == [young]
    for key_id, by, early, says in (
        (young.key_id, "me", None, "stays: not-due"),
        (None, "me", "a reason", "name it with --key"),
        (None, " ", None, "blank"),
        (young.key_id, "me", " ", "blank"),
        ("ef" * 16, "me", None, "no key"),
    ):
        with pytest.raises(ConfigError, match=says):
            chosen([due, young], NOW_S, key_id, by, early)


def test_what_an_inbox_holds_is_counted_by_the_key_that_it_is_sealed_to(tmp_path):
    key, _ = kept(tmp_path / "keys")
    other, _ = kept(tmp_path / "keys", until_s=None)
    inbox = Inbox(tmp_path / "received")
    inbox.store(*Node().facts(key))
    (tmp_path / "received" / f"{'0' * 32}.rec").write_bytes(b"damaged")
    found = {one.key_id: one for one in dated_keys(tmp_path / "keys", inbox)}
    assert (found[key.key_id.hex()].records, found[key.key_id.hex()].sealed_until_s) == (1, END_S)
    assert (found[other.key_id.hex()].records, found[other.key_id.hex()].sealed_until_s) == (0, None)


def test_a_damaged_date_is_an_error(tmp_path):
    _, path = kept(tmp_path)
    path.with_suffix(UNTIL).write_text("soon\n")
    with pytest.raises(ConfigError, match="holds no date"):
        dated_keys(tmp_path, Inbox(tmp_path / "received"))


def test_a_destroyed_key_is_overwritten_in_place_before_it_is_removed(tmp_path):
    key, path = kept(tmp_path)
    link = tmp_path / "other-name"
    link.hardlink_to(path)
    (found,) = dated_keys(tmp_path, Inbox(tmp_path / "received"))
    assert destroy(found) == 1
    assert not path.exists()
    assert set(link.read_bytes()) == {0}
    assert key.private_bytes.hex().encode() not in link.read_bytes()
    assert destroy(found) == 0  # a run that was cut off can be done again


def test_the_command_destroys_what_is_due_and_the_log_says_so_before_and_after(tmp_path):
    now_s = WallClock().now_ns() // NANOSECONDS
    folder = tmp_path / "agencies" / "pd"
    due, due_path = kept(folder, until_s=now_s - RETENTION_CAP_S - 1)
    young, young_path = kept(folder, until_s=now_s - RETENTION_CAP_S + DAY_SECONDS)

    def call(*words, code=0):
        result = CliRunner().invoke(main, ["keys", *words[:1], str(tmp_path), "--agency", "pd", *words[1:]])
        assert result.exit_code == code, result.output
        return result.output

    listed = call("list")
    assert f"{due.key_id.hex()} sealed to until" in listed
    assert "due: `keys expire`" in listed
    assert "not-due" in listed
    call("expire", "--by", "custodian", "--yes")
    assert (due_path.exists(), young_path.exists()) == (False, True)
    rows = list(read_rows(tmp_path / "access.log"))
    assert [row.event for row in rows] == [EXPIRING, EXPIRED]
    assert rows[1].fields == {
        "agency": "pd", "key": due.key_id.hex(), "by": "custodian", "early": False, "reason": "due", "files": 1,
    }  # fmt: skip
    due_at = utc_text((now_s + DAY_SECONDS) * NANOSECONDS)
    said = call("expire", "--by", "custodian")
    assert said.startswith(f"nothing is due, nothing was destroyed\n{young.key_id.hex()} stays: not-due: ")
    assert said.endswith(f"; due at {due_at}\n")
    assert "not-due" in call("expire", "--by", "custodian", "--key", young.key_id.hex(), code=2)
    call("expire", "--by", "custodian", "--key", young.key_id.hex(), "--early", "a laptop was stolen", "--yes")
    assert not young_path.exists()
    last = list(read_rows(tmp_path / "access.log"))[-1]
    assert (last.fields["early"], last.fields["reason"]) == (True, "a laptop was stolen")
