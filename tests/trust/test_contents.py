"""What the operator may sign: grants with their reasons, rules within the cap, nodes with keys of their own."""

from typing import Any

import pytest

from homeplate.domain.agency import Grant
from homeplate.domain.node import NodeEntry
from homeplate.domain.place import Position
from homeplate.domain.profiles import Profile
from homeplate.domain.record import DAY_SECONDS, Part, StorageClass
from homeplate.domain.rules import MAXIMUM_RECIPIENTS, Rule, Trigger
from homeplate.domain.usage import OperatorKind, UsagePolicy
from homeplate.domain.witness import Witness
from homeplate.errors import TrustError
from homeplate.store.ledger import MAXIMUM_TEXT
from homeplate.trust.contents import check_purposes, grants, nodes, rules, usage, witnesses
from homeplate.trust.schema import (
    AllowlistFile,
    GrantEntry,
    NodeFileEntry,
    NodesFile,
    PolicyFile,
    PositionEntry,
    RegistryFile,
    RuleEntry,
    RulesFile,
    WitnessEntry,
    decode,
    encode,
)
from tests.trust.saying import says

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


def test_each_file_becomes_the_values_that_it_says():
    assert grants(AllowlistFile(grants=[GrantEntry(**GRANT)])) == (Grant(**GRANT),)
    one = RULE | {"cameras": ["north", "south"], "parts": [Part.CROP, Part.FACTS]}
    assert rules(RulesFile(purposes=["p"], rules=[RuleEntry(**one)]), demo=False) == (
        Rule(
            **one
            | {"recipients": ("CA0371100",), "parts": frozenset({Part.FACTS, Part.CROP}), "cameras": ("north", "south")}
        ),
    )
    here, there = PositionEntry(latitude_deg=1.5, longitude_deg=2.5), PositionEntry(latitude_deg=3, longitude_deg=4)
    entry = NodeFileEntry(**NODE | {"revoked": True, "position": here, "camera_positions": {"north": there}})
    assert nodes(NodesFile(nodes=[entry, NodeFileEntry(**NODE | OTHER_NODE)])) == (
        NodeEntry(
            pseudonym=bytes(16), record_public=b"\1" * 32, ledger_public=b"\2" * 32, hot_list_public=b"\3" * 32,
            cameras=("north",), not_before_s=0, not_after_s=1, revoked=True,
            position=Position(latitude_deg=1.5, longitude_deg=2.5),
            camera_positions={"north": Position(latitude_deg=3, longitude_deg=4)},
        ),
        NodeEntry(
            pseudonym=b"\x10" * 16, record_public=b"\x11" * 32, ledger_public=b"\x12" * 32,
            hot_list_public=b"\x13" * 32, cameras=("north",), not_before_s=0, not_after_s=1, revoked=False,
            position=None, camera_positions={},
        ),
    )  # fmt: skip
    said = {"purposes": "a", "users": "b", "training": "c", "monitoring": "d", "sharing": "e", "custodian_title": "f",
            "accuracy": "g", "retention": "h", "url": "https://x.example", "meeting_on": "2026-01-31",
            "meeting_address": "i", "operator_kind": OperatorKind.PUBLIC_AGENCY}  # fmt: skip
    assert usage(PolicyFile(**said, sha256="ab" * 32)) == UsagePolicy(**said, sha256=b"\xab" * 32)
    named = RegistryFile(agencies=[], witnesses=[WitnessEntry(name="w", public="0a" * 32)])
    assert witnesses(named, NodesFile(nodes=[entry])) == (Witness(name="w", public=b"\x0a" * 32),)


OTHER_NODE = {
    "pseudonym": "10" * 16,
    "record_public": "11" * 32,
    "ledger_public": "12" * 32,
    "hot_list_public": "13" * 32,
}


def test_a_file_that_is_refused_says_which_entry_and_what_to_do():
    def of_rules(*changes: dict[str, Any], **file: Any) -> None:
        entries = [RuleEntry(**RULE | {"name": f"rule-{number}"} | one) for number, one in enumerate(changes)]
        rules(RulesFile(purposes=["p"], rules=entries, **file), demo=False)

    def of_grants(*changes: dict[str, Any]) -> None:
        grants(AllowlistFile(grants=[GrantEntry(**GRANT | one) for one in changes]))

    def of_nodes(*changes: dict[str, Any]) -> None:
        nodes(NodesFile(nodes=[NodeFileEntry(**NODE | one) for one in changes]))

    with says("allowlist.json: grants: ca0371100 is there twice; say which is meant"):
        of_grants({}, {"identifier": "ca0371100"})
    for field in ("need", "purpose", "approver"):
        with says(f"allowlist.json: the grant of CA0371100 has a blank {field}; write it down"):
            of_grants({field: " "})
    with says("allowlist.json: CA0371100: 2026-02-30 is no date (YYYY-MM-DD)"):
        of_grants({"approved_on": "2026-02-30"})
    with says("rules.json: rules: hits is there twice; say which is meant"):
        of_rules({"name": "hits"}, {"name": "hits"})
    many = [f"A{number}" for number in range(MAXIMUM_RECIPIENTS + 1)]
    with says(f"rules.json: {len(many)} recipients; a node's rules name {MAXIMUM_RECIPIENTS} at most"):
        of_rules({"recipients": many})
    with says("rules.json: rule rule-0: a retention of 0 s; it is 1 to 5184000 s"):
        of_rules({"retention_s": 0})
    with says("rules.json: rule rule-0: keeps a crop without its facts; add facts"):
        of_rules({"parts": [Part.CROP]})
    with says("rules.json: rule rule-0: the purpose is not one of the authorised purposes; add it there, or change it"):
        of_rules({"purpose": "other"})
    with says("rules.json: rule rule-0: publishes everything; only a root marked demo may carry such a rule"):
        of_rules({"trigger": Trigger.EVERYTHING, "storage": StorageClass.OUTGOING})
    with says("rules.json: rule rule-0: recipients: A is there twice; say which is meant"):
        of_rules({"recipients": ["A", "A"]})
    with says("rules.json: rule rule-1: keeps non-hits for 21 s, longer than hits (20 s); shorten it"):
        of_rules({}, {"trigger": Trigger.NON_HIT, "retention_s": 21}, {"retention_s": 22})
    with says(
        "rules.json: rule rule-0: over-the-profile: a retention of 5184001 s; the profile chp allows 5184000 s for hit"
    ):
        of_rules({"retention_s": 60 * DAY_SECONDS + 1}, retention_profile=Profile.CHP)
    with says("nodes.json: pseudonyms: 00000000000000000000000000000000 is there twice; say which is meant"):
        of_nodes({}, OTHER_NODE | {"pseudonym": NODE["pseudonym"]})
    with says(f"nodes.json: public keys: {'02' * 32} is there twice; say which is meant"):
        of_nodes({}, OTHER_NODE | {"ledger_public": "02" * 32})
    with says(f"nodes.json: {'00' * 16} ends before it begins"):
        of_nodes({"not_after_s": 0})
    where = PositionEntry(latitude_deg=1, longitude_deg=2)
    with says(f"nodes.json: {'00' * 16} has no camera east to give a position to"):
        of_nodes({"camera_positions": {"west": where, "north": where, "east": where}})


