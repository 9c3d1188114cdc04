"""`homeplate-custodian init | key | broker | enrol | bundle`: thin commands; what they mean is in `provision`."""

import io
import shutil
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import click
import msgspec

from homeplate.clock import WallClock, utc_text
from homeplate.domain.agency import AgencyKind, KemKind
from homeplate.domain.hotlist import HotListEntry, HotListPurpose, HotListTerms, PlateKind
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.errors import ConfigError
from homeplate.policy.allowlist import recipients
from homeplate.policy.recovery import recovery_text
from homeplate.policy.retention import duration_s
from homeplate.store.cosignatures import read_verifier_key
from homeplate.trust.bundle import Bundle
from homeplate.trust.enrolment import MAX_REQUEST_BYTES, fingerprint, read_request
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.hotlist import ListName, State
from homeplate.trust.metadata import TIMESTAMP
from homeplate_custodian import provision
from homeplate_custodian.authority import issue_server, spki_pin
from homeplate_custodian.keyring import make_role_key

_MAX_HOT_LIST_BYTES = 96 * 1024 * 1024
_LINE = "PLATE,STATE,KIND,LIST,PURPOSE,YYYY-MM-DD"
_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False))
_PUBLISH = "Publish the next bundle too, and copy it into this folder, on a stick for example."
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


def _now_s() -> int:
    return WallClock().now_ns() // NANOSECONDS


@click.command()
@_CUSTODY
@click.option("--registry-body", required=True, help="Who says what an agency is.")
@click.option("--operator-body", required=True, help="Who chooses recipients and rules.")
@click.option("--jurisdiction", default="US-CA", show_default=True, help="Of the nodes.")
@click.option("--demo", is_flag=True, help="Mark the root demo: it may publish everything, and is for nothing real.")
@click.option("--root-threshold", type=click.IntRange(1, 16), default=1, show_default=True, help="Of root/*/key.pub.")
def init(
    *, custody: Path, registry_body: str, operator_body: str, jurisdiction: str, demo: bool, root_threshold: int
) -> None:
    """Make a custody folder: keys, root, empty drafts, certificate authority."""
    provision.init(
        custody,
        registry_body=registry_body,
        operator_body=operator_body,
        jurisdiction=jurisdiction,
        demo=demo,
        root_threshold=root_threshold,
        now_s=_now_s(),
    )
    click.echo(f"{custody / provision.ROOT_FILE}: bring this to each node (`homeplate init --root`)")
    if root_threshold > 1:
        click.echo(f"it counts once {root_threshold} holders have signed it: homeplate-custodian sign FILE KEYFOLDER")
    click.echo("move root/, registry/ and operator/ key.pem to their holders; key.pub stays")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def key(folder: Path) -> None:
    """Make a role's key where its holder works; bring FOLDER/key.pub to the custody before `init`."""
    make_role_key(folder)
    click.echo(f"{folder / 'key.pub'}: put it into the role's folder of the custody; key.pem stays here")


@click.command()
@_CUSTODY
@click.argument("tls_name")
@click.option("--address", "addresses", multiple=True, help="A literal address that it answers at, besides the name.")
def broker(custody: Path, tls_name: str, addresses: tuple[str, ...]) -> None:
    """Make a broker's key and certificate, and print the pin for the registry."""
    server = issue_server(custody / "authority", tls_name=tls_name, addresses=addresses, now_s=_now_s())
    click.echo(f"certificate {server.certificate}\nkey         {server.key}\npin         {server.pin.hex()}")


@click.command()
@_CUSTODY
@click.argument("request", type=_FILE)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The client certificate.")
@click.option("--days", type=click.IntRange(1, 1095), default=provision.NODE_DAYS, show_default=True)
@click.option("--yes", is_flag=True, help="The fingerprint was compared already.")
@click.option("--publish", "bring", type=click.Path(path_type=Path, file_okay=False), help=_PUBLISH)
def enrol(*, custody: Path, request: Path, out: Path, days: int, yes: bool, bring: Path | None) -> None:
    """Take a node in: its entry in `nodes`, and a client certificate to bring back to it."""
    data = read_bounded(request, MAX_REQUEST_BYTES)
    click.echo(f"node        {read_request(data).pseudonym}\nfingerprint {fingerprint(data)}")
    if not yes:
        click.confirm("Does the file on the node have this fingerprint?", abort=True)
    write_durably(out, provision.enrol(custody, data, now_s=_now_s(), days=days).encode())
    if bring is None:
        click.echo(f"{out}: bring it to the node with the next bundle (`bundle publish`)")
        return
    _bring(_publish(custody), bring)
    click.echo(f"{out}, {bring}: bring both to the node (`homeplate bundle install {bring} --certificate {out}`)")


