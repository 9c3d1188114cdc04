"""What an agency keeps of what its broker hands it: records that an enrolled node signed, once each, still sealed."""

import os
from dataclasses import replace

import pytest

from homeplate.clock import SimulatedClock
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import StoreError
from homeplate.policy.verdict import Refused
from homeplate.sealing.envelope import decode, encode
from homeplate_custodian.commands_records import forgetting_daily
from homeplate_custodian.receive import ConflictError, Receiver, judge
from homeplate_custodian.records import Inbox
from tests.custodian.sealed_kit import NOW_S, PLATE, Node, new_key


@pytest.fixture
def node():
    return Node()


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def receiver(tmp_path, node, key):
    return Receiver(
        inbox=Inbox(tmp_path / "received"),
        nodes=lambda _now_ns: (node.entry(),),
        keys=(key.key_id,),
        clock=SimulatedClock(NOW_S * 10**9),
        report=lambda _receipt: None,
    )


def outcome(node, key, *, payload=None, topic=None, nodes=None, now_s=NOW_S):
    _, sealed = node.facts(key)
    judged = judge(
        topic or node.topic,
        sealed if payload is None else payload,
        nodes=(node.entry(),) if nodes is None else nodes,
        keys=(key.key_id,),
        now_s=now_s,
    )
    return judged.reason.partition(":")[0] if isinstance(judged, Refused) else judged


def test_a_record_of_an_enrolled_node_is_kept_as_it_came(receiver, node, key, tmp_path):
    record_id, sealed = node.facts(key)
    receipt = receiver.take(node.topic, sealed)
    assert (receipt.outcome, receipt.record_id) == ("new", record_id)
    path = tmp_path / "received" / f"{record_id}.rec"
    assert path.read_bytes() == sealed
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_double_is_dropped(receiver, node, key, tmp_path):
    _, sealed = node.facts(key)
    assert [receiver.take(node.topic, sealed).outcome for _ in range(3)] == ["new", "double", "double"]
    assert len(list((tmp_path / "received").iterdir())) == 1
    receiver.check_conflicts()


def test_the_same_id_with_other_bytes_is_an_alarm_and_both_are_kept(receiver, node, key, tmp_path):
    record_id, first = node.facts(key)
    _, second = node.facts(key, record_id=record_id)
    assert first != second
    assert receiver.take(node.topic, first).outcome == "new"
    assert [receiver.take(node.topic, second).outcome for _ in range(2)] == ["conflict", "conflict"]
    kept = {path.read_bytes() for path in (tmp_path / "received").iterdir()}
    assert kept == {first, second}
    with pytest.raises(ConflictError, match="conflict") as caught:
        receiver.check_conflicts()
    assert caught.value.exit_code == 11


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revoked": True}, "revoked-node"),
        ({"not_before_s": NOW_S + 1}, "node-out-of-dates"),
        ({"not_after_s": NOW_S - 1}, "node-out-of-dates"),
        ({"record_public": bytes(31) + b"\1"}, "bad-signature"),
    ],
)
def test_a_node_whose_signature_does_not_count_is_refused(node, key, changes, reason):
    assert outcome(node, key, nodes=(node.entry(**changes),)) == reason


def test_an_unknown_node_is_refused(node, key):
    assert outcome(node, key, nodes=(Node().entry(),)) == "unknown-node"
    assert outcome(node, key, nodes=()) == "unknown-node"


def test_an_altered_record_is_refused(node, key):
    record = decode(node.facts(key)[1])
    altered = replace(record, ciphertext=record.ciphertext[:-1] + bytes([record.ciphertext[-1] ^ 1]))
    assert outcome(node, key, payload=encode(altered)) == "bad-signature"
    later = replace(record, header=replace(record.header, keep_until_day=record.header.keep_until_day + 1))
    assert outcome(node, key, payload=encode(later)) == "bad-signature"


@pytest.mark.parametrize("payload", [b"", b"{}", os.urandom(3000), b"homeplate/v1\n", b"homeplate/v2\n" + bytes(3000)])
def test_what_is_no_record_is_refused(node, key, payload):
    assert outcome(node, key, payload=payload) == "malformed"


def test_a_record_under_another_nodes_topic_is_refused(node, key):
    assert outcome(node, key, topic=Node().topic) == "wrong-topic"
    assert outcome(node, key, topic="homeplate/records") == "wrong-topic"


def test_the_last_day_counts_and_the_next_does_not(node, key):
    _, sealed = node.facts(key)
    day = decode(sealed).header.keep_until_day
    entry = node.entry(not_after_s=NOW_S + 10 * DAY_SECONDS)
    last_second = (day + 1) * DAY_SECONDS - 1
    assert not isinstance(outcome(node, key, payload=sealed, nodes=(entry,), now_s=last_second), str)
    assert outcome(node, key, payload=sealed, nodes=(entry,), now_s=last_second + 1) == "past-keep-until"


def test_a_record_for_another_recipient_is_refused(node, key):
    _, sealed = node.facts(new_key())
    assert outcome(node, key, payload=sealed) == "other-recipient"


def test_refusals_are_counted_by_their_reason_and_leave_no_file(receiver, node, tmp_path):
    receiver.take(node.topic, b"no record")
    receiver.take(node.topic, node.facts(new_key())[1])
    assert receiver.counts == {"malformed": 1, "other-recipient": 1}
    assert list((tmp_path / "received").iterdir()) == []


def test_a_receiver_that_runs_on_forgets_each_day_what_is_past_its_date(receiver, node, key):
    record_id, sealed = node.facts(key)
    receiver.take(node.topic, sealed)
    stop = forgetting_daily(receiver.inbox, receiver.clock, lambda: False)
    over_s = (decode(sealed).header.keep_until_day + 1) * DAY_SECONDS
    receiver.clock.advance_to((over_s - 1) * 10**9)
    assert not stop()
    assert [file.record_id for file in receiver.inbox.files()] == [record_id]
    receiver.clock.advance_to(over_s * 10**9)
    assert not stop()
    assert receiver.inbox.files() == []


def test_a_full_disk_is_an_error_so_that_nothing_is_acknowledged(receiver, node, key, tmp_path):
    (tmp_path / "received").rmdir()
    with pytest.raises(StoreError):
        receiver.take(node.topic, node.facts(key)[1])
    assert receiver.counts == {}


def test_no_plate_is_in_a_file_or_a_receipt(receiver, node, key, tmp_path):
    receipt = receiver.take(node.topic, node.facts(key)[1])
    assert PLATE not in repr(receipt)
    for path in (tmp_path / "received").iterdir():
        assert PLATE not in path.name
        assert PLATE.encode() not in path.read_bytes()
