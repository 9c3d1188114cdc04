"""What becomes of one passage: the signed rules decide, its records are sealed, staged, committed and released.

The commit is in three steps, so that a kill at any point loses and doubles nothing: all records of the passage are
staged; one ledger row names them (the commit point); they are released. `recover` finishes or undoes what a crash left.
A file is known by its content, so what the ledger says was committed of it is not committed again when it is processed
again. What no rule keeps is counted by the caller, and never sealed or written.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.capture.crop import encode_crop
from homeplate.domain.agency import SealingKey
from homeplate.domain.hotlist import HotList
from homeplate.domain.passage import Passage
from homeplate.domain.record import (
    NANOSECONDS,
    RECORD_ID_BYTES,
    Disposition,
    HitKind,
    Part,
    RecordId,
    SlotId,
    StorageClass,
)
from homeplate.domain.rules import Rule
from homeplate.errors import SealingError, TrustError
from homeplate.policy.allowlist import Recipients, sealing_key
from homeplate.policy.disclosure import ANY_RECIPIENT, Decision, Narrowing, decide
from homeplate.policy.hotlist import match
from homeplate.ports import Clock, Ledger, Spool
from homeplate.sealing.envelope import encode
from homeplate.sealing.facts import CropReference, encode_facts, facts_of, pad_crop
from homeplate.sealing.seal import seal
from homeplate.store.ledger import Row, Value, fit

SEALED, REFUSED, FINISHED = "capture.sealed", "capture.refused", "capture.source-finished"
COUNTED = "capture.counted"
"""What a new ledger file begins with: the sequence numbers, because the files before it may be archived."""
_COUNTED_A_ROW = 24
HOT_LIST_EXPIRED = "hot-list.expired"
COALESCED = frozenset({REFUSED, "capture.camera-lost", "capture.camera-back"})
"""Events whose repeats a coalescing ledger may count instead of writing each."""
LIVE = ""
"""The input of a live source: it cannot be processed again."""


class Outcome(StrEnum):
    """What became of a passage."""

    SEALED = "sealed"
    ALREADY_SEALED = "already_sealed"
    NOTHING_KEPT = "nothing_kept"
    NO_BUNDLE = "no_bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the installed bundle and the configuration say now (`app` builds it from `trust`).

    Attributes:
        rules: as the operator signed them.
        narrowing: from the configuration, checked.
        recipients: who may receive.
        hot_list: opened; None where the node has none.
        demo: whether the root is marked `demo`.
    """

    rules: Sequence[Rule]
    narrowing: Narrowing
    recipients: Recipients
    hot_list: HotList | None
    demo: bool


