"""`homeplate-custodian audit | keys`: reviewing accesses, ending keys; what they mean is in `audit` and `expiring`."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock, utc_text
from homeplate.domain.witness import Witness
from homeplate.errors import ConfigError, LedgerError, TrustError
from homeplate.policy.allowlist import recipients, sealing_key
from homeplate.policy.recovery import recovery_recipient, recovery_text
from homeplate.policy.witnessing import watched
from homeplate.sealing.keys import load_sealing_key, write_new
from homeplate.sealing.seal import open_recovery, seal_recovery
from homeplate.store.ledger import Line, Row, read_lines
from homeplate.trust.files import read_bounded, write_durably
from homeplate_custodian import provision
from homeplate_custodian.access import ACCESS_LOG, KEYS, LOG, SHOWN, note, plates_of, read_keys
from homeplate_custodian.access_witness import ask_witnesses, take_cosigned
from homeplate_custodian.audit import DONE, ages, draw, standing
from homeplate_custodian.commands_records import RECEIVED, agency_folder
from homeplate_custodian.commands_verify import signed_bundle
from homeplate_custodian.expiring import EXPIRED, EXPIRING, RECOVERY, DatedKey, dated_keys, destroy
from homeplate_custodian.records import Inbox, forget_past_days
from homeplate_custodian.verify import Evidence, LogReport, verify_ledger

_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False, exists=True))
MAX_RECOVERY_BYTES = 4096
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON in place of lines.")


@click.group()
def audit() -> None:
    """Review who opened records: verify the access log, draw accesses, say that they were reviewed."""


def _lines(custody: Path) -> list[Line]:
    path = custody / ACCESS_LOG
    if not path.exists():
        raise ConfigError(f"{path} is not there: nothing was ever opened here, or it was taken away")
    return list(read_lines(path))


def _bundle_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add where the bundle is that names the witnesses, for who does not take the custody's word."""
    for option in (
        click.option("--root", type=_FILE, help="The root it is under."),
        click.option("--bundle", type=_FOLDER, help="Your copy of the published bundle; with --root."),
    ):
        command = option(command)
    return command


def _witnesses(custody: Path, bundle: Path | None, root: Path | None) -> tuple[Witness, ...]:
    return signed_bundle(None if bundle or root else custody, bundle, root).witnesses


@audit.command("verify")
@_CUSTODY
@click.option("--keys", type=_FILE, help="The log's public keys (access/keys.pub), from the reviewer's own copy.")
@click.option("--known", type=_FOLDER, multiple=True)
@_bundle_options
def audit_verify(
    custody: Path, keys: Path | None, known: tuple[Path, ...], bundle: Path | None, root: Path | None
) -> None:
    """Verify the access log against its signed checkpoints; name the first bad row (exit code 10).

    --known names folders of checkpoints that were seen before, a witness's or the reviewer's: with them a log that was
    set back together with its checkpoints is found too. A note says where no witness has cosigned the log of late.
    """
    unknown = ""
    witnesses: tuple[Witness, ...] = ()
    try:
        witnesses = _witnesses(custody, bundle, root)
    except (ConfigError, TrustError) as error:
        if bundle or root:
            raise
        unknown = f"no-witness: this custody's bundle names none that counts ({error})"
    log = verified(custody, keys, known, witnesses)
    click.echo(f"access: {log.rows} rows are good, {log.rows - log.signed} of them not signed yet")
    if log.witnessed_s is not None:
        click.echo(f"witnessed up to row {log.witnessed} at {utc_text(log.witnessed_s * NANOSECONDS)}")
    now_s = WallClock().now_ns() // NANOSECONDS
    refused = watched(witnesses, LOG, log.witnessed_s, now_s, ask="homeplate-custodian audit request CUSTODY FILE")
    if refused is not None:
        click.echo(f"note: {unknown or refused.reason}")


