"""`homeplate-custodian sign`, `bundle source | send | models`: a root's holders, bundles over a broker, models."""

import hashlib
from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.errors import ConfigError
from homeplate.trust.files import read_bounded
from homeplate.trust.metadata import MAX_METADATA_BYTES
from homeplate_custodian import provision, roots
from homeplate_custodian.commands_provision import bundle
from homeplate_custodian.commands_records import access_as
from homeplate_custodian.send import SENDER, send_bundle

__all__ = ["bundle"]

_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("keyfolder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--yes", is_flag=True, help="What it says was read already.")
def sign(file: Path, keyfolder: Path, yes: bool) -> None:  # noqa: FBT001 - click's way
    """Add a root holder's signature to FILE, a root or a top role, after showing whom it gives which role."""
    for line in roots.describe(file):
        click.echo(line)
    if not yes:
        click.confirm("Sign this?", abort=True)
    roots.sign_file(file, keyfolder)
    click.echo(f"{file}: signed; bring it back to where it lay in the custody")


@bundle.group()
def source() -> None:
    """Whose brokers nodes ask for the next bundle; none at first: a person brings it."""


@source.command("add")
@_CUSTODY
@click.argument("identifier")
def source_add(custody: Path, identifier: str) -> None:
    """Draft a recipient as a source."""
    provision.add_bundle_source(custody, identifier)


@source.command("remove")
@_CUSTODY
@click.argument("identifier")
def source_remove(custody: Path, identifier: str) -> None:
    """Take a source out of the draft."""
    provision.remove_bundle_source(custody, identifier)


@bundle.command("recovery")
@_CUSTODY
@click.argument("identifier", required=False)
@click.option("--nobody", is_flag=True, help="Name nobody: a lost key is lost.")
def bundle_recovery(custody: Path, identifier: str | None, nobody: bool) -> None:  # noqa: FBT001 - click's way
    """Name the recipient that may hold copies of the agencies' private keys; the public policy says so."""
    if nobody == (identifier is not None):
        raise ConfigError("give a recipient's identifier, or --nobody")
    provision.set_recovery(custody, identifier)


@bundle.command("models")
@_CUSTODY
@click.argument("manifests", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--any", "anything", is_flag=True, help="Name none: nodes run what was installed on them.")
def bundle_models(custody: Path, manifests: tuple[Path, ...], anything: bool) -> None:  # noqa: FBT001 - click's way
    """Name the models that nodes may run by their manifest.json; capture refuses any other."""
    if anything == bool(manifests):
        raise ConfigError("give the manifest.json of each set of models, or --any")
    digests = [hashlib.sha256(read_bounded(path, MAX_METADATA_BYTES)).digest() for path in manifests]
    provision.set_models(custody, digests)
    for path, digest in zip(manifests, digests, strict=True):
        click.echo(f"{digest.hex()}  {path}")


@bundle.command("send")
@_CUSTODY
@click.option("--agency", required=True, help="Whose broker; a source in the bundle that nodes have.")
def bundle_send(custody: Path, agency: str) -> None:
    """Send the published bundle to a broker, from which nodes take it."""
    now_s = WallClock().now_ns() // NANOSECONDS
    access = access_as(custody, agency, SENDER, folder="sender", now_s=now_s)
    sent = send_bundle(custody / "bundle", access, lambda _: None)
    click.echo(f"{sent} messages are at the broker of {agency}; nodes take them within minutes of being on line")
