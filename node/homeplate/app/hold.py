"""Builds the `hold` verbs: evidence holds by a custodian's signed word. They run as capture's user."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from homeplate.app.node import Paths, load_identity, open_hold_slots, open_slots, read_bounded
from homeplate.clock import NANOSECONDS, SystemClock, utc_text
from homeplate.config import Config
from homeplate.domain.record import StorageClass
from homeplate.errors import ConfigError
from homeplate.hold import Holder, InForce
from homeplate.sealing.keys import write_new
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import load_bundle


@contextmanager
def _holder(config: Config) -> Iterator[Holder]:
    paths = Paths.of(config)
    identity = load_identity(paths)
    clock = SystemClock(paths.clock, "hold")
    with ExitStack() as stack:
        ledger = stack.enter_context(MerkleLog(paths.log("hold"), clock))
        stores = {storage: open_slots(paths, storage, check=not identity.simulation) for storage in StorageClass}
        held_keys = open_hold_slots(paths, check=not identity.simulation)
        for store in (*stores.values(), held_keys):
            stack.callback(store.close)
        yield Holder(
            node=identity.raw,
            clock=clock,
            hold_keys=lambda: load_bundle(paths.bundle, clock.now_ns()).hold_keys,
            stores=stores,
            spool=FileSpool(paths.spool),
            held=HeldRecords(paths.held),
            held_keys=held_keys,
            ledger=ledger,
            captured=lambda: read_rows(paths.log("capture")),
        )


def apply_hold(config: Config, file: Path) -> str:
    """Put a signed hold in force and say what it keeps, in a line.

    Raises:
        HomeplateError: see `hold.Holder.apply`; ConfigError where the file cannot be read.
    """
    document = _given(file)
    with _holder(config) as holder:
        applied = holder.apply(document)
    hold = applied.hold
    return (
        f"hold {hold.hold_id.hex()} of case {hold.case} keeps {applied.records} records until "
        f"{utc_text(hold.expires_s * NANOSECONDS)}; {applied.gone} more of its window are no longer here"
    )


def release_hold(config: Config, file: Path) -> str:
    """Take a signed release and say so, in a line; its key goes with the next purge.

    Raises:
        HomeplateError: see `hold.Holder.release`; ConfigError where the file cannot be read.
    """
    document = _given(file)
    with _holder(config) as holder:
        release = holder.release(document)
    return f"hold {release.hold_id.hex()} of case {release.case} is released"


def list_holds(config: Config) -> list[str]:
    """Return a line for each hold in force."""
    with _holder(config) as holder:
        holder.recover()
        return [_line(each) for each in holder.in_force()]


def export_hold(config: Config, hold_id: str, folder: Path) -> int:
    """Write a hold's sealed records and its signed file into a new folder; return how many records.

    Raises:
        ConfigError: where the id is none, or the folder is there already or cannot be made.
        HomeplateError: see `hold.Holder.export`.
    """
    try:
        raw = bytes.fromhex(hold_id)
        folder.mkdir(mode=0o700)
    except ValueError as error:
        raise ConfigError("a hold's id is 32 hexadecimal digits; see `homeplate hold list`") from error
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}; name a new folder") from error
    with _holder(config) as holder:
        return holder.export(raw, lambda name, data: write_new(folder / name, data))


def _given(file: Path) -> bytes:
    try:
        return read_bounded(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error


def _line(each: InForce) -> str:
    hold = each.hold
    stretch = f"{utc_text(hold.from_s * NANOSECONDS)} to {utc_text(hold.to_s * NANOSECONDS)}"
    state = "released, ends with the next purge" if each.released else f"until {utc_text(hold.expires_s * NANOSECONDS)}"
    return (
        f"{hold.hold_id.hex()} case {hold.case} ({hold.ground}): camera {hold.camera}, {stretch}: "
        f"{each.records} records, {state}"
    )
