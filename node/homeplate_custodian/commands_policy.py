"""`homeplate-custodian policy | bundle places | bundle position`: the usage policy, and where no node reads."""

import hashlib
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.errors import ConfigError
from homeplate.policy.usage import missing
from homeplate.trust.contents import usage
from homeplate.trust.files import read_bounded, write_durably
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate.trust.places import PlacesFile
from homeplate.trust.schema import Entry, PolicyFile, why
from homeplate_custodian import provision
from homeplate_custodian.commands_bundle import bundle
from homeplate_custodian.policy_text import differences, html_page, markdown

_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False))
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
_File = TypeVar("_File", bound=Entry)


def _now_s() -> int:
    return WallClock().now_ns() // NANOSECONDS


def _toml(file: Path, kind: type[_File]) -> _File:
    try:
        return msgspec.toml.decode(read_bounded(file, MAX_METADATA_BYTES), type=kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {why(error)}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from error


@click.group()
def policy() -> None:
    """The usage and privacy policy, parts A to G: without a whole one, capture does not read."""


@policy.command("set")
@_CUSTODY
@_FILE
def policy_set(custody: Path, file: Path) -> None:
    """Draft the policy from a TOML file, and say what it still lacks; the posted text's hash is kept."""
    given = _toml(file, PolicyFile)
    kept = msgspec.structs.replace(given, sha256=given.sha256 or provision.usage_draft(custody).sha256)
    provision.set_usage(custody, kept)
    for one in missing(usage(kept), _now_s()):
        click.echo(f"note: {one.reason}", err=True)
    click.echo("drafted; next: homeplate-custodian bundle publish")


@policy.command("render")
@_CUSTODY
@click.option("--format", "form", type=click.Choice(["markdown", "html"]), default="markdown", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to; left out, it is printed.")
def policy_render(custody: Path, form: str, out: Path | None) -> None:
    """Write the policy's text from the published bundle."""
    published = provision.published(custody, now_s=_now_s())
    text = html_page(published) if form == "html" else markdown(published)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_durably(out, text.encode())
        click.echo(f"{out}: post it, then: homeplate-custodian policy posted {custody} {out}")


@policy.command("posted")
@_CUSTODY
@_FILE
def policy_posted(custody: Path, file: Path) -> None:
    """Draft the hash of the text that is posted; it has to say what the published bundle says."""
    data = read_bounded(file, MAX_METADATA_BYTES)
    _agree(custody, file, data)
    draft = provision.usage_draft(custody)
    provision.set_usage(custody, msgspec.structs.replace(draft, sha256=hashlib.sha256(data).hexdigest()))
    click.echo("recorded; next: homeplate-custodian bundle publish")


@policy.command("check")
@_CUSTODY
@_FILE
def policy_check(custody: Path, file: Path) -> None:
    """Say where the posted text in FILE and the published bundle differ, and what capture still waits for.

    An auditor needs no custody for this: CUSTODY may be a folder that holds root.json and the published bundle/.
    """
    data = read_bounded(file, MAX_METADATA_BYTES)
    now_s = _now_s()
    published = provision.published(custody, now_s=now_s)
    lacks = [one.reason for one in missing(published.policy, now_s)]
    for line in lacks:
        click.echo(line)
    _agree(custody, file, data)
    if published.policy.sha256 and hashlib.sha256(data).digest() != published.policy.sha256:
        raise ConfigError(f"{file} is not the text whose hash is signed; run `policy posted` with it, and publish")
    if lacks:
        raise ConfigError(f"the usage policy lacks {len(lacks)} things; capture does not read")
    click.echo(f"{file} says what the bundle says")


def _agree(custody: Path, file: Path, data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is no UTF-8 text") from error
    found = differences(text, provision.published(custody, now_s=_now_s()))
    for line in found:
        click.echo(line)
    if found:
        raise ConfigError(f"{file} and the published bundle differ in {len(found)} lines; render and post it anew")


@bundle.command("places")
@_CUSTODY
@_FILE
def bundle_places(custody: Path, file: Path) -> None:
    """Draft the sensitive places from a TOML file ([[places]]); a node that stands in one does not read."""
    count = provision.set_places(custody, _toml(file, PlacesFile))
    click.echo(f"{count} places drafted; every node needs a position (`bundle position`); next: bundle publish")


@bundle.command("position")
@_CUSTODY
@click.argument("pseudonym")
@click.option("--latitude", type=float, required=True, help="Degrees north, WGS84.")
@click.option("--longitude", type=float, required=True, help="Degrees east, WGS84.")
@click.option("--camera", help="A camera that stands elsewhere than its node.")
def bundle_position(custody: Path, pseudonym: str, latitude: float, longitude: float, camera: str | None) -> None:
    """Draft where a node, or one of its cameras, stands."""
    provision.set_position(custody, pseudonym, latitude_deg=latitude, longitude_deg=longitude, camera=camera)
    click.echo("drafted; next: homeplate-custodian bundle publish")
