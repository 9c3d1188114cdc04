"""Uplink: asks policy at every send, says what it does before it does it, and loses nothing when it is stopped."""

import os
import threading
from dataclasses import dataclass, field, replace
from itertools import count

import pytest

from homeplate.broker.errors import NotConnectedError, NotTakenError, OutcomeUnknownError
from homeplate.clock import NANOSECONDS, SimulatedClock
from homeplate.domain.agency import Agency, AgencyKind, Endpoint, Grant, KemKind, SealingKey
from homeplate.domain.record import DAY_SECONDS, RecordHeader, RecordId, SealedRecord, StorageClass
from homeplate.errors import ClockError, TrustError
from homeplate.policy.allowlist import recipients
from homeplate.sealing.envelope import decode, encode
from homeplate.sealing.slots import SlotStore
from homeplate.store.delivery import DeliveryLog, Outcome
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import install_bundle, load_bundle, pin_root
from homeplate.trust.installed import InstalledBundle
from homeplate.uplink import EXPIRY_S, LONGEST_WAIT_S, Drained, InstalledRecipients, Uplink
from homeplate_custodian import provision

NOW_S = 1_790_000_000
SLOT_S = 3 * DAY_SECONDS
NODE = bytes(range(16))
TOPIC = f"homeplate/{NODE.hex()}/records"


class PowerCut(BaseException):
    """What kill -9 is to the code: nothing after it runs, not even an `except Exception`."""


def agency(identifier="us-ca-city", number=1, network="127.0.0.1"):
    key = SealingKey(
        key_id=bytes([number]) * 16, kem=KemKind.X25519, public=bytes(32), not_before_s=0, not_after_s=NOW_S
    )
    endpoint = Endpoint(network=network, port=8883, tls_name="broker.example", authority_pem="-", pins=(bytes(32),))
    return Agency(
        identifier=identifier,
        legal_name="City of Somewhere",
        kind=AgencyKind.CITY,
        jurisdiction="US-CA",
        ori=None,
        endpoints=(endpoint,),
        sealing_keys=(key,),
    )


def grant(identifier="us-ca-city", expires_s=NOW_S + 1000):
    return Grant(
        identifier=identifier,
        need="stolen vehicles",
        purpose="stolen-vehicle",
        approver="the council",
        approved_on="2026-01-01",
        expires_s=expires_s,
        attested=True,
    )


@dataclass
class Broker:
    """Implements `ports.Publisher`, and is its own `Connect`. `answers` are raised, in turn; None is a good PUBACK."""

    answers: list = field(default_factory=list)
    refusals: list = field(default_factory=list)
    got: list = field(default_factory=list)
    connected: list = field(default_factory=list)
    closed: int = 0
    before_publish: object = None

    def __call__(self, address, endpoint):
        if self.refusals and (error := self.refusals.pop(0)):
            raise error
        self.connected.append((address, endpoint))
        return self

    def publish(self, topic, payload, *, expiry_s):
        if self.before_publish:
            self.before_publish()
        answer = self.answers.pop(0) if self.answers else None
        if not isinstance(answer, NotConnectedError):
            self.got.append((topic, payload, expiry_s))
        if answer:
            raise answer

    def close(self):
        self.closed += 1

    @property
    def ids(self):
        return [decode(payload).header.record_id for _, payload, _ in self.got]


