"""Shell completion: names and ids from the API, if it answers within TIMEOUT_SECONDS."""

import contextlib
from collections.abc import Callable

import click

from app.cli.client import Client

TIMEOUT_SECONDS = 1.0

Completer = Callable[[click.Context, click.Parameter, str], list[str]]


def _complete_from(resource: str, field: str = "name") -> Completer:
    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):  # an error message would be printed into the line being typed
            client = Client(ctx.params.get("url"), ctx.params.get("key_file"), TIMEOUT_SECONDS)
            items = client.call("GET", resource).json[resource]
            return [item[field] for item in items if item[field].startswith(incomplete)]
        return []

    return complete


functions, queues, schedules = _complete_from("functions"), _complete_from("queues"), _complete_from("schedules")
workers = _complete_from("workers")
jobs, workflows = _complete_from("jobs", "id"), _complete_from("workflows", "id")
