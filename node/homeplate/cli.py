"""`homeplate`: what runs on the node. No verb shows a plate, opens a record or writes a picture of one.

Errors are one line that names the thing and the next step; exit codes are in docs/operations.md. Each verb loads only
what its process needs: `uplink` runs without the vision packages.
"""

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from homeplate import __version__, health, log
from homeplate.clock import SystemClock, utc_text
from homeplate.config import DEFAULT_PATH, Config, load_config
from homeplate.domain.purging import ByHand, Why
from homeplate.errors import BrokerError, ConfigError, HomeplateError, ModelError, TrustError

# Verbs import their process inside: uplink must start where cv2 and onnxruntime are not installed.
# ruff: noqa: PLC0415


_VISION = "pip install 'homeplate[cpu]', or the vendor's onnxruntime on a Jetson"


class _Group(click.Group):
    """Turns the errors that a person can mend into one line and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HomeplateError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(error.exit_code)
        except PermissionError as error:
            click.echo(
                f"error: {error.filename}: {error.strerror}; run this as the process's own user, or check the owner",
                err=True,
            )
            context.exit(ConfigError.exit_code)
        except ModuleNotFoundError as error:
            if error.name not in {"cv2", "onnxruntime"}:
                raise
            click.echo(f"error: {error.name} is not installed: {_VISION}", err=True)
            context.exit(ModelError.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="homeplate")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_PATH,
    show_default=True,
    help="The node's configuration (TOML).",
)
@click.pass_context
def main(context: click.Context, config_path: Path) -> None:
    """The licence plate reader node that keeps plates home."""
    context.obj = config_path
    log.configure()


def _config(context: click.Context) -> Config:
    return load_config(context.find_root().obj)


def _stop_on_signals(*more: signal.Signals) -> threading.Event:
    """Return an event that SIGTERM, SIGINT and `more` set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, *more):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _harden(config: Config) -> None:
    from homeplate.app.node import Paths, load_identity

    simulation = load_identity(Paths.of(config)).simulation
    health.harden_process(allow_swap=config.node.allow_swap or simulation)


@main.command()
@click.option("--root", type=click.Path(path_type=Path, exists=True), required=True, help="The trusted root (JSON).")
@click.option("--request", type=click.Path(path_type=Path), required=True, help="Where to write the enrolment request.")
@click.option("--simulation", is_flag=True, help="A folder for `simulate` and demos; never for a roadside node.")
@click.pass_context
def init(context: click.Context, root: Path, request: Path, simulation: bool) -> None:  # noqa: FBT001 - click's way
    """Make the node's keys, pin the root, write an enrolment request."""
    from homeplate.app.node import init_node

    pseudonym, fingerprint = init_node(_config(context), root=root, request=request, simulation=simulation)
    click.echo(f"node {pseudonym} made; bring {request} to the custodian: homeplate-custodian enrol CUSTODY {request}")
    click.echo(f"the custodian has to see the same fingerprint: {fingerprint}")


@main.command()
@click.option("--warn-days", type=click.IntRange(0, 366), default=14, show_default=True, help="Warn so early.")
@click.pass_context
def check(context: click.Context, warn_days: int) -> None:
    """Look at everything that a start needs and say what is wrong, one line a thing."""
    from homeplate.app.check import findings

    found = findings(_config(context), warn_days=warn_days)
    for finding in found:
        click.echo(f"{finding.mark:<5} {finding.thing}: {finding.text}")
    context.exit(next((finding.exit_code for finding in found if finding.exit_code), 0))


@main.command()
@click.pass_context
def capture(context: click.Context) -> None:
    """Run the process that sees plates: sources, detection, reading, sealing. It has no network."""
    from homeplate.app.capture import run_capture

    config = _config(context)
    _harden(config)
    summary = run_capture(config, _stop_on_signals(), health.watchdog())
    click.echo(summary.text())
    if summary.exit_code:
        context.exit(summary.exit_code)


@main.command()
@click.argument("source")
@click.pass_context
def grab(context: click.Context, source: str) -> None:
    """Run the process that has the network of one camera: it passes pictures to capture and holds no key."""
    from homeplate.app.grab import run_grabber

    config = _config(context)
    health.harden_process(allow_swap=config.node.allow_swap)
    run_grabber(config, source, _stop_on_signals(), health.watchdog())