def _bring(published: Path, folder: Path) -> None:
    """Copy a bundle to where it is carried; an earlier one there is replaced, and nothing else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / TIMESTAMP).exists():
        raise ConfigError(f"{folder} holds something else than a bundle; name a new folder with --publish")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(published, folder)


@click.group()
def bundle() -> None:
    """Draft, sign and show what nodes install."""


@bundle.group()
def agency() -> None:
    """The registry: who an agency is."""


@agency.command("add")
@_CUSTODY
@click.argument("identifier")
@click.option("--name", required=True, help="Legal name, written out.")
@click.option("--kind", type=click.Choice([kind.value for kind in AgencyKind]), required=True)
@click.option("--ori", help="Its ORI, where it has one.")
@click.option("--jurisdiction", default="US-CA", show_default=True)
@click.option("--network", required=True, help="Its broker's address, or a range of at most 256.")
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--tls-name", required=True, help="The name in the broker's certificate.")
@click.option("--pin", "pins", multiple=True, help="SHA-256 of the broker's public key info; current, and next.")
@click.option("--broker-certificate", type=_FILE, help="Pin this certificate; `homeplate-custodian broker` makes one.")
@click.option("--authority", type=_FILE, help="Who issued it, if not this custody.")
@click.option("--kem", type=click.Choice([kem.value for kem in KemKind]), default=KemKind.X25519.value)
def agency_add(
    *,
    custody: Path,
    identifier: str,
    name: str,
    kind: str,
    ori: str | None,
    jurisdiction: str,
    network: str,
    port: int,
    tls_name: str,
    pins: tuple[str, ...],
    broker_certificate: Path | None,
    authority: Path | None,
    kem: str,
) -> None:
    """Draft an entry with a new sealing key."""
    path = provision.add_agency(
        custody,
        identifier=identifier,
        legal_name=name,
        kind=kind,
        jurisdiction=jurisdiction,
        ori=ori,
        network=network,
        port=port,
        tls_name=tls_name,
        pins=_pins(pins, broker_certificate),
        authority_pem=None if authority is None else read_bounded(authority, _MAX_HOT_LIST_BYTES).decode("ascii"),
        kem=KemKind(kem),
        now_s=_now_s(),
    )
    click.echo(f"{path}: the agency's private sealing key; whoever has it opens its records")


def _pins(given: tuple[str, ...], certificate: Path | None) -> list[bytes]:
    try:
        pins = [bytes.fromhex(pin) for pin in given]
    except ValueError as error:
        raise ConfigError("a pin is 64 hexadecimal digits; `homeplate-custodian broker` prints it") from error
    if certificate is not None:
        pins.append(spki_pin(read_bounded(certificate, _MAX_HOT_LIST_BYTES)))
    return pins


@agency.command("next-key")
@_CUSTODY
@click.argument("identifier")
def agency_next_key(custody: Path, identifier: str) -> None:
    """Draft the sealing key that follows the newest one; keys are for 90 days."""
    path = provision.add_key(custody, identifier, now_s=_now_s())
    click.echo(f"{path}: the agency's next private sealing key; destroying an old one ends what was sealed to it")


@agency.command("remove")
@_CUSTODY
@click.argument("identifier")
def agency_remove(custody: Path, identifier: str) -> None:
    """Take an entry out of the draft."""
    provision.remove_agency(custody, identifier)


@bundle.group("witness")
def bundle_witness() -> None:
    """The registry: who cosigns the nodes' ledgers."""


@bundle_witness.command("add")
@_CUSTODY
@click.argument("verifier_key")
def witness_add(custody: Path, verifier_key: str) -> None:
    """Name a witness by the key that its `witness init` printed."""
    provision.add_witness(custody, read_verifier_key(verifier_key))


