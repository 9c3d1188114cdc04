"""Builds the capture process: the one that sees plates. It loads nothing that has a network."""

import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import cv2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.app.conditions import require_policy
from homeplate.app.credentials import key_file
from homeplate.app.models import opened_models, require_named
from homeplate.app.node import Identity, Paths, load_identity, open_slots, require_road
from homeplate.app.refusals import WidenedError, refusals_written
from homeplate.camera import ClaimedSource, open_source
from homeplate.camera import identity as identity_of
from homeplate.capture import COALESCED, Capture, Committer, Feed, SourceState, Summary, Terms, recover
from homeplate.capture.committing import Recovered
from homeplate.clock import NANOSECONDS, SystemClock, perf_ns
from homeplate.config import Config, narrowing, source_settings
from homeplate.domain.record import StorageClass
from homeplate.domain.source import LIVE_KINDS, SourceSettings
from homeplate.errors import CameraError, ConfigError
from homeplate.pipeline import Pipeline
from homeplate.policy.allowlist import recipients
from homeplate.policy.disclosure import check_narrowing
from homeplate.ports import Clock, LiveSource
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.sealing.seal import open_hot_list
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import CoalescingLedger, MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import Bundle
from homeplate.trust.hotlist import parse_hot_list
from homeplate.trust.installed import InstalledBundle
from homeplate.vision import Models, Running
from homeplate.vision.image import plate_crop
from homeplate.vision.motion import MotionGate
from homeplate.vision.tiling import looking_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What capture came to, for a person and for a program; no plate in either.

    Attributes:
        summary: of the sources.
        running: what ran the models.
        published: counts of the uplink, where it ran in the same process.
    """

    summary: Summary
    running: Running
    published: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or that of a camera error where a source broke."""
        broken = any(source.state is SourceState.BROKEN for source in self.summary.sources)
        return CameraError.exit_code if broken else 0

    def figures(self) -> dict[str, object]:
        """Return what ran the models, and the counts: frames, drops by reason, passages, sealed, milliseconds."""
        sources = self.summary.sources
        counters = [source.counters for source in sources]
        frames = sum(one.frames for one in counters)
        dropped: Counter[str] = Counter()
        stages: Counter[str] = Counter()
        for one in counters:
            dropped.update({str(reason): count for reason, count in one.dropped.items()})
            stages.update({str(stage): spent for stage, spent in one.stage_ns.items()})
        overwritten = sum(source.overwritten for source in sources)
        return {
            "frames": frames,
            "dropped": dict(sorted((dropped + Counter(overwritten=overwritten)).items())),
            "passages": sum(one.passages for one in counters),
            "outcomes": {str(outcome): count for outcome, count in sorted(self.summary.passages.items())},
            "sealed_records": self.summary.records,
            "published": self.published,
            "milliseconds_a_frame": {stage: round(spent / max(1, frames) / 1e6, 2) for stage, spent in stages.items()},
            "models": asdict(self.running),
            "sources": {source.name: source.error or str(source.state) for source in sources},
            "camera_losses": sum(source.losses for source in sources),
        }

    def json(self) -> str:
        """Return the figures as one line of JSON."""
        return json.dumps(self.figures(), sort_keys=True)

    def text(self) -> str:
        """Return the figures as lines."""
        sources = self.summary.sources
        figures = self.figures() | {"sources": {source.name: str(source.state) for source in sources}}
        lines = []
        for name, value in figures.items():
            if isinstance(value, dict):
                value = ", ".join(f"{key} {item}" for key, item in value.items()) or "-"  # noqa: PLW2901
            lines.append(f"{name.replace('_', ' ') + ':':22}{value}")
        return "\n".join([*lines, *(source.error for source in sources if source.error)])


