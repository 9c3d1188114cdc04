"""`homeplate-custodian hold`: signs evidence holds and their releases, and opens what a node gave out for one.

The hold key may be on a machine of its own; `open` runs at the agency, whose sealing keys it needs.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.hold import HOLD_ID_BYTES, MOST_RECORDS, Ground, Hold, Release
from homeplate.errors import ConfigError, TrustError
from homeplate.policy.retention import duration_s
from homeplate.sealing.keys import load_signing_key
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.hold import MAX_HOLD_BYTES, read_hold, sign_hold, sign_release
from homeplate_custodian import provision
from homeplate_custodian.access import Query, record_access
from homeplate_custodian.commands_records import agency_folder, apart, require_rich, sealing_keys, show
from homeplate_custodian.keyring import KEY_FILE, public_key
from homeplate_custodian.records import Accessor, Inbox, Opener, Opening, check_purpose, refuse_plate

_DAY = "d"
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_OUT = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The signed file.")
_KEY = click.option("--key", type=_FOLDER, required=True, help="Folder of the hold key (`homeplate-custodian key`).")


@click.group()
def hold() -> None:
    """Keep records past their retention for a case, and end that: signed, bounded, for one node."""


@hold.command("allow")
@click.argument("custody", type=_FOLDER)
@click.argument("key", type=_FOLDER)
@click.option("--remove", is_flag=True, help="Take it back; holds in force stay until their expiry.")
def allow(*, custody: Path, key: Path, remove: bool) -> None:
    """Draft which hold key counts: KEY is the folder of its `key.pub`. Nodes know it with the next bundle."""
    public = bytes.fromhex(public_key(key).keyval["public"])
    (provision.remove_hold_key if remove else provision.add_hold_key)(custody, public)
    click.echo(f"hold key {public.hex()} is {'out' if remove else 'in'}; next: homeplate-custodian bundle publish")


@hold.command("make")
@_KEY
@click.option("--node", required=True, help="The node's pseudonym, 32 hexadecimal digits.")
@click.option("--case", required=True, help="The case number; never a plate: it stands in ledgers.")
@click.option("--ground", type=click.Choice([ground.value for ground in Ground]), required=True)
@click.option("--camera", required=True, help="The source's name on the node.")
@click.option("--from", "start", required=True, help="First second of capture, UTC: 2026-11-22T17:00:00.")
@click.option("--to", "end", required=True, help="Last second of capture, UTC.")
@click.option("--most", type=click.IntRange(1, MOST_RECORDS), required=True, help="Refuse where more would be held.")
@click.option("--for", "lasting", required=True, help='How long from now, at most 366 days: "90d".')
@_OUT
def make(
    *,
    key: Path,
    node: str,
    case: str,
    ground: str,
    camera: str,
    start: str,
    end: str,
    most: int,
    lasting: str,
    out: Path,
) -> None:
    """Sign a hold for one node, one camera and a window of time; bring it there: `homeplate hold apply`."""
    refuse_plate("--case", case)
    now_s = WallClock().now_ns() // NANOSECONDS
    made = Hold(
        hold_id=secrets.token_bytes(HOLD_ID_BYTES),
        node=_node(node),
        case=case,
        ground=Ground(ground),
        camera=camera,
        from_s=_seconds(start, "--from"),
        to_s=_seconds(end, "--to"),
        most_records=most,
        issued_s=now_s,
        expires_s=now_s + _lasting_s(lasting),
    )
    write_durably(out, sign_hold(made, load_signing_key(key / KEY_FILE)), mode=0o600)
    click.echo(f"{out}: hold {made.hold_id.hex()} of case {case}; on the node: homeplate hold apply {out.name}")


@hold.command("release")
@_KEY
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_OUT
def release(*, key: Path, file: Path, out: Path) -> None:
    """Sign the end of the hold in FILE; on the node: `homeplate hold release`."""
    held, _ = read_hold(read_bounded(file, MAX_HOLD_BYTES))
    now_s = WallClock().now_ns() // NANOSECONDS
    ended = Release(hold_id=held.hold_id, node=held.node, case=held.case, issued_s=now_s)
    write_durably(out, sign_release(ended, load_signing_key(key / KEY_FILE)), mode=0o600)
    click.echo(f"{out}: ends hold {held.hold_id.hex()} of case {held.case}")


@hold.command("open")
@click.argument("custody", type=_FOLDER)
@click.argument("folder", type=_FOLDER)
@click.option("--agency", required=True, help="The agency's identifier in the registry.")
@click.option("--user", required=True, help="Who opens: a user name or badge number.")
@click.option("--organisation", required=True, help="Whom the user works for.")
@click.option("--purpose", required=True, help="One of the purposes that the operator authorised.")
@click.option("--case", required=True, help="The case number; never a plate: it stands in the log.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.option("--crops", type=click.Path(path_type=Path, file_okay=False), help="Write plate crops as ID.jpg here.")
def open_held(
    *,
    custody: Path,
    folder: Path,
    agency: str,
    user: str,
    organisation: str,
    purpose: str,
    case: str,
    as_json: bool,
    crops: Path | None,
) -> None:
    """Open what `homeplate hold export` wrote into FOLDER, until the hold's expiry; the access record comes first.

    At the expiry nothing opens any more, and the files are removed.
    """
    if not as_json:
        require_rich()
    who, clock = Accessor(user=user, organisation=organisation, purpose=purpose, case=case), WallClock()
    bundle = provision.published(custody, now_s=clock.now_ns() // NANOSECONDS)
    check_purpose(purpose, bundle.purposes)
    held, signer = read_hold(read_bounded(folder / "hold.txt", MAX_HOLD_BYTES))
    if signer not in bundle.hold_keys:
        raise TrustError(f"unknown-signer: {signer.hex()} is no hold key of the published bundle; see `hold allow`")
    if case != held.case:
        raise ConfigError(f"--case {case}: this hold is of case {held.case}, and opens for no other")
    agency_folder(custody, agency)
    inbox = Inbox(folder)
    files = inbox.files()
    query = Query(
        text=f"agency {agency}: evidence hold {held.hold_id.hex()} of case {held.case}",
        records=list(dict.fromkeys(file.record_id for file in files)),
    )

    def open_now() -> Opening:
        keys = apart(custody, bundle, sealing_keys(custody, agency))
        return Opener(inbox, keys, bundle.nodes, clock, held).open(files)

    show(record_access(custody, clock, who, query, open_now), as_json=as_json, crops=crops)


def _node(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise ConfigError("--node is 32 hexadecimal digits, as `homeplate check` shows them") from error


def _seconds(text: str, option: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is no time; write 2026-11-22T17:00:00 (UTC)") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _lasting_s(text: str) -> int:
    """Return days in seconds; above the retention cap too, which `duration_s` refuses."""
    days = text.removesuffix(_DAY)
    if text.endswith(_DAY) and days.isascii() and days.isdigit() and 1 <= int(days) <= 366:  # noqa: PLR2004 - the cap
        return int(days) * 86_400
    try:
        return duration_s(text, key="--for")
    except ValueError as error:
        raise ConfigError(str(error)) from error
