"""A purge by hand: written down with who and why before anything goes; what holds keep stays."""

import itertools

import pytest
from click.testing import CliRunner

from homeplate.cli import main
from homeplate.clock import NANOSECONDS
from homeplate.domain.purging import ByHand, Why
from homeplate.domain.record import StorageClass
from homeplate.errors import ConfigError, StoreError
from homeplate.store.certificates import read_certificate
from homeplate.store.ledger import MerkleLog, scan
from tests.holding import HoldingNode
from tests.test_hold_commands import put_record
from tests.test_purge import NOW_S, Killed, Node, _no_ledger, _steps

WITHDRAWN = ByHand(who="B. Badge 7", why=Why.RULE_WITHDRAWN, reference="Order 12/26", rule="a")
ALL = ByHand(who="b7", why=Why.END_OF_SERVICE, reference="12", rule=None)


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    for store in node.stores.values():
        store.close()


def test_who_and_why_are_in_the_ledger_before_the_first_key_goes(node, monkeypatch):
    _, blob = node.record(StorageClass.OUTGOING, NOW_S + 900, rule="a")
    kept, _ = node.record(StorageClass.LOCAL, NOW_S + 900, rule="b")
    destroy = type(node.stores[StorageClass.LOCAL]).destroy

    def looked(store, slots):
        assert node.rows()[0].event == "purge.by-hand"
        return destroy(store, slots)

    monkeypatch.setattr(type(node.stores[StorageClass.LOCAL]), "destroy", looked)
    certificate = node.purge(by_hand=WITHDRAWN)
    asked, ended, done = node.rows()
    assert asked.fields == {
        "who": "B. Badge 7", "why": "rule-withdrawn", "reference": "Order 12/26", "rule": "a", "slots": 1,
    }  # fmt: skip
    assert (ended.event, ended.fields["rule"]) == ("slot.ended-by-hand", "a")
    assert done.fields["keys_destroyed_early"] == certificate.keys_destroyed_early == 1
    assert node.stores[StorageClass.OUTGOING].unwrap(blob) is None
    assert node.files() == {kept}
    assert scan(node.log).bad is None


def test_every_rules_records_go_where_all_are_named_and_what_is_over_is_told_apart(node):
    for storage, rule, offset in itertools.product(StorageClass, "ab", (-5, 900)):
        node.record(storage, NOW_S + offset, rule=rule)
    certificate = node.purge(by_hand=ALL)
    assert node.files() == set()
    assert (certificate.keys_destroyed, certificate.keys_destroyed_early, certificate.keys_left) == (8, 4, 0)
    assert len(node.rows("slot.expired")) == len(node.rows("slot.ended-by-hand")) == 4


@pytest.mark.parametrize("broken", ["does not open", "takes no row"])
def test_what_cannot_be_written_down_is_not_destroyed_before_its_time(node, monkeypatch, broken):
    kept, _ = node.record(StorageClass.OUTGOING, NOW_S + 900, rule="a")
    if broken == "does not open":
        with pytest.raises(StoreError, match="broken"):
            node.purge(by_hand=ALL, open_ledger=_no_ledger)
    else:

        def full(*_, **__):
            raise StoreError("No space left on device")

        monkeypatch.setattr(MerkleLog, "append", full)
        with pytest.raises(StoreError, match="No space"):
            node.purge(by_hand=ALL)
    assert node.files() == {kept}
    assert len(node.stores[StorageClass.OUTGOING].live()) == 1


def test_a_rule_without_records_is_refused_and_nothing_goes(node):
    kept, _ = node.record(StorageClass.OUTGOING, NOW_S + 900, rule="b")
    with pytest.raises(ConfigError, match="no record of a is here"):
        node.purge(by_hand=WITHDRAWN)
    assert (node.files(), node.rows()) == ({kept}, [])


def test_what_evidence_holds_keep_a_purge_by_hand_leaves_alone(tmp_path):
    node = HoldingNode(tmp_path / "node")
    record_id = node.record()
    node.apply()
    node.purge(by_hand=ALL)
    assert node.readable_originals() == set()
    assert node.readable_copies() == {record_id}


@pytest.mark.parametrize("fatal", range(1, 9))
def test_killed_at_any_step_the_clocks_own_purge_finishes_what_was_announced_and_no_more(tmp_path, monkeypatch, fatal):
    node = Node(tmp_path)
    records = {node.record(storage, NOW_S + 900, rule="a")[0] for storage in StorageClass}
    _steps(node, monkeypatch, fatal)
    with pytest.raises(Killed):
        node.purge(by_hand=ALL)
    monkeypatch.undo()
    announced = len(node.rows("slot.ended-by-hand"))
    certificate = node.purge()
    assert len(node.files()) == len(records) - announced
    assert sum(len(store.live()) for store in node.stores.values()) == len(records) - announced
    assert sum(row.fields["keys_destroyed_early"] for row in node.rows("purge.done")) == announced
    assert read_certificate(max(node.certificates.iterdir())) == certificate
    node.clock.advance_to((NOW_S + 900) * NANOSECONDS)
    node.purge()
    assert sum(row.fields["keys_destroyed"] for row in node.rows("purge.done")) == len(records)
    for store in node.stores.values():
        store.close()


@pytest.mark.parametrize(
    "options",
    [
        ["--by", "b7"],
        ["--by", "b7", "--why", "ordered", "--reference", "12"],
        ["--by", "b7", "--why", "ordered", "--reference", "12", "--all", "--rule", "hits"],
        ["--why", "ordered", "--reference", "12", "--all"],
        ["--by", "b7", "--reference", "12", "--all"],
        ["--by", "b7", "--why", "ordered", "--all"],
        ["--by", "b7", "--why", "because", "--reference", "12", "--all"],
        ["--by", "b7\n", "--why", "ordered", "--reference", "12", "--all"],
        ["--by", "b7", "--why", "ordered", "--reference", "a,b", "--all"],
        ["--by", "b7", "--why", "ordered", "--reference", "plate 1abc-234", "--all"],
        ["--by", "1ABC234", "--why", "ordered", "--reference", "12", "--all"],
        ["--rule", "hits"],
    ],
)
def test_by_hand_with_a_part_missing_destroys_nothing(simulation_node, options):
    put_record(simulation_node, "road")
    done = CliRunner().invoke(main, ["--config", str(simulation_node.config), "purge", "--yes", *options])
    assert done.exit_code == 2
    assert "1 keys left" in CliRunner().invoke(main, ["--config", str(simulation_node.config), "purge"]).output


def test_by_hand_it_asks_first_and_says_what_went(simulation_node):
    put_record(simulation_node, "road")
    command = ["--config", str(simulation_node.config), "purge", "--by", "b7", "--why", "ordered", "--reference", "12"]
    assert CliRunner().invoke(main, [*command, "--rule", "hits"], input="n\n").exit_code == 1
    done = CliRunner().invoke(main, [*command, "--rule", "hits", "--yes"])
    assert "1 slot keys destroyed (1 by hand), 1 files removed, 0 keys left" in done.output
    shown = CliRunner().invoke(main, ["--config", str(simulation_node.config), "ledger", "show", "purge"]).output
    assert "purge.by-hand reference=12 rule=hits slots=1 who=b7 why=ordered" in shown
