"""Hands spooled records to the recipients that the bundle names. It has the network; it can open nothing it sends.

`policy.allowlist` is asked before every connection and every send. A record is *intended* in the delivery log and in
the ledger before a byte leaves, and *confirmed*, *refused*, *not sent* or *outcome unknown* after. It leaves the spool
when it is confirmed or its slot is gone, never because a broker failed: then it is sent again under its own id.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from homeplate.broker.errors import NotConnectedError, NotTakenError
from homeplate.clock import NANOSECONDS, perf_ns
from homeplate.domain.agency import Endpoint
from homeplate.domain.record import DAY_SECONDS, RecordHeader, RecordId
from homeplate.errors import BrokerError, ClockError, SealingError, StoreError, TrustError
from homeplate.policy.allowlist import Allowed, Recipients, address_of, may_connect, recipient_of_key, recipients
from homeplate.policy.verdict import Refused
from homeplate.ports import Clock, Ledger, Publisher, SlotWrapper, Spool
from homeplate.sealing.envelope import decode
from homeplate.store.delivery import Delivery, DeliveryLog, Outcome
from homeplate.store.ledger import CoalescingLedger, Row, fit
from homeplate.trust.installed import InstalledBundle

# One value for all records, so that it tells nothing about any. A receiver that is away for longer loses nothing that
# its own keep-until would not have ended soon; it is a bound on how long a data host holds sealed bytes.
EXPIRY_S = 86_400
FIRST_WAIT_S = 1
LONGEST_WAIT_S = 300
POLL_S = 1.0
_KEEP_CONFIRMED_S = 30 * DAY_SECONDS
_REPEATS_WINDOW_NS = 3600 * NANOSECONDS

Connect = Callable[[str, Endpoint], Publisher]
"""Connects to an address that policy allowed, as the endpoint says; raises BrokerError."""

WhoMayReceive = Callable[[int], Recipients]
"""Gives who may receive at a node time (nanoseconds); raises TrustError where no bundle is in force."""

_Known = TypeVar("_Known")
_SETTLED_BY = {
    "delivery.confirmed": Outcome.CONFIRMED,
    "delivery.refused": Outcome.REFUSED,
    "delivery.not-sent": Outcome.NOT_SENT,
    "delivery.outcome-unknown": Outcome.UNKNOWN,
}
_EVENT_OF = {outcome: event for event, outcome in _SETTLED_BY.items()}


class Journal(Ledger, Protocol):
    """A ledger that can be read back: `store.ledger.MerkleLog`."""

    def rows(self) -> Iterator[Row]:
        """Yield its rows from the first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What one look at the spool came to, in records.

    Attributes:
        confirmed: acknowledged by their recipient's broker.
        refused: not sent, because policy or the record itself forbids it; they stay until their slot ends.
        failed: tried, and not acknowledged.
        forgotten: their slot was destroyed before they could be sent.
        waiting: not tried, because their broker failed a moment ago.
        halted: why nothing at all was tried (no bundle in force, no believable time); None where it was.
    """

    confirmed: int = 0
    refused: int = 0
    failed: int = 0
    forgotten: int = 0
    waiting: int = 0
    halted: str | None = None

    def __add__(self, other: "Drained") -> "Drained":
        return Drained(
            confirmed=self.confirmed + other.confirmed,
            refused=self.refused + other.refused,
            failed=self.failed + other.failed,
            forgotten=self.forgotten + other.forgotten,
            waiting=self.waiting + other.waiting,
            halted=self.halted or other.halted,
        )


class InstalledRecipients:
    """`WhoMayReceive` from the installed bundle."""

    def __init__(self, bundle: InstalledBundle) -> None:
        self._bundle = bundle

    def __call__(self, now_ns: int) -> Recipients:
        """Return who may receive at `now_ns`.

        Raises:
            TrustError: where no bundle is installed, or it does not verify, or is past its date.
        """
        bundle = self._bundle(now_ns)
        now_s = now_ns // NANOSECONDS
        return recipients(
            bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered
        )


class Uplink:
    """The spool's way out. One instance a node; `drain` may be called from one thread at a time."""

    def __init__(
        self,
        *,
        node: bytes,
        spool: Spool,
        slots: SlotWrapper,
        who: WhoMayReceive,
        clock: Clock,
        ledger: Journal,
        delivery: DeliveryLog,
        connect: Connect,
        ticks: Callable[[], int] = perf_ns,
    ) -> None:
        """Compose it; what a crash left open is settled at the first drain that has a believable time.

        Args:
            node: the node's pseudonym, 16 bytes; it is the topic's middle.
            spool: where released records wait.
            slots: opens the outer lock of outgoing records.
            who: the bundle's word on who may receive.
            clock: node time.
            ledger: uplink's own log.
            delivery: uplink's own log of attempts.
            connect: opens a connection to an allowed endpoint.
            ticks: nanoseconds that pass, for waiting after a failure.
        """
        self._topic = f"homeplate/{node.hex()}/records"
        self._spool, self._slots, self._who, self._clock = spool, slots, who, clock
        self._connect, self._ticks = connect, ticks
        self._books = _Books(ledger, delivery, clock)
        self._headers: dict[RecordId, RecordHeader] = {}
        self._refusals: dict[RecordId, str] = {}
        self._failures: dict[RecordId, int] = {}
        self._waits: dict[str, _Wait] = {}
        self._halted: str | None = None
        self._unwrapping = threading.Lock()
        self._recovered = False
        self._beat: Callable[[], None] = lambda: None
        self._stop = threading.Event()

    def run(self, stop: threading.Event, beat: Callable[[], None], poll_s: float = POLL_S) -> None:
        """Drain until `stop` is set, which also ends a look at a long spool after the record that is on its way.

        `beat`, the watchdog's food, is called after each look and each record that was tried, by any thread.
        """
        self._beat, self._stop = beat, stop
        while not stop.is_set():
            done = self.drain()
            beat()
            if not done.confirmed:
                stop.wait(poll_s)
        self._books.flush()

    def drain(self) -> Drained:
        """Try every pending record once, each broker on a thread of its own, and return what came of it.

        Raises:
            StoreError: where the spool or a log fails; nothing more is sent then.
        """
        try:
            now_ns = self._clock.now_ns()
            self._recover_once()
            known = self._who(now_ns)
        except (TrustError, ClockError) as error:
            return self._halt(str(error))
        self._halted = None
        groups, done = self._plan(known)
        if groups:
            with ThreadPoolExecutor(max_workers=len(groups), thread_name_prefix="uplink") as pool:
                done = sum(pool.map(self._deliver, groups.keys(), groups.values()), done)
        return done

    def _recover_once(self) -> None:
        if not self._recovered:
            self._books.recover()
            self._recovered = True

    def _halt(self, reason: str) -> Drained:
        if reason != self._halted:
            self._books.note("uplink.halted", reason=fit(reason))
            self._halted = reason
        return Drained(halted=reason)

    def _plan(self, known: Recipients) -> tuple[dict[str, list[RecordId]], Drained]:
        """Sort the pending records by recipient; refuse and forget what needs no connection for it."""
        groups: dict[str, list[RecordId]] = {}
        done = Drained()
        pending = list(self._spool.pending())
        self._headers = _only(pending, self._headers)
        self._refusals = _only(pending, self._refusals)
        self._failures = _only(pending, self._failures)
        # Oldest first; but a record on which a broker breaks off stands behind the others, or it would block them all.
        pending.sort(key=lambda record: self._failures.get(record, 0))
        for record_id in pending:
            header = self._header(record_id)
            if not isinstance(header, RecordHeader):
                done += header
                continue
            recipient = recipient_of_key(header.recipient_key, known)
            if recipient is None:
                reason = f"unknown-key: no allowed recipient has the sealing key {header.recipient_key.hex()}"
                done += self._refuse(record_id, "nobody", reason)
            elif self._is_waiting(recipient.agency.identifier):
                done += Drained(waiting=1)
            else:
                groups.setdefault(recipient.agency.identifier, []).append(record_id)
        return groups, done

    def _header(self, record_id: RecordId) -> RecordHeader | Drained:
        """Return a pending record's header, read once; or what became of the record instead."""
        if record_id in self._headers:
            return self._headers[record_id]
        found = self._sealed(record_id)
        if isinstance(found, Drained):
            return found
        self._headers[record_id] = found[1]
        return found[1]

    def _sealed(self, record_id: RecordId) -> tuple[bytes, RecordHeader] | Drained:
        """Return a pending record without its outer lock, and its header; or what became of the record instead."""
        try:
            blob = self._spool.get(record_id)
            with self._unwrapping:
                sealed = self._slots.unwrap(blob, self._clock.least_ns() // NANOSECONDS)
            header = decode(sealed).header if sealed is not None else None
        except SealingError as error:
            return self._refuse(record_id, "nobody", f"altered: {error}")
        except StoreError as error:
            if record_id not in set(self._spool.pending()):
                return Drained()  # purge took it meanwhile, and has written so
            return self._refuse(record_id, "nobody", f"unreadable: {error}")
        if sealed is None or header is None:
            self._books.note("delivery.forgotten", record=str(record_id), reason="slot-gone")
            self._spool.remove(record_id)
            return Drained(forgotten=1)
        if header.record_id != record_id or header != self._headers.get(record_id, header):
            return self._refuse(record_id, "nobody", f"altered: the file of record {record_id} holds another")
        return sealed, header

    def _refuse(self, record_id: RecordId, recipient: str, reason: str) -> Drained:
        """Write a refusal once a record and reason; the record stays, because a new bundle may allow it."""
        if self._refusals.get(record_id) != reason:
            self._refusals[record_id] = reason
            self._books.note("delivery.refused", record=str(record_id), recipient=recipient, reason=reason)
        return Drained(refused=1)

    def _deliver(self, identifier: str, record_ids: list[RecordId]) -> Drained:
        """Send one recipient's records in order over one connection, until one fails."""
        done = Drained()
        line = _Line()
        try:
            for number, record_id in enumerate(record_ids):
                part = self._send(line, identifier, record_id)
                done += part
                self._beat()
                if part.failed or self._stop.is_set():
                    return done + Drained(waiting=len(record_ids) - number - 1)
        finally:
            line.close()
        return done

    def _send(self, line: "_Line", identifier: str, record_id: RecordId) -> Drained:
        if self._books.is_confirmed(record_id):  # a crash came between the PUBACK and the removal
            self._spool.remove(record_id)
            return Drained(confirmed=1)
        try:
            publisher = self._allowed_line(line, identifier, self._headers[record_id])
        except BrokerError as error:
            self._wait_longer(identifier)
            self._books.note_repeated(
                "broker.refused", recipient=identifier, reason=_reason(error), detail=fit(str(error))
            )
            return Drained(failed=1)
        if isinstance(publisher, Refused):
            return self._refuse(record_id, identifier, publisher.reason)
        found = self._sealed(record_id)  # at the last moment: connecting takes time, in which its slot may end
        if isinstance(found, Drained):
            return found
        attempt = self._books.intend(record_id, identifier, line.address, line.purpose)
        outcome, reason = _publish(publisher, self._topic, found[0])
        self._books.settle(attempt, outcome, reason)
        if outcome is not Outcome.CONFIRMED:
            self._failures[record_id] = self._failures.get(record_id, 0) + 1
            self._wait_longer(identifier)
            return Drained(failed=1)
        self._waits.pop(identifier, None)
        self._spool.remove(record_id)
        return Drained(confirmed=1)

    def _allowed_line(self, line: "_Line", identifier: str, header: RecordHeader) -> Publisher | Refused:
        """Return a connection to the endpoint that policy allows at this moment, or why there is none.

        Connecting takes time, in which a grant may end or a bundle arrive: so policy is asked again after it.

        Raises:
            BrokerError: where the broker cannot be reached or is not who it should be.
        """
        while True:
            verdict = self._may_send(identifier, header)
            if isinstance(verdict, Refused):
                return verdict
            line.purpose = verdict.purpose
            if line.publisher is not None and line.where == verdict.where:
                return line.publisher
            line.close()
            line.publisher, line.where = self._connect(*verdict.where), verdict.where

    def _may_send(self, identifier: str, header: RecordHeader) -> "_Open | Refused":
        """Ask again with the time and the bundle of this moment: a grant may have ended since the last record."""
        try:
            now_ns = self._clock.now_ns()
            known = self._who(now_ns)
        except (TrustError, ClockError) as error:
            return Refused(f"no-bundle: {error}")
        now_s = now_ns // NANOSECONDS
        if header.keep_until_day < now_s // DAY_SECONDS:
            return Refused("past-keep-until: the day until which it may be kept is over")
        owner = recipient_of_key(header.recipient_key, known)
        if owner is None or owner.agency.identifier != identifier:
            return Refused(known.refused.get(identifier, "not-listed: neither signer names it"))
        address = address_of(owner)
        if address is None:
            return Refused("no-address: the registry gives ranges only; an endpoint needs one address to dial")
        verdict = may_connect(address, identifier, known, now_s)
        if not isinstance(verdict, Allowed):
            return verdict
        return _Open(where=(address, verdict.endpoint), purpose=owner.grant.purpose)

    def _is_waiting(self, identifier: str) -> bool:
        wait = self._waits.get(identifier)
        return wait is not None and self._ticks() < wait.until_ns

    def _wait_longer(self, identifier: str) -> None:
        before = self._waits.get(identifier)
        seconds = FIRST_WAIT_S if before is None else min(2 * before.seconds, LONGEST_WAIT_S)
        self._waits[identifier] = _Wait(seconds=seconds, until_ns=self._ticks() + seconds * NANOSECONDS)


def _only(pending: Iterable[RecordId], known: Mapping[RecordId, _Known]) -> dict[RecordId, _Known]:
    """Return what is known of records that still wait, so that memory is bounded by the spool."""
    return {record: known[record] for record in pending if record in known}


def _publish(publisher: Publisher, topic: str, sealed: bytes) -> tuple[Outcome, str]:
    try:
        publisher.publish(topic, sealed, expiry_s=EXPIRY_S)
    except NotConnectedError as error:
        return Outcome.NOT_SENT, _reason(error)
    except NotTakenError as error:
        return Outcome.REFUSED, f"broker: {_reason(error)}"
    except BrokerError as error:
        return Outcome.UNKNOWN, _reason(error)
    return Outcome.CONFIRMED, ""


def _reason(error: BrokerError) -> str:
    return str(getattr(error, "reason", type(error).__name__))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    seconds: int
    until_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """What policy allows at this moment: where to, and the purpose of the grant."""

    where: tuple[str, Endpoint]
    purpose: str


@dataclass(slots=True)
class _Line:
    """At most one connection, to the endpoint that was last allowed; the purpose is that of the grant then."""

    where: tuple[str, Endpoint] | None = None
    purpose: str = ""
    publisher: Publisher | None = None

    @property
    def address(self) -> str:
        return self.where[0] if self.where else ""

    def close(self) -> None:
        if self.publisher is not None:
            self.publisher.close()
            self.publisher = None


@dataclass(slots=True)
class _Books:
    """The delivery log and the ledger, kept in step under one lock.

    Order of writing: intended here, intended in the ledger, (send), outcome in the ledger, outcome here. So after a
    crash an open attempt's last ledger row says how far it came, and no row is written twice.
    """

    ledger: Journal
    delivery: DeliveryLog
    clock: Clock
    lock: threading.Lock = field(default_factory=threading.Lock)
    repeats: CoalescingLedger = field(init=False)

    def __post_init__(self) -> None:
        self.repeats = CoalescingLedger(
            self.ledger, self.clock, events=frozenset({"broker.refused"}), window_ns=_REPEATS_WINDOW_NS
        )

    def note(self, event: str, **fields: str | int | bool) -> None:
        with self.lock:
            self.ledger.append(event, **fields)

    def note_repeated(self, event: str, **fields: str | int | bool) -> None:
        with self.lock:
            self.repeats.append(event, **fields)

    def flush(self) -> None:
        with self.lock:
            self.repeats.flush()

    def is_confirmed(self, record_id: RecordId) -> bool:
        with self.lock:
            return self.delivery.outcome(record_id) is Outcome.CONFIRMED

    def intend(self, record_id: RecordId, recipient: str, address: str, purpose: str) -> Delivery:
        with self.lock:
            attempt = self.delivery.intend(record_id, recipient, self._now_s())
            self.ledger.append("delivery.intended", **_fields(attempt), address=address, purpose=fit(purpose))
        return attempt

    def settle(self, attempt: Delivery, outcome: Outcome, reason: str) -> None:
        fields: dict[str, str | int | bool] = {"reason": reason} if reason else {}
        with self.lock:
            self.ledger.append(_EVENT_OF[outcome], **_fields(attempt), **fields)
            self.delivery.settle(attempt.record_id, outcome, self._now_s())

    def recover(self) -> None:
        """Settle attempts without an outcome by their last ledger row; one that may have left counts as disclosed."""
        attempts = self.delivery.open_attempts()
        last = _last_events(self.ledger.rows(), attempts) if attempts else {}
        for attempt in attempts:
            event = last.get(attempt)
            if event is None:  # the ledger never said intended, so nothing was sent
                self.delivery.settle(attempt.record_id, Outcome.NOT_SENT, self._now_s())
            elif event in _SETTLED_BY:
                self.delivery.settle(attempt.record_id, _SETTLED_BY[event], self._now_s())
            else:
                self.settle(attempt, Outcome.UNKNOWN, "stopped-before-puback")
        self.delivery.prune(self._now_s() - _KEEP_CONFIRMED_S)

    def _now_s(self) -> int:
        return self.clock.now_ns() // NANOSECONDS


def _fields(attempt: Delivery) -> dict[str, str | int | bool]:
    return {"record": str(attempt.record_id), "recipient": attempt.recipient, "attempt": attempt.attempt}


def _last_events(rows: Iterable[Row], attempts: list[Delivery]) -> dict[Delivery, str]:
    """Return the last event that the ledger has for each attempt."""
    wanted = {(str(attempt.record_id), attempt.attempt): attempt for attempt in attempts}
    last: dict[Delivery, str] = {}
    for row in rows:
        attempt = wanted.get((str(row.fields.get("record")), int(row.fields.get("attempt", 0))))
        if attempt is not None:
            last[attempt] = row.event
    return last
