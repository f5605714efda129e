"""`python -m app`: everything, for development; and `python -m app keys new NAME --scopes enqueue,read`."""

import sys

import click
from pydantic import ValidationError

from app import api_keys
from app.settings import get_settings


@click.group(invoke_without_command=True)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Jobline. Without a command: start everything in the foreground."""
    if ctx.invoked_subcommand is None:
        from app import supervisor

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


if __name__ == "__main__":
    try:
        main(prog_name="python -m app")
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, found['loc'])).upper() or 'settings'}: {found['msg']}"
            for found in error.errors(include_input=False)
        )
        sys.exit("\n".join(lines))
