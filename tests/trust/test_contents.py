"""What the operator may sign: grants with their reasons, rules within the cap, nodes with keys of their own."""

from typing import Any

import pytest

from homeplate.domain.record import DAY_SECONDS, Part, StorageClass
from homeplate.domain.rules import MAXIMUM_RECIPIENTS, Trigger
from homeplate.errors import TrustError
from homeplate.store.ledger import MAXIMUM_TEXT
from homeplate.trust.contents import grants, nodes, rules
from homeplate.trust.schema import (
    AllowlistFile,
    GrantEntry,
    NodeFileEntry,
    NodesFile,
    RuleEntry,
    RulesFile,
    decode,
    encode,
)

GRANT: dict[str, Any] = {
    "identifier": "CA0371100",
    "need": "n",
    "purpose": "p",
    "approver": "a",
    "approved_on": "2026-09-01",
    "expires_s": 1,
    "attested": True,
}
RULE: dict[str, Any] = {
    "name": "hits",
    "trigger": Trigger.HIT,
    "recipients": ["CA0371100"],
    "parts": [Part.FACTS],
    "storage": StorageClass.LOCAL,
    "retention_s": 20,
    "purpose": "p",
}
NODE: dict[str, Any] = {
    "pseudonym": "00" * 16,
    "record_public": "01" * 32,
    "ledger_public": "02" * 32,
    "hot_list_public": "03" * 32,
    "cameras": ["north"],
    "not_before_s": 0,
    "not_after_s": 1,
}


def read(entry: RuleEntry) -> RulesFile:
    """Return a rules file as it is read from its bytes."""
    return decode(encode(RulesFile(purposes=["p"], rules=[entry])), RulesFile, "rules.json")


def test_rules_name_no_more_recipients_than_the_one_ledger_row_of_a_passage_can_hold():
    def named(count: int) -> RulesFile:
        entries = [
            RuleEntry(**RULE | {"name": f"rule-{i}", "recipients": [f"CA{i}", f"B{i}"]}) for i in range(count // 2)
        ]
        return RulesFile(purposes=["p"], rules=entries)

    assert len(rules(named(MAXIMUM_RECIPIENTS), demo=False)) == MAXIMUM_RECIPIENTS // 2
    with pytest.raises(TrustError, match="recipients"):
        rules(named(MAXIMUM_RECIPIENTS + 2), demo=False)
    ids = MAXIMUM_RECIPIENTS * len(StorageClass) * len(Part)
    assert ids * len(f"{'0' * 32},") <= MAXIMUM_TEXT
    assert MAXIMUM_RECIPIENTS * len(StorageClass) * len(f"{'A' * 60},") <= MAXIMUM_TEXT


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"need": " "}, "blank need"),
        ({"purpose": "  "}, "blank purpose"),
        ({"approver": " "}, "blank approver"),
        ({"approved_on": "2026-13-01"}, "no date"),
        ({"approved_on": "2026-02-30"}, "no date"),
    ],
)
def test_a_grant_without_its_reasons_is_refused(changed: dict[str, Any], says: str):
    with pytest.raises(TrustError, match=says):
        grants(AllowlistFile(grants=[GrantEntry(**(GRANT | changed))]))


def test_an_agency_that_is_granted_twice_is_refused():
    with pytest.raises(TrustError, match="twice"):
        grants(AllowlistFile(grants=[GrantEntry(**GRANT), GrantEntry(**GRANT | {"identifier": "ca0371100"})]))


def test_an_empty_list_is_an_empty_list():
    assert grants(AllowlistFile(grants=[])) == ()
    assert rules(RulesFile(purposes=[], rules=[]), demo=False) == ()
    assert nodes(NodesFile(nodes=[])) == ()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"retention_s": 0}, "retention of 0 s"),
        ({"retention_s": 60 * DAY_SECONDS + 1}, "retention of 5184001 s"),
        ({"parts": [Part.CROP]}, "without its facts"),
        ({"purpose": "fishing"}, "authorised purposes"),
        ({"trigger": Trigger.EVERYTHING, "storage": StorageClass.OUTGOING}, "only a root marked demo"),
        ({"recipients": ["A", "A"]}, "A is there twice"),
        ({"recipients": []}, "rules.json"),
        ({"parts": []}, "rules.json"),
        ({"name": "Hits!"}, "rules.json"),
        ({"cameras": ["North Street"]}, "rules.json"),
        ({"retention_s": -1}, "rules.json"),
    ],
)
def test_a_rule_that_goes_too_far_is_refused(changed: dict[str, Any], says: str):
    with pytest.raises(TrustError, match=says):
        rules(read(RuleEntry(**RULE | changed)), demo=False)


def test_rules_keep_the_signed_order_and_names_are_given_once():
    two = [RuleEntry(**RULE), RuleEntry(**RULE | {"name": "all", "trigger": Trigger.EVERYTHING})]
    assert [rule.name for rule in rules(RulesFile(purposes=["p"], rules=two), demo=False)] == ["hits", "all"]
    with pytest.raises(TrustError, match="twice"):
        rules(RulesFile(purposes=["p"], rules=[RuleEntry(**RULE), RuleEntry(**RULE)]), demo=False)


@pytest.mark.parametrize(
    "changed",
    [
        {"pseudonym": "00" * 16},
        {"record_public": "01" * 32},
        {"ledger_public": "01" * 32},
        {"hot_list_public": "02" * 32},
    ],
)
def test_two_nodes_share_neither_pseudonym_nor_key(changed: dict[str, Any]):
    other = {
        "pseudonym": "10" * 16,
        "record_public": "11" * 32,
        "ledger_public": "12" * 32,
        "hot_list_public": "13" * 32,
    }
    with pytest.raises(TrustError, match="twice"):
        nodes(NodesFile(nodes=[NodeFileEntry(**NODE), NodeFileEntry(**NODE | other | changed)]))
    assert len(nodes(NodesFile(nodes=[NodeFileEntry(**NODE), NodeFileEntry(**NODE | other)]))) == 2


def test_one_node_does_not_use_one_key_twice_and_does_not_end_before_it_begins():
    with pytest.raises(TrustError, match="twice"):
        nodes(NodesFile(nodes=[NodeFileEntry(**NODE | {"ledger_public": "01" * 32})]))
    with pytest.raises(TrustError, match="ends before"):
        nodes(NodesFile(nodes=[NodeFileEntry(**NODE | {"not_after_s": 0})]))


def test_non_hits_are_not_kept_for_longer_than_hits():
    def judged(seconds: int) -> list[int]:
        rest = RuleEntry(**RULE | {"name": "rest", "trigger": Trigger.NON_HIT, "retention_s": seconds})
        file = RulesFile(purposes=["p"], rules=[rest, RuleEntry(**RULE)])
        return [rule.retention_s for rule in rules(file, demo=False)]

    assert judged(RULE["retention_s"]) == [20, 20]
    with pytest.raises(TrustError, match="rule rest: keeps non-hits for 21 s, longer than hits \\(20 s\\)"):
        judged(RULE["retention_s"] + 1)


def test_non_hits_are_published_under_a_demo_root_only():
    rest = RuleEntry(**RULE | {"trigger": Trigger.NON_HIT, "storage": StorageClass.OUTGOING})
    file = RulesFile(purposes=["p"], rules=[rest])
    assert len(rules(file, demo=True)) == 1
    with pytest.raises(TrustError, match="only a root marked demo"):
        rules(file, demo=False)
