"""Evidence holds: copies what a signed hold names under a key of the hold's own, and writes down why.

Which records a camera and a window name stands in capture's ledger alone: the records are sealed. The original stays
under its slot, whose key dies on time; the copy lives until the hold's expiry or release, when purge destroys the
hold's key. A hold is in force once its signed file lies in its folder, which is written last: what a crash left without
it purge takes away.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol, TypeVar

from homeplate.clock import NANOSECONDS
from homeplate.domain.hold import Hold, Release, hold_rule
from homeplate.domain.record import DAY_SECONDS, RecordId, SlotId, StorageClass
from homeplate.errors import HomeplateError, SealingError, StoreError, TrustError
from homeplate.policy.hold import in_window, may_hold, may_release
from homeplate.policy.verdict import Refused
from homeplate.ports import Clock, Ledger
from homeplate.sealing.slots import SlotStore
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import Row, fit
from homeplate.trust.hold import read_hold, read_release

SEALED = "capture.sealed"
ACCEPTED, APPLIED, REFUSED, RELEASED, EXPORTED = (
    "hold.accepted",
    "hold.applied",
    "hold.refused",
    "hold.released",
    "hold.exported",
)

_What = TypeVar("_What", Hold, Release)


class Journal(Ledger, Protocol):
    """A ledger that can be read back: `store.ledger.MerkleLog`."""

    def rows(self) -> Iterator[Row]:
        """Yield its rows from the first."""
        ...


class HoldSpool(Protocol):
    """The spool as a hold needs it: `store.spool.FileSpool`."""

    def released(self, storage: StorageClass) -> Sequence[RecordId]:
        """Return the ids of a class's released records."""
        ...

    def get(self, record_id: RecordId) -> bytes:
        """Return a released record's bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """A hold in force, and how many records it has."""

    hold: Hold
    records: int
    released: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying came to: records held, and records of the window that were delivered or over before."""

    hold: Hold
    records: int
    gone: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Applies, lists, releases and exports holds. For one process at a time; its ledger's lock sees to that.

    Attributes:
        node: the node's pseudonym, 16 bytes.
        clock: node time; in quarantine nothing is applied.
        hold_keys: gives the keys that the installed bundle names; raises TrustError where none is in force.
        stores: the slot keys of each class.
        spool: the records under them.
        held: the copies.
        held_keys: the keys of holds.
        ledger: the log `hold`.
        captured: gives the rows of capture's ledger; raises LedgerError where it does not verify.
    """

    node: bytes
    clock: Clock
    hold_keys: Callable[[], Sequence[bytes]]
    stores: Mapping[StorageClass, SlotStore]
    spool: HoldSpool
    held: HeldRecords
    held_keys: SlotStore
    ledger: Journal
    captured: Callable[[], Iterable[Row]]

    def apply(self, document: bytes) -> Applied:
        """Put a signed hold in force; its copies are on disk once this returns.

        Raises:
            TrustError: where it is refused; the reason begins with its name, and is in the ledger.
            ClockError: where the time is quarantined.
            StoreError, SealingError: where something cannot be read or written; nothing is held then.
        """
        now_s = self.clock.now_ns() // NANOSECONDS
        with self.held.locked(wait=True):
            hold, signer = self._readable(document, read_hold)
            known = self.recover()
            self._require(
                may_hold(
                    hold,
                    signer=signer,
                    hold_keys=self._keys(),
                    node=self.node,
                    now_s=now_s,
                    applied=known,
                    in_force=len(self.in_force()),
                )
            )
            here, gone = self._named(hold)
            self._require(_why_not_so_many(hold, len(here)))
            self.ledger.append(ACCEPTED, **_fields(hold), signer=signer.hex(), records=len(here))
            held = self._copied(hold, here, document)
            gone += len(here) - held
            self.ledger.append(APPLIED, hold=hold.hold_id.hex(), case=hold.case, records=held, gone=gone)
        return Applied(hold=hold, records=held, gone=gone)

    def release(self, document: bytes) -> Release:
        """Take a signed release: the hold's key goes at the next purge, and until then nothing reads its copies.

        Raises:
            TrustError: where it is refused, with its reason.
            StoreError: where it cannot be written.
        """
        with self.held.locked(wait=True):
            release, signer = self._readable(document, read_release)
            self.recover()
            there = [(each.hold.hold_id, each.hold.case) for each in self.in_force() if not each.released]
            self._require(may_release(release, signer=signer, hold_keys=self._keys(), node=self.node, in_force=there))
            self.held.release(release.hold_id, document)
            self.ledger.append(RELEASED, hold=release.hold_id.hex(), case=release.case, signer=signer.hex())
        return release

    def in_force(self) -> list[InForce]:
        """Return the holds whose key is there, in order of expiry.

        Raises:
            StoreError: where a folder cannot be read.
        """
        live = {info.rule for info in self.held_keys.live()}
        found = []
        for hold_id in self.held.holds():
            document = self.held.document(hold_id)
            if document is not None and hold_rule(hold_id) in live:
                hold, _ = read_hold(document)
                found.append(
                    InForce(
                        hold=hold,
                        records=len(self.held.records(hold_id)),
                        released=self.held.is_released(hold_id),
                    )
                )
        return sorted(found, key=lambda each: each.hold.expires_s)

    def export(self, hold_id: bytes, write: Callable[[str, bytes], None]) -> int:
        """Give out a hold's records, sealed as their recipients get them; return how many.

        Args:
            hold_id: whose.
            write: called with a file's name and bytes, for the signed hold and each record.

        Raises:
            TrustError: where it is not in force, or released.
            ClockError: where the time is quarantined.
        """
        now_s = self.clock.now_ns() // NANOSECONDS
        with self.held.locked(wait=True):
            self.recover()
            hold = next((each.hold for each in self.in_force() if each.hold.hold_id == hold_id), None)
            if hold is None or self.held.is_released(hold_id) or hold.expires_s <= now_s:
                self._refuse(f"no-such-hold: {hold_id.hex()} is not in force here")
            ids = self.held.records(hold_id)
            # Before the first byte is handed out: what a kill leaves written was told.
            self.ledger.append(EXPORTED, hold=hold_id.hex(), case=hold.case, records=len(ids))
            write("hold.txt", self.held.document(hold_id) or b"")
            for record_id in ids:
                sealed = self.held_keys.unwrap(self.held.get(hold_id, record_id), now_s)
                if sealed is not None:
                    write(f"{record_id}.rec", sealed)
        return len(ids)

    def recover(self) -> set[bytes]:
        """Write the rows of what took effect when its process died; return the ids of all holds ever applied.

        Raises:
            StoreError: where the ledger cannot be read or written.
        """
        said: dict[str, set[bytes]] = {APPLIED: set(), RELEASED: set()}
        for row in self.ledger.rows():
            if row.event in said:
                said[row.event].add(bytes.fromhex(str(row.fields["hold"])))
        for each in self.in_force():
            hold_id, names = each.hold.hold_id, {"hold": each.hold.hold_id.hex(), "case": each.hold.case}
            if hold_id not in said[APPLIED]:
                self.ledger.append(APPLIED, **names, records=each.records, gone=0, recovered=True)
                said[APPLIED].add(hold_id)
            if each.released and hold_id not in said[RELEASED]:
                self.ledger.append(RELEASED, **names, recovered=True)
        return said[APPLIED]

    def _named(self, hold: Hold) -> tuple[list[RecordId], int]:
        """Return the records that a hold names and that are here, and how many more it names."""
        here = {each for storage in StorageClass for each in self.spool.released(storage)}
        named: list[RecordId] = []
        for row in self.captured():
            if row.event == SEALED and in_window(hold, str(row.fields["source"]), _captured_s(row)):
                named += [RecordId(bytes.fromhex(text)) for text in str(row.fields["records"]).split(",")]
        return [each for each in named if each in here], sum(each not in here for each in named)

    def _copied(self, hold: Hold, ids: Sequence[RecordId], document: bytes) -> int:
        """Copy records under the hold's key and put it in force; undo all where that fails. Returns how many."""
        # DAY_SECONDS, whatever the hold's life: evidence must survive a power cut, so its key lies on disk.
        slot = self.held_keys.slot_for(hold_rule(hold.hold_id), hold.expires_s, DAY_SECONDS)
        try:
            self.held.begin(hold.hold_id)
            done = sum(self._copy(hold.hold_id, slot, record_id) for record_id in ids)
            self.held.commit(hold.hold_id, document)
        except HomeplateError as error:
            with suppress(HomeplateError):  # purge undoes what cannot be undone now
                self.held_keys.destroy([slot])
                self.held.forget(hold.hold_id)
            self._say_refused(f"failed: {error}")
            raise
        return done

    def _copy(self, hold_id: bytes, slot: SlotId, record_id: RecordId) -> bool:
        """Copy one record; False where it was delivered or its slot ended meanwhile."""
        now_s = self.clock.least_ns() // NANOSECONDS  # anew for each: what ends while others are copied ends
        try:
            blob = self.spool.get(record_id)
            sealed = next(
                (text for store in self.stores.values() if (text := store.unwrap(blob, now_s)) is not None), None
            )
        except (SealingError, StoreError):  # uplink removed it, or it is damaged: it cannot be evidence
            return False
        if sealed is None:
            return False
        self.held.put(hold_id, record_id, self.held_keys.wrap(slot, record_id, sealed))
        return True

    def _readable(self, document: bytes, read: Callable[[bytes], tuple[_What, bytes]]) -> tuple[_What, bytes]:
        try:
            return read(document)
        except TrustError as error:
            self._refuse(f"unreadable: {error}")

    def _keys(self) -> Sequence[bytes]:
        try:
            return self.hold_keys()
        except TrustError as error:
            self._refuse(f"no-bundle: {error}")

    def _require(self, refused: Refused | None) -> None:
        if refused is not None:
            self._refuse(refused.reason)

    def _refuse(self, reason: str) -> NoReturn:
        self._say_refused(reason)
        raise TrustError(reason)

    def _say_refused(self, reason: str) -> None:
        self.ledger.append(REFUSED, reason=fit(reason))


def _why_not_so_many(hold: Hold, here: int) -> Refused | None:
    if here == 0:
        return Refused("nothing-to-hold: no record of that camera and time is here; look at the window and the camera")
    if here > hold.most_records:
        return Refused(f"count-exceeded: {here} records are here, the hold names {hold.most_records} at most")
    return None


def _fields(hold: Hold) -> dict[str, str | int]:
    return {
        "hold": hold.hold_id.hex(),
        "case": hold.case,
        "ground": hold.ground.value,
        "camera": hold.camera,
        "from_s": hold.from_s,
        "to_s": hold.to_s,
        "most_records": hold.most_records,
        "expires_s": hold.expires_s,
    }


def _captured_s(row: Row) -> int:
    return int(row.fields.get("captured_s", row.time_ns // NANOSECONDS))
