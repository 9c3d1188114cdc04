"""The next bundle through a real broker: taken in chunks, put into the inbox only, judged by the service there."""

import threading

import pytest
from click.testing import CliRunner

from homeplate.broker.errors import NotTakenError
from homeplate.broker.mqtt import MqttListener
from homeplate.bundler import BundleLog, Bundler, EgressFiles, Looked
from homeplate.clock import NANOSECONDS, SystemClock
from homeplate.errors import BrokerError
from homeplate.feed import BundleFeed
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.trust.bundle import load_bundle
from homeplate.trust.chunks import MAX_MESSAGE_BYTES, TOPIC, Arrivals, split
from homeplate.trust.installed import InstalledBundle
from homeplate_custodian import cli, provision
from homeplate_custodian.commands_records import access_as
from homeplate_custodian.send import SENDER, _Sender, send_bundle
from tests.integration.conftest import AGENCY


class Fed:
    """The estate's node with a feed and a bundle service."""

    def __init__(self, estate):
        self.estate, self.inbox = estate, estate.root / "node" / "inbox"
        provision.add_bundle_source(estate.custody, AGENCY)
        self.inbox.mkdir()
        clock = SystemClock(estate.root / "node" / "clock", "bundle")
        log = BundleLog(estate.root / "node" / "ledger" / "bundle.log", clock)
        self.bundler = Bundler(
            installed=estate.installed,
            inbox=self.inbox,
            egress=EgressFiles(estate.root / "egress", applied=estate.root / "applied", user="0"),
            pseudonym=estate.node.pseudonym,
            clock=clock,
            ledger=log,
        )
        self.bundler.take(self.publish())
        self.log = MerkleLog(estate.root / "node" / "ledger" / "uplink.log", estate.clock)
        self.stop = threading.Event()

    def publish(self):
        return provision.publish_bundle(self.estate.custody, now_s=self.estate.now_s)

    def feed(self, arrivals=None, clock=None):
        """Start the feed anew, as after a crash."""
        return BundleFeed(
            bundle=InstalledBundle(self.estate.installed),
            arrivals=arrivals or Arrivals(self.inbox),
            clock=clock or self.estate.clock,
            ledger=self.log,
            connect=self.connect,
            idle_s=0.3,
        )

    def connect(self, address, endpoint):
        return MqttListener(
            address,
            endpoint,
            client_id=f"{self.estate.node.pseudonym.hex()}-bundles",
            identity=self.estate.identity,
            largest=MAX_MESSAGE_BYTES,
            timeout_s=5.0,
        )

    def access(self):
        return access_as(self.estate.custody, AGENCY, SENDER, folder="sender", now_s=self.estate.now_s)

    def send(self, progress=lambda _: None):
        return send_bundle(self.estate.custody / "bundle", self.access(), progress, chunk_bytes=500)

    def version(self):
        return load_bundle(self.estate.installed, self.estate.clock.now_ns()).version

    def rows(self):
        return [(row.event, row.fields.get("reason", "").partition(":")[0]) for row in self.log.rows()]


@pytest.fixture
def fed(estate):
    made = Fed(estate)
    yield made
    made.log.close()


def test_a_bundle_that_was_sent_to_a_broker_is_in_force_after_a_look_of_feed_and_service(fed):
    fed.feed().look(fed.stop)  # the broker keeps messages for who was there once
    fed.publish()
    runner = CliRunner().invoke(cli.main, ["bundle", "send", str(fed.estate.custody), "--agency", AGENCY])
    assert runner.exit_code == 0, runner.output
    fed.feed().look(fed.stop)
    assert fed.rows() == [("feed.arrived", "")]
    assert fed.version() == 2
    assert fed.bundler.look() == Looked(installed=1)
    assert fed.version() == 3
    assert sorted(path.name for path in fed.inbox.iterdir()) == [".arriving"]


class CrashError(Exception):
    """Ends a feed between two messages, as a power cut would."""


class Crashing(Arrivals):
    """Takes so many messages and then no more."""

    left = 5

    def take(self, message):
        if not self.left:
            raise CrashError
        self.left -= 1
        return super().take(message)


def test_a_feed_that_crashed_goes_on_where_it_was_and_hands_in_the_whole(fed):
    fed.feed().look(fed.stop)
    fed.publish()
    assert fed.send() > 12
    for _ in range(2):
        with pytest.raises(CrashError):
            fed.feed(Crashing(fed.inbox)).look(fed.stop)
    assert len(list((fed.inbox / ".arriving").glob("[0-9]*"))) == 9  # what was taken stays; the first message listed it
    fed.feed().look(fed.stop)
    assert fed.bundler.look() == Looked(installed=1)
    assert fed.version() == 3


