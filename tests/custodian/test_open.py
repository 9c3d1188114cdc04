"""Opening: the access record comes first, the crop must be the one that the facts name, and a date is a date."""

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.clock import SimulatedClock
from homeplate.domain.hold import Ground, Hold
from homeplate.domain.record import Part
from homeplate.errors import ConfigError, StoreError
from homeplate.sealing.facts import CropReference, pad_crop
from homeplate_custodian.records import (
    Accessor,
    Inbox,
    Opener,
    check_purpose,
    forget_past_days,
)
from tests.custodian.sealed_kit import JPEG, NOW_S, PLATE, Node, new_key


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path / "received")


@pytest.fixture
def clock():
    return SimulatedClock(NOW_S * 10**9)


@pytest.fixture
def opening(inbox, node, key, clock):
    def opened(keys=None, nodes=None):
        keys = (key,) if keys is None else keys
        nodes = (node.entry(),) if nodes is None else nodes
        return Opener(inbox, {k.key_id: k for k in keys}, nodes, clock).open(inbox.files())

    return opened


def keep(inbox, *records):
    for record_id, sealed in records:
        inbox.store(record_id, sealed)


def test_facts_and_crop_are_shown_together(inbox, node, key, opening):
    crop, facts = node.passage(key)
    keep(inbox, crop, facts)
    result = opening()
    assert result.unopened == ()
    (opened,) = result.opened
    assert opened.facts.plate == PLATE
    assert opened.crop == JPEG
    assert opened.header.record_id == facts[0]
    assert opened.sealed_bytes == len(crop[1]) + len(facts[1])


def test_facts_without_a_crop_are_shown_alone(inbox, node, key, opening):
    keep(inbox, node.facts(key))
    assert [record.crop for record in opening().opened] == [None]


def test_facts_whose_crop_has_not_come_yet_are_shown_without_it(inbox, node, key, opening):
    keep(inbox, node.passage(key)[1])
    assert [record.crop for record in opening().opened] == [None]


def test_a_crop_without_its_facts_is_not_shown(inbox, node, key, opening):
    crop, _ = node.passage(key)
    keep(inbox, crop)
    result = opening()
    assert result.opened == ()
    assert [(item.record_id, item.reason) for item in result.unopened] == [(crop[0], "no opened facts name this crop")]


def test_a_swapped_crop_is_noticed(inbox, node, key, opening):
    crop_id, _ = node.seal(Part.CROP, pad_crop(JPEG), key)
    other_id, other = node.seal(Part.CROP, pad_crop(b"\xff\xd8 another \xff\xd9"), key, record_id=crop_id)
    facts = node.facts(key, crop=CropReference.of(crop_id, JPEG))
    keep(inbox, (other_id, other), facts)
    result = opening()
    assert result.opened == ()
    assert [item.reason for item in result.unopened] == ["the crop that came with it is not the one that it names"]


def test_of_a_conflict_both_versions_are_shown_and_the_second_is_marked(inbox, node, key, opening):
    record_id, first = node.facts(key)
    _, second = node.facts(key, record_id=record_id, plate="8XYZ999")
    keep(inbox, (record_id, first), (record_id, second))
    assert sorted((record.facts.plate, record.conflict) for record in opening().opened) == [
        (PLATE, False),
        ("8XYZ999", True),
    ]


def test_at_the_exact_second_nothing_opens_any_more_and_the_files_go(inbox, node, key, opening, clock):
    keep(inbox, *node.passage(key, keep_until_s=NOW_S + 20))
    clock.advance_to((NOW_S + 20) * 10**9 - 1)
    assert len(opening().opened) == 1
    clock.advance_to((NOW_S + 20) * 10**9)
    result = opening()
    assert result.opened == ()
    assert [item.reason for item in result.unopened] == ["past its keep-until: removed unread"]
    assert inbox.files() == []


def test_records_whose_day_is_over_are_removed_unopened(inbox, node, key, clock):
    keep(inbox, node.facts(key), node.facts(key, keep_until_s=NOW_S + 3 * 86_400))
    assert forget_past_days(inbox, clock) == 0
    clock.advance_to((NOW_S + 86_400) * 10**9)
    assert forget_past_days(inbox, clock) == 1
    assert len(inbox.files()) == 1


def test_after_the_private_key_is_destroyed_nothing_opens(inbox, node, key, opening):
    keep(inbox, node.facts(key))
    assert "key that is not here" in opening(keys=(new_key(),)).unopened[0].reason


def test_a_record_of_a_node_that_the_bundle_does_not_name_is_not_opened(inbox, node, key, opening):
    keep(inbox, node.facts(key))
    assert "does not name" in opening(nodes=(Node().entry(),)).unopened[0].reason


def test_a_file_under_another_name_and_a_damaged_one_are_named_and_the_others_open(inbox, node, key, opening, tmp_path):
    good, moved, damaged = node.facts(key), node.facts(key), node.facts(key)
    keep(inbox, good, moved, damaged)
    folder = tmp_path / "received"
    renamed = folder / f"{os.urandom(16).hex()}.rec"
    (folder / f"{moved[0]}.rec").rename(renamed)
    (folder / f"{damaged[0]}.rec").write_bytes(damaged[1][:-1])
    (folder / "notes.txt").write_text("not ours")
    result = opening()
    assert [record.header.record_id for record in result.opened] == [good[0]]
    assert len(result.unopened) == 2