@main.command()
@click.argument("source", required=False)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON a source and second.")
@click.option("--preview", is_flag=True, help="Serve pictures, their plates black, on the socket aim.sock.")
@click.option("--by", "who", help="With --preview: who looks (user name or badge number), for the ledger.")
@click.option("--minutes", type=click.IntRange(1, 60), default=10, show_default=True, help="How long it is served.")
@click.pass_context
def aim(  # noqa: PLR0917 - one parameter an option
    context: click.Context,
    source: str | None,
    as_json: bool,  # noqa: FBT001 - click's way
    preview: bool,  # noqa: FBT001
    who: str | None,
    minutes: int,
) -> None:
    """Help to aim a camera: what is seen of plates, and what to change. It reads none and keeps no picture."""
    from homeplate.app.aim import Asked, Screen, run_aim

    config = _config(context)
    if preview != (who is not None):
        raise ConfigError("a preview needs --preview and --by NAME: the ledger says who looked")
    asked = Asked(who=who, minutes=minutes) if who is not None else None
    if asked is not None:
        socket = config.node.runtime_dir / "aim.sock"
        click.echo(f"on your own machine: ssh -L 8080:{socket} THIS-NODE, then http://localhost:8080/", err=True)
    screen = Screen(terminal=sys.stdout.isatty(), json=as_json)
    context.exit(run_aim(config, source, asked, screen, _stop_on_signals(signal.SIGHUP)))


@main.command()
@click.option("--once", is_flag=True, help="One look at the spool, then end.")
@click.pass_context
def uplink(context: click.Context, once: bool) -> None:  # noqa: FBT001 - click's way
    """Run the process that has the network: deliver spooled records to recipients that the bundle names."""
    from homeplate.app.uplink import run_uplink

    config = _config(context)
    _harden(config)
    drained = run_uplink(config, _stop_on_signals(), health.watchdog(), once=once)
    if once:
        click.echo(
            f"confirmed {drained.confirmed}, refused {drained.refused}, failed {drained.failed}, "
            f"forgotten {drained.forgotten}, waiting {drained.waiting}"
        )
        if drained.halted:
            click.echo(f"nothing was tried: {drained.halted}", err=True)
            context.exit(TrustError.exit_code)
        if drained.failed:
            click.echo("not everything was delivered: `homeplate ledger show uplink` says why", err=True)
            context.exit(BrokerError.exit_code)


@main.command()
@click.pass_context
def run(context: click.Context) -> None:
    """Run capture and uplink in one process: only under a root marked `demo`."""
    from homeplate.app.run import run_together

    config = _config(context)
    _harden(config)
    summary = run_together(config, _stop_on_signals())
    click.echo(summary.text())
    if summary.exit_code:
        context.exit(summary.exit_code)


@main.command()
@click.option("--by", "who", help="By hand, before its time: who does it (user name or badge number).")
@click.option("--why", type=click.Choice([why.value for why in Why]), help="By hand: the ground.")
@click.option("--reference", help="By hand: the paper that says so; never a plate, it stands in the ledger.")
@click.option("--rule", help="By hand: whose records go.")
@click.option("--all", "everything", is_flag=True, help="By hand: the records of every rule.")
@click.option("--yes", is_flag=True, help="By hand: do not ask.")
@click.pass_context
def purge(context: click.Context, /, *, everything: bool, yes: bool, **given: str | None) -> None:
    """Destroy the keys of expired slots, then their files; leave a certificate.

    With --by, --why, --reference and --rule or --all also what is not over yet; what evidence holds keep stays.
    """
    from homeplate.app.purge import run_purge

    config = _config(context)
    health.harden_process(allow_swap=True)  # it sees no plate, and a deletion must not wait for anything
    by_hand = _by_hand(everything=everything, **given)
    if by_hand is not None and not yes:
        click.confirm(f"Destroy the records of {by_hand.rule or 'every rule'} before their time?", abort=True)
    click.echo(run_purge(config, by_hand))


def _by_hand(
    *, who: str | None, why: str | None, reference: str | None, rule: str | None, everything: bool
) -> ByHand | None:
    """Return what is asked by hand; None where nothing is.

    Raises:
        ConfigError: where a part is missing: the ledger needs all of them.
    """
    if not any((who, why, reference, rule, everything)):
        return None
    if who is None or why is None or reference is None or everything == (rule is not None):
        raise ConfigError("a purge by hand needs --by, --why, --reference, and --rule NAME or --all")
    try:
        return ByHand(who=who, why=Why(why), reference=reference, rule=rule)
    except ValueError as error:
        raise ConfigError(str(error)) from error