def verified(
    custody: Path, keys: Path | None, known: tuple[Path, ...] = (), witnesses: Sequence[Witness] = ()
) -> LogReport:
    """Return what verifying the access log showed.

    Raises:
        LedgerError: names the first bad row.
    """
    signer = read_keys(keys or custody / KEYS / "keys.pub").signer()
    report = verify_ledger(custody, [signer], Evidence(known=known, witnesses=witnesses, expected=()))
    for log in report.logs:
        if log.bad:
            raise LedgerError(f"ledger {log.name}, row {log.bad.number}: {log.bad.reason}")
    return report.logs[0]


@audit.command("request")
@_CUSTODY
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", metavar="access=SIZE", help="What size the witness says it saw last.")
@_bundle_options
def audit_request(*, custody: Path, file: Path, since: str | None, bundle: Path | None, root: Path | None) -> None:
    """Write what is asked of the witnesses about the access log: checkpoints and proofs, never a row."""
    name, _, size = (since or f"{LOG}=0").partition("=")
    if name != LOG or not (size.isascii() and size.isdigit()):
        raise ConfigError("--since is access=SIZE, as the witness said it: --since access=120")
    sizes = {LOG: int(size)} if since else {}
    count = ask_witnesses(custody, file, _witnesses(custody, bundle, root), sizes)
    click.echo(f"{count} requests in {file}; bring it to the witness (`homeplate-custodian witness cosign`)")


@audit.command("cosigned")
@_CUSTODY
@click.argument("file", type=_FILE)
@_bundle_options
def audit_cosigned(custody: Path, file: Path, bundle: Path | None, root: Path | None) -> None:
    """Take in what a witness cosigned."""
    for line in take_cosigned(custody, file, _witnesses(custody, bundle, root)):
        click.echo(line)


@audit.command("sample")
@_CUSTODY
@click.option("--n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many to draw.")
@click.option("--seed", required=True, help="Said in public after the period: a lottery's numbers, a newspaper's line.")
@click.option("--reviewer-key", type=_FILE, help="access/reviewer.key: show the sealed plates too.")
@_JSON
def audit_sample(*, custody: Path, count: int, seed: str, reviewer_key: Path | None, as_json: bool) -> None:
    """Draw accesses since the last audit for the reviewer; who has log and seed draws the same."""
    verified(custody, None)
    lines = _lines(custody)
    sample = draw(lines, seed, count)
    key = load_sealing_key(reviewer_key) if reviewer_key else None
    for row in sample.drawn:
        shown: dict[str, object] = {
            "row": row.number,
            **{name: value for name, value in row.fields.items() if name != "sealed"},
        }
        if key is not None:
            shown["searched"] = [plate.reveal() for plate in plates_of(row, key)] if "sealed" in row.fields else []
            shown["shown"] = [plate.reveal() for other in _shown_by(lines, row) for plate in plates_of(other, key)]
        click.echo(json.dumps(shown, sort_keys=True) if as_json else _text(shown))
    place = f"rows {sample.first_row} to {sample.last_row}, root {sample.root}"
    click.echo(f"{len(sample.drawn)} of {sample.population} accesses; seed {sample.seed!r}; {place}", err=True)


def _shown_by(lines: list[Line], opened: Row) -> list[Row]:
    return [line.row for line in lines if line.row.event == SHOWN and line.row.fields["opening"] == opened.number]


def _text(shown: dict[str, object]) -> str:
    head = f"row {shown['row']}: {shown['date_time']} {shown['user']} of {shown['organisation']}"
    rest = f"; {shown['purpose']}, case {shown['case']}; {shown['query']}"
    plates = f"; searched {shown['searched']}, shown {shown['shown']}" if "shown" in shown else ""
    return head + rest + plates