@pytest.mark.parametrize("blank", ["user", "organisation", "purpose", "case"])
def test_a_blank_field_is_refused_by_name(blank):
    fields = {"user": "u", "organisation": "o", "purpose": "p", "case": "26-1"} | {blank: "  "}
    with pytest.raises(ConfigError, match=f"--{blank}"):
        Accessor(**fields)


@pytest.mark.parametrize("case", ["x" * 65, "26-1\n", "-26", "case\x1b", "é"])
def test_what_is_no_case_number_is_refused(case):
    with pytest.raises(ConfigError, match="--case is a case number"):
        Accessor(user="u", organisation="o", purpose="p", case=case)


PLATES = ["1ABC234", "1abc234", "1-ABC-234", "1 ABC 234", "123ABC4", "1A23456", "1A 23456", "12345A6", "re 1ABC234",
          "26-12/1ABC234", "plate_1ABC234"]  # fmt: skip


@pytest.mark.parametrize("field", ["user", "organisation", "case"])
@pytest.mark.parametrize("plate", PLATES)
def test_what_has_the_form_of_a_plate_is_refused_where_it_would_stand_in_the_log_and_is_not_repeated(field, plate):
    fields = {"user": "u", "organisation": "o", "purpose": "p", "case": "26-1"} | {field: plate}
    with pytest.raises(ConfigError, match=f"--{field} has the form of a plate") as refused:
        Accessor(**fields)
    assert plate not in str(refused.value)


FORMS = r"[0-9][A-Z]{3}[0-9]{3}|[0-9][A-Z][0-9]{5}|[0-9]{3}[A-Z]{3}[0-9]|[0-9]{5}[A-Z][0-9]"


@given(st.from_regex(FORMS, fullmatch=True),
       st.lists(st.sampled_from(["", " ", "-"]), min_size=6, max_size=6), st.booleans())  # fmt: skip
def test_a_plates_form_is_found_however_it_is_spaced(plate, between, small):
    case = plate[0] + "".join(gap + letter for gap, letter in zip(between, plate[1:], strict=True))
    with pytest.raises(ConfigError, match="form of a plate"):
        Accessor(user="u", organisation="o", purpose="p", case=case.lower() if small else case)


@pytest.mark.parametrize(
    "case", ["26-1234", "2601234", "1234567", "SO-26-004512", "21ABC234", "1ABC2345", "A1ABC234", "A"]
)
def test_case_numbers_that_are_no_plates_are_taken(case):
    assert Accessor(user="badge 12", organisation="City of Oakland", purpose="p", case=case).case == case


def test_a_purpose_that_the_operator_did_not_authorise_is_refused():
    check_purpose("stolen-vehicle", ("stolen-vehicle",))
    with pytest.raises(ConfigError, match="stolen-vehicle"):
        check_purpose("curiosity", ("stolen-vehicle",))


def test_facts_in_a_repr_are_masked(inbox, node, key, opening):
    keep(inbox, *node.passage(key))
    assert PLATE not in repr(opening())


def test_an_inbox_that_cannot_be_read_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Inbox(tmp_path / "file" / "received")


HOLD = Hold(
    hold_id=b"h" * 16, node=bytes(16), case="26-1", ground=Ground.FELONY, camera="gate", from_s=NOW_S - 5, to_s=NOW_S,
    most_records=9, issued_s=NOW_S, expires_s=NOW_S + 1000,
)  # fmt: skip


def held(inbox, node, key, clock, changed=()):
    hold = dataclasses.replace(HOLD, **{"node": node.pseudonym} | dict(changed))
    return Opener(inbox, {key.key_id: key}, (node.entry(),), clock, hold).open(inbox.files())


def test_what_a_hold_names_opens_past_its_keep_until_and_at_the_holds_expiry_it_is_removed(inbox, node, key, clock):
    keep(inbox, *node.passage(key))
    clock.advance_to((NOW_S + 999) * 10**9)
    (opened,) = held(inbox, node, key, clock).opened
    assert (opened.facts.plate, opened.crop) == (PLATE, JPEG)
    clock.advance_to((NOW_S + 1000) * 10**9)
    (unopened,) = held(inbox, node, key, clock).unopened
    assert "past its keep-until" in unopened.reason
    assert inbox.files() == []


@pytest.mark.parametrize("changed", [{"camera": "yard"}, {"node": b"x" * 16}, {"to_s": NOW_S - 1}])
def test_what_a_hold_does_not_name_does_not_open_with_it_and_stays(inbox, node, key, clock, changed):
    keep(inbox, node.facts(key))
    (unopened,) = held(inbox, node, key, clock, changed).unopened
    assert unopened.reason == "the hold does not name it"
    assert len(inbox.files()) == 1
