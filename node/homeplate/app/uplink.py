"""Builds the uplink process: the one with the network. It loads nothing that sees plates."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from homeplate.app.credentials import device_key, key_file
from homeplate.app.node import Paths, load_identity, require_road
from homeplate.broker.mqtt import MqttListener, MqttPublisher
from homeplate.broker.tls import ClientIdentity
from homeplate.clock import SystemClock
from homeplate.config import Config
from homeplate.domain.agency import Endpoint
from homeplate.domain.record import StorageClass
from homeplate.errors import ConfigError
from homeplate.feed import BundleFeed
from homeplate.ports import Clock, Ledger, Publisher
from homeplate.sealing.slots import SlotStore
from homeplate.store.delivery import DeliveryLog
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.chunks import MAX_MESSAGE_BYTES, Arrivals
from homeplate.trust.installed import InstalledBundle
from homeplate.uplink import Drained, InstalledRecipients, Uplink


def build_uplink(config: Config, clock: Clock, ledger: MerkleLog | None = None) -> Uplink:
    """Return the uplink of a node; `ledger` is its own log where another part of the process writes to it too.

    Raises:
        ConfigError: where the node is not made or not enrolled yet.
        SealingError: where capture has not made the slot files yet.
        StoreError: where a log cannot be opened.
    """
    paths = Paths.of(config)
    identity, certificate = load_identity(paths), _client_identity(paths)

    def connect(address: str, endpoint: Endpoint) -> Publisher:
        return MqttPublisher.open(address, endpoint, client_id=identity.pseudonym, identity=certificate)

    return Uplink(
        node=identity.raw,
        spool=FileSpool(paths.spool),
        slots=SlotStore.open_existing(*paths.slots(StorageClass.OUTGOING), device_key()),
        who=InstalledRecipients(InstalledBundle(paths.bundle)),
        clock=clock,
        ledger=ledger or MerkleLog(paths.log("uplink"), clock),
        delivery=DeliveryLog.open(paths.delivery),
        connect=connect,
    )


def build_feed(config: Config, clock: Clock, ledger: Ledger) -> BundleFeed:
    """Return what asks brokers for the next bundle.

    Raises:
        ConfigError: where the node is not made or not enrolled yet.
    """
    paths = Paths.of(config)
    identity, certificate = load_identity(paths), _client_identity(paths)

    def connect(address: str, endpoint: Endpoint) -> MqttListener:
        return MqttListener(
            address,
            endpoint,
            client_id=f"{identity.pseudonym}-bundles",
            identity=certificate,
            largest=MAX_MESSAGE_BYTES,
        )

    return BundleFeed(
        bundle=InstalledBundle(paths.bundle),
        arrivals=Arrivals(paths.inbox),
        clock=clock,
        ledger=ledger,
        connect=connect,
    )


def _client_identity(paths: Paths) -> ClientIdentity:
    if not paths.tls_certificate.exists():
        raise ConfigError(
            f"{paths.tls_certificate} is missing: the node is not enrolled yet. Bring the request to the custodian, "
            "then `homeplate bundle install FOLDER --certificate FILE`"
        )
    return ClientIdentity(certificate=paths.tls_certificate, key=key_file(paths.tls_key))


def run_uplink(config: Config, stop: threading.Event, beat: Callable[[], None], *, once: bool) -> Drained:
    """Run the uplink until `stop` is set, or for one look at the spool and at the brokers that have bundles.

    Returns:
        What came of that one look at the spool; nothing where it ran until stopped.
    """
    clock = SystemClock(Paths.of(config).clock, "uplink")
    require_road(Paths.of(config), clock)
    ledger = MerkleLog(Paths.of(config).log("uplink"), clock)
    uplink, feed = build_uplink(config, clock, ledger), build_feed(config, clock, ledger)
    ledger.append("uplink.started", config_sha256=config.sha256)
    if once:
        feed.look(stop)
        drained = uplink.drain()
        ledger.append("uplink.stopped")
        return drained
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as pool:
        feeding = pool.submit(feed.run, stop)
        feeding.add_done_callback(lambda _: stop.set())  # one part does not go on without the other
        try:
            uplink.run(stop, beat)
        finally:
            stop.set()
        feeding.result()
    ledger.append("uplink.stopped")
    return Drained()
