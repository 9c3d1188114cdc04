"""The Protocols between the node's parts. Production classes and test doubles implement the same ones."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from homeplate.domain.passage import CameraChange, Detection, Frame, Image
from homeplate.domain.plate import PlateReading
from homeplate.domain.record import RecordId, SlotId, StorageClass


class Clock(Protocol):
    """Node time: nanoseconds since 1970 that only move forward (ARCHITECTURE 3)."""

    def now_ns(self) -> int:
        """Return node time in nanoseconds since 1970.

        Raises:
            ClockError: where the time is quarantined.
        """
        ...

    def least_ns(self) -> int:
        """Return the node time that has certainly passed; the same as `now_ns` unless time is quarantined."""
        ...


class FrameSource(Protocol):
    """One camera, file or folder."""

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends.

        Raises:
            CameraError: where it cannot be opened, is empty or breaks off.
        """
        ...

    def close(self) -> None:
        """Release it; `frames` then ends."""
        ...


class LiveSource(Protocol):
    """A source that may be a live camera, which is opened again where it is lost. Every `FrameSource` is one."""

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        ...

    def frames(self) -> Iterator[Frame | CameraChange]:
        """Yield frames, and what becomes of the camera in between.

        Raises:
            CameraError: where it is a file that cannot be opened, is empty or breaks off.
        """
        ...

    def close(self) -> None:
        """Release it; `frames` then ends."""
        ...


class PlateDetector(Protocol):
    """Finds plates."""

    def detect(self, image: Image) -> list[Detection]:
        """Return the plates in a BGR picture, best first."""
        ...


class PlateReader(Protocol):
    """Reads plates."""

    def read(self, crops: Sequence[Image]) -> list[PlateReading]:
        """Return one reading a crop (BGR), in order; one without characters where nothing is legible."""
        ...


class Spool(Protocol):
    """Slot-wrapped sealed records on disk, as opaque bytes; staged first, released together: a crash doubles none."""

    def stage(self, record_id: RecordId, blob: bytes, storage: StorageClass) -> None:
        """Write a record so that it survives a crash once this returns; uplink does not see it yet.

        Raises:
            StoreError: where it cannot be written; nothing is left behind.
        """
        ...

    def release(self, record_ids: Iterable[RecordId]) -> None:
        """Show staged records to their class's readers. Idempotent.

        Raises:
            StoreError: where a file can be found neither staged nor released.
        """
        ...

    def staged(self) -> Iterable[RecordId]:
        """Return the ids that were staged and neither released nor discarded."""
        ...

    def discard(self, record_ids: Iterable[RecordId]) -> None:
        """Remove staged records that no ledger row commits."""
        ...

    def pending(self) -> Iterable[RecordId]:
        """Return the ids of released outgoing records, oldest first."""
        ...

    def get(self, record_id: RecordId) -> bytes:
        """Return a released record's bytes as they were staged.

        Raises:
            StoreError: where the file is missing, oversized or unreadable.
        """
        ...

    def remove(self, record_id: RecordId) -> None:
        """Forget a released record's file; a missing one is fine."""
        ...


class SlotWrapper(Protocol):
    """The outer lock of a stored record: a key derived from its retention slot's key."""

    def wrap(self, slot: SlotId, record_id: RecordId, sealed: bytes) -> bytes:
        """Encrypt a sealed record's bytes under its slot.

        Raises:
            SealingError: where the slot's key is gone.
        """
        ...

    def unwrap(self, blob: bytes, now_s: int | None = None) -> bytes | None:
        """Return the sealed record's bytes; None where the slot's key was destroyed, or is over at `now_s`.

        Raises:
            SealingError: where the bytes were altered or are of an unknown version.
        """
        ...


class Publisher(Protocol):
    """Hands sealed bytes to one broker; returns only after a good PUBACK."""

    def publish(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish QoS 1, not retained.

        Raises:
            BrokerError: where the broker refuses, cannot be reached or is not who it should be.
        """
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


class Ledger(Protocol):
    """This process's own Merkle log. Rows hold ids, counts, recipients and reasons; never a plate."""

    def append(self, event: str, **fields: str | int | bool) -> None:
        """Append a row durably.

        Raises:
            StoreError: where it cannot be written.
        """
        ...
