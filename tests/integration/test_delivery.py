"""From the spool over a real broker to the agency's folder, and what becomes of who is not who they should be."""

import json
import threading

import pytest
import trustme
from click.testing import CliRunner

from homeplate.broker.errors import NotConnectedError, NotTakenError
from homeplate.broker.mqtt import MqttPublisher
from homeplate.errors import StoreError
from homeplate.trust.bundle import install_bundle
from homeplate.uplink import Drained
from homeplate_custodian import provision
from homeplate_custodian.commands_records import open_records
from tests.custodian.sealed_kit import JPEG, PLATE
from tests.integration.conftest import AGENCY, wait_until
from tests.integration.watch import watching


def opened(estate, *arguments):
    who = (
        "--agency",
        AGENCY,
        "--user",
        "badge 12",
        "--organisation",
        "City",
        "--purpose",
        "stolen-vehicle",
        "--case",
        "26-1",
    )
    result = CliRunner().invoke(open_records, [str(estate.custody), *who, "--json", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def deliver(estate, count):
    with estate.receiving() as receiver:
        done = estate.uplink().drain()
        wait_until(lambda: receiver.counts.total() >= count)
    return done


def test_a_sealed_passage_arrives_and_only_the_agency_opens_it(estate, tmp_path):
    facts_id, crop_id = estate.put_passage()
    assert deliver(estate, 2) == Drained(confirmed=2)
    assert list(estate.spool.pending()) == []
    (line,) = opened(estate, "--crops", str(tmp_path / "crops"))
    assert line["plate"] == PLATE
    assert line["record"] == str(facts_id)
    assert line["crop"]["record"] == str(crop_id)
    assert (tmp_path / "crops" / f"{facts_id}.jpg").read_bytes() == JPEG


def test_no_plate_is_in_any_file_of_node_broker_and_agency(estate, tmp_path):
    estate.put_passage()
    deliver(estate, 2)
    opened(estate)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        assert PLATE not in path.name
        assert PLATE.encode() not in path.read_bytes(), path


def test_the_access_record_comes_before_the_table(estate):
    record = estate.put()
    deliver(estate, 1)
    opened(estate)
    row = json.loads((estate.custody / "access.log").read_text().splitlines()[0])["row"]
    assert row["event"] == "records.opened"
    assert row["fields"]["records"] == str(record)
    assert row["fields"]["user"] == "badge 12"


def test_nothing_opens_where_the_access_record_cannot_be_written(estate):
    estate.put()
    deliver(estate, 1)
    (estate.custody / "access.log").mkdir()
    who = ["--agency", AGENCY, "--user", "u", "--organisation", "o", "--purpose", "stolen-vehicle", "--case", "26-1"]
    result = CliRunner().invoke(open_records, [str(estate.custody), *who])
    assert isinstance(result.exception, StoreError)
    assert PLATE not in result.output


def test_the_table_shows_what_was_read(estate):
    estate.put()
    deliver(estate, 1)
    who = ["--agency", AGENCY, "--user", "u", "--organisation", "o", "--purpose", "stolen-vehicle", "--case", "26-1"]
    result = CliRunner().invoke(open_records, [str(estate.custody), *who], catch_exceptions=False)
    assert PLATE in result.stdout
    assert "0.98" in result.stdout


def test_a_broker_with_another_key_gets_nothing(estate):
    with pytest.raises(NotConnectedError) as caught:
        estate.connect(pins=(bytes(32),))
    assert caught.value.reason == "wrong-pin"
    assert estate.node.pseudonym.hex() not in (estate.broker.folder / "broker.log").read_text()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"authority_pem": trustme.CA().cert_pem.bytes().decode()}, "wrong-authority"),
        ({"tls_name": "elsewhere.example"}, "wrong-tls-name"),
    ],
)
def test_a_broker_of_another_authority_or_name_gets_nothing(estate, changes, reason):
    with pytest.raises(NotConnectedError) as caught:
        estate.connect(**changes)
    assert caught.value.reason == reason


def test_the_broker_turns_a_client_without_a_certificate_away(estate):
    with pytest.raises(NotConnectedError):
        MqttPublisher.open("127.0.0.1", estate.endpoint, client_id="anybody", identity=None, timeout_s=3.0)


def test_the_broker_turns_a_certificate_of_another_authority_away(estate):
    other = trustme.CA().issue_cert("node.example", common_name=estate.node.pseudonym.hex())
    estate.identity.certificate.write_bytes(other.cert_chain_pems[0].bytes())
    estate.identity.key.write_bytes(other.private_key_pem.bytes())
    with pytest.raises(NotConnectedError):
        estate.connect()


def test_a_brokers_certificate_is_no_clients(estate):
    estate.identity.certificate.write_text(estate.server.certificate.read_text())
    estate.identity.key.write_text(estate.server.key.read_text())
    with pytest.raises(NotConnectedError):
        estate.connect()


