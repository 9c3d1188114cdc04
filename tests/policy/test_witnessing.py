"""Whether a log is watched: by witnesses that the registry names, within eight days; each lack has a name."""

from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.witness import Witness
from homeplate.policy.verdict import Refused
from homeplate.policy.witnessing import COSIGNED_WITHIN_S, watched
from tests.policy.values import NOW_S

WITNESSES = [Witness(name="witness.example/w1", public=bytes(32))]


def test_a_log_that_a_witness_saw_within_eight_days_is_watched():
    assert COSIGNED_WITHIN_S == 8 * DAY_SECONDS
    assert watched(WITNESSES, "capture", NOW_S, NOW_S) is None
    assert watched(WITNESSES, "capture", NOW_S - COSIGNED_WITHIN_S, NOW_S) is None


def test_a_log_that_a_witness_saw_longer_ago_is_not_and_the_days_are_said():
    for late_s, days in ((1, 8), (DAY_SECONDS - 1, 8), (DAY_SECONDS, 9)):
        assert watched(WITNESSES, "capture", NOW_S - COSIGNED_WITHIN_S - late_s, NOW_S) == Refused(
            f"cosigned-long-ago: a witness saw the capture log {days} days ago; bring it a new request"
        )


def test_a_log_that_no_witness_saw_yet_is_named_with_the_next_step():
    assert watched(WITNESSES, "uplink", None, NOW_S) == Refused(
        "never-cosigned: no witness has cosigned the uplink log; run `homeplate ledger request FILE`"
    )


def test_without_a_witness_in_the_registry_no_cosignature_counts():
    for last_s in (None, NOW_S):
        assert watched([], "capture", last_s, NOW_S) == Refused(
            "no-witness: the registry names none, so nobody outside would notice a log that was set back"
        )
