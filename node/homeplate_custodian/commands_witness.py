"""`homeplate-custodian witness`: what a body outside the operator runs; what it decides is in `witness`."""

from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.errors import LedgerError
from homeplate.store.checkpoints import write_durably
from homeplate.store.cosignatures import MAXIMUM_FILE_BYTES, decode_requests, encode_cosigned
from homeplate.trust.files import read_bounded
from homeplate_custodian.access_witness import signers
from homeplate_custodian.commands_verify import bundle_options, signed_bundle
from homeplate_custodian.witness import answer, load_witness, make_witness

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def witness() -> None:
    """Watch nodes' ledgers from outside their operator: cosign checkpoints that continue what was seen."""


@witness.command("init")
@_FOLDER
@click.option("--name", required=True, help='A URL without a scheme that is yours: "witness.example/w1".')
def witness_init(folder: Path, name: str) -> None:
    """Make a witness's key; the registry names it by what this prints."""
    click.echo(make_witness(folder, name))
    click.echo("bring this line to the registry (`bundle witness add`); keep the folder: it is what was seen", err=True)


@witness.command("cosign")
@_FOLDER
@click.argument("requests", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@bundle_options
@click.option(
    "--access-log",
    "copies",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="Your copy of a custodian's access/keys.pub: its access log is judged too.",
)
@click.option("--out", type=_FILE, required=True, help="Where to write the cosigned checkpoints for the node.")
def witness_cosign(
    *,
    folder: Path,
    requests: Path,
    custody: Path | None,
    bundle: Path | None,
    root: Path | None,
    copies: tuple[Path, ...],
    out: Path,
) -> None:
    """Judge a node's or an access log's requests; cosign what continues a log (exit code 10: not all did)."""
    found = signed_bundle(custody, bundle, root)
    own, _ = load_witness(folder)
    asked = decode_requests(read_bounded(requests, MAXIMUM_FILE_BYTES), own.name)
    if not asked:
        raise LedgerError(f"{requests} asks nothing of {own.name}: does the bundle of who asks name this witness?")
    answers = answer(folder, asked, signers(found.nodes, copies), WallClock().now_ns() // NANOSECONDS)
    write_durably(out, encode_cosigned([one.note for one in answers if one.note is not None]))
    for one in answers:
        click.echo(f"{one.origin}: " + (f"{one.size} rows cosigned" if one.note else f"NOT cosigned: {one.refused}"))
    refused = [one for one in answers if one.refused]
    if refused:
        raise LedgerError(f"{len(refused)} of {len(answers)} logs were not cosigned; {out} holds the others")
