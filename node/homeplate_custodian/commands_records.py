"""`homeplate-custodian receive | open`: an agency's side of its records, off the device.

What they mean is in `receive` and `records`; here are options, output and signals. Plates are shown by `open` alone,
to whoever the access record names.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import click
import msgspec

from homeplate.clock import NANOSECONDS, WallClock, perf_ns, utc_text
from homeplate.domain.node import NodeEntry
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, RecordId
from homeplate.errors import ConfigError
from homeplate.ports import Clock
from homeplate.sealing.keys import SealingPrivateKey, load_sealing_key
from homeplate.trust.bundle import Bundle
from homeplate.trust.metadata import OPERATOR, REGISTRY, TIMESTAMP
from homeplate_custodian import provision
from homeplate_custodian.access import REMINDER, Query, make_keys, record_access, require_apart
from homeplate_custodian.bundle import ONLINE_ROLE
from homeplate_custodian.keyring import public_key
from homeplate_custodian.receive import (
    BrokerAccess,
    ConflictError,
    Receipt,
    Receiver,
    Subscriber,
    client_identity,
    receiver_name,
)
from homeplate_custodian.records import (
    Accessor,
    Inbox,
    Opened,
    Opener,
    Opening,
    StoredFile,
    check_purpose,
    forget_past_days,
)

SIGNING_ROLES = (REGISTRY, OPERATOR, ONLINE_ROLE)
RECEIVED = "received"
_WIDTH_OF_A_FILE = 160
_custody = click.argument("custody", type=click.Path(path_type=Path, file_okay=False, exists=True))
_agency = click.option("--agency", required=True, help="The agency's identifier in the registry.")


class PublishedNodes:
    """The nodes of the custody's published bundle, verified anew when another was published or it is over."""

    def __init__(self, custody: Path) -> None:
        self._custody = custody
        self._seen: tuple[int, int] | None = None
        self._nodes: tuple[NodeEntry, ...] = ()
        self._expires_s = 0

    def __call__(self, now_ns: int) -> Iterable[NodeEntry]:
        """Return the nodes at `now_ns`.

        Raises:
            TrustError: where nothing is published, or it does not verify, or is over.
        """
        path = self._custody / "bundle" / TIMESTAMP
        seen = (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None
        if seen is None or seen != self._seen or now_ns // NANOSECONDS >= self._expires_s:
            self._seen = None
            bundle = provision.published(self._custody, now_s=now_ns // NANOSECONDS)
            self._nodes, self._expires_s, self._seen = bundle.nodes, bundle.expires_s, seen
        return self._nodes


def agency_folder(custody: Path, agency: str) -> Path:
    """Return the folder of an agency's keys; none of them is read.

    Raises:
        ConfigError: where the custody has no such agency.
    """
    folder = custody / "agencies" / agency
    if not agency.replace("-", "").isalnum() or not folder.is_dir():
        raise ConfigError(f"{custody} holds no agency {agency!r}; see the folders in {custody / 'agencies'}")
    return folder


def sealing_keys(custody: Path, agency: str) -> dict[bytes, SealingPrivateKey]:
    """Return the private sealing keys of an agency by key id: every file `agencies/ID/*.key`.

    Raises:
        ConfigError: where it has none.
        SealingError: where one is damaged.
    """
    folder = agency_folder(custody, agency)
    keys = [load_sealing_key(path) for path in sorted(folder.glob("*.key"))]
    if not keys:
        raise ConfigError(f"{folder} holds no sealing key (*.key): nothing can be opened")
    return {key.key_id: key for key in keys}


@click.command()
@_custody
@_agency
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long; else at Ctrl-C or SIGTERM.")
@click.option("--idle", type=click.FloatRange(min=0), help="Stop when nothing has come for this many seconds.")
def receive(*, custody: Path, agency: str, seconds: float | None, idle: float | None) -> None:
    """Receive an agency's sealed records from its broker into CUSTODY/received, and keep them sealed.

    Refusals and alarms go to standard error; the last line of standard output is a JSON object of counts. Exit code 11:
    a record id came with other bytes than before.
    """
    clock = WallClock()
    keys = sealing_keys(custody, agency)
    receiver = Receiver(
        inbox=Inbox(custody / RECEIVED / agency),
        nodes=PublishedNodes(custody),
        keys=keys,
        clock=clock,
        report=_complain_of,
    )
    subscriber = Subscriber(broker_access(custody, agency, clock.now_ns() // NANOSECONDS), receiver.take)
    stop = forgetting_daily(receiver.inbox, clock, _stop_when(subscriber, seconds, idle))
    subscriber.run(stop, _complain, lambda: _complain(f"receiving for {agency}"))
    click.echo(json.dumps({"received": receiver.counts}, sort_keys=True))
    receiver.check_conflicts()


def forgetting_daily(inbox: Inbox, clock: Clock, stop: Callable[[], bool]) -> Callable[[], bool]:
    """Return `stop`, asked a few times a second, that also forgets what is past its date: at once, then every day."""
    done = -1

    def ask() -> bool:
        nonlocal done
        today = clock.now_ns() // NANOSECONDS // DAY_SECONDS
        if today != done:
            forget_past_days(inbox, clock)
            done = today
        return stop()

    return ask


def broker_access(custody: Path, agency: str, now_s: int) -> BrokerAccess:
    """Return how the agency's receiver reaches its broker: the registry's endpoint and a client certificate.

    Raises:
        ConfigError: where the published registry gives the agency no single address.
        TrustError: where no bundle is published.
    """
    return access_as(custody, agency, receiver_name(agency), folder="receiver", now_s=now_s)


def access_as(custody: Path, agency: str, name: str, *, folder: str, now_s: int) -> BrokerAccess:
    """Return how a client with this common name reaches the agency's broker; its key is in `folder` of the agency's.

    Raises:
        ConfigError: where the published registry gives the agency no single address.
        TrustError: where no bundle is published.
    """
    bundle = provision.published(custody, now_s=now_s)
    endpoints = [endpoint for entry in bundle.registry if entry.identifier == agency for endpoint in entry.endpoints]
    endpoint = next((endpoint for endpoint in endpoints if "/" not in endpoint.network), None)
    if endpoint is None:
        why = bundle.unregistered.get(agency, "the published registry gives it no single address")
        raise ConfigError(f"the broker of {agency} cannot be reached: {why}")
    certificate, key = client_identity(custody / "authority", custody / "agencies" / agency / folder, name, now_s=now_s)
    return BrokerAccess(endpoint=endpoint, client_id=name, certificate=certificate, key=key)


def _stop_when(subscriber: Subscriber, seconds: float | None, idle: float | None) -> Callable[[], bool]:
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    start = perf_ns()

    def stop() -> bool:
        now = perf_ns()
        late = seconds is not None and now - start >= seconds * NANOSECONDS
        quiet = idle is not None and now - subscriber.last_arrival_ns >= idle * NANOSECONDS
        return bool(asked) or late or quiet

    return stop


def _complain(message: str) -> None:
    click.echo(message, err=True)


def _complain_of(receipt: Receipt) -> None:
    if receipt.reason:
        click.echo(f"{receipt.outcome} {receipt.record_id or ''}: {receipt.reason}", err=True)


@click.command("open")
@_custody
@click.argument("records", nargs=-1)
@_agency
@click.option("--user", required=True, help="Who opens: a user name or badge number.")
@click.option("--organisation", required=True, help="Whom the user works for.")
@click.option("--purpose", required=True, help="One of the purposes that the operator authorised.")
@click.option("--case", required=True, help="The case number; never a plate: it stands in the log.")
@click.option("--by-plate", is_flag=True, help="Show one plate's records only; it is read from standard input.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.option("--crops", type=click.Path(path_type=Path, file_okay=False), help="Write plate crops as ID.jpg here.")
def open_records(
    *,
    custody: Path,
    records: tuple[str, ...],
    agency: str,
    user: str,
    organisation: str,
    purpose: str,
    case: str,
    by_plate: bool,
    as_json: bool,
    crops: Path | None,
) -> None:
    """Open an agency's received records (all, or those named by RECORDS), after writing the access record.

    A plate crop is a record of its own: name it too (`crop` in the JSON of its facts), or name none.

    What is at or past its keep-until does not open; its file is removed. Exit code 11: a record id is there twice with
    other bytes.
    """
    if not as_json:
        require_rich()
    who = Accessor(user=user, organisation=organisation, purpose=purpose, case=case)
    clock = WallClock()
    bundle = provision.published(custody, now_s=clock.now_ns() // NANOSECONDS)
    check_purpose(purpose, bundle.purposes)
    agency_folder(custody, agency)
    inbox = Inbox(custody / RECEIVED / agency)
    forget_past_days(inbox, clock)
    files = _chosen(inbox, records)
    text = f"agency {agency}: " + ("records named by id" if records else "all received records")
    query = Query(
        text=text + (" of one plate, which is sealed" if by_plate else ""),
        records=list(dict.fromkeys(file.record_id for file in files)),
        plate=_asked_plate() if by_plate else None,
    )

    def open_now() -> Opening:
        keys = apart(custody, bundle, sealing_keys(custody, agency))
        return Opener(inbox, keys, bundle.nodes, clock).open(files)

    show(record_access(custody, clock, who, query, open_now), as_json=as_json, crops=crops)


def apart(custody: Path, bundle: Bundle, keys: dict[bytes, SealingPrivateKey]) -> dict[bytes, SealingPrivateKey]:
    """Return an agency's sealing keys, once they are shown to be no keys of the access log.

    Raises:
        ConfigError: where one key serves two ends.
    """
    signing = [bytes.fromhex(public_key(custody / role).keyval["public"]) for role in SIGNING_ROLES]
    require_apart(
        make_keys(custody), sealing=[key.public_bytes for key in keys.values()], signing=[*signing, *bundle.hold_keys]
    )
    return keys


def _asked_plate() -> PlateText:
    """Return the plate to look for. It is no option: a command's words stay in the shell's history."""
    text = click.prompt("plate", err=True, prompt_suffix=": ")
    try:
        return PlateText("".join(text.split()).upper())
    except ValueError as error:
        raise ConfigError(str(error)) from None


def show(opening: Opening, *, as_json: bool, crops: Path | None) -> None:
    """Print what was opened, and write its plate crops where a folder is named; remind what a read is.

    Raises:
        ConflictError: where a record id has two contents.
        ConfigError: where the crops cannot be written.
    """
    written = _write_crops(opening.opened, crops) if crops else {}
    (_print_json if as_json else _print_table)(opening, written)
    if opening.opened:
        click.echo(f"reminder: {REMINDER}", err=True)
    if any(record.conflict for record in opening.opened):
        raise ConflictError("a record id is there with two contents (marked `conflict`): have its node's owner explain")


def _chosen(inbox: Inbox, records: Sequence[str]) -> list[StoredFile]:
    """Return the files of the named records; of all where none is named."""
    files = inbox.files()
    if not records:
        return files
    try:
        wanted = {RecordId(bytes.fromhex(record)) for record in records}
    except ValueError as error:
        raise ConfigError("a record's id is 32 hexadecimal digits, as `open` and `receive` show it") from error
    missing = wanted - {file.record_id for file in files}
    if missing:
        raise ConfigError(f"record {min(missing)} is not in the inbox: never received, or past its date")
    return [file for file in files if file.record_id in wanted]


def _write_crops(opened: Iterable[Opened], folder: Path) -> dict[int, Path]:
    """Write the crops under their facts' record ids; return the paths by position. No name holds a plate."""
    written: dict[int, Path] = {}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for position, record in enumerate(opened):
            if record.crop is not None:
                mark = "-conflict" if record.conflict else ""
                path = folder / f"{record.header.record_id}{mark}.jpg"
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(record.crop)
                written[position] = path
    except OSError as error:
        raise ConfigError(f"{folder}: plate crops cannot be written: {error.strerror}") from error
    return written


def _print_json(opening: Opening, crops: dict[int, Path]) -> None:
    for position, record in enumerate(opening.opened):
        line = msgspec.to_builtins(record.facts) | {
            "record": str(record.header.record_id),
            "node": record.header.node.hex(),
            "sealed_bytes": record.sealed_bytes,
            "conflict": record.conflict,
            "crop_file": str(crops[position]) if position in crops else None,
        }
        click.echo(json.dumps(line, sort_keys=True))
    for missed in opening.unopened:
        click.echo(json.dumps({"record": str(missed.record_id), "unopened": missed.reason}, sort_keys=True))


def require_rich() -> None:
    """Refuse before anything is opened where the table cannot be drawn: `rich` comes with the extra `custodian`.

    Raises:
        ConfigError: says how to get it.
    """
    if find_spec("rich") is None:
        raise ConfigError("the table needs a package: pip install 'homeplate[custodian]'; or give --json")


def _print_table(opening: Opening, crops: dict[int, Path]) -> None:
    from rich.console import Console  # noqa: PLC0415 - `require_rich` has looked for it
    from rich.table import Table  # noqa: PLC0415

    table = Table("captured (UTC)", "camera", "plate", "confidence", "seen", "hit", "record", "sealed bytes", "crop")
    for position, record in enumerate(opening.opened):
        facts = record.facts
        crop = str(crops.get(position, "yes" if record.crop else "no"))
        table.add_row(
            utc_text(facts.first_captured_ns),
            facts.camera,
            facts.plate,
            f"{facts.confidence:.2f}",
            str(facts.seen),
            facts.hit.value,
            str(record.header.record_id) + (" conflict" if record.conflict else ""),
            str(record.sealed_bytes),
            crop,
        )
    Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE).print(table)
    for missed in opening.unopened:
        click.echo(f"{missed.record_id}: not opened: {missed.reason}", err=True)