def test_a_day_that_is_none_is_named_with_its_field():
    with says("policy.json: meeting_on: 2026-02-30 is no date (YYYY-MM-DD)"):
        usage(PolicyFile(meeting_on="2026-02-30"))
    with says("rules.json: retention_reviewed_on: 2026-02-30 is no date (YYYY-MM-DD)"):
        rules(RulesFile(purposes=[], rules=[], retention_reviewed_on="2026-02-30"), demo=False)


def test_a_witness_is_named_once_and_is_no_node():
    def named(*entries: tuple[str, str]) -> tuple[Witness, ...]:
        file = RegistryFile(agencies=[], witnesses=[WitnessEntry(name=name, public=key) for name, key in entries])
        return witnesses(file, NodesFile(nodes=[NodeFileEntry(**NODE), NodeFileEntry(**NODE | OTHER_NODE)]))

    assert len(named(("w1", "a1" * 32), ("w2", "a2" * 32))) == 2
    with says("registry.json: witnesses: w1 is there twice; say which is meant"):
        named(("w1", "a1" * 32), ("w1", "a2" * 32))
    for key in ("a1", "01", "02", "11", "12"):
        with says(f"registry.json: witness keys: {key * 32} is there twice; say which is meant"):
            named(("w1", "a1" * 32), ("w2", key * 32))


def test_a_rule_may_keep_as_long_as_the_cap_and_from_one_second():
    for seconds in (1, 60 * DAY_SECONDS):
        (rule,) = rules(RulesFile(purposes=["p"], rules=[RuleEntry(**RULE | {"retention_s": seconds})]), demo=False)
        assert rule.retention_s == seconds


def test_non_hits_without_a_rule_for_hits_are_kept_up_to_the_cap():
    rest = RuleEntry(**RULE | {"trigger": Trigger.NON_HIT, "retention_s": 60 * DAY_SECONDS})
    assert len(rules(RulesFile(purposes=["p"], rules=[rest]), demo=False)) == 1


def test_a_profile_caps_hits_and_the_rest_each_by_its_own_clock():
    def of(trigger: Trigger, seconds: int) -> int:
        entry = RuleEntry(**RULE | {"trigger": trigger, "retention_s": seconds})
        return len(rules(RulesFile(purposes=["p"], rules=[entry], retention_profile=Profile.NEW_HAMPSHIRE), demo=False))

    assert of(Trigger.HIT, 60 * DAY_SECONDS) == of(Trigger.NON_HIT, 180) == 1
    with says(
        "rules.json: rule hits: over-the-profile: a retention of 181 s; the profile new-hampshire allows 180 s for"
        f" {Trigger.NON_HIT}"
    ):
        of(Trigger.NON_HIT, 181)


def test_a_grants_purpose_is_an_authorised_one_and_that_of_each_rule_that_names_its_agency():
    other = GrantEntry(**GRANT | {"identifier": "B", "purpose": "q"})
    granted = grants(AllowlistFile(grants=[GrantEntry(**GRANT), other]))

    def ruled(**changed: Any) -> tuple[Rule, ...]:
        return rules(RulesFile(purposes=["p", "q"], rules=[RuleEntry(**RULE | changed)]), demo=False)

    check_purposes(granted, ruled(), ["p", "q"])
    check_purposes(granted, ruled(recipients=["nobody-granted-it"]), ["p", "q"])
    check_purposes((), ruled(purpose="q"), ["q"])
    with says(
        "allowlist.json: the grant of B is for 'q', which is not one of the authorised purposes; add it there, or grant"
        " it anew"
    ):
        check_purposes(granted, ruled(), ["p"])
    with says(
        "rules.json: rule hits is for 'p', the grant of its recipient B for 'q'; give the rule the grant's purpose, or"
        " grant it anew"
    ):
        check_purposes(granted, ruled(recipients=["CA0371100", "B"]), ["p", "q"])