class InstalledTerms:
    """Gives capture what the installed bundle and the configuration say now; re-reads what was installed meanwhile.

    Args:
        config: whose `[narrow]` takes away.
        paths: the node's.
        identity: the node.
        clock: node time.
        cameras: the sources that run.
        manifest_sha256: of the models that run.
    """

    def __init__(
        self,
        config: Config,
        paths: Paths,
        identity: Identity,
        clock: Clock,
        *,
        cameras: Sequence[str],
        manifest_sha256: bytes,
    ) -> None:
        self._identity = identity
        self._cameras = tuple(cameras)
        self._manifest_sha256 = manifest_sha256
        self._narrowing = narrowing(config.narrow)
        self._bundle = InstalledBundle(paths.bundle, pseudonym=identity.raw)
        self._hot_list_key = load_sealing_key(key_file(paths.hot_list_key))
        self._clock = clock
        self._read: tuple[Bundle, Terms] | None = None

    def __call__(self) -> Terms:
        """Return the terms at this moment.

        Raises:
            TrustError: where no bundle or no hot list that it promises is in force, it names other models, its usage
                policy lacks a part, or a camera stands in a sensitive place.
            ConfigError: where the configuration would widen the signed rules.
            SealingError: where the hot list does not open with this node's key.
        """
        now_ns = self._clock.now_ns()
        bundle = self._bundle(now_ns)
        if self._read is None or self._read[0] is not bundle:
            self._read = (bundle, self._terms(bundle, now_ns // NANOSECONDS))
        return self._read[1]

    def home(self) -> str:
        """Return the jurisdiction that the bundle in force gives the node.

        Raises:
            TrustError: where none is in force.
        """
        return self._bundle(self._clock.now_ns()).jurisdiction

    def _terms(self, bundle: Bundle, now_s: int) -> Terms:
        require_named(bundle, self._manifest_sha256)
        require_policy(bundle, self._identity.raw, self._cameras, now_s)
        try:
            check_narrowing(bundle.rules, self._narrowing)
        except ValueError as error:
            raise WidenedError(f"narrow: {error}") from error
        sealed = bundle.hot_list_sealed
        return Terms(
            rules=bundle.rules,
            narrowing=self._narrowing,
            recipients=recipients(
                bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered
            ),
            hot_list=parse_hot_list(open_hot_list(sealed, self._hot_list_key), now_s) if sealed else None,
            demo=bundle.demo,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stores:
    """What capture writes to, and what an earlier run left in it."""

    slots: Mapping[StorageClass, SlotStore]
    ledger: MerkleLog
    coalescing: CoalescingLedger
    spool: FileSpool
    recovered: Recovered


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureProcess:
    """A capture that is ready to run, and what it holds open."""

    capture: Capture
    running: Running
    stores: _Stores

    def run(self, stop: threading.Event) -> Report:
        """Run until the sources end or `stop` is set; leave nothing unsaid in the ledger."""
        try:
            return Report(summary=self.capture.run(stop), running=self.running)
        finally:
            self.stores.coalescing.flush()
            self.stores.ledger.close()
            for store in self.stores.slots.values():
                store.close()


def build_capture(
    config: Config,
    sources: Sequence[SourceSettings],
    clock: Clock,
    *,
    identify: Callable[[SourceSettings], str] = identity_of,
    advance: Callable[[int], None] = lambda _: None,
    progress: Callable[[str, int], None] = lambda _source, _index: None,
    claims: Path | None = None,
) -> CaptureProcess:
    """Put capture together.

    Args:
        config: the node's.
        sources: what to look at.
        clock: node time.
        identify: names a file by its content, so that what was finished is not done again.
        advance: told each frame's capture time, for a simulated clock.
        progress: told each processed frame.
        claims: where the sources' locks lie; None where the sources are nobody else's.

    Raises:
        ConfigError, ModelError, SealingError, StoreError, TrustError: what is missing, by name; in the ledger too, once
            there is a node.
    """
    if not sources:
        raise ConfigError("no source is configured: add a [[source]] with name, kind and path")
    paths = Paths.of(config)
    identity = load_identity(paths)
    with refusals_written(paths.log("capture"), clock):
        return _built(config, sources, clock, identity, _Ways(identify, advance, progress, claims))


@dataclass(frozen=True, slots=True)
class _Ways:
    """What `build_capture` is given besides, as it says."""

    identify: Callable[[SourceSettings], str]
    advance: Callable[[int], None]
    progress: Callable[[str, int], None]
    claims: Path | None


def _built(
    config: Config, sources: Sequence[SourceSettings], clock: Clock, identity: Identity, ways: _Ways
) -> CaptureProcess:
    paths = Paths.of(config)
    cv2.setNumThreads(config.models.threads)  # OpenCV would take every core, the uplink's and the camera's too
    models = opened_models(config)
    cameras = [source.name for source in sources]
    terms = InstalledTerms(config, paths, identity, clock, cameras=cameras, manifest_sha256=models.manifest_sha256)
    terms()  # a node without a bundle in force, or with other models than it names, must not start
    opened = partial(_opened, clock, paths.runtime, ways.claims)
    feeds = _feeds(models, sources, opened=opened, identify=ways.identify, home=terms.home())
    record_key = load_signing_key(key_file(paths.record_key))  # before the ledger is open: what fails here is a row
    stores = _open_stores(paths, clock, check=not identity.simulation)
    capture = Capture(
        feeds=feeds,
        committer=_committer(record_key, identity, clock, terms, stores),
        ledger=stores.coalescing,
        recovered=stores.recovered,
        models={**asdict(models.running), "config_sha256": config.sha256},
        perf_ns=perf_ns,
        advance=ways.advance,
        progress=ways.progress,
    )
    return CaptureProcess(capture=capture, running=models.running, stores=stores)


def _open_stores(paths: Paths, clock: Clock, *, check: bool) -> _Stores:
    slots = {storage: open_slots(paths, storage, check=check) for storage in StorageClass}
    ledger, spool = MerkleLog(paths.log("capture"), clock), FileSpool(paths.spool)
    return _Stores(
        slots=slots,
        ledger=ledger,
        coalescing=CoalescingLedger(ledger, clock, events=COALESCED),
        spool=spool,
        recovered=recover(ledger.rows(), spool),
    )


def _committer(
    record_key: Ed25519PrivateKey, identity: Identity, clock: Clock, terms: InstalledTerms, stores: _Stores
) -> Committer:
    committer = Committer(
        node=identity.raw,
        signing_key=record_key,
        slots=stores.slots,
        spool=stores.spool,
        ledger=stores.coalescing,
        clock=clock,
        terms=terms,
        random_bytes=os.urandom,
        recovered=stores.recovered,
    )
    stores.ledger.carry_over(committer.counted)
    return committer


def _opened(clock: Clock, runtime: Path, claims: Path | None, settings: SourceSettings) -> LiveSource:
    source = open_source(settings, clock.now_ns(), now_ns=clock.least_ns, runtime=runtime)
    return source if claims is None else ClaimedSource(source, claims, "capture")


def _feeds(
    models: Models,
    sources: Sequence[SourceSettings],
    *,
    opened: Callable[[SourceSettings], LiveSource],
    identify: Callable[[SourceSettings], str],
    home: str,
) -> list[Feed]:
    """Give each source a pipeline of its own; the models are opened once."""
    feeds = []
    for settings in sources:
        pipeline = Pipeline(
            settings=settings,
            detector=looking_at(models.detector, settings),
            reader=models.reader,
            gate=MotionGate(),
            crop=plate_crop,
            perf_ns=perf_ns,
            home=home,
        )
        feeds.append(
            Feed(
                source=opened(settings),
                pipeline=pipeline,
                identify=None if settings.live else partial(identify, settings),
                restarts=settings.kind in LIVE_KINDS,
            )
        )
    return feeds


def run_capture(config: Config, stop: threading.Event, beat: Callable[[], None]) -> Report:
    """Run capture on the configured sources until they end or `stop` is set."""
    clock = SystemClock(Paths.of(config).clock, "capture")
    load_identity(Paths.of(config))
    with refusals_written(Paths.of(config).log("capture"), clock):
        require_road(Paths.of(config), clock)
    sources = [source_settings(section) for section in config.source]
    claims = Paths.of(config).claims
    process = build_capture(config, sources, clock, progress=lambda _source, _index: beat(), claims=claims)
    beat()  # up: the models run, a bundle is in force. From here frames alone feed the watchdog.
    return process.run(stop)
