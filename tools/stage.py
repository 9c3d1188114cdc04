"""A whole throw-away deployment in one folder: custody, enrolled node, installed bundle, broker's certificates.

The demo and the whole-node tests stand on it. Everything is made as a custodian and a technician would make it, through
the same functions that their commands call; only the root is marked `demo`, so that no real node takes it.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from homeplate.app.node import Paths, init_node, install
from homeplate.clock import NANOSECONDS, SystemClock, WallClock
from homeplate.config import Config, load_config
from homeplate.domain.agency import KemKind
from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate_custodian import provision
from homeplate_custodian.authority import Server, issue_server
from homeplate_custodian.receive import receiver_name
from tools.broker import LocalBroker, free_port, start_broker

AGENCY = "demo-city-pd"
TLS_NAME = "broker.demo-city.example"
PURPOSE = "demonstration"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - memory-backed on Linux; a folder of our own is made in it
BOTH = (Part.FACTS, Part.CROP)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """A rule to sign; see `provision.add_rule`."""

    name: str
    trigger: Trigger = Trigger.EVERYTHING
    recipients: Sequence[str] = (AGENCY,)
    parts: Sequence[Part] = BOTH
    storage: StorageClass = StorageClass.OUTGOING
    retention_s: int = DAY_SECONDS


PUBLISH_EVERYTHING = RuleSpec(name="publish-everything")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where everything of the deployment lies."""

    folder: Path
    custody: Path
    config: Path
    port: int
    server: Server
    runtime: tempfile.TemporaryDirectory[str]

    @property
    def paths(self) -> Paths:
        """The node's files."""
        return Paths.of(self.load())

    @property
    def agency_key(self) -> Path:
        """The agency's private sealing key."""
        return next((self.custody / "agencies" / AGENCY).glob("*.key"))

    def load(self) -> Config:
        """The node's configuration."""
        return load_config(self.config)

    def publish(self) -> None:
        """Sign the drafts and install them on the node."""
        bundle = provision.publish_bundle(self.custody, now_s=now_s())
        install(self.load(), bundle, None, lambda: SystemClock(self.paths.clock, "bundle"))

    @contextlib.contextmanager
    def broker(self, kind: str | None = None) -> Iterator[LocalBroker]:
        """Run the agency's broker."""
        with start_broker(
            self.folder / "broker",
            authority_pem=(self.custody / "authority" / "ca.crt").read_text(),
            certificate_pem=self.server.certificate.read_text(),
            key_pem=self.server.key.read_text(),
            receivers=(receiver_name(AGENCY),),
            port=self.port,
            kind=kind,
        ) as broker:
            yield broker


def now_s() -> int:
    """Return wall time in whole seconds since 1970."""
    return WallClock().now_ns() // NANOSECONDS


def found(
    custody: Path,
    *,
    rules: Iterable[RuleSpec] = (PUBLISH_EVERYTHING,),
    kem: KemKind = KemKind.X25519,
    demo: bool = True,
    registry_body: str = "Demo State Registry",
) -> tuple[Server, int]:
    """Make a custody with an agency that may receive; return its broker's certificate and port. See `build`."""
    now = now_s()
    custody.parent.mkdir(parents=True, exist_ok=True)
    provision.init(custody, registry_body=registry_body, operator_body="Demo City", now_s=now, demo=demo)
    server = issue_server(custody / "authority", tls_name=TLS_NAME, addresses=["127.0.0.1"], now_s=now)
    port = free_port()
    provision.add_agency(
        custody, identifier=AGENCY, legal_name="Demo City Police Department", kind="city_agency", jurisdiction="US-CA",
        network="127.0.0.1", port=port, tls_name=TLS_NAME, pins=[server.pin], now_s=now, kem=kem,
    )  # fmt: skip
    provision.grant(
        custody, identifier=AGENCY, need="shows what a delivery looks like", purpose=PURPOSE,
        approver="nobody: a demonstration", approved_on="2026-01-01", expires_s=now + 30 * DAY_SECONDS, attested=True,
    )  # fmt: skip
    provision.add_purpose(custody, PURPOSE)
    for rule in rules:
        provision.add_rule(custody, **dataclasses.asdict(rule), purpose=PURPOSE)
    return server, port


def build(
    folder: Path,
    *,
    sources: Sequence[Mapping[str, object]] = (),
    rules: Iterable[RuleSpec] = (PUBLISH_EVERYTHING,),
    hot_list: Iterable[str] = (),
    kem: KemKind = KemKind.X25519,
    demo: bool = True,
    registry_body: str = "Demo State Registry",
) -> Stage:
    """Make a deployment in `folder`.

    Args:
        folder: an empty or new folder.
        sources: the node's `[[source]]` sections, key by key.
        rules: what the operator signs.
        hot_list: plates that are wanted.
        kem: of the agency's sealing key.
        demo: mark the root `demo`; without it nothing publishes everything.
        registry_body: who says what an agency is; the operator is "Demo City".
    """
    custody, now = folder / "custody", now_s()
    server, port = found(custody, rules=rules, kem=kem, demo=demo, registry_body=registry_body)
    runtime = tempfile.TemporaryDirectory(prefix="homeplate-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
    config = write_config(folder, sources, Path(runtime.name))
    stage = Stage(folder=folder, custody=custody, config=config, port=port, server=server, runtime=runtime)
    _enrol(stage, now)
    provision.set_hot_list(
        custody,
        [HotListEntry(text=PlateText(plate), terms=_wanted(now + DAY_SECONDS)) for plate in hot_list],
        now_s=now,
    )
    stage.publish()
    return stage


def _wanted(expires_s: int) -> HotListTerms:
    return HotListTerms(
        list_name="demo",
        purpose=HotListPurpose.STOLEN_VEHICLE,
        state="US-CA",
        kind=PlateKind.OTHER,
        expires_s=expires_s,
    )


def write_config(folder: Path, sources: Sequence[Mapping[str, object]], runtime: Path) -> Path:
    """Write the node's configuration and return its path; strings are written as JSON, which TOML reads alike."""
    lines = ["[node]", f"data_dir = {json.dumps(str(folder / 'node'))}", f"runtime_dir = {json.dumps(str(runtime))}"]
    for source in sources:
        lines += ["", "[[source]]", *(f"{key} = {json.dumps(value, default=str)}" for key, value in source.items())]
    config = folder / "homeplate.toml"
    config.write_text("\n".join(lines) + "\n")
    return config


def _enrol(stage: Stage, now: int) -> None:
    """Make the node, let the custodian enrol it, and bring its certificate back."""
    config, request = stage.load(), stage.folder / "request.json"
    init_node(config, root=stage.custody / "root.json", request=request, simulation=True)
    certificate = stage.folder / "client.crt"
    certificate.write_text(provision.enrol(stage.custody, request.read_bytes(), now_s=now))
    bundle = provision.publish_bundle(stage.custody, now_s=now)
    install(config, bundle, certificate, lambda: SystemClock(stage.paths.clock, "bundle"))
