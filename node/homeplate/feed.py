"""Asks brokers for the next bundle and puts what arrives into the inbox, where the service without network judges it.

Part of the process that has the network, under the same rules: only recipients that the bundle in force allows are
asked, the grant is judged again before each message, and which of them are asked is in the signed rules.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from homeplate.clock import NANOSECONDS
from homeplate.domain.agency import Endpoint
from homeplate.errors import BrokerError, ClockError, TrustError
from homeplate.policy.allowlist import address_of, may_connect, recipients
from homeplate.policy.verdict import Refused
from homeplate.ports import Clock, Ledger
from homeplate.store.ledger import CoalescingLedger, fit
from homeplate.trust.chunks import TOPIC, Arrivals
from homeplate.trust.installed import InstalledBundle
from homeplate.trust.reasons import NOT_WRITTEN, NamedTrustError

LOOK_S = 300.0
"""Between two looks, which cost a TLS handshake each. A bundle is urgent to nobody who cannot come by."""

IDLE_S = 2.0
REPEATED = frozenset({"feed.refused", "feed.dropped"})
_REPEATS_WINDOW_NS = 3600 * NANOSECONDS


class Listener(Protocol):
    """A connection to one broker: `broker.mqtt.MqttListener`."""

    def listen(self, topic: str, take: Callable[[bytes], None], go_on: Callable[[], bool], *, idle_s: float) -> None:
        """Take messages until none came for `idle_s` seconds or `go_on` says no; acknowledge each after `take`."""
        ...

    def close(self) -> None:
        """Close without a word: the grant may be over."""
        ...


Connect = Callable[[str, Endpoint], Listener]
"""Connects to an address that policy allowed, as the endpoint says; raises BrokerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    identifier: str
    address: str
    endpoint: Endpoint


class BundleFeed:
    """The next bundle's way in. For one thread."""

    def __init__(
        self,
        *,
        bundle: InstalledBundle,
        arrivals: Arrivals,
        clock: Clock,
        ledger: Ledger,
        connect: Connect,
        idle_s: float = IDLE_S,
    ) -> None:
        """Compose it.

        Args:
            bundle: gives the bundle in force.
            arrivals: puts chunks together in the inbox.
            clock: node time.
            ledger: uplink's own log.
            connect: opens a connection to an allowed endpoint.
            idle_s: how long a broker may be silent before it is left.
        """
        self._idle_s = idle_s
        self._bundle, self._arrivals, self._clock, self._connect = bundle, arrivals, clock, connect
        self._ledger = CoalescingLedger(ledger, clock, events=REPEATED, window_ns=_REPEATS_WINDOW_NS)

    def run(self, stop: threading.Event, look_s: float = LOOK_S) -> None:
        """Look until `stop` is set.

        Raises:
            StoreError: where the ledger cannot be written.
        """
        while not stop.is_set():
            self.look(stop)
            stop.wait(look_s)
        self._ledger.flush()

    def look(self, stop: threading.Event) -> None:
        """Ask each source once, in the signed order, for what it has.

        Raises:
            StoreError: where the ledger cannot be written.
        """
        for identifier in self._sources():
            if stop.is_set():
                return
            source = self._allowed(identifier)
            if isinstance(source, Refused):
                self._ledger.append("feed.refused", source=identifier, reason=fit(source.reason))
            else:
                self._ask(source, stop)

    def _sources(self) -> tuple[str, ...]:
        try:
            return self._bundle(self._clock.now_ns()).bundle_sources
        except (TrustError, ClockError):  # uplink's ledger says that it is halted
            return ()

    def _allowed(self, identifier: str) -> _Source | Refused:
        """Return where to ask at this moment, or why nowhere."""
        try:
            now_ns = self._clock.now_ns()
            bundle = self._bundle(now_ns)
        except (TrustError, ClockError) as error:
            return Refused(f"no-bundle: {error}")
        if identifier not in bundle.bundle_sources:
            return Refused("no-source: the bundle in force does not name it any more")
        now_s = now_ns // NANOSECONDS
        known = recipients(
            bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered
        )
        recipient = known.allowed.get(identifier)
        if recipient is None:
            return Refused(known.refused.get(identifier, "not-listed: neither signer names it"))
        address = address_of(recipient)
        if address is None:
            return Refused("no-address: the registry gives ranges only; an endpoint needs one address to dial")
        verdict = may_connect(address, identifier, known, now_s)
        if isinstance(verdict, Refused):
            return verdict
        return _Source(identifier=identifier, address=address, endpoint=verdict.endpoint)

    def _ask(self, source: _Source, stop: threading.Event) -> None:
        try:
            listener = self._connect(source.address, source.endpoint)
        except BrokerError as error:
            self._note_failure(source, error)
            return

        def go_on() -> bool:
            return not stop.is_set() and self._allowed(source.identifier) == source

        try:
            if go_on():  # connecting takes time, in which a grant may end
                listener.listen(TOPIC, lambda message: self._take(source, message), go_on, idle_s=self._idle_s)
            self._hand_in(source)
        except BrokerError as error:
            self._note_failure(source, error)
        except NamedTrustError as error:  # the disk: what was not acknowledged comes again
            self._ledger.append("feed.dropped", source=source.identifier, reason=fit(f"{error.reason}: {error}"))
        finally:
            listener.close()

    def _take(self, source: _Source, message: bytes) -> None:
        """Take a message in; one that is no part of a bundle is acknowledged and forgotten.

        Raises:
            NamedTrustError: `not-written`, so that it is not acknowledged.
        """
        try:
            arrived = self._arrivals.take(message)
        except NamedTrustError as error:
            if error.reason == NOT_WRITTEN:
                raise
            self._ledger.append("feed.dropped", source=source.identifier, reason=fit(f"{error.reason}: {error}"))
            return
        if arrived:
            self._ledger.append("feed.arrived", source=source.identifier)

    def _hand_in(self, source: _Source) -> None:
        """Hand in what was whole and had to wait for an earlier candidate."""
        if self._arrivals.hand_in():
            self._ledger.append("feed.arrived", source=source.identifier)

    def _note_failure(self, source: _Source, error: BrokerError) -> None:
        reason = getattr(error, "reason", type(error).__name__)
        self._ledger.append("feed.refused", source=source.identifier, reason=fit(f"{reason}: {error}"))