@bundle_witness.command("remove")
@_CUSTODY
@click.argument("name")
def witness_remove(custody: Path, name: str) -> None:
    """Take a witness out of the draft."""
    provision.remove_witness(custody, name)


@bundle.command("grant")
@_CUSTODY
@click.argument("identifier")
@click.option("--need", required=True)
@click.option("--purpose", required=True)
@click.option("--approver", required=True, help="Who decided.")
@click.option("--days", type=click.IntRange(1, 366), default=365, show_default=True, help="Review it after that.")
@click.option("--attest", is_flag=True, help="Attest that no federal and no out-of-state access follows.")
def bundle_grant(
    *, custody: Path, identifier: str, need: str, purpose: str, approver: str, days: int, attest: bool
) -> None:
    """Choose a recipient, and say why."""
    now = _now_s()
    provision.grant(
        custody,
        identifier=identifier,
        need=need,
        purpose=purpose,
        approver=approver,
        approved_on=datetime.fromtimestamp(now, tz=UTC).date().isoformat(),
        expires_s=now + days * DAY_SECONDS,
        attested=attest,
    )


@bundle.command("revoke")
@_CUSTODY
@click.argument("identifier")
def bundle_revoke(custody: Path, identifier: str) -> None:
    """Take a grant back."""
    provision.revoke_grant(custody, identifier)


@bundle.command("purpose")
@_CUSTODY
@click.argument("purpose")
def bundle_purpose(custody: Path, purpose: str) -> None:
    """Authorise a purpose that rules may name."""
    provision.add_purpose(custody, purpose)


@bundle.group()
def rule() -> None:
    """What of a passage is kept, for whom, how long; of two rules for one recipient the first decides."""


@rule.command("add")
@_CUSTODY
@click.argument("name")
@click.option("--trigger", type=click.Choice([trigger.value for trigger in Trigger]), required=True)
@click.option("--to", "to", multiple=True, required=True, help="A recipient's identifier.")
@click.option("--storage", type=click.Choice([storage.value for storage in StorageClass]), required=True)
@click.option("--retention", required=True, help='From capture: "20s", "5min", "12h" or "30d".')
@click.option("--purpose", required=True, help="One that `bundle purpose` authorised.")
@click.option("--crop/--no-crop", default=True, show_default=True, help="The picture of the plate too.")
@click.option("--camera", "cameras", multiple=True, help="A source that it covers; all where left out.")
def rule_add(
    *,
    custody: Path,
    name: str,
    trigger: str,
    to: tuple[str, ...],
    storage: str,
    retention: str,
    purpose: str,
    crop: bool,
    cameras: tuple[str, ...],
) -> None:
    """Draft a rule at the end of the list."""
    try:
        seconds = duration_s(retention, key="--retention")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    provision.add_rule(
        custody,
        name=name,
        trigger=Trigger(trigger),
        recipients=to,
        parts=[Part.FACTS, Part.CROP] if crop else [Part.FACTS],
        storage=StorageClass(storage),
        retention_s=seconds,
        purpose=purpose,
        cameras=cameras,
    )


@rule.command("remove")
@_CUSTODY
@click.argument("name")
def rule_remove(custody: Path, name: str) -> None:
    """Take a rule out of the draft."""
    provision.remove_rule(custody, name)


@bundle.command("revoke-node")
@_CUSTODY
@click.argument("pseudonym")
def revoke_node(custody: Path, pseudonym: str) -> None:
    """Mark a node revoked: nothing it signs counts any more."""
    provision.revoke_node(custody, pseudonym)


@bundle.command("hot-list")
@_CUSTODY
@click.argument("file", type=click.File("r", encoding="ascii"))
@click.option(
    "--days", type=click.IntRange(1, 31), default=7, show_default=True, help="The whole list ends after that."
)
def hot_list(custody: Path, file: io.TextIOBase, days: int) -> None:
    """Replace the hot list by FILE: lines of `PLATE,STATE,KIND,LIST,PURPOSE,YYYY-MM-DD`; `-` reads standard input.

    The day is the last one that counts. KIND and PURPOSE are of closed lists, which a refusal names.
    """
    text = file.read(_MAX_HOT_LIST_BYTES + 1)
    if len(text) > _MAX_HOT_LIST_BYTES:
        raise ConfigError(f"the hot list is longer than {_MAX_HOT_LIST_BYTES} characters; nothing was changed")
    entries = parse_lines(text)
    written = provision.set_hot_list(custody, entries, now_s=_now_s(), valid_s=days * DAY_SECONDS)
    doubled = len(entries) - written
    click.echo(f"{written} entries{f'; {doubled} lines say what another line says' if doubled else ''}")


