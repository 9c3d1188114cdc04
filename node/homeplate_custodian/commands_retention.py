"""`homeplate-custodian bundle rule profile | reviewed`: how long at most, and when the operator last reviewed it."""

from datetime import UTC, date, datetime
from pathlib import Path

import click

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.profiles import CAPS, Profile
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import ConfigError
from homeplate_custodian import provision

_CUSTODY = click.argument("custody", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@_CUSTODY
@click.argument("name", type=click.Choice([*(one.value for one in Profile), "none"]))
def profile(custody: Path, name: str) -> None:
    """Draft the profile that caps every rule's retention; a bundle with a longer rule is refused by every node."""
    chosen = None if name == "none" else Profile(name)
    provision.set_profile(custody, chosen)
    if chosen is not None:
        caps = CAPS[chosen]
        click.echo(f"hits {_days(caps.hit_s)}, everything else {_days(caps.everything_s)} at most ({caps.source})")


@click.command()
@_CUSTODY
@click.option("--on", "day", help="The day of the review, YYYY-MM-DD; today where left out.")
def reviewed(custody: Path, day: str | None) -> None:
    """Draft that the operator reviewed the retention; `homeplate check` warns when two years are over."""
    today = datetime.fromtimestamp(WallClock().now_ns() // NANOSECONDS, tz=UTC).date()
    try:
        done = today if day is None else date.fromisoformat(day)
    except ValueError as error:
        raise ConfigError(f"--on: {day!r} is no day; write YYYY-MM-DD") from error
    if done > today:
        raise ConfigError(f"--on: {done} is to come; a review is over when it is written down")
    provision.set_reviewed(custody, done.isoformat())
    click.echo(f"retention reviewed on {done}; next: homeplate-custodian bundle publish")


def _days(seconds: int) -> str:
    return f"{seconds // DAY_SECONDS} days" if seconds >= DAY_SECONDS else f"{seconds} s"