@audit.command("done")
@_CUSTODY
@click.option("--reviewer", required=True, help="Who reviewed.")
@click.option("--seed", required=True, help="The seed of the draw.")
@click.option("--n", "count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="As drawn.")
@click.option("--last-row", type=click.IntRange(min=1), required=True, help="The last row of the draw, as it said.")
@click.option("--objections", type=click.IntRange(min=0), required=True, help="Of how many accesses they object to.")
@click.option("--note", "words", default="", help="In a sentence, without a plate.")
def audit_done(
    *, custody: Path, reviewer: str, seed: str, count: int, last_row: int, objections: int, words: str
) -> None:
    """Write into the access log that a draw was reviewed; the next one begins after it."""
    if not reviewer.strip():
        raise ConfigError("--reviewer is blank: an audit is somebody's")
    sample = draw(_lines(custody), seed, count, last_row)
    if sample.last_row != last_row:
        raise ConfigError(f"--last-row {last_row} is no row that waits for an audit; `audit sample` says which is")
    if objections > len(sample.drawn):
        raise ConfigError(f"--objections {objections}: only {len(sample.drawn)} accesses were drawn with this seed")
    note(
        custody,
        WallClock(),
        DONE,
        reviewer=reviewer,
        seed=seed,
        first_row=sample.first_row,
        last_row=sample.last_row,
        root=sample.root,
        population=sample.population,
        reviewed=len(sample.drawn),
        objections=objections,
        note=words[:400],
    )
    click.echo(f"{len(sample.drawn)} of {sample.population} accesses reviewed, {objections} objected to")


@audit.command("status")
@_CUSTODY
@click.option("--every", type=click.IntRange(1, 366), default=90, show_default=True, help="Days between audits.")
@click.pass_context
def audit_status(context: click.Context, custody: Path, every: int) -> None:
    """Say when the last audit was; exit code 1 where accesses have waited for one for too long."""
    found = standing((line.row for line in _lines(custody)), WallClock().now_ns() // NANOSECONDS, every_days=every)
    last = "never" if found.last_audit_s is None else utc_text(found.last_audit_s * NANOSECONDS)
    mark = "OVERDUE: " if found.overdue else ""
    click.echo(
        f"{mark}last audit {last}; {found.accesses_since} accesses since, the first {found.waiting_days} days ago"
    )
    context.exit(int(found.overdue))


@audit.command("ages")
@_CUSTODY
@_JSON
def audit_ages(custody: Path, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show how old records were when they were looked at, in days; retention is to follow from it. No plates."""
    bars = ages(line.row for line in _lines(custody))
    if as_json:
        click.echo(json.dumps(dict(bars)))
        return
    most = max(1, *(count for _, count in bars))
    for name, count in bars:
        click.echo(f"{name:>11} days {count:>7} {'#' * (40 * count // most)}".rstrip())


@click.group()
def keys() -> None:
    """Private sealing keys with their dates."""


@keys.command("list")
@_CUSTODY
@click.option("--agency", required=True, help="The agency's identifier in the registry.")
def keys_list(custody: Path, agency: str) -> None:
    """Show an agency's private keys, until when nodes seal to them, and whether they are due."""
    clock = WallClock()
    now_s = clock.now_ns() // NANOSECONDS
    for key in _keys(custody, agency, clock):
        until = "unknown" if key.sealed_until_s is None else utc_text(key.sealed_until_s * NANOSECONDS)
        click.echo(f"{key.key_id} sealed to until {until}: {key.why_not(now_s) or 'due: `keys expire` destroys it'}")


def _keys(custody: Path, agency: str, clock: WallClock) -> list[DatedKey]:
    folder = agency_folder(custody, agency)
    inbox = Inbox(custody / RECEIVED / agency)
    forget_past_days(inbox, clock)
    return dated_keys(folder, inbox)


@keys.command("expire")
@_CUSTODY
@click.option("--agency", required=True, help="The agency's identifier in the registry.")
@click.option("--by", required=True, help="Who destroys.")
@click.option("--key", "key_id", help="One key, by the id that `keys list` shows; all that are due where left out.")
@click.option("--early", help="Destroy --key though it is not due, for this reason.")
@click.option("--yes", is_flag=True, help="Do not ask: nothing brings a key back.")
def keys_expire(*, custody: Path, agency: str, by: str, key_id: str | None, early: str | None, yes: bool) -> None:
    """Destroy dated private keys: what was sealed to them opens nowhere any more. The access log says so first."""
    clock = WallClock()
    found, now_s = _keys(custody, agency, clock), clock.now_ns() // NANOSECONDS
    due = chosen(found, now_s, key_id, by, early)
    if not due:
        click.echo("nothing is due, nothing was destroyed")
    for key in found if not due else []:
        until = "" if key.due_s is None else f"; due at {utc_text(key.due_s * NANOSECONDS)}"
        click.echo(f"{key.key_id} stays: {key.why_not(now_s)}{until}")
    for key in due:
        if not yes:
            click.confirm(f"Destroy {key.key_id}?", abort=True)
        said: dict[str, str | bool] = {
            "agency": agency,
            "key": key.key_id,
            "by": by,
            "early": early is not None,
            "reason": early or "due",
        }
        note(custody, clock, EXPIRING, **said)
        files = destroy(key)
        note(custody, clock, EXPIRED, **said, files=files)
        click.echo(f"{key.key_id} is destroyed ({files} files)")


def chosen(found: list[DatedKey], now_s: int, key_id: str | None, by: str, early: str | None) -> list[DatedKey]:
    """Return the keys to destroy.

    Raises:
        ConfigError: where it is not said who, the named key is not there or not due, or a reason names no key.
    """
    if not by.strip() or (early is not None and not early.strip()):
        raise ConfigError("--by or --early is blank: who destroys a key, and why before its time, is written down")
    if key_id is None:
        if early is not None:
            raise ConfigError("--early ends one key: name it with --key")
        return [key for key in found if key.why_not(now_s) is None]
    named = [key for key in found if key.key_id == key_id]
    if not named:
        raise ConfigError(f"there is no key {key_id} of this agency here; `keys list` shows them")
    reason = named[0].why_not(now_s)
    if reason is not None and early is None:
        raise ConfigError(f"key {key_id} stays: {reason}; --early REASON destroys it before its time")
    return named


@keys.command("recovery")
@_CUSTODY
@click.option("--agency", required=True, help="The agency's identifier in the registry.")
@click.option("--by", required=True, help="Who makes the copies.")
def keys_recovery(custody: Path, agency: str, by: str) -> None:
    """Seal a copy of each private key to the recovery recipient that the published rules name.

    `keys expire` destroys the copies with their keys, as long as they lie here.
    """
    clock = WallClock()
    now_s = clock.now_ns() // NANOSECONDS
    bundle = provision.published(custody, now_s=now_s)
    known = recipients(bundle.registry, bundle.allowlist, bundle.jurisdiction, now_s, unregistered=bundle.unregistered)
    recipient = recovery_recipient(bundle.recovery, known)
    to = None if recipient is None else sealing_key(recipient.agency, now_s)
    if to is None or bundle.recovery == agency or not by.strip():
        raise ConfigError(f"no copy was made: {recovery_text(bundle.recovery, known)} See `bundle recovery`, and --by")
    for key in _keys(custody, agency, clock):
        said: dict[str, str | bool] = {"agency": agency, "key": key.key_id, "by": by, "to": str(bundle.recovery)}
        note(custody, clock, "key.recovery-copy", **said)
        sealed = seal_recovery(read_bounded(key.path, MAX_RECOVERY_BYTES), to)
        write_durably(key.path.with_suffix(RECOVERY), sealed, mode=0o600)
        click.echo(f"{key.path.with_suffix(RECOVERY)}: sealed to {bundle.recovery}")


@keys.command("recover")
@click.argument("copy", type=_FILE)
@click.option("--key", "private", type=_FILE, required=True, help="The recovery recipient's private sealing key.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The recovered key's file.")
def keys_recover(copy: Path, private: Path, out: Path) -> None:
    """Open a recovery COPY with the recovery recipient's key; put the result back into the agency's folder."""
    write_new(out, open_recovery(read_bounded(copy, MAX_RECOVERY_BYTES), load_sealing_key(private)))
    click.echo(f"{out}: key {load_sealing_key(out).key_id.hex()}")
