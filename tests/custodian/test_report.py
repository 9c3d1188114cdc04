"""A year's figures: what left or may have left, for which purpose it did, and what was handed out besides."""

import json

import pytest
from click.testing import CliRunner

from homeplate.clock import NANOSECONDS
from homeplate.store.ledger import MerkleLog
from homeplate_custodian.cli import main
from tests.custodian.test_verify import SEALED_FOR, append, enrolled, take_away  # noqa: F401

DAY_NS = 86_400 * NANOSECONDS


@pytest.fixture
def node(enrolled):  # noqa: F811
    """A node's ledgers, with a bundle in force, and the custody that enrolled it."""
    ledgers, custody = enrolled
    append(ledgers, "bundle", ("bundle.installed", {}))
    return ledgers, custody


def intended(record, purpose="stolen vehicles", attempt=1, recipient="city-pd"):
    fields = {"record": record, "recipient": recipient, "attempt": attempt, "address": "192.0.2.1"}
    return "delivery.intended", fields | ({"purpose": purpose} if purpose else {})


def came(outcome, record, attempt=1, recipient="city-pd", **more):
    return f"delivery.{outcome}", {"record": record, "recipient": recipient, "attempt": attempt, **more}


def year_of(ledgers):
    return str(1970 + int(ledgers.clock.now_ns() / DAY_NS / 365.2425))


def report(ledgers, custody, *words, code=0):
    args = ["report", "disclosures", ledgers.folder, "--custody", custody, "--year", year_of(ledgers), *words]
    done = CliRunner().invoke(main, [str(word) for word in args])
    assert done.exit_code == code, done.output
    return done.output


def test_an_attempt_without_an_outcome_counts_as_unknown(node):
    ledgers, custody = node
    append(
        ledgers, "uplink",
        intended("r1"), came("confirmed", "r1"),
        intended("r2"),
        intended("r3"), came("not-sent", "r3"),
        intended("r4"), came("refused", "r4", reason="broker: not-authorized"),
        intended("r5"), ("delivery.refused", {"record": "r5", "recipient": "city-pd", "reason": "not-listed: x"}),
        intended("r6"), intended("r6", attempt=2), came("not-sent", "r6", attempt=2),
        intended("r7"), intended("r7", attempt=2), came("confirmed", "r7", attempt=2),
    )  # fmt: skip
    said = report(ledgers, custody)
    assert "5 records disclosed" in said
    assert "2 confirmed, 3 unknown; purpose: stolen vehicles" in said


def test_an_outcome_of_the_next_year_settles_an_attempt_of_this_one(node):
    ledgers, custody = node
    year = int(year_of(ledgers))
    append(ledgers, "uplink", intended("r1"), intended("r2"))
    with MerkleLog(ledgers.path("uplink"), ledgers.clock) as log:
        ledgers.clock.advance_to(ledgers.clock.now_ns() + 366 * DAY_NS)
        for event, fields in (came("confirmed", "r1"), came("not-sent", "r2")):
            log.append(event, **fields)
    args = ["report", "disclosures", str(ledgers.folder), "--custody", str(custody), "--json", "--year"]
    assert json.loads(CliRunner().invoke(main, [*args, str(year)]).output)["disclosures"][0]["confirmed"] == 1
    assert json.loads(CliRunner().invoke(main, [*args, str(year + 1)]).output)["disclosures"] == []


def test_records_are_counted_by_the_purpose_for_which_they_were_sent(node):
    ledgers, custody = node
    append(
        ledgers, "uplink",
        intended("r1", "missing persons"), came("confirmed", "r1"),
        intended("r2"), came("confirmed", "r2"),
        intended("r3", None), came("confirmed", "r3"),
    )  # fmt: skip
    said = json.loads(report(ledgers, custody, "--json"))["disclosures"]
    counted = {row["purpose"]: row["confirmed"] for row in said}
    assert counted == {"missing persons": 1, "stolen vehicles": 1, "not recorded": 1}


def test_records_that_were_handed_out_for_a_hold_have_a_line_of_their_own_by_case(node):
    ledgers, custody = node
    append(ledgers, "uplink", ("uplink.started", {}))
    append(
        ledgers, "hold",
        ("hold.exported", {"hold": "h1", "case": "26-1234", "records": 3}),
        ("hold.exported", {"hold": "h1", "case": "26-1234", "records": 1}),
        ("hold.exported", {"hold": "h2", "case": "26-9", "records": 2}),
    )  # fmt: skip
    said = report(ledgers, custody)
    assert "0 records disclosed" in said
    assert "6 handed out for evidence holds\n  case 26-1234: 4\n  case 26-9: 2\n" in said
    assert json.loads(report(ledgers, custody, "--json"))["hold_exports"][1] == {"case": "26-9", "records": 2}


@pytest.mark.parametrize("speaks", [True, False])
def test_without_the_log_of_uplink_nothing_is_counted_unless_told_to(node, speaks):
    ledgers, custody = node
    append(ledgers, "uplink", intended("r1"), came("confirmed", "r1"))
    if speaks:
        append(ledgers, "capture", SEALED_FOR)
    take_away(ledgers, "uplink")
    said = report(ledgers, custody, code=10)
    assert "uplink" in said
    assert "nothing was counted" in said
    assert "disclosed" not in said
    assert "no log of uplink is here, nothing of it was counted" in report(ledgers, custody, "--partial")
