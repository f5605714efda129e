"""`python -m app`: everything, for development; `... keys new NAME`; `... probe worker`; and the API's command line."""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C while the rest loads: a KeyboardInterrupt would show a traceback, or be dropped by the import system
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from collections.abc import Callable
from importlib import import_module

import click
from pydantic import ValidationError
from redis import Redis

from app.access import api_keys
from app.redis import client
from app.settings import get_settings

RESOURCE_GROUPS = ("jobs", "functions", "queues", "workers", "schedules", "workflows")
READ_ONLY_COMMANDS = ("events", "failures", "audit")


class Main(click.Group):
    """With a group of commands for each resource of the API, and commands that only look; loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *RESOURCE_GROUPS, *READ_ONLY_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in (*RESOURCE_GROUPS, *READ_ONLY_COMMANDS):
            module = import_module(f"app.cli.{cmd_name}")
            found: click.Command = getattr(module, "group" if cmd_name in RESOURCE_GROUPS else cmd_name)
            return found
        return super().get_command(ctx, cmd_name)


@click.group(cls=Main, invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Jobline. Without a command: start everything in the foreground."""
    if ctx.invoked_subcommand is None:
        from app.processes import supervisor

        sys.exit(supervisor.run(get_settings()))


@main.group()
def keys() -> None:
    """API keys."""


@keys.command()
@click.argument("name")
@click.option("--scopes", default="read,enqueue", show_default=True, help="Of read, enqueue and admin.")
def new(name: str, scopes: str) -> None:
    """Make a key: it is shown once, on the first line; the second is the entry for API_KEYS."""
    try:
        key, entry = api_keys.new(name, scopes.split(","))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(key)
    click.echo(entry)


@main.group()
def probe() -> None:
    """Health checks, for whoever runs the containers: exit code 0 if alive."""


@probe.command()
def worker() -> None:
    """Whether the workers of this host live: each one's parent and work horse have moved lately."""
    from app.views import health

    _exit_by(health.check_workers)


@probe.command()
def scheduler() -> None:
    """Whether the scheduler of this host lives, and one leads."""
    from app.views import health

    _exit_by(health.check_scheduler)


def _exit_by(check: Callable[[Redis], None]) -> None:
    from app.views import health

    try:
        check(client.connect(get_settings()))
    except health.Unhealthy as error:
        sys.exit(str(error))


if __name__ == "__main__":
    try:
        main(prog_name="jobline", complete_var="_JOBLINE_COMPLETE")
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, found['loc'])).upper() or 'settings'}: {found['msg']}"
            for found in error.errors(include_input=False)
        )
        sys.exit("\n".join(lines))