def parse_lines(text: str) -> list[HotListEntry]:
    """Return the entries of a hot list as people keep it.

    Raises:
        ConfigError: names the line, never what is in it.
    """
    entries = []
    terms: dict[str, HotListTerms] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        plate, _, rest = line.partition(",")
        try:
            if rest not in terms:
                terms[rest] = _terms(rest)
            entries.append(HotListEntry(text=PlateText(plate.strip().upper()), terms=terms[rest]))
        except (ValueError, OverflowError):
            kinds, purposes = ", ".join(PlateKind), ", ".join(HotListPurpose)
            raise ConfigError(
                f"line {number} is not {_LINE} (nothing else may be in a hot list); a state is written US-CA, a kind is"
                f" one of {kinds}, a purpose one of {purposes}"
            ) from None
    return entries


def _terms(rest: str) -> HotListTerms:
    state, kind, name, purpose, last_day = (part.strip() for part in rest.split(","))
    end = datetime.combine(date.fromisoformat(last_day) + timedelta(days=1), time(), tzinfo=UTC)
    return HotListTerms(
        list_name=msgspec.convert(name, ListName),
        purpose=HotListPurpose(purpose),
        state=msgspec.convert(state, State),
        kind=PlateKind(kind),
        expires_s=int(end.timestamp()),
    )


@bundle.command("publish")
@_CUSTODY
def bundle_publish(custody: Path) -> None:
    """Sign the drafts with the keys that are here."""
    click.echo(f"{_publish(custody)}: bring it to each node (`homeplate bundle install`)")


def _publish(custody: Path) -> Path:
    now = _now_s()
    folder = provision.publish_bundle(custody, now_s=now)
    for line in describe(provision.published(custody, now_s=now), now):
        if line.startswith("refused "):
            click.echo(f"note: {line}", err=True)
    return folder


@bundle.command("show")
@_CUSTODY
def bundle_show(custody: Path) -> None:
    """Show the published bundle as a node reads it: who receives, who is refused and why, what is kept."""
    now = _now_s()
    for line in describe(provision.published(custody, now_s=now), now):
        click.echo(line)


def describe(found: Bundle, now_s: int) -> list[str]:
    """Return a bundle in lines for people; nothing in it is secret."""
    known = recipients(found.registry, found.allowlist, found.jurisdiction, now_s, unregistered=found.unregistered)
    mark, end = " DEMO" if found.demo else "", utc_text(found.expires_s * NANOSECONDS)
    lines = [
        f"bundle {found.version} of root {found.root_version}{mark}, {found.jurisdiction}, until {end}",
        f"registry {found.registry_body} | operator {found.operator_body}",
    ]
    if not found.independent:
        lines.append("one body holds both roles: nodes cannot prove that their recipients are in state")
    lines += [f"witness  {witness.name}" for witness in found.witnesses] or ["witness  none: nobody outside cosigns"]
    lines += [f"receives {who.agency.legal_name} ({identifier})" for identifier, who in sorted(known.allowed.items())]
    lines += [f"refused  {identifier}: {reason}" for identifier, reason in sorted(known.refused.items())]
    if known.nobody is not None:
        lines.append(f"receives nobody: {known.nobody}")
    lines += [
        f"rule     {rule.name}: {rule.trigger} -> {', '.join(rule.recipients)}; {rule.storage}; {rule.retention_s} s;"
        f" {'+'.join(sorted(rule.parts))}; {rule.purpose}"
        for rule in found.rules
    ]
    lines.append(f"recovery {recovery_text(found.recovery, known)}")
    lines += [f"source   {name}: nodes ask its broker for the next bundle" for name in found.bundle_sources]
    lines += [f"models   {digest.hex()}" for digest in sorted(found.model_manifests or ())]
    lines += [
        f"node     {node.pseudonym.hex()}{' REVOKED' if node.revoked else ''}: {', '.join(node.cameras) or 'no camera'}"
        for node in found.nodes
    ]
    return lines