class House:
    """A node's uplink side on disk, and what the bundle says. `uplink()` starts the process anew."""

    def __init__(self, root):
        self.root = root
        self.clock = SimulatedClock(NOW_S * NANOSECONDS)
        self.registry = [agency()]
        self.grants = [grant()]
        self.trust_error = None
        self.ticks_ns = 0
        self.brokers = {}
        self.broker = Broker()
        self.spool = FileSpool(root / "spool")
        self.slots = SlotStore(root / "disk.slots", root / "memory.slots")
        self.slot = self.slots.slot_for("all", NOW_S + SLOT_S, SLOT_S)
        self.ledger = None
        self.ids = count(1)

    def who(self, now_ns):
        if self.trust_error:
            raise TrustError(self.trust_error)
        return recipients(self.registry, self.grants, "US-CA", now_ns // NANOSECONDS)

    def open(self):
        self.ledger = MerkleLog(self.root / "uplink.log", self.clock)
        self.delivery = DeliveryLog.open(self.root / "delivery.sqlite")

    def close(self):
        if self.ledger is not None:
            self.ledger.close()
            self.delivery.close()
            self.ledger = None

    def uplink(self, wrap=lambda _name, part: part):
        self.close()
        self.open()
        return Uplink(
            node=NODE,
            spool=wrap("spool", self.spool),
            slots=SlotStore.open_existing(self.root / "disk.slots", self.root / "memory.slots"),
            who=self.who,
            clock=self.clock,
            ledger=wrap("ledger", self.ledger),
            delivery=wrap("delivery", self.delivery),
            connect=wrap("broker", self.broker),
            ticks=lambda: self.ticks_ns,
        )

    def put(self, key=1, day=NOW_S // DAY_SECONDS, size=100):
        record_id = RecordId(next(self.ids).to_bytes(16, "big"))
        header = RecordHeader(record_id=record_id, node=NODE, recipient_key=bytes([key]) * 16, keep_until_day=day)
        sealed = encode(SealedRecord(header=header, ciphertext=os.urandom(size), signature=bytes(64)))
        self.spool.stage(record_id, self.slots.wrap(self.slot, record_id, sealed), StorageClass.OUTGOING)
        self.spool.release([record_id])
        return record_id

    def rows(self, event=None):
        return [row for row in self.ledger.rows() if event in {None, row.event}]

    def events(self):
        return [row.event for row in self.rows()]


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


def test_a_record_is_intended_published_confirmed_and_forgotten(house):
    record = house.put()
    uplink = house.uplink()
    assert uplink.drain() == Drained(confirmed=1)
    assert house.broker.ids == [record]
    assert [(topic, expiry) for topic, _, expiry in house.broker.got] == [(TOPIC, EXPIRY_S)]
    assert house.events() == ["delivery.intended", "delivery.confirmed"]
    assert house.rows("delivery.confirmed")[0].fields == {
        "record": str(record),
        "recipient": "us-ca-city",
        "attempt": 1,
    }
    assert house.rows("delivery.intended")[0].fields["address"] == "127.0.0.1"
    assert house.rows("delivery.intended")[0].fields["purpose"] == "stolen-vehicle"
    assert list(house.spool.pending()) == []
    assert house.broker.closed == 1


def test_what_is_published_is_the_sealed_record_as_capture_made_it(house):
    record = house.put()
    sealed = house.slots.unwrap(house.spool.get(record))
    house.uplink().drain()
    assert house.broker.got[0][1] == sealed


def test_records_go_out_oldest_first_over_one_connection(house):
    records = [house.put() for _ in range(5)]
    assert house.uplink().drain() == Drained(confirmed=5)
    assert sorted(house.broker.ids) == sorted(records)
    assert house.broker.ids == list(dict.fromkeys(house.broker.ids))
    assert len(house.broker.connected) == 1


def test_a_record_whose_slot_was_destroyed_is_forgotten_unsent(house):
    record = house.put()
    house.slots.destroy([house.slot])
    assert house.uplink().drain() == Drained(forgotten=1)
    assert house.rows("delivery.forgotten")[0].fields == {"record": str(record), "reason": "slot-gone"}
    assert house.broker.got == []
    assert list(house.spool.pending()) == []


def test_a_record_whose_slot_is_over_is_forgotten_unsent_though_no_purge_has_run(house):
    record = house.put()
    house.clock.advance_to((NOW_S + SLOT_S) * NANOSECONDS)
    house.grants = [grant(expires_s=NOW_S + 2 * SLOT_S)]
    assert house.uplink().drain() == Drained(forgotten=1)
    assert house.rows("delivery.forgotten")[0].fields == {"record": str(record), "reason": "slot-gone"}
    assert house.broker.got == []


def test_a_file_that_is_exchanged_while_it_waits_is_refused(house):
    house.put()
    second, third = house.put(), house.put(key=2)
    folder = house.root / "spool" / "outgoing"

    def exchange():
        (folder / f"{second}.rec").write_bytes((folder / f"{third}.rec").read_bytes())

    house.broker.before_publish = exchange
    house.uplink().drain()
    assert third not in house.broker.ids


def test_a_slot_destroyed_between_two_sends_stops_the_second(house):
    house.put()
    second = house.put()
    house.broker.before_publish = lambda: house.slots.destroy([house.slot])
    assert house.uplink().drain() == Drained(confirmed=1, forgotten=1)
    assert second not in house.broker.ids


@pytest.mark.parametrize(
    ("registry", "grants", "reason"),
    [
        ([], [], "unknown-key"),
        ([agency()], [], "unknown-key"),
        ([], [grant()], "unknown-key"),
        ([agency()], [grant(expires_s=NOW_S)], "unknown-key"),
        ([replace(agency(), jurisdiction="US-NV")], [grant()], "unknown-key"),
        ([agency(network="127.0.0.0/24")], [grant()], "no-address"),
    ],
)
def test_who_is_not_named_by_both_signers_gets_nothing(house, registry, grants, reason):
    house.put()
    house.registry, house.grants = registry, grants
    assert house.uplink().drain() == Drained(refused=1)
    assert house.rows("delivery.refused")[0].fields["reason"].startswith(reason)
    assert house.broker.connected == []
    assert len(list(house.spool.pending())) == 1


def test_a_refusal_is_written_once_and_the_record_goes_when_a_new_bundle_allows_it(house):
    house.put()
    house.grants = []
    uplink = house.uplink()
    for _ in range(3):
        assert uplink.drain() == Drained(refused=1)
    assert house.events() == ["delivery.refused"]
    house.grants = [grant()]
    assert uplink.drain() == Drained(confirmed=1)


def test_a_grant_that_ends_between_two_records_stops_the_second(house):
    house.put()
    house.put()
    house.broker.before_publish = lambda: house.clock.advance_to((NOW_S + 1000) * NANOSECONDS)
    assert house.uplink().drain() == Drained(confirmed=1, refused=1)
    assert house.rows("delivery.refused")[0].fields["reason"].startswith("grant-expired")
    assert len(house.broker.got) == 1


def test_a_grant_that_ends_while_connecting_lets_no_record_out(house):
    house.put()

    class Slow(Broker):
        def __call__(self, address, endpoint):
            house.clock.advance_to((NOW_S + 1000) * NANOSECONDS)
            return super().__call__(address, endpoint)

    house.broker = Slow()
    assert house.uplink().drain() == Drained(refused=1)
    assert house.broker.got == []
    assert house.broker.closed == 1


def test_an_endpoint_that_a_new_bundle_moves_is_dialled_anew(house):
    house.put()
    house.put()

    def move():
        house.registry = [agency(network="127.0.0.9")]

    house.broker.before_publish = move
    assert house.uplink().drain() == Drained(confirmed=2)
    assert [address for address, _ in house.broker.connected] == ["127.0.0.1", "127.0.0.9"]


def test_a_record_past_its_day_is_not_sent(house):
    house.put(day=NOW_S // DAY_SECONDS - 1)
    assert house.uplink().drain() == Drained(refused=1)
    assert house.rows("delivery.refused")[0].fields["reason"].startswith("past-keep-until")


def test_an_altered_record_is_refused_by_name_and_does_not_stop_the_others(house):
    bad, good = house.put(), house.put()
    path = house.root / "spool" / "outgoing" / f"{bad}.rec"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert house.uplink().drain() == Drained(confirmed=1, refused=1)
    assert house.broker.ids == [good]
    assert house.rows("delivery.refused")[0].fields["reason"].startswith("altered")


def test_a_file_that_holds_another_record_is_refused(house):
    first, second = house.put(), house.put()
    folder = house.root / "spool" / "outgoing"
    (folder / f"{first}.rec").write_bytes((folder / f"{second}.rec").read_bytes())
    assert house.uplink().drain() == Drained(confirmed=1, refused=1)
    assert house.broker.ids == [second]


@pytest.mark.parametrize("error", ["no bundle is installed", "the bundle is past its date"])
def test_without_a_bundle_nothing_moves_and_the_reason_is_written_once(house, error):
    house.put()
    house.trust_error = error
    uplink = house.uplink()
    assert uplink.drain() == Drained(halted=error)
    assert uplink.drain().halted == error
    assert [row.fields for row in house.rows()] == [{"reason": error}]
    house.trust_error = None
    assert uplink.drain() == Drained(confirmed=1)


def test_without_a_believable_time_nothing_moves(house):
    house.put()
    uplink = house.uplink()

    def quarantined(_now_ns):
        raise ClockError("the step is not believed")

    house.who, before = quarantined, house.who
    uplink._who = house.who
    assert uplink.drain().halted == "the step is not believed"
    uplink._who = before
    assert uplink.drain() == Drained(confirmed=1)


def test_a_broker_that_cannot_be_reached_keeps_everything_and_is_asked_less_and_less(house):
    records = [house.put() for _ in range(3)]
    house.broker.refusals = [NotConnectedError("unreachable", "nobody there")] * 100
    uplink = house.uplink()
    assert uplink.drain() == Drained(failed=1, waiting=2)
    assert uplink.drain() == Drained(waiting=3)
    waits = []
    for _ in range(12):
        start = house.ticks_ns
        while uplink.drain().waiting == 3:
            house.ticks_ns += NANOSECONDS
        waits.append((house.ticks_ns - start) // NANOSECONDS)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    assert max(waits) == LONGEST_WAIT_S
    assert house.events() == ["broker.refused"], "repeats are counted, not written"
    house.broker.refusals = []
    house.ticks_ns += LONGEST_WAIT_S * NANOSECONDS
    assert uplink.drain() == Drained(confirmed=3)
    assert house.broker.ids == records


@pytest.mark.parametrize(
    ("answer", "event", "outcome", "reason"),
    [
        (NotTakenError("not-authorized", "no"), "delivery.refused", Outcome.REFUSED, "broker: not-authorized"),
        (OutcomeUnknownError("no-puback", "?"), "delivery.outcome-unknown", Outcome.UNKNOWN, "no-puback"),
        (NotConnectedError("closed", "gone"), "delivery.not-sent", Outcome.NOT_SENT, "closed"),
    ],
)
def test_a_send_without_a_good_puback_is_named_and_sent_again_under_the_same_id(house, answer, event, outcome, reason):
    record = house.put()
    house.broker.answers = [answer]
    uplink = house.uplink()
    assert uplink.drain() == Drained(failed=1)
    assert house.delivery.outcome(record) is outcome
    assert house.rows(event)[0].fields["reason"] == reason
    house.ticks_ns += NANOSECONDS
    assert uplink.drain() == Drained(confirmed=1)
    assert set(house.broker.ids) == {record}
    assert house.rows("delivery.confirmed")[0].fields["attempt"] == 2


def test_a_record_on_which_the_broker_breaks_off_holds_back_no_other(house):
    poison, *others = [house.put() for _ in range(4)]

    class Picky(Broker):
        def publish(self, topic, payload, *, expiry_s):
            if decode(payload).header.record_id == poison:
                raise OutcomeUnknownError("packet-too-large", "too large for this broker")
            super().publish(topic, payload, expiry_s=expiry_s)

    house.broker = Picky()
    uplink = house.uplink()
    assert uplink.drain() == Drained(failed=1, waiting=3)
    house.ticks_ns += NANOSECONDS
    assert uplink.drain() == Drained(confirmed=3, failed=1)
    assert house.broker.ids == others


def test_a_broker_that_fails_holds_back_no_other(house):
    house.registry = [agency(), agency("us-ca-county", number=2)]
    house.grants = [grant(), grant("us-ca-county")]
    records = {house.put(key=1), house.put(key=2)}

    house.broker.answers = [OutcomeUnknownError("no-puback", "?")]
    assert house.uplink().drain() == Drained(failed=1, confirmed=1)
    assert set(house.broker.ids) == records
    assert len(house.broker.connected) == 2


def test_run_beats_after_each_look_and_ends_when_told(house):
    record = house.put()
    stop, beats = threading.Event(), []

    def beat():
        beats.append(1)
        if len(beats) == 2:
            stop.set()

    house.uplink().run(stop, beat, poll_s=0.01)
    assert len(beats) == 2
    assert house.broker.ids == [record]


def test_run_beats_for_each_record_of_a_long_spool_and_stops_within_it(house):
    records = [house.put() for _ in range(4)]
    stop, sent_at_beats = threading.Event(), []

    def beat():
        sent_at_beats.append(len(house.broker.ids))
        if len(house.broker.ids) == 2:
            stop.set()

    house.uplink().run(stop, beat, poll_s=0.01)
    assert sent_at_beats == [1, 2, 2]
    assert house.broker.ids == records[:2]
    assert list(house.spool.pending()) == records[2:]


class Fuse:
    """Counts every durable step; the power goes before or after the one that is chosen."""

    def __init__(self, at):
        self.left, self.tripped = at, False

    def step(self, function, *args, **kwargs):
        self.spend()
        result = function(*args, **kwargs)
        self.spend()
        return result

    def spend(self):
        if self.left == 0:
            self.tripped = True
            raise PowerCut
        self.left -= 1


class Fused:
    """A part of the house whose named methods are steps; the rest passes through."""

    def __init__(self, part, fuse, names):
        self._part, self._fuse, self._names = part, fuse, names

    def __getattr__(self, name):
        attribute = getattr(self._part, name)
        if name not in self._names:
            return attribute
        return lambda *args, **kwargs: self._fuse.step(attribute, *args, **kwargs)

    def __call__(self, *args):
        self._part(*args)
        return self


STEPS = {"spool": {"remove"}, "ledger": {"append"}, "delivery": {"intend", "settle"}, "broker": {"publish"}}


def drain_with_power_cut(house, at):
    fuse = Fuse(at)
    try:
        house.uplink(lambda name, part: Fused(part, fuse, STEPS[name])).drain()
    except PowerCut:
        return True
    return fuse.tripped


# Two records take two intends, appends, publishes, appends, settles and removes, each cut before and after.
@pytest.mark.parametrize("at", range(25))
def test_power_may_go_at_any_step_and_every_record_is_delivered_and_accounted_for(house, at):
    records = {house.put(), house.put()}
    cut = drain_with_power_cut(house, at)
    assert cut == (at < 24), "the steps of a drain have changed: cover them all"
    house.uplink().drain()
    assert set(house.broker.ids) == records
    assert list(house.spool.pending()) == []
    assert house.delivery.open_attempts() == []
    confirmed = [row.fields["record"] for row in house.rows("delivery.confirmed")]
    assert sorted(confirmed) == sorted(map(str, records)), "confirmed once each"
    # Each time the broker saw a record there is a row that says it was, or may have been, disclosed.
    disclosed = [row for row in house.rows() if row.event in {"delivery.confirmed", "delivery.outcome-unknown"}]
    assert len(disclosed) >= len(house.broker.got)
    attempts = [(row.fields["record"], row.fields["attempt"]) for row in house.rows("delivery.intended")]
    assert len(set(attempts)) == len(attempts), "no row is doubled"
    assert len(house.rows()) == 2 * len(attempts), "every intended has one outcome"


@pytest.mark.parametrize("second", range(12))
def test_power_may_go_again_during_the_recovery(house, second):
    records = {house.put()}
    assert drain_with_power_cut(house, 5), "after the publish, before a row says so"
    drain_with_power_cut(house, second)
    house.uplink().drain()
    assert set(house.broker.ids) == records
    assert len(house.rows("delivery.confirmed")) == 1
    assert len(house.rows("delivery.outcome-unknown")) >= 1
    assert list(house.spool.pending()) == []


def test_a_crash_before_a_quarantine_is_settled_after_it(house):
    house.put()
    assert drain_with_power_cut(house, 5)
    quarantined = [True]

    class Clock:
        def now_ns(self):
            if quarantined[0]:
                raise ClockError("the step is not believed")
            return house.clock.now_ns()

        def least_ns(self):
            return house.clock.least_ns()

    house.uplink()
    uplink = Uplink(
        node=NODE,
        spool=house.spool,
        slots=house.slots,
        who=house.who,
        clock=Clock(),
        ledger=house.ledger,
        delivery=house.delivery,
        connect=house.broker,
    )
    assert uplink.drain().halted == "the step is not believed"
    assert len(house.delivery.open_attempts()) == 1
    quarantined[0] = False
    assert uplink.drain() == Drained(confirmed=1)
    assert len(house.rows("delivery.outcome-unknown")) == 1


@pytest.fixture
def installed(tmp_path):
    """Return a custody and a node's folder with its first publication, which grants nobody anything."""
    custody, folder = tmp_path / "custody", tmp_path / "bundle"
    provision.init(custody, registry_body="Secretary of State", operator_body="City Council", now_s=NOW_S)
    provision.publish_bundle(custody, now_s=NOW_S)
    pin_root((custody / "root.json").read_bytes(), folder)
    install_bundle(custody / "bundle", folder, NOW_S * NANOSECONDS)
    return custody, folder


def test_the_installed_bundle_says_who_may_receive_until_it_is_over(installed):
    _, folder = installed
    who = InstalledRecipients(InstalledBundle(folder))
    assert who(NOW_S * NANOSECONDS).nobody is not None
    over_s = load_bundle(folder, NOW_S * NANOSECONDS).expires_s
    who((over_s - 1) * NANOSECONDS)
    with pytest.raises(TrustError):
        who(over_s * NANOSECONDS)


def test_a_bundle_that_was_taken_away_allows_nobody(installed):
    _, folder = installed
    who = InstalledRecipients(InstalledBundle(folder))
    who(NOW_S * NANOSECONDS)
    (folder / "timestamp.json").unlink()
    with pytest.raises(TrustError):
        who(NOW_S * NANOSECONDS)


def test_a_bundle_that_was_replaced_by_a_broken_one_allows_nobody(installed):
    _, folder = installed
    who = InstalledRecipients(InstalledBundle(folder))
    who(NOW_S * NANOSECONDS)
    (folder / "timestamp.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(TrustError):
            who(NOW_S * NANOSECONDS)