class SlotKeys(Protocol):
    """One storage class's retention slots (`sealing.slots.SlotStore`)."""

    def slot_for(self, rule: str, expiry_s: int, retention_s: int) -> SlotId:
        """Return the live slot of a rule and expiry, made where there is none."""
        ...

    def wrap(self, slot: SlotId, record_id: RecordId, sealed: bytes) -> bytes:
        """Encrypt a sealed record's bytes under its slot."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageKey:
    """A passage of a file: two plates may be in sight over the same frames, so they are numbered in order."""

    source: str
    input: str
    first_frame: int
    last_frame: int
    nth: int


@dataclass(slots=True, kw_only=True)
class Recovered:
    """What the ledger says was done before.

    Attributes:
        sequences: the last sequence number of each recipient and storage class: what stays on the node must leave no
            gap in what is sent, because a gap shows suppression.
        committed: passages of files.
        finished: (source, input) that need no processing.
        released, discarded: staged records of a crash that were finished and undone.
    """

    sequences: Counter[tuple[str, str]] = field(default_factory=Counter)
    committed: set[PassageKey] = field(default_factory=set)
    finished: set[tuple[str, str]] = field(default_factory=set)
    released: int = 0
    discarded: int = 0


def recover(rows: Iterable[Row], spool: Spool) -> Recovered:
    """Read capture's ledger, release the staged records that a row commits and discard the others.

    Raises:
        LedgerError: where a row does not verify.
        StoreError: where the spool cannot be read or written.
    """
    found, staged = Recovered(), {str(record_id): record_id for record_id in spool.staged()}
    committed: list[RecordId] = []
    for row in rows:
        if row.event == SEALED:
            found.sequences.update(zip(_listed(row, "recipients"), _listed(row, "storages"), strict=True))
            committed += [staged.pop(name) for name in _listed(row, "records") if name in staged]
            if row.fields["input"] != LIVE:
                found.committed.add(_key_of(row))
        elif row.event == COUNTED:
            for name, storage, last in zip(
                _listed(row, "recipients"), _listed(row, "storages"), _listed(row, "sequences"), strict=True
            ):
                found.sequences[name, storage] = max(found.sequences[name, storage], int(last))
        elif row.event == FINISHED:
            found.finished.add((str(row.fields["source"]), str(row.fields["input"])))
    spool.release(committed)
    spool.discard(staged.values())
    found.released, found.discarded = len(committed), len(staged)
    return found


def counted_rows(sequences: Counter[tuple[str, str]]) -> list[tuple[str, dict[str, Value]]]:
    """Return the rows from which `recover` learns these sequence numbers."""
    counts = sorted(sequences.items())
    rows: list[tuple[str, dict[str, Value]]] = []
    for start in range(0, len(counts), _COUNTED_A_ROW):
        part = counts[start : start + _COUNTED_A_ROW]
        fields: dict[str, Value] = {
            "recipients": ",".join(recipient for (recipient, _), _ in part),
            "storages": ",".join(storage for (_, storage), _ in part),
            "sequences": ",".join(str(last) for _, last in part),
        }
        rows.append((COUNTED, fields))
    return rows


def _listed(row: Row, name: str) -> list[str]:
    return str(row.fields[name]).split(",")


def _key_of(row: Row) -> PassageKey:
    return PassageKey(
        source=str(row.fields["source"]),
        input=str(row.fields["input"]),
        first_frame=int(row.fields["first_frame"]),
        last_frame=int(row.fields["last_frame"]),
        nth=int(row.fields["nth"]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """A record that is ready to be written."""

    record_id: RecordId
    blob: bytes = field(repr=False)
    storage: StorageClass


class Committer:
    """Seals and commits passages. For one thread."""

    def __init__(
        self,
        *,
        node: bytes,
        signing_key: Ed25519PrivateKey,
        slots: Mapping[StorageClass, SlotKeys],
        spool: Spool,
        ledger: Ledger,
        clock: Clock,
        terms: Callable[[], Terms],
        random_bytes: Callable[[int], bytes],
        recovered: Recovered,
    ) -> None:
        """Put together what a commit needs.

        Args:
            node: the node's pseudonym, 16 bytes.
            signing_key: its record key.
            slots: retention slots of each storage class.
            spool: where records go; capture is its one writer.
            ledger: capture's own.
            clock: node time.
            terms: what the bundle says now; raises TrustError where there is none that counts.
            random_bytes: for record ids.
            recovered: what `recover` returned.
        """
        self.records = 0
        self._node, self._signing_key = node, signing_key
        self._slots, self._spool, self._ledger, self._clock = slots, spool, ledger, clock
        self._terms, self._random_bytes = terms, random_bytes
        self._sequences = Counter(recovered.sequences)
        self._hot_list_ended_s: int | None = None
        self._committed = recovered.committed
        self._numbers: Counter[tuple[str, str, int, int]] = Counter()

    def commit(self, passage: Passage, *, source_input: str = LIVE) -> Outcome:
        """Decide what is kept of a passage, and keep it; it is on disk once this returns.

        Args:
            passage: a closed one.
            source_input: `camera.identity` of a file; `LIVE` for what cannot be processed again.

        Raises:
            ClockError: the time is quarantined.
            SealingError: a record cannot be sealed or a slot not made.
            StoreError: spool or ledger cannot be written. What was staged is undone by `recover`.
        """
        key = self._key(passage, source_input)
        if key in self._committed:
            return Outcome.ALREADY_SEALED
        now_ns = self._clock.now_ns()
        passage = _in_time(passage, now_ns)
        try:
            terms = self._terms()
        except TrustError as error:
            self._refused("*", ANY_RECIPIENT, f"no-bundle: {error}")
            return Outcome.NO_BUNDLE
        self._note_hot_list_end(terms.hot_list, now_ns // NANOSECONDS)
        decision = _decision(terms, passage, now_ns)
        for rule, recipient, reason in decision.refused:
            self._refused(rule, recipient, reason)
        if not decision.dispositions:
            return Outcome.NOTHING_KEPT
        self._keep(passage, key, decision.dispositions, terms.recipients, now_ns // NANOSECONDS)
        return Outcome.SEALED

    def counted(self) -> list[tuple[str, dict[str, Value]]]:
        """Return the rows that say each recipient's last sequence number, for a new ledger file."""
        return counted_rows(self._sequences)

    def _key(self, passage: Passage, source_input: str) -> PassageKey:
        frames = (passage.source, source_input, passage.first_frame, passage.last_frame)
        nth = 0
        if source_input != LIVE:
            nth, self._numbers[frames] = self._numbers[frames], self._numbers[frames] + 1
        return PassageKey(
            source=passage.source,
            input=source_input,
            first_frame=passage.first_frame,
            last_frame=passage.last_frame,
            nth=nth,
        )

    def _note_hot_list_end(self, hot_list: HotList | None, now_s: int) -> None:
        """Say once in the ledger that a hot list is over: from here on nothing is a hit, and that is no silence."""
        if hot_list is not None and hot_list.expires_s <= now_s and hot_list.expires_s != self._hot_list_ended_s:
            self._ledger.append(HOT_LIST_EXPIRED, expired_s=hot_list.expires_s)
            self._hot_list_ended_s = hot_list.expires_s

    def _refused(self, rule: str, recipient: str, reason: str) -> None:
        self._ledger.append(REFUSED, rule=rule, recipient=recipient, reason=fit(reason))

    def _keep(
        self, passage: Passage, key: PassageKey, dispositions: Sequence[Disposition], known: Recipients, now_s: int
    ) -> None:
        # What an evidence hold goes by; the records themselves tell nobody here when and where they were captured.
        captured_s = passage.first_captured_ns // NANOSECONDS
        wanted = any(Part.CROP in disposition.parts for disposition in dispositions)
        jpeg = encode_crop(passage.crop) if wanted and passage.crop is not None else None
        sequences, staged = Counter(self._sequences), list[_Staged]()
        for disposition in dispositions:
            counted = (disposition.recipient, disposition.storage.value)
            sequences[counted] += 1
            key_to = sealing_key(known.allowed[disposition.recipient].agency, now_s)
            if key_to is None:
                raise SealingError(f"{disposition.recipient} has no sealing key within its dates; sign a new bundle")
            staged += self._sealed(passage, disposition, key_to, sequences[counted], jpeg)
        for record in staged:
            self._spool.stage(record.record_id, record.blob, record.storage)
        self._ledger.append(
            SEALED,
            source=key.source,
            input=key.input,
            first_frame=key.first_frame,
            last_frame=key.last_frame,
            nth=key.nth,
            captured_s=captured_s,
            records=",".join(str(record.record_id) for record in staged),
            recipients=",".join(disposition.recipient for disposition in dispositions),
            storages=",".join(disposition.storage for disposition in dispositions),
            rules=",".join(disposition.rule for disposition in dispositions),
        )
        self._sequences = sequences
        if key.input != LIVE:
            self._committed.add(key)
        self._spool.release([record.record_id for record in staged])
        self.records += len(staged)

    def _sealed(
        self, passage: Passage, disposition: Disposition, key: SealingKey, sequence: int, jpeg: bytes | None
    ) -> list[_Staged]:
        """Return the records of one disposition: the facts, and the crop that they name where there is one."""
        crop: list[_Staged] = []
        reference = None
        if jpeg is not None and Part.CROP in disposition.parts:
            record_id = self._new_id()
            reference = CropReference.of(record_id, jpeg)
            crop.append(self._record(Part.CROP, pad_crop(jpeg), record_id, disposition, key))
        facts = encode_facts(facts_of(passage, disposition, sequence=sequence, crop=reference))
        return [self._record(Part.FACTS, facts, self._new_id(), disposition, key), *crop]

    def _record(
        self, part: Part, plaintext: bytes, record_id: RecordId, disposition: Disposition, key: SealingKey
    ) -> _Staged:
        sealed = seal(
            part=part,
            plaintext=plaintext,
            record_id=record_id,
            node=self._node,
            recipient=key,
            keep_until_s=disposition.keep_until_s,
            signing_key=self._signing_key,
        )
        keys = self._slots[disposition.storage]
        slot = keys.slot_for(disposition.rule, disposition.keep_until_s, disposition.retention_s)
        blob = keys.wrap(slot, record_id, encode(sealed))
        return _Staged(record_id=record_id, blob=blob, storage=disposition.storage)

    def _new_id(self) -> RecordId:
        return RecordId(self._random_bytes(RECORD_ID_BYTES))


def _in_time(passage: Passage, now_ns: int) -> Passage:
    """Return the passage captured now at the latest.

    A file may run ahead of node time: what is kept of it must not live longer for that, and record, ledger and evidence
    holds must name one time.
    """
    first_ns, last_ns = min(passage.first_captured_ns, now_ns), min(passage.last_captured_ns, now_ns)
    return replace(passage, first_captured_ns=first_ns, last_captured_ns=last_ns)


def _decision(terms: Terms, passage: Passage, now_ns: int) -> Decision:
    now_s = now_ns // NANOSECONDS
    return decide(
        rules=terms.rules,
        narrowing=terms.narrowing,
        recipients=terms.recipients,
        hit=_hit(terms.hot_list, passage, now_s),
        camera=passage.source,
        captured_s=passage.first_captured_ns // NANOSECONDS,
        now_s=now_s,
        demo=terms.demo,
    )


def _hit(hot_list: HotList | None, passage: Passage, now_s: int) -> HitKind:
    """Return whether the hot list names the plate; a list that is over names none."""
    found = None if hot_list is None else match(passage.text, passage.jurisdiction, hot_list, now_s)
    return found.kind if found is not None else HitKind.NONE
