"""The audit's draw is fixed by the log and a public seed; who is due, and what the commands say."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from homeplate.clock import SimulatedClock
from homeplate.errors import ConfigError
from homeplate.store.ledger import MerkleLog, read_lines, read_rows
from homeplate_custodian.access import OPENED
from homeplate_custodian.audit import DONE, draw, standing
from homeplate_custodian.cli import main
from tests.custodian.sealed_kit import NOW_S, PLATE
from tests.custodian.test_access import Desk

DAY_S = 86_400


def log_of(folder, count, done=()):
    """Return the lines of a log of `count` accesses; after the numbers in `done` an audit that reached as far."""
    clock = SimulatedClock(NOW_S * 10**9)
    with MerkleLog(folder / "access.log", clock) as ledger:
        for number in range(1, count + 1):
            clock.advance_to((NOW_S + number * DAY_S) * 10**9)
            ledger.append(OPENED, records="", user=f"u{number}")
            if number in done:
                ledger.append(DONE, last_row=ledger.size)
    return list(read_lines(folder / "access.log"))


def test_the_same_log_and_seed_draw_the_same_and_another_seed_draws_others(tmp_path):
    lines = log_of(tmp_path, 200)
    one, again, other = draw(lines, "4 8 15", 20), draw(lines, "4 8 15", 20), draw(lines, "16 23 42", 20)
    assert one == again
    assert len(one.drawn) == 20
    assert one.population == 200
    assert {row.number for row in one.drawn} != {row.number for row in other.drawn}
    assert (one.first_row, one.last_row, one.root) == (1, 200, lines[-1].root)


def test_every_access_is_drawn_about_as_often_as_any_other(tmp_path):
    lines = log_of(tmp_path, 20)
    drawn = [row.number for seed in range(400) for row in draw(lines, str(seed), 5).drawn]
    assert all(60 < drawn.count(number) < 150 for number in range(1, 21))


def test_a_draw_is_repeated_though_accesses_came_after_it(tmp_path):
    lines = log_of(tmp_path, 50)
    assert draw(lines, "s", 5, last_row=30) == draw(lines[:30], "s", 5)


def test_what_was_reviewed_is_not_drawn_again_and_what_came_before_the_audit_was_written_is(tmp_path):
    clock = SimulatedClock(NOW_S * 10**9)
    with MerkleLog(tmp_path / "access.log", clock) as ledger:
        for number in range(1, 5):
            ledger.append(OPENED, records="", user=f"u{number}")
        ledger.append(DONE, last_row=3)
        ledger.append(OPENED, records="", user="u5")
    sample = draw(list(read_lines(tmp_path / "access.log")), "s", 10)
    assert [row.fields["user"] for row in sample.drawn] == ["u4", "u5"]
    assert (sample.first_row, sample.last_row) == (4, 6)


@given(st.integers(0, 30))
def test_never_more_are_drawn_than_there_are(count):
    assert len(draw([], "s", max(1, count)).drawn) == 0


@pytest.mark.parametrize("seed", ["", "  ", "x" * 201])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ConfigError, match="--seed"):
        draw([], seed, 1)


def test_civil_code_1798_90_53_an_audit_is_overdue_once_an_access_has_waited_too_long(tmp_path):
    rows = [line.row for line in log_of(tmp_path, 3, done=(1,))]
    second_s = NOW_S + 2 * DAY_S
    found = standing(rows, second_s + 90 * DAY_S - 1, every_days=90)
    assert (found.accesses_since, found.waiting_days, found.overdue) == (2, 89, False)
    assert standing(rows, second_s + 90 * DAY_S, every_days=90).overdue
    assert standing(rows, second_s, every_days=90).last_audit_s == NOW_S + DAY_S
    assert not standing([], NOW_S, every_days=1).overdue


def call(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_reviewer_draws_sees_the_sealed_plates_and_says_that_it_is_done(tmp_path):
    desk = Desk(tmp_path)
    desk.keep(PLATE)
    for _ in range(3):
        desk.open()
    lines = call("audit", "sample", tmp_path, "--seed", "4 8 15", "--n", 2, "--json").splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["case"] == "26-1234" for line in lines)
    assert PLATE not in "".join(lines)
    key = tmp_path / "access" / "reviewer.key"
    shown = call("audit", "sample", tmp_path, "--seed", "4 8 15", "--n", 2, "--json", "--reviewer-key", key)
    assert [json.loads(line)["shown"] for line in shown.splitlines()] == [[PLATE], [PLATE]]
    who = ["--reviewer", "Auditor", "--seed", "4 8 15", "--n", 2]
    call("audit", "done", tmp_path, *who, "--last-row", 9, "--objections", 0, code=2)
    call("audit", "done", tmp_path, *who, "--last-row", 6, "--objections", 3, code=2)
    call("audit", "done", tmp_path, *who, "--last-row", 6, "--objections", 1)
    row = list(read_rows(tmp_path / "access.log"))[-1]
    assert (row.event, row.fields["objections"], row.fields["reviewed"], row.fields["last_row"]) == (DONE, 1, 2, 6)
    assert "0 accesses since" in call("audit", "status", tmp_path)
    assert "7 rows are good, 0 of them not signed" in call("audit", "verify", tmp_path)
    assert json.loads(call("audit", "ages", tmp_path, "--json"))["0"] == 3
    assert PLATE not in call("audit", "ages", tmp_path)


def test_an_overdue_audit_ends_the_status_with_one(tmp_path):
    desk = Desk(tmp_path)  # its clock stands in the past or in the future of this machine's
    desk.clock = SimulatedClock(10**18)
    desk.open()
    assert call("audit", "status", tmp_path, code=1).startswith("OVERDUE: last audit never")


def test_a_custody_in_which_nothing_was_opened_says_so(tmp_path):
    result = CliRunner().invoke(main, ["audit", "status", str(tmp_path)])
    assert result.exit_code == 2
    assert "nothing was ever opened" in result.output
