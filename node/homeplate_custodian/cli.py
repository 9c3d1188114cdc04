"""`homeplate-custodian`: what runs off the device, where keys are. It assembles the commands; each lives with its work.

Errors are one line that names the thing and the next step, with the exit codes of `homeplate.errors`.
"""

from typing import Any

import click

from homeplate import __version__
from homeplate.errors import ConfigError, HomeplateError
from homeplate_custodian.commands_access import audit, keys
from homeplate_custodian.commands_bundle import bundle, sign
from homeplate_custodian.commands_hold import hold
from homeplate_custodian.commands_policy import policy
from homeplate_custodian.commands_provision import broker, enrol, init, key, rule
from homeplate_custodian.commands_records import open_records, receive
from homeplate_custodian.commands_report import report
from homeplate_custodian.commands_retention import profile, reviewed
from homeplate_custodian.commands_verify import verify
from homeplate_custodian.commands_witness import witness


class _Group(click.Group):
    """Turns the errors that a person can mend into one line and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except HomeplateError as error:
            click.echo(f"error: {error}", err=True)
            context.exit(error.exit_code)
        except PermissionError as error:
            click.echo(f"error: {error.filename}: {error.strerror}; run this as its owner", err=True)
            context.exit(ConfigError.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="homeplate-custodian")
def main() -> None:
    """Keys, enrolment, bundles, receiving and opening records, verifying ledgers."""


for _command in (
    init, key, sign, broker, enrol, bundle, receive, open_records, audit, keys, verify, hold, policy, witness, report,
):  # fmt: skip
    main.add_command(_command)
for _command in (profile, reviewed):
    rule.add_command(_command)