@main.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--stills", is_flag=True, help="Folders of pictures: each picture is its own sighting.")
@click.option(
    "--realtime",
    "fps",
    type=click.FloatRange(min=0, min_open=True, max=240),
    metavar="FPS",
    help="Imitate a live camera; the newest frame wins.",
)
@click.option("--no-publish", is_flag=True, help="Seal and spool only.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON line.")
@click.pass_context
def simulate(  # noqa: PLR0917 - one parameter an option
    context: click.Context,
    clips: Sequence[Path],
    stills: bool,  # noqa: FBT001 - click's way
    fps: float | None,
    no_publish: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Run the whole node on video files and folders of pictures, in its own data folder and its own time."""
    from homeplate.app.simulate import run_simulation

    config = _config(context)
    _harden(config)
    with click.progressbar(length=1, label="frames", file=sys.stderr, show_pos=True) as bar:

        def progress(done: int, total: int) -> None:
            bar.length = max(total, done, 1)
            bar.update(done - bar.pos)

        summary = run_simulation(
            config, clips, stills=stills, realtime_fps=fps, publish=not no_publish, progress=progress
        )
    click.echo(summary.json() if as_json else summary.text())
    if summary.exit_code:
        context.exit(summary.exit_code)


@main.group()
def bundle() -> None:
    """The signed bundle: who may receive, what is kept, which nodes exist."""


@bundle.command("install")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="The node's TLS client certificate.")
@click.pass_context
def bundle_install(context: click.Context, folder: Path, certificate: Path | None) -> None:
    """Verify a bundle and put it in force; refuses what is older, expired or unsigned."""
    from homeplate.app.node import Paths, install

    config = _config(context)
    version = install(config, folder, certificate, lambda: SystemClock(Paths.of(config).clock, "bundle"))
    click.echo(f"bundle {version} is in force; next: homeplate check")


@bundle.command("serve")
@click.option("--once", is_flag=True, help="One look at the inbox, then end.")
@click.pass_context
def bundle_serve(context: click.Context, once: bool) -> None:  # noqa: FBT001 - click's way
    """Run the process that puts bundles in force: verify what lies in the inbox. It has no network."""
    from homeplate.app.bundle import run_bundle_service

    config = _config(context)
    health.harden_process(allow_swap=True)  # it sees no plate and holds no key
    line = run_bundle_service(config, _stop_on_signals(), health.watchdog(), once=once)
    if line:
        click.echo(line)


@bundle.command("egress")
@click.option("--format", "form", type=click.Choice(["systemd", "nftables"]), required=True)
@click.option("--user", help="Uplink's user, by name or number; the configuration's where left out.")
@click.pass_context
def bundle_egress(context: click.Context, form: str, user: str | None) -> None:
    """Print what the kernel lets uplink reach at this moment; where no bundle is in force, nothing."""
    from homeplate.app.bundle import egress_text

    text, why = egress_text(_config(context), form=form, user=user)
    click.echo(text, nl=False)
    if why is not None:
        click.echo(f"nothing is allowed: {why}", err=True)
        context.exit(TrustError.exit_code)


@bundle.command("show")
@click.pass_context
def bundle_show(context: click.Context) -> None:
    """Say who may receive what, and who not and why."""
    from homeplate.app.check import describe_bundle

    for line in describe_bundle(_config(context)):
        click.echo(line)


@main.group()
def models() -> None:
    """The detector and the reader: what they need at install."""


@models.command("build")
@click.pass_context
def models_build(context: click.Context) -> None:
    """Build the engines that models.provider needs: once after each install, for minutes."""
    from homeplate.app.models import built_engines, opened_models

    config = _config(context)
    for path in built_engines(config):
        click.echo(f"built {path}")
    running = opened_models(config).running
    click.echo(f"the models run on {running.provider} in {running.precision}; next: homeplate check")


@main.group()
def hold() -> None:
    """Evidence holds: records that a custodian's signature keeps past their retention, and no longer than it says."""


@hold.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def hold_apply(context: click.Context, file: Path) -> None:
    """Put a signed hold in force; a refusal names its reason and is in the ledger."""
    from homeplate.app.hold import apply_hold

    health.harden_process(allow_swap=True)  # it sees sealed records only
    click.echo(apply_hold(_config(context), file))


@hold.command("release")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def hold_release(context: click.Context, file: Path) -> None:
    """End a hold by a signed release: its key is destroyed at once, or by the purge that is running."""
    from homeplate.app.hold import release_hold
    from homeplate.app.purge import run_purge

    config = _config(context)
    health.harden_process(allow_swap=True)
    click.echo(release_hold(config, file))
    click.echo(run_purge(config))


@hold.command("list")
@click.pass_context
def hold_list(context: click.Context) -> None:
    """Say which holds are in force."""
    from homeplate.app.hold import list_holds

    for line in list_holds(_config(context)) or ["no hold is in force"]:
        click.echo(line)


@hold.command("export")
@click.argument("hold_id")
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_context
def hold_export(context: click.Context, hold_id: str, folder: Path) -> None:
    """Write a hold's records into a new folder, sealed as their recipients get them."""
    from homeplate.app.hold import export_hold

    health.harden_process(allow_swap=True)
    click.echo(
        f"{export_hold(_config(context), hold_id, folder)} sealed records in {folder}; bring it to the custodian"
    )


@main.group()
def ledger() -> None:
    """The Merkle logs: rows without plates, checkpoints that a third party verifies."""


@ledger.command("show")
@click.argument("process", type=click.Choice(["capture", "uplink", "purge", "bundle", "hold", "aim"]))
@click.option("--last", type=click.IntRange(1, 100_000), default=20, show_default=True)
@click.pass_context
def ledger_show(context: click.Context, process: str, last: int) -> None:
    """Print a process's newest rows."""
    from homeplate.app.ledger import newest_rows

    for row in newest_rows(_config(context), process, last):
        fields = " ".join(f"{name}={value}" for name, value in sorted(row.fields.items()))
        click.echo(f"{row.number:>6} {utc_text(row.time_ns)} {row.event} {fields}")


@ledger.command("sign")
@click.pass_context
def ledger_sign(context: click.Context) -> None:
    """Sign a checkpoint over each log."""
    from homeplate.app.ledger import sign_all

    for name, checkpoint in sign_all(_config(context)).items():
        click.echo(f"{name}: {checkpoint.size} rows signed")


@ledger.command("request")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--since", multiple=True, metavar="LOG=SIZE", help="What size the witness says it saw last.")
@click.pass_context
def ledger_request(context: click.Context, file: Path, since: tuple[str, ...]) -> None:
    """Write what the node asks of its witnesses: checkpoints and proofs, never a row."""
    from homeplate.app.ledger import ask_witnesses

    sizes = dict(text.partition("=")[::2] for text in since)
    if not all(size.isascii() and size.isdigit() for size in sizes.values()):
        raise ConfigError("--since is LOG=SIZE, as the witness said it: --since capture=120")
    count = ask_witnesses(_config(context), file, {name: int(size) for name, size in sizes.items()})
    click.echo(f"{count} requests in {file}; bring it to the witness (`homeplate-custodian witness cosign`)")


@ledger.command("cosigned")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.pass_context
def ledger_cosigned(context: click.Context, file: Path) -> None:
    """Take in what a witness cosigned."""
    from homeplate.app.ledger import take_cosigned

    for line in take_cosigned(_config(context), file):
        click.echo(line)


@ledger.command("archive")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def ledger_archive(context: click.Context, folder: Path) -> None:
    """Move closed, signed ledger files that are older than any record off the node."""
    from homeplate.app.ledger import archive_all

    moved = archive_all(_config(context), folder)
    for path in moved:
        click.echo(str(path))
    if not moved:
        click.echo("nothing to archive: no closed and signed file is older than 61 days")


@ledger.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--withhold", multiple=True, metavar="EVENT", help="Show no row of this event.")
@click.option(
    "--archive",
    "archives",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    multiple=True,
    help="A folder of archived ledger files.",
)
@click.pass_context
def ledger_export(context: click.Context, folder: Path, withhold: tuple[str, ...], archives: tuple[Path, ...]) -> None:
    """Write the ledgers as anybody may read them: past days, no time of day, and still they verify."""
    from homeplate.app.ledger import export_all

    for name, done in export_all(_config(context), folder, withheld=withhold, archives=archives).items():
        click.echo(f"{name}: rows {done.first} to {done.last}, {done.withheld} of them withheld")
    click.echo(f"to verify: homeplate-custodian verify {folder} --bundle BUNDLE --root ROOT")


if __name__ == "__main__":
    main()
