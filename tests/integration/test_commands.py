"""`homeplate-custodian receive` as a process of its own: its readiness, its last line, its exit codes."""

import json
import signal
import subprocess
import sys

import pytest

from homeplate.uplink import Drained
from tests.custodian.sealed_kit import PLATE
from tests.integration.conftest import AGENCY

PROGRAM = "from homeplate_custodian.cli import main; main(prog_name='homeplate-custodian')"


@pytest.fixture
def receive(estate):
    """Start the command and return it once it says that it is receiving."""
    started = []

    def start(*options):
        command = [sys.executable, "-c", PROGRAM, "receive", str(estate.custody), "--agency", AGENCY, *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr.readline() == f"receiving for {AGENCY}\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_it_ends_when_nothing_more_comes_and_counts_what_came(estate, receive):
    process = receive("--idle", "2")
    estate.put_passage()
    assert estate.uplink().drain() == Drained(confirmed=2)
    output, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (0, "")
    assert json.loads(output.splitlines()[-1]) == {"received": {"new": 2}}
    assert PLATE not in output


def test_a_conflict_ends_it_with_exit_code_11(estate, receive):
    process = receive("--idle", "3")
    publisher = estate.connect()
    record_id, first = estate.node.facts(estate.key, keep_until_s=estate.now_s + 60)
    _, second = estate.node.facts(estate.key, keep_until_s=estate.now_s + 60, record_id=record_id)
    for sealed in (first, second):
        publisher.publish(estate.node.topic, sealed, expiry_s=60)
    publisher.close()
    output, complaints = process.communicate(timeout=30)
    assert process.returncode == 11
    assert json.loads(output.splitlines()[-1]) == {"received": {"conflict": 1, "new": 1}}
    assert str(record_id) in complaints


def test_sigterm_ends_it_in_order(estate, receive):
    process = receive()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1]) == {"received": {}}


def test_a_broker_that_is_not_there_is_exit_code_8(estate):
    estate.broker.stop()
    command = [sys.executable, "-c", PROGRAM, "receive", str(estate.custody), "--agency", AGENCY, "--seconds", "0.5"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 8
    assert "cannot be reached" in ended.stderr
