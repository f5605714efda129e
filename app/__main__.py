"""The command line: `python -m app` runs everything; subcommands manage API keys, check health and call the API."""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C during imports: a KeyboardInterrupt would print a traceback, or be swallowed by the import system
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import click
from pydantic import ValidationError

from app.access import api_keys
from app.settings import get_settings

if TYPE_CHECKING:
    from redis import Redis

RESOURCE_GROUPS = ("jobs", "functions", "queues", "workers", "schedules", "workflows")
READ_ONLY_COMMANDS = ("events", "failures", "audit")


class Main(click.Group):
    """Adds a group for each resource of the API, and read-only commands. Their modules are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *RESOURCE_GROUPS, *READ_ONLY_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in (*RESOURCE_GROUPS, *READ_ONLY_COMMANDS):
            module = import_module(f"app.cli.{cmd_name}")
            command: click.Command = getattr(module, "group" if cmd_name in RESOURCE_GROUPS else cmd_name)
            return command
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
    """Create a key. Line 1 is the key, which is shown only once; line 2 is the entry for API_KEYS."""
    try:
        key, entry = api_keys.new(name, scopes.split(","))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(key)
    click.echo(entry)


@main.group()
def probe() -> None:
    """Health checks for container orchestrators: exit code 0 if healthy."""


@probe.command()
def worker() -> None:
    """Check the workers of this host: parent and work horse of each have a recent heartbeat."""
    from app.views import health

    _run_probe(health.check_workers)


@probe.command()
def scheduler() -> None:
    """Check that the scheduler of this host is alive, and that some scheduler leads."""
    from app.views import health

    _run_probe(health.check_scheduler)


def _run_probe(check: Callable[["Redis"], None]) -> None:
    from app.redis import client
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
            f"{'.'.join(map(str, item['loc'])).upper() or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False)
        )
        sys.exit("\n".join(lines))
