"""Capture waits for a whole, posted usage policy, and an agency's for its public meeting; each lack has a name."""

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.usage import OperatorKind, UsagePolicy
from homeplate.policy.usage import PARTS, missing
from tests.policy.values import NOW_S

TODAY = "2026-09-21"  # NOW_S
WHOLE = UsagePolicy(
    operator_kind=OperatorKind.PUBLIC_AGENCY, purposes="a", users="b", training="b", monitoring="c", sharing="d",
    custodian_title="e", accuracy="f", retention="g", url="https://city.example/alpr", sha256=bytes(32),
    meeting_on="2026-09-20", meeting_address="1 Main Street",
)  # fmt: skip
FIELDS = [(letter, name) for letter, (_, names) in PARTS.items() for name in names]


def names(policy, now_s=NOW_S):
    return [one.reason.split(":")[0] for one in missing(policy, now_s)]


def test_civil_code_1798_90_51_b_a_whole_policy_lacks_nothing():
    assert missing(WHOLE, NOW_S) == []


@pytest.mark.parametrize(("letter", "name"), FIELDS)
@pytest.mark.parametrize("blank", ["", " \n"])
def test_civil_code_1798_90_51_b_each_blank_part_is_a_refusal_that_names_its_letter(letter, name, blank):
    lacking = missing(dataclasses.replace(WHOLE, **{name: blank}), NOW_S)
    about = PARTS[letter][0]
    assert len(lacking) == 1
    assert lacking[0].reason.startswith(
        f"policy-part-{letter}: part {letter} of the usage policy ({about}) lacks {name};"
    )
    assert lacking[0].reason.endswith("; write it with `homeplate-custodian policy set`, and publish")


def test_the_parts_are_the_seven_of_the_section():
    assert "".join(PARTS) == "ABCDEFG"
    assert len(FIELDS) == 8


def test_a_policy_that_is_not_posted_is_refused_by_name():
    assert names(dataclasses.replace(WHOLE, url="")) == ["policy-url"]
    assert names(dataclasses.replace(WHOLE, sha256=b"")) == ["policy-sha256"]
    assert missing(dataclasses.replace(WHOLE, sha256=b""), NOW_S)[0].reason.endswith(
        " (sha256); record it with `homeplate-custodian policy posted`, and publish"
    )


def test_civil_code_1798_90_55_a_an_agency_without_its_public_meeting_does_not_start():
    assert names(dataclasses.replace(WHOLE, meeting_on="")) == ["policy-meeting-date"]
    assert names(dataclasses.replace(WHOLE, meeting_address=" ")) == ["policy-meeting-address"]
    assert names(dataclasses.replace(WHOLE, meeting_on=TODAY)) == ["policy-meeting-to-come"]
    assert names(dataclasses.replace(WHOLE, meeting_on=TODAY), NOW_S + 86_400) == []
    assert names(dataclasses.replace(WHOLE, meeting_on="2027-01-01")) == ["policy-meeting-to-come"]


def test_the_day_after_the_meeting_begins_at_midnight_utc_whatever_the_machines_time_zone(monkeypatch):
    midnight_s = NOW_S // 86_400 * 86_400
    today = dataclasses.replace(WHOLE, meeting_on=TODAY)
    for zone in ("UTC", "Etc/GMT+12", "Etc/GMT-14"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            assert missing(today, midnight_s + 86_399)[0].reason == (
                f"policy-meeting-to-come: the public meeting of {TODAY} is not over; capture starts the day after"
            )
            assert names(today, midnight_s + 86_400) == []
        finally:
            monkeypatch.undo()
            time.tzset()


def test_a_private_operator_owes_no_public_meeting():
    private = dataclasses.replace(WHOLE, operator_kind=OperatorKind.PRIVATE, meeting_on="", meeting_address="")
    assert missing(private, NOW_S) == []
    assert names(dataclasses.replace(private, accuracy="")) == ["policy-part-F"]


@given(st.sets(st.sampled_from([name for _, name in FIELDS])))
def test_what_is_named_is_exactly_what_is_blank(blank):
    lacking = missing(dataclasses.replace(WHOLE, **dict.fromkeys(blank, "")), NOW_S)
    assert [one.reason.split(" lacks ")[1].split(";")[0] for one in lacking] == [n for _, n in FIELDS if n in blank]
