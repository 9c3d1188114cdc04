"""What ends soon is named early enough, with its day and the next step, and what does not is not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.domain.record import DAY_SECONDS
from homeplate.policy.expiry import endings
from tests.policy.values import NOW_S, grant

ROLES = {
    "root": "root",
    "targets": "top-role",
    "registry": "registry",
    "operator": "allowlist",
    "snapshot": "snapshot",
    "timestamp": "timestamp",
}
LATER = dict.fromkeys(ROLES, NOW_S + 1000 * DAY_SECONDS)


@pytest.mark.parametrize("role", ROLES)
def test_each_part_is_named_by_its_own_name_from_the_day_on_which_the_warning_starts(role):
    ends_s = NOW_S + 20 * DAY_SECONDS
    found = LATER | {role: ends_s}
    (ending,) = endings(found, [], NOW_S + 6 * DAY_SECONDS, within_days=14)
    assert (ending.what, ending.ends_s, ending.day) == (ROLES[role], ends_s, "2026-10-11")
    assert "homeplate-custodian bundle publish" in ending.next_step
    assert endings(found, [], NOW_S + 6 * DAY_SECONDS - 1, within_days=14) == ()


def test_an_allowlist_entry_is_named_by_its_agency_also_when_it_is_over():
    soon, over, late = (
        replace(grant(name), expires_s=NOW_S + days * DAY_SECONDS) for name, days in (("a", 3), ("b", -3), ("c", 300))
    )
    found = endings(LATER, [late, soon, over], NOW_S)
    assert [ending.what for ending in found] == ["grant b", "grant a"]
    assert found[0].next_step == "review it, then `homeplate-custodian bundle grant CUSTODY b ...` or `revoke`"


@given(st.dictionaries(st.sampled_from(sorted(ROLES)), st.integers(-30, 400)), st.integers(0, 366))
def test_exactly_what_ends_within_the_days_is_named_and_the_first_to_end_stands_first(days, within_days):
    found = endings(
        {role: NOW_S + number * DAY_SECONDS for role, number in days.items()}, [], NOW_S, within_days=within_days
    )
    assert {ending.what for ending in found} == {ROLES[role] for role, number in days.items() if number <= within_days}
    assert [ending.ends_s for ending in found] == sorted(ending.ends_s for ending in found)
