"""The delivery log: what was under way when the power went is known afterwards."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

import pytest

from homeplate.domain.record import RecordId
from homeplate.errors import StoreError
from homeplate.store.delivery import DeliveryLog, Outcome

RECORD = RecordId(bytes(range(16)))
OTHER = RecordId(bytes(16))


@pytest.fixture
def log(tmp_path):
    log = DeliveryLog.open(tmp_path / "uplink" / "delivery.sqlite")
    yield log
    log.close()


def test_an_intended_record_is_open_until_it_is_settled(log):
    attempt = log.intend(RECORD, "us-ca-a", 100)
    assert (attempt.attempt, attempt.outcome) == (1, Outcome.INTENDED)
    assert log.open_attempts() == [attempt]
    log.settle(RECORD, Outcome.CONFIRMED, 101)
    assert log.open_attempts() == []
    assert log.outcome(RECORD) is Outcome.CONFIRMED


def test_a_second_attempt_counts_on_and_keeps_one_row(log):
    log.intend(RECORD, "us-ca-a", 100)
    log.settle(RECORD, Outcome.UNKNOWN, 101)
    assert log.intend(RECORD, "us-ca-a", 102).attempt == 2
    assert log.counts() == {Outcome.INTENDED: 1}


def test_a_confirmed_record_is_never_intended_again(log):
    log.intend(RECORD, "us-ca-a", 100)
    log.settle(RECORD, Outcome.CONFIRMED, 101)
    with pytest.raises(StoreError, match="confirmed before"):
        log.intend(RECORD, "us-ca-a", 102)
    assert log.outcome(RECORD) is Outcome.CONFIRMED


def test_only_an_open_attempt_can_be_settled(log):
    with pytest.raises(StoreError, match="no open attempt"):
        log.settle(RECORD, Outcome.CONFIRMED, 100)
    log.intend(RECORD, "us-ca-a", 100)
    log.settle(RECORD, Outcome.REFUSED, 101)
    with pytest.raises(StoreError, match="no open attempt"):
        log.settle(RECORD, Outcome.CONFIRMED, 102)


def test_pruning_forgets_old_confirmed_rows_alone(log):
    for record, outcome in ((RECORD, Outcome.CONFIRMED), (OTHER, Outcome.UNKNOWN)):
        log.intend(record, "us-ca-a", 100)
        log.settle(record, outcome, 101)
    assert log.prune(101) == 0
    assert log.prune(102) == 1
    assert log.outcome(RECORD) is None
    assert log.outcome(OTHER) is Outcome.UNKNOWN


def test_an_attempt_survives_kill_9(tmp_path):
    path = tmp_path / "delivery.sqlite"
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from homeplate.domain.record import RecordId
        from homeplate.store.delivery import DeliveryLog
        log = DeliveryLog.open(Path(sys.argv[1]))
        log.intend(RecordId(bytes(range(16))), "us-ca-a", 100)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], env=dict(os.environ), check=False)
    assert ended.returncode == -signal.SIGKILL
    log = DeliveryLog.open(path)
    assert [attempt.record_id for attempt in log.open_attempts()] == [RECORD]
    log.close()


def test_every_transaction_is_synced(log):
    assert log._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_log_of_another_version_is_refused_by_name(tmp_path):
    path = tmp_path / "delivery.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=7")
    connection.close()
    with pytest.raises(StoreError, match="version 7"):
        DeliveryLog.open(path)


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    path = tmp_path / "not-a-database.sqlite"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(StoreError, match=r"not-a-database\.sqlite"):
        DeliveryLog.open(path)


def test_the_log_is_made_in_folders_that_are_its_owners_alone(tmp_path):
    old = os.umask(0)
    try:
        DeliveryLog.open(tmp_path / "one" / "two" / "delivery.sqlite").close()
    finally:
        os.umask(old)
    assert (tmp_path / "one" / "two").stat().st_mode & 0o777 == 0o700
    DeliveryLog.open(tmp_path / "one" / "two" / "delivery.sqlite").close()


def test_a_place_where_no_log_can_be_is_refused_by_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/delivery\.sqlite: the delivery log cannot be opened: "):
        DeliveryLog.open(tmp_path / "file" / "delivery.sqlite")


def test_the_log_may_be_used_by_one_thread_after_another(log):
    found = []

    def work():
        log.intend(RECORD, "us-ca-a", 100)
        found.extend(log.open_attempts())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [attempt.record_id for attempt in found] == [RECORD]
    assert log.outcome(RECORD) is Outcome.INTENDED
