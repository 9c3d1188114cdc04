"""Builds the uplink process: the one with the network. It loads nothing that sees plates."""

import threading
from collections.abc import Callable

from homeplate.app.node import Paths, load_identity, require_road
from homeplate.broker.mqtt import MqttPublisher
from homeplate.broker.tls import ClientIdentity
from homeplate.clock import SystemClock
from homeplate.config import Config
from homeplate.domain.agency import Endpoint
from homeplate.domain.record import StorageClass
from homeplate.errors import ConfigError
from homeplate.ports import Clock, Publisher
from homeplate.sealing.slots import SlotStore
from homeplate.store.delivery import DeliveryLog
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.installed import InstalledBundle
from homeplate.uplink import Drained, InstalledRecipients, Uplink


def build_uplink(config: Config, clock: Clock) -> Uplink:
    """Return the uplink of a node.

    Raises:
        ConfigError: where the node is not made or not enrolled yet.
        SealingError: where capture has not made the slot files yet.
        StoreError: where a log cannot be opened.
    """
    paths = Paths.of(config)
    identity = load_identity(paths)
    if not paths.tls_certificate.exists():
        raise ConfigError(
            f"{paths.tls_certificate} is missing: the node is not enrolled yet. Bring the request to the custodian, "
            "then `homeplate bundle install FOLDER --certificate FILE`"
        )
    certificate = ClientIdentity(certificate=paths.tls_certificate, key=paths.tls_key)

    def connect(address: str, endpoint: Endpoint) -> Publisher:
        return MqttPublisher.open(address, endpoint, client_id=identity.pseudonym, identity=certificate)

    return Uplink(
        node=identity.raw,
        spool=FileSpool(paths.spool),
        slots=SlotStore.open_existing(*paths.slots(StorageClass.OUTGOING)),
        who=InstalledRecipients(InstalledBundle(paths.bundle)),
        clock=clock,
        ledger=MerkleLog(paths.log("uplink"), clock),
        delivery=DeliveryLog.open(paths.delivery),
        connect=connect,
    )


def run_uplink(config: Config, stop: threading.Event, beat: Callable[[], None], *, once: bool) -> Drained:
    """Run the uplink until `stop` is set, or for one look at the spool.

    Returns:
        What came of that one look; nothing where it ran until stopped.
    """
    clock = SystemClock(Paths.of(config).clock, "uplink")
    require_road(Paths.of(config), clock)
    uplink = build_uplink(config, clock)
    if once:
        return uplink.drain()
    uplink.run(stop, beat)
    return Drained()
