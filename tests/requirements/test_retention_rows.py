"""The duties of retention, a test a row, by the row's name: the law's section or the auditor's recommendation.

What a raw disk gives up is in tests/e2e/test_stolen_disk.py, and the generated histories in
tests/test_retention_histories.py; here is the row as a person would read it.
"""

import pytest

from homeplate.config import narrowing, parse_config
from homeplate.domain.hold import HOLD_CAP_S, Ground
from homeplate.domain.profiles import CAPS, Profile
from homeplate.domain.purging import ByHand, Why
from homeplate.domain.record import DAY_SECONDS, HitKind, Part, StorageClass
from homeplate.domain.rules import RETENTION_CAP_S, Trigger
from homeplate.errors import TrustError
from homeplate.policy.disclosure import Narrowing, decide
from homeplate.policy.retention import REVIEW_DAYS, review_due
from homeplate.trust.contents import rules
from homeplate.trust.schema import RuleEntry, RulesFile
from tests.capturing import NOW_S, RECIPIENTS, SIGNING_KEY, Film, Node, rule, terms, traffic
from tests.forensics import STORED, stored_records, windows
from tests.holding import NOW_S as HOLD_NOW_S
from tests.holding import HoldingNode, a_hold, signed
from tests.sealing.opener import RefusedError, Vector, open_record

PLATES = ("7ABC123", "8XYZ987")
PROFILES = list(Profile)


def entry(trigger, retention_s):
    return RuleEntry(
        name="hits", trigger=trigger, recipients=["city"], parts=[Part.FACTS], storage=StorageClass.LOCAL,
        retention_s=retention_s, purpose="p",
    )  # fmt: skip


def file(*entries, profile=None):
    return RulesFile(purposes=["p"], rules=list(entries), retention_profile=profile)


@pytest.fixture
def card(tmp_path):
    """Everything that lies on a node's card, which holds two plates' records and their slot keys."""
    node = Node(tmp_path / "node", terms=lambda: terms(rule(retention_s=20 * DAY_SECONDS)))
    node.run(Film(script=traffic(*PLATES), count=100).feed())
    return node, b"".join(path.read_bytes() for path in sorted(node.folder.rglob("*")) if path.is_file())


def test_civil_code_1798_90_51_a_a_stolen_card_with_its_slot_keys_gives_no_read(card):
    """Unauthorized access: whoever unwraps the slots finds records sealed to keys that are not on the card."""
    node, raw = card
    assert len(node.opened()) == len(PLATES)  # the recipient's key opens them
    assert not [plate for plate in PLATES if plate.encode() in raw]
    store = node.slots(StorageClass.OUTGOING)
    blobs = [path.read_bytes() for path in (node.folder / "spool").rglob("*.rec")]
    sealed = [store.unwrap(blob) for blob in blobs]
    store.close()
    assert len(sealed) == 2 * len(PLATES)
    public = SIGNING_KEY.public_key().public_bytes_raw().hex()
    slots = b"".join(path.read_bytes() for path in node.folder.glob("*.slots"))
    on_the_card = [SIGNING_KEY.private_bytes_raw(), *windows(slots)]
    assert len(on_the_card) > 1
    for private in on_the_card:
        thief = Vector("thief", {"node-public": public, "kem": "x25519", "private": private.hex()}, ())
        with pytest.raises(RefusedError):
            open_record(sealed[0], thief)


def test_civil_code_1798_29_and_82_what_lies_on_the_card_is_sealed(card):
    """A breach notice covers plates: at rest there is ciphertext, and neither a plate nor a picture of one."""
    _, raw = card
    assert raw.count(STORED) == len(stored_records(raw)) == 2 * len(PLATES)
    assert b"\xff\xd8\xff" not in b"".join(record.rest for record in stored_records(raw))[:100_000]
    assert not [plate for plate in PLATES if plate.encode() in raw or plate.encode("utf-16-le") in raw]


def test_civil_code_1798_90_51_a_the_clock_alone_destroys_until_a_person_says_who_and_why(tmp_path):
    """Unauthorized destruction: before its time nothing goes, whoever runs the purge; by hand it is a ledger event."""
    node = HoldingNode(tmp_path / "node")
    record_id = node.record(keep_s=500)
    for second in (0, 1, 250, 499):
        node.purge(HOLD_NOW_S + second)
        assert node.readable_originals() == {record_id}
    node.purge(by_hand=ByHand(who="Badge 7", why=Why.ORDERED, reference="Order 12", rule="hits"))
    assert node.readable_originals() == set()
    [row] = node.rows("purge", "purge.by-hand")
    assert (row.fields["who"], row.fields["why"], row.fields["reference"]) == ("Badge 7", "ordered", "Order 12")


def test_civil_code_1798_90_51_a_evidence_is_held_under_a_case_number_and_an_expiry_that_a_custodian_signed(tmp_path):
    node = HoldingNode(tmp_path / "node")
    record_id = node.record(keep_s=500)
    for unsigned in (b"", signed(a_hold())[:-200], b"please keep them"):
        with pytest.raises(TrustError):
            node.holding(lambda holder, document=unsigned: holder.apply(document))
    with pytest.raises(TrustError, match="case"):
        signed(a_hold(case=""))
    node.apply()
    node.purge(a_hold().expires_s - 1)
    assert (node.readable_originals(), node.readable_copies()) == (set(), {record_id})
    node.purge(a_hold().expires_s)
    assert node.readable_copies() == set()
    assert node.rows("hold", "hold.accepted")[0].fields["case"] == "26-1234"


