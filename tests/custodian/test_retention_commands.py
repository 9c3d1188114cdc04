"""The profile and the review of retention, from the custodian's desk to `homeplate check`."""

import pytest
from click.testing import CliRunner

from homeplate.cli import main as node_main
from homeplate_custodian.cli import main as custodian_main


@pytest.fixture
def desk(simulation_node):
    def run(*words):
        done = CliRunner().invoke(custodian_main, ["bundle", "rule", *map(str, words)])
        simulation_node.publish()
        checked = CliRunner().invoke(node_main, ["--config", str(simulation_node.config), "check"]).output
        return done, checked

    return run


def test_check_warns_until_the_review_is_written_down_and_again_when_it_is_old(simulation_node, desk):
    custody = simulation_node.custody
    done, checked = desk("profile", custody, "none")
    assert done.exit_code == 0, done.output
    assert "note  bundle: the retention was never reviewed: review it, then" in checked
    done, checked = desk("reviewed", custody)
    assert done.exit_code == 0, done.output
    assert "review" not in checked
    _, checked = desk("reviewed", custody, "--on", "2023-01-01")
    assert "note  bundle: the retention was last reviewed on 2023-01-01, more than two years ago" in checked


@pytest.mark.parametrize(("day", "why"), [("2999-01-01", "to come"), ("yesterday", "no day"), ("2026-02-30", "no day")])
def test_a_review_on_no_day_or_on_one_to_come_is_refused(simulation_node, desk, day, why):
    done, checked = desk("reviewed", simulation_node.custody, "--on", day)
    assert (done.exit_code, why in done.output) == (2, True)
    assert "never reviewed" in checked


def test_a_profile_shorter_than_a_drafted_rule_is_refused_and_one_that_is_not_is_shown(simulation_node, desk):
    done, checked = desk("profile", simulation_node.custody, "new-hampshire")
    assert done.exit_code == 6
    assert "over-the-profile" in done.output
    assert "retention profile" not in checked
    done, checked = desk("profile", simulation_node.custody, "chp")
    assert done.output == "hits 60 days, everything else 60 days at most (California Vehicle Code 2413(b))\n"
    assert "retention profile chp: California Vehicle Code 2413(b)" in checked