def test_a_sender_that_was_cut_off_sends_again_and_nodes_drop_what_they_have(fed):
    fed.feed().look(fed.stop)
    fed.publish()

    def cut(number):
        if number == 4:
            fed.estate.broker.kill()

    with pytest.raises(BrokerError):
        fed.send(cut)
    fed.estate.broker.start()
    fed.feed().look(fed.stop)
    assert fed.bundler.look() == Looked()
    fed.send()
    fed.feed().look(fed.stop)
    assert fed.bundler.look() == Looked(installed=1)
    assert fed.version() == 3
    assert ("feed.dropped", "altered") not in fed.rows()


def test_a_bundle_that_is_refused_changes_nothing_and_is_not_gathered_again(fed):
    fed.feed().look(fed.stop)
    folder, access = fed.publish(), fed.access()
    next((folder / "targets").glob("*.rules.json")).write_bytes(b"{}")
    for _ in range(2):
        send_bundle(folder, access, lambda _: None, chunk_bytes=500)
        fed.feed().look(fed.stop)
        fed.bundler.look()
    assert fed.version() == 2
    log = read_rows(fed.estate.root / "node" / "ledger" / "bundle.log")
    assert [row.fields["reason"].partition(":")[0] for row in log if row.event == "bundle.refused"] == ["altered"]
    assert fed.rows() == [("feed.arrived", "")]


def test_what_is_no_part_of_a_bundle_is_dropped_and_named_and_the_bundle_after_it_arrives(fed):
    fed.feed().look(fed.stop)
    sender = _Sender(fed.access())
    for junk in (b"", b"junk", bytes(MAX_MESSAGE_BYTES + 1)):
        sender.send(junk)
    sender.close()
    fed.publish()
    fed.send()
    fed.feed().look(fed.stop)
    assert fed.rows()[-1] == ("feed.arrived", "")
    assert set(fed.rows()[:-1]) == {("feed.dropped", "not-a-message"), ("feed.dropped", "too-large")}


class Leaping:
    """A clock that leaps past the grant once so many times were asked."""

    def __init__(self, clock, leap_ns):
        self.clock, self.leap_ns, self.asked, self.after = clock, leap_ns, 0, 12

    def now_ns(self):
        self.asked += 1
        return self.clock.now_ns() + (self.leap_ns if self.asked > self.after else 0)

    def least_ns(self):
        return self.now_ns()


def test_a_grant_that_ends_while_connected_ends_the_connection_and_the_source_is_not_asked_again(fed):
    fed.feed().look(fed.stop)
    fed.publish()
    fed.send()
    clock = Leaping(fed.estate.clock, 3601 * NANOSECONDS)
    feed = fed.feed(clock=clock)
    feed.look(fed.stop)
    gathered = list((fed.inbox / ".arriving").glob("[0-9]*"))
    assert 0 < len(gathered) < 12
    feed.look(fed.stop)
    assert fed.rows() == [("feed.refused", "grant-expired")]
    assert list((fed.inbox / ".arriving").glob("[0-9]*")) == gathered
    assert list(fed.inbox.glob("*.bundle")) == []


def test_a_broker_at_which_no_node_listens_keeps_no_bundle_and_the_sender_says_so(fed):
    with pytest.raises(BrokerError, match="no node listens"):
        fed.send()


def test_a_node_cannot_send_a_bundle_to_others(fed):
    fed.feed().look(fed.stop)
    publisher = fed.estate.connect()
    with pytest.raises(NotTakenError) as caught:
        publisher.publish(TOPIC, next(split(b"forged")), expiry_s=60)
    assert caught.value.reason == "not-authorized"
    publisher.close()


def test_nobody_is_asked_where_the_bundle_names_no_source(fed):
    provision.remove_bundle_source(fed.estate.custody, AGENCY)
    fed.bundler.take(fed.publish())
    fed.connect = None  # calling it would raise
    fed.feed().look(fed.stop)
    assert fed.rows() == []


def test_a_broker_that_is_away_is_a_named_row_once(fed):
    fed.estate.broker.stop()
    feed = fed.feed()
    feed.look(fed.stop)
    feed.look(fed.stop)
    assert fed.rows() == [("feed.refused", "unreachable")]