def test_a_node_cannot_publish_under_another_nodes_topic(estate):
    estate.subscribe_once()
    publisher = estate.connect()
    with pytest.raises(NotTakenError) as caught:
        publisher.publish(f"homeplate/{bytes(16).hex()}/records", b"forged", expiry_s=60)
    assert caught.value.reason == "not-authorized"
    publisher.publish(f"homeplate/{estate.node.pseudonym.hex()}/records", b"its own", expiry_s=60)
    publisher.close()


def test_a_node_that_the_broker_no_longer_lets_write_keeps_its_records_and_says_why(estate):
    record = estate.put()
    stranger = estate.client("stranger")
    uplink = estate.uplink(lambda address, _endpoint: estate.connect(address, identity=stranger))
    assert uplink.drain() == Drained(failed=1)
    assert estate.rows("delivery.refused")[0]["reason"] == "broker: not-authorized"
    assert list(estate.spool.pending()) == [record]


def test_after_the_grant_ends_the_broker_is_not_even_dialled(estate):
    record = estate.put()
    estate.grant(expires_s=estate.now_s)
    provision.publish_bundle(estate.custody, now_s=estate.now_s)
    install_bundle(estate.custody / "bundle", estate.installed, estate.clock.now_ns())
    log = estate.broker.folder / "broker.log"
    before = log.read_text().count("New connection")
    assert estate.uplink().drain() == Drained(refused=1)
    assert log.read_text().count("New connection") == before
    assert estate.rows("delivery.refused")[0]["record"] == str(record)


def test_a_running_uplink_takes_up_a_new_bundle(estate):
    estate.subscribe_once()
    uplink = estate.uplink()
    estate.put()
    assert uplink.drain() == Drained(confirmed=1)
    provision.revoke_grant(estate.custody, AGENCY)
    provision.publish_bundle(estate.custody, now_s=estate.now_s)
    install_bundle(estate.custody / "bundle", estate.installed, estate.clock.now_ns())
    estate.put()
    assert uplink.drain() == Drained(refused=1)


def test_without_a_subscriber_the_broker_would_throw_it_away_so_it_stays(estate):
    record = estate.put()
    assert estate.uplink().drain() == Drained(failed=1)
    assert estate.rows("delivery.refused")[0]["reason"] == "broker: no-matching-subscribers"
    assert list(estate.spool.pending()) == [record]
    assert deliver(estate, 1) == Drained(confirmed=1)


def test_a_receiver_that_was_away_gets_what_came_meanwhile(estate):
    estate.subscribe_once()
    records = {estate.put() for _ in range(5)}
    assert estate.uplink().drain() == Drained(confirmed=5)
    with estate.receiving() as receiver:
        wait_until(lambda: receiver.counts["new"] == 5)
    assert {file.record_id for file in receiver.inbox.files()} == records


def test_a_receiver_that_fails_to_store_has_acknowledged_nothing(estate):
    estate.subscribe_once()
    estate.put()
    assert estate.uplink().drain() == Drained(confirmed=1)
    failed = threading.Event()

    def full_disk(_topic, _payload):
        failed.set()
        raise StoreError("no space left")

    with pytest.raises(StoreError), estate.receiving(full_disk):
        assert failed.wait(10)
    with estate.receiving() as receiver:
        wait_until(lambda: receiver.counts["new"] == 1)


def test_a_record_sent_twice_is_kept_once(estate):
    record = estate.put()
    raw = estate.spool.get(record)
    assert deliver(estate, 1) == Drained(confirmed=1)
    again = estate.connect()
    with estate.receiving() as receiver:
        again.publish(f"homeplate/{estate.node.pseudonym.hex()}/records", estate.slots.unwrap(raw), expiry_s=60)
        wait_until(lambda: receiver.counts["double"] == 1)
    again.close()
    assert len(receiver.inbox.files()) == 1


def test_a_revoked_node_is_refused_by_the_receiver_though_its_broker_still_lets_it_in(estate):
    estate.put()
    provision.revoke_node(estate.custody, estate.node.pseudonym.hex())
    provision.publish_bundle(estate.custody, now_s=estate.now_s)
    with estate.receiving() as receiver:
        assert estate.uplink().drain() == Drained(confirmed=1)
        wait_until(lambda: receiver.counts["revoked-node"] == 1)
    assert receiver.inbox.files() == []


def test_nobody_but_the_receivers_can_read(estate):
    estate.subscribe_once()
    heard = []
    with watching(estate, estate.client("eavesdropper"), heard):
        estate.put()
        assert estate.uplink().drain() == Drained(confirmed=1)
        with estate.receiving() as receiver:
            wait_until(lambda: receiver.counts["new"] == 1)
    assert heard == []


def test_nothing_is_retained_for_who_comes_later(estate):
    estate.put()
    deliver(estate, 1)
    heard = []
    with watching(estate, estate.client("watcher"), heard):
        estate.put()
        deliver(estate, 1)
        wait_until(lambda: heard)
    assert [message.retain for message in heard] == [False], "the first one is gone"