def test_vehicle_code_2413_sixty_days_at_most():
    assert RETENTION_CAP_S == 60 * DAY_SECONDS
    for trigger in Trigger:
        assert rules(file(entry(trigger, RETENTION_CAP_S), profile=Profile.CHP), demo=False)
        with pytest.raises(TrustError, match="retention of 5184001 s"):
            rules(file(entry(trigger, RETENTION_CAP_S + 1)), demo=False)


def test_vehicle_code_2413_longer_only_as_evidence_or_for_a_felony(tmp_path):
    assert {ground.value for ground in Ground} == {"evidence", "felony"}
    node, longer = HoldingNode(tmp_path / "node"), 61 * DAY_SECONDS
    record_id = node.record(keep_s=RETENTION_CAP_S)
    node.record(camera="yard", keep_s=RETENTION_CAP_S)
    with pytest.raises(TrustError, match="over-the-cap"):
        node.apply(a_hold(hold_id=b"x" * 16, issued_s=HOLD_NOW_S - 1, expires_s=HOLD_NOW_S + HOLD_CAP_S))
    node.apply(a_hold(ground=Ground.FELONY, expires_s=HOLD_NOW_S + longer))
    node.purge(HOLD_NOW_S + RETENTION_CAP_S)
    assert (node.readable_originals(), node.readable_copies()) == (set(), {record_id})
    node.purge(HOLD_NOW_S + longer)
    assert node.readable_copies() == set()


@pytest.mark.parametrize(
    ("profile", "hit_s", "everything_s"),
    [
        (Profile.CHP, 60 * DAY_SECONDS, 60 * DAY_SECONDS),
        (Profile.SB_274, 60 * DAY_SECONDS, 60 * DAY_SECONDS),
        (Profile.SAN_JOSE, 30 * DAY_SECONDS, 30 * DAY_SECONDS),
        (Profile.MAINE, 21 * DAY_SECONDS, 21 * DAY_SECONDS),
        (Profile.VIRGINIA, 21 * DAY_SECONDS, 21 * DAY_SECONDS),
        (Profile.WASHINGTON, 21 * DAY_SECONDS, 21 * DAY_SECONDS),
        (Profile.NEW_HAMPSHIRE, 60 * DAY_SECONDS, 180),
    ],
)
def test_presets_for_retention_cap_every_rule_of_a_bundle(profile, hit_s, everything_s):
    assert set(CAPS) == set(PROFILES)
    for trigger, most_s in ((Trigger.HIT, hit_s), (Trigger.EVERYTHING, everything_s)):
        assert rules(file(entry(trigger, most_s), profile=profile), demo=False)[0].retention_s == most_s
        with pytest.raises(TrustError, match=r"over-the-profile|it is 1 to"):
            rules(file(entry(trigger, most_s + 1), profile=profile), demo=False)


@pytest.mark.parametrize("profile", PROFILES)
def test_presets_for_retention_in_a_nodes_configuration_only_shorten(profile):
    narrow = narrowing(parse_config(f'[narrow]\nprofile = "{profile}"\n'.encode(), name="x").narrow)
    for retention_s in (60, RETENTION_CAP_S):
        [kept] = kept_of(HitKind.EXACT, narrow, rule(trigger=Trigger.HIT, retention_s=retention_s))
        assert kept.retention_s == min(retention_s, CAPS[profile].hit_s)


def kept_of(hit, narrow, *signed_rules):
    return decide(
        rules=signed_rules, narrowing=narrow, recipients=RECIPIENTS, hit=hit, camera="road", captured_s=NOW_S,
        now_s=NOW_S, demo=False,
    ).dispositions  # fmt: skip


def test_non_hits_have_a_clock_of_their_own_and_by_default_nothing_of_them_is_kept():
    hits = rule("hits", trigger=Trigger.HIT, retention_s=RETENTION_CAP_S)
    rest = rule("rest", storage=StorageClass.LOCAL, retention_s=RETENTION_CAP_S)
    assert kept_of(HitKind.NONE, Narrowing(), hits) == ()
    minutes = Narrowing(profile=Profile.NEW_HAMPSHIRE)
    [kept] = kept_of(HitKind.NONE, minutes, hits, rest)
    assert (kept.rule, kept.keep_until_s <= NOW_S + 180) == ("rest", True)
    by_rule = {one.rule: one.retention_s for one in kept_of(HitKind.EXACT, minutes, hits, rest)}
    assert by_rule == {"hits": RETENTION_CAP_S, "rest": 180}


def test_auditor_33_and_47_a_review_older_than_two_years_is_due():
    day_s = 1_767_225_600  # 2026-01-01
    assert review_due("", day_s) == "the retention was never reviewed"
    assert review_due("2026-01-01", day_s) is None
    assert review_due("2026-01-01", day_s + (REVIEW_DAYS + 1) * DAY_SECONDS - 1) is None
    late = review_due("2026-01-01", day_s + (REVIEW_DAYS + 1) * DAY_SECONDS)
    assert late == "the retention was last reviewed on 2026-01-01, more than two years ago"
    assert "to come" in (review_due("2026-01-02", day_s) or "")


def test_auditor_33_and_47_a_day_of_review_that_is_none_is_refused():
    for day in ("2026-02-30", "0000-01-01"):
        with pytest.raises(TrustError, match="no date"):
            rules(RulesFile(purposes=["p"], rules=[], retention_reviewed_on=day), demo=False)
