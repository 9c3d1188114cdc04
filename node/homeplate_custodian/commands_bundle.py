"""`homeplate-custodian bundle source | send`: how nodes get the next bundle through a broker."""

from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate_custodian import provision
from homeplate_custodian.commands_provision import bundle
from homeplate_custodian.commands_records import access_as
from homeplate_custodian.send import SENDER, send_bundle

__all__ = ["bundle"]

_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False))


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


@bundle.command("send")
@_CUSTODY
@click.option("--agency", required=True, help="Whose broker; a source in the bundle that nodes have.")
def bundle_send(custody: Path, agency: str) -> None:
    """Send the published bundle to a broker, from which nodes take it."""
    now_s = WallClock().now_ns() // NANOSECONDS
    access = access_as(custody, agency, SENDER, folder="sender", now_s=now_s)
    sent = send_bundle(custody / "bundle", access, lambda _: None)
    click.echo(f"{sent} messages are at the broker of {agency}; nodes take them within minutes of being on line")
