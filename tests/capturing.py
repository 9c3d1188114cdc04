"""A node's capture on scripted frames, with the real sealing, slots, spool and ledger, for tests of capture."""

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.capture import Capture, Committer, Feed, Summary, Terms, recover
from homeplate.clock import SimulatedClock
from homeplate.domain.agency import Agency, AgencyKind, Grant, KemKind, Recipient
from homeplate.domain.hotlist import HotList
from homeplate.domain.passage import Frame
from homeplate.domain.record import Part, RecordId, StorageClass
from homeplate.domain.rules import Rule, Trigger
from homeplate.domain.source import SourceKind, SourceSettings
from homeplate.errors import CameraError
from homeplate.pipeline import Pipeline
from homeplate.policy.allowlist import Recipients
from homeplate.policy.disclosure import Narrowing
from homeplate.ports import Clock, Ledger, Spool
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import Facts, check_crop, decode_facts, unpad_crop
from homeplate.sealing.keys import SealingPrivateKey
from homeplate.sealing.seal import open_sealed
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import MerkleLog, Row
from homeplate.store.spool import FileSpool
from tests.sightings import SECOND, START_NS, Plate, Script, box

NODE = bytes(range(16))
NOW_S = START_NS // SECOND
# Fixed, so that a process that is killed and the test that looks at what it left have the same.
SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {
    name: SealingPrivateKey(kem=kem, private_bytes=name.encode().ljust(32, b"."))
    for name, kem in (("springfield", KemKind.X25519), ("shelbyville", KemKind.MLKEM768_X25519))
}


def recipient(name: str, key: SealingPrivateKey, *, until_s: int = NOW_S + 10_000_000) -> Recipient:
    public = key.sealing_key(not_before_s=NOW_S - 1000, not_after_s=until_s)
    agency = Agency(
        identifier=name, legal_name=f"City of {name}", kind=AgencyKind.CITY, jurisdiction="US-CA", ori=None,
        endpoints=(), sealing_keys=(public,),
    )  # fmt: skip
    grant = Grant(
        identifier=name, need="need", purpose="purpose", approver="A. Approver", approved_on="2026-01-01",
        expires_s=until_s, attested=True,
    )  # fmt: skip
    return Recipient(agency=agency, grant=grant)


RECIPIENTS = Recipients(allowed={name: recipient(name, key) for name, key in KEYS.items()}, refused={})


def rule(name: str = "all", **changes: object) -> Rule:
    values = {
        "name": name, "trigger": Trigger.EVERYTHING, "recipients": ("springfield",),
        "parts": frozenset({Part.FACTS, Part.CROP}), "storage": StorageClass.OUTGOING, "retention_s": 86_400,
        "purpose": "test",
    }  # fmt: skip
    return Rule(**{**values, **changes})


def terms(*rules: Rule, hot_list: HotList | None = None, demo: bool = True) -> Terms:
    return Terms(rules=rules, narrowing=Narrowing(), recipients=RECIPIENTS, hot_list=hot_list, demo=demo)


@dataclass
class Film:
    """A source of scripted frames."""

    script: Script
    count: int
    name: str = "road"
    fps: float = 10.0
    still: bool = False
    error: CameraError | BaseException | None = None
    closed: bool = False
    before: Callable[[int], None] = lambda _: None

    def frames(self) -> Iterator[Frame]:
        for i in range(self.count):
            if self.closed:
                return
            self.before(i)
            yield self.script.frame(i, source=self.name, fps=self.fps, still=self.still)
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.closed = True

    def feed(self, *, identity: str | None = "0123456789abcdef") -> Feed:
        settings = SourceSettings(name=self.name, kind=SourceKind.VIDEO, path=PurePath("x"))
        s = self.script
        pipeline = Pipeline(settings=settings, detector=s, reader=s, gate=s, crop=s.crop, perf_ns=lambda: 0)
        return Feed(source=self, pipeline=pipeline, identify=None if identity is None else lambda: identity)


def traffic(*texts: str, step: int = 40) -> Script:
    """Cars that pass one after the other, five sightings each, the third one at the same time as the second."""
    plates: dict[int, list[Plate]] = {}
    for n, text in enumerate(texts):
        for i in range(5):
            frame = step * (n - (n >= 2)) + i
            plates.setdefault(frame, []).append(Plate(box(100 + 40 * i, 150 + 150 * (n == 2)), text))
    return Script(plates)


@dataclass
class Node:
    """A node's data folder, opened anew for every run as after a restart."""

    folder: Path
    terms: Callable[[], Terms] = lambda: terms(rule())
    wrap_spool: Callable[[Spool], Spool] = lambda spool: spool
    wrap_ledger: Callable[[Ledger], Ledger] = lambda ledger: ledger
    make_clock: Callable[[], Clock] = lambda: SimulatedClock(START_NS)
    processed: list[tuple[str, int]] = field(default_factory=list)

    def run(self, *feeds: Feed, stop: threading.Event | None = None) -> Summary:
        self.folder.mkdir(exist_ok=True)
        clock = self.make_clock()
        slots = {storage: self.slots(storage) for storage in StorageClass}
        ledger = MerkleLog(self.folder / "capture.log", clock)
        try:
            spool, wrapped = self.wrap_spool(FileSpool(self.folder / "spool")), self.wrap_ledger(ledger)
            found = recover(ledger.rows(), spool)
            committer = Committer(
                node=NODE, signing_key=SIGNING_KEY, slots=slots, spool=spool, ledger=wrapped, clock=clock,
                terms=self.terms, random_bytes=secrets.token_bytes, recovered=found,
            )  # fmt: skip
            advance = clock.advance_to if isinstance(clock, SimulatedClock) else lambda _: None
            capture = Capture(
                feeds=feeds, committer=committer, ledger=wrapped, recovered=found, models={"provider": "a test"},
                perf_ns=lambda: 0, advance=advance, progress=lambda name, index: self.processed.append((name, index)),
            )  # fmt: skip
            return capture.run(stop or threading.Event())
        finally:
            ledger.close()
            for store in slots.values():
                store.close()

    def slots(self, storage: StorageClass) -> SlotStore:
        return SlotStore(self.folder / f"{storage}.slots", self.folder / f"{storage}.memory.slots")

    def rows(self, event: str | None = None) -> list[Row]:
        log = MerkleLog(self.folder / "capture.log", SimulatedClock(START_NS))
        found = [row for row in log.rows() if event in {None, row.event}]
        log.close()
        return found

    def opened(self, storage: StorageClass = StorageClass.OUTGOING) -> list[Facts]:
        """Open every released record as its recipient would; check each crop; return the facts in sequence."""
        spool, slots = FileSpool(self.folder / "spool"), self.slots(storage)
        facts: list[Facts] = []
        crops: dict[RecordId, bytes] = {}
        for record_id in spool.released(storage):
            record = decode(slots.unwrap(spool.get(record_id)))
            assert record.header.record_id == record_id
            key = next(key for key in KEYS.values() if key.key_id == record.header.recipient_key)
            part, plaintext = open_sealed(record, key, SIGNING_KEY.public_key().public_bytes_raw())
            if part is Part.CROP:
                crops[record_id] = unpad_crop(plaintext)
            else:
                facts.append(decode_facts(plaintext))
        slots.close()
        for fact in facts:
            if fact.crop is not None:
                record_id = RecordId(bytes.fromhex(fact.crop.record))
                check_crop(fact, record_id, crops.pop(record_id))
        assert crops == {}
        return sorted(facts, key=lambda fact: (fact.recipient, fact.sequence))

    def staged(self) -> int:
        return len(FileSpool(self.folder / "spool").staged())
