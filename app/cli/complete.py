"""What the shell offers while one types: names from the API, if it answers within a second."""

import contextlib
from collections.abc import Callable

import click

from app.cli.client import Client

PATIENCE = 1.0  # seconds

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _names(resource: str, field: str = "name") -> Completer:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):  # whatever it is, it must not be printed into the line being typed
            client = Client(ctx.params.get("url"), ctx.params.get("key_file"), PATIENCE)
            found = client.call("GET", resource).json[resource]
            return [one[field] for one in found if one[field].startswith(incomplete)]
        return []

    return complete


functions, queues, schedules = _names("functions"), _names("queues"), _names("schedules")
workers = _names("workers")
jobs, workflows = _names("jobs", "id"), _names("workflows", "id")
