"""What is kept of a passage: what a signed rule names, for recipients that both signers name, and nothing else."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.profiles import Profile, cap_s
from homeplate.domain.record import HitKind, StorageClass
from homeplate.domain.rules import RETENTION_CAP_S, Rule, Trigger
from homeplate.policy.allowlist import Recipients, recipients
from homeplate.policy.disclosure import NOT_DEMO, Decision, Narrowing, check_narrowing, decide, narrowed
from tests.policy.values import (
    AGENCIES,
    GRANTS,
    HOME,
    IDENTIFIERS,
    NOW_S,
    RULES,
    agency,
    grant,
    known,
    rule,
    sealing_key,
)

EVERYTHING = rule("everything", trigger=Trigger.EVERYTHING)
LISTS = st.builds(
    lambda registry, allowlist: recipients(registry, allowlist, HOME, NOW_S),
    st.lists(AGENCIES, max_size=4, unique_by=lambda who: who.identifier),
    st.lists(GRANTS, max_size=4, unique_by=lambda one: one.identifier),
)
TO_SOME = st.sampled_from([("A1",), ("A1", "B2")])
NARROWINGS = st.builds(
    Narrowing,
    drop_rules=st.frozensets(st.sampled_from(["one", "two"])),
    drop_recipients=st.frozensets(IDENTIFIERS, max_size=2),
    retention_s=st.dictionaries(st.sampled_from(["one", "two", "three"]), st.integers(1, 10_000), max_size=2),
    profile=st.none() | st.sampled_from(Profile),
)


def decided(
    *rules: Rule,
    to: Recipients | None = None,
    hit: HitKind = HitKind.EXACT,
    camera: str = "north",
    captured_s: int = NOW_S,
    narrowing: Narrowing | None = None,
    demo: bool = False,
) -> Decision:
    return decide(
        rules=rules,
        narrowing=narrowing or Narrowing(),
        recipients=to or known(agency()),
        hit=hit,
        camera=camera,
        captured_s=captured_s,
        now_s=NOW_S,
        demo=demo,
    )


def test_nothing_is_kept_of_a_passage_that_no_rule_names():
    assert decided() == Decision()
    assert decided(rule(), hit=HitKind.NONE) == Decision()
    assert decided(rule(cameras=("south",))) == Decision()


def test_a_hit_is_kept_as_the_rule_says():
    kept = decided(rule(retention_s=1200), captured_s=NOW_S).dispositions
    assert len(kept) == 1
    assert (kept[0].rule, kept[0].recipient, kept[0].storage) == ("hits", "CA0371100", StorageClass.OUTGOING)
    assert kept[0].parts == rule().parts
    assert kept[0].hit is HitKind.EXACT
    assert kept[0].purpose == rule().purpose
    assert NOW_S + 1100 < kept[0].keep_until_s <= NOW_S + 1200


def test_what_is_kept_bears_the_retention_of_its_rule():
    (kept,) = decided(rule(retention_s=1200), captured_s=NOW_S).dispositions
    assert kept.retention_s == 1200


def test_everything_is_published_under_a_demo_root_only():
    assert decided(EVERYTHING, hit=HitKind.NONE).refused == (("everything", "*", NOT_DEMO),)
    assert decided(EVERYTHING, hit=HitKind.NONE).dispositions == ()
    assert len(decided(EVERYTHING, hit=HitKind.NONE, demo=True).dispositions) == 1


def test_everything_may_be_kept_locally():
    local = replace(EVERYTHING, storage=StorageClass.LOCAL)
    assert decided(local, hit=HitKind.NONE).dispositions[0].storage is StorageClass.LOCAL


def test_a_refused_recipient_is_named_with_its_reason_and_the_others_receive():
    to = known(agency("A1"), agency("B2", jurisdiction="US-TX"))
    found = decided(rule(to=("A1", "B2", "C3")), to=to)
    assert [kept.recipient for kept in found.dispositions] == ["A1"]
    assert [(name, who, reason.split(":")[0]) for name, who, reason in found.refused] == [
        ("hits", "B2", "other-state"),
        ("hits", "C3", "not-listed"),
    ]


def test_a_recipient_without_a_key_within_its_dates_gets_nothing():
    to = known(agency(keys=(sealing_key(not_after_s=NOW_S - 1),)))
    assert decided(rule(), to=to).dispositions == ()
    assert decided(rule(), to=to).refused[0][2].startswith("no-sealing-key:")


def test_a_passage_whose_time_is_over_is_not_sealed_any_more():
    found = decided(rule(retention_s=20), captured_s=NOW_S - 20)
    assert found.dispositions == ()
    assert found.refused[0][2].startswith("past-its-date:")


def test_a_capture_time_ahead_of_the_clock_lengthens_no_life():
    ahead = decided(rule(retention_s=1200), captured_s=NOW_S + 5000).dispositions
    assert ahead == decided(rule(retention_s=1200), captured_s=NOW_S).dispositions


def test_of_two_rules_for_one_recipient_and_class_the_first_decides():
    found = decided(rule("hits"), replace(EVERYTHING, storage=StorageClass.OUTGOING), demo=True)
    assert [kept.rule for kept in found.dispositions] == ["hits"]
    both = decided(rule("hits"), replace(EVERYTHING, storage=StorageClass.LOCAL))
    assert [kept.rule for kept in both.dispositions] == ["hits", "everything"]


def test_a_hit_and_a_non_hit_make_the_same_records_where_everything_is_published():
    rules = (rule("hits", retention_s=86_400), replace(EVERYTHING, retention_s=86_400))
    hit, non_hit = (decided(*rules, hit=kind, demo=True).dispositions for kind in (HitKind.EXACT, HitKind.NONE))
    assert [(one.recipient, one.parts, one.keep_until_s) for one in hit] == [
        (one.recipient, one.parts, one.keep_until_s) for one in non_hit
    ]


@given(st.lists(RULES, max_size=4, unique_by=lambda one: one.name), NARROWINGS, LISTS, st.booleans(), st.booleans())
def test_nothing_is_kept_that_a_signed_rule_does_not_say(
    rules: list[Rule], narrowing: Narrowing, to: Recipients, hit: bool, demo: bool
):
    found = decided(
        *rules, narrowing=narrowing, to=to, hit=HitKind.EXACT if hit else HitKind.NONE, demo=demo, captured_s=NOW_S
    )
    signed = {one.name: one for one in rules}
    for kept in found.dispositions:
        source = signed[kept.rule]
        assert kept.recipient in source.recipients
        assert kept.recipient in to.allowed
        assert kept.parts == source.parts
        assert kept.storage is source.storage
        assert kept.keep_until_s <= NOW_S + source.retention_s
        assert kept.retention_s <= source.retention_s
        assert hit or source.trigger is Trigger.EVERYTHING
        assert demo or (source.trigger, source.storage) != (Trigger.EVERYTHING, StorageClass.OUTGOING)
        assert not source.cameras or "north" in source.cameras
        assert kept.rule not in narrowing.drop_rules
        assert kept.recipient not in narrowing.drop_recipients
    pairs = [(kept.recipient, kept.storage) for kept in found.dispositions]
    assert len(pairs) == len(set(pairs))


def test_dropping_a_rule_does_not_let_a_later_and_wider_one_decide_in_its_place():
    short = rule("hits", storage=StorageClass.LOCAL, retention_s=1200)
    long = replace(EVERYTHING, storage=StorageClass.LOCAL)
    for narrowing in (
        Narrowing(drop_rules=frozenset({"hits"})),
        Narrowing(drop_recipients=frozenset({"CA0371100"})),
        Narrowing(retention_s={"hits": 10}),
    ):
        assert decided(short, long, narrowing=narrowing, captured_s=NOW_S - 20).dispositions == ()


@given(
    st.permutations(["one", "two", "three"]).flatmap(
        lambda names: st.tuples(*(st.builds(replace, RULES, name=st.just(name), recipients=TO_SOME) for name in names))
    ),
    NARROWINGS,
    st.integers(0, 20_000),
)
def test_what_a_narrowed_node_keeps_the_signed_rules_alone_would_keep_by_the_same_rule(
    rules: tuple[Rule, ...], narrowing: Narrowing, age_s: int
):
    to = known(agency("A1"), agency("B2"))
    signed = decided(*rules, to=to, captured_s=NOW_S - age_s).dispositions
    here = decided(*rules, to=to, captured_s=NOW_S - age_s, narrowing=narrowing).dispositions
    assert {(one.recipient, one.storage, one.rule, one.parts) for one in here} <= {
        (one.recipient, one.storage, one.rule, one.parts) for one in signed
    }


@given(RULES, NARROWINGS)
def test_narrowing_only_takes_away(source: Rule, narrowing: Narrowing):
    left = narrowed(source, narrowing)
    assert set(left.recipients) <= set(source.recipients) - narrowing.drop_recipients
    assert not (left.recipients and source.name in narrowing.drop_rules)
    assert left.retention_s <= source.retention_s
    assert replace(left, recipients=source.recipients, retention_s=source.retention_s) == source


@pytest.mark.parametrize(
    ("narrowing", "says"),
    [
        (Narrowing(retention_s={"hits": 86_401}), "widens"),
        (Narrowing(retention_s={"hits": 0}), "widens"),
        (Narrowing(retention_s={"hitz": 5}), "no rule 'hitz'"),
        (Narrowing(drop_rules=frozenset({"hitz"})), "no rule 'hitz'"),
        (Narrowing(drop_recipients=frozenset({"CA0"})), "'CA0'"),
    ],
)
def test_a_configuration_that_widens_or_misspells_is_refused_by_name(narrowing: Narrowing, says: str):
    with pytest.raises(ValueError, match=says):
        check_narrowing([rule()], narrowing)


def test_a_misspelt_rule_is_refused_with_the_names_that_the_bundle_has():
    for rules, has in (([rule("two"), rule("one")], "one, two"), ([], "none")):
        with pytest.raises(ValueError, match=rf"no rule 'hitz' to narrow; it has: {has}$"):
            check_narrowing(rules, Narrowing(drop_rules=frozenset({"hitz"})))


def test_a_retention_may_be_narrowed_to_one_second():
    check_narrowing([rule()], Narrowing(retention_s={"hits": 1}))


def test_a_configuration_that_narrows_is_accepted():
    check_narrowing(
        [rule()],
        Narrowing(
            drop_rules=frozenset({"hits"}), drop_recipients=frozenset({"CA0371100"}), retention_s={"hits": 86_400}
        ),
    )


def test_a_grant_that_ran_out_since_the_lists_were_read_keeps_nothing():
    who = agency(keys=(sealing_key(not_after_s=NOW_S + 9999),))
    to = known(who, grants=(grant(expires_s=NOW_S + 5),))

    def at(now_s: int) -> Decision:
        return decide(
            rules=[rule()],
            narrowing=Narrowing(),
            recipients=to,
            hit=HitKind.EXACT,
            camera="north",
            captured_s=now_s,
            now_s=now_s,
            demo=False,
        )

    assert len(at(NOW_S + 4).dispositions) == 1
    assert at(NOW_S + 5).dispositions == ()
    assert at(NOW_S + 5).refused[0][2].startswith("grant-expired:")


@pytest.mark.parametrize("hit", HitKind)
def test_hits_near_hits_and_non_hits_have_rules_of_their_own(hit: HitKind):
    owner = {HitKind.EXACT: Trigger.HIT, HitKind.NEAR: Trigger.NEAR_HIT, HitKind.NONE: Trigger.NON_HIT}
    kept = decided(*(rule(trigger.value, trigger=trigger) for trigger in owner.values()), hit=hit, demo=True)
    assert [(one.rule, one.hit) for one in kept.dispositions] == [(owner[hit].value, hit)]
    for trigger in set(owner.values()) - {owner[hit]}:
        assert decided(rule(trigger=trigger), hit=hit, demo=True) == Decision()


def test_non_hits_are_published_under_a_demo_root_only():
    rest = rule("rest", trigger=Trigger.NON_HIT)
    assert decided(rest, hit=HitKind.NONE).refused == (("rest", "*", NOT_DEMO),)
    assert decided(rest, hit=HitKind.NONE).dispositions == ()
    assert len(decided(rest, hit=HitKind.NONE, demo=True).dispositions) == 1
    assert len(decided(replace(rest, storage=StorageClass.LOCAL), hit=HitKind.NONE).dispositions) == 1


def test_a_rule_for_one_camera_keeps_what_that_camera_saw():
    assert len(decided(rule(cameras=("south", "north")), camera="north").dispositions) == 1


def test_what_is_published_under_a_demo_root_only_stops_no_other_rule():
    found = decided(EVERYTHING, rule("hits"))
    assert [kept.rule for kept in found.dispositions] == ["hits"]
    assert found.refused == (("everything", "*", NOT_DEMO),)


def test_a_rule_whose_signed_time_is_over_leaves_the_passage_to_the_next():
    rules = (rule("short", retention_s=20), rule("long", retention_s=86_400))
    found = decided(*rules, captured_s=NOW_S - 20)
    assert [kept.rule for kept in found.dispositions] == ["long"]
    assert [(name, reason.split(":")[0]) for name, _, reason in found.refused] == [("short", "past-its-date")]


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("trigger", Trigger)
def test_a_profile_caps_each_rule_by_its_trigger(profile: Profile, trigger: Trigger):
    source = rule(trigger=trigger, retention_s=RETENTION_CAP_S)
    assert narrowed(source, Narrowing(profile=profile)).retention_s == cap_s(profile, trigger)
    assert narrowed(source, Narrowing()).retention_s == RETENTION_CAP_S
