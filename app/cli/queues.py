"""`queues`: list, show, pause, resume, empty."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import print_message, print_table, print_unreadable, print_warnings

COUNTS = ("queued", "started", "scheduled", "deferred", "failed", "finished", "canceled")
QUEUE_ARGUMENT = click.argument("name", shell_complete=complete.queues)


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Queues and their jobs."""


@group.command("list")
@click.pass_obj
def list_queues(api: Api) -> None:
    """List queues with the counts of their jobs."""
    api.show(api.call("GET", "queues"), _print_page)


def _print_page(page: Any) -> None:
    _print_queues(*page["queues"])
    print_unreadable(page)


def _print_queues(*queues: Any) -> None:
    rows = (
        (queue["name"], "paused" if queue["paused"] else "", *(queue["counts"][state] for state in COUNTS))
        for queue in queues
    )
    print_table(("name", "", *COUNTS), rows)
    for queue in queues:
        print_warnings(queue)


def _print_deleted(answer: Any) -> None:
    print_message(f"Deleted {answer['deleted']} jobs")


for verb, method, print_readable, help_text in (
    ("show", "GET", _print_queues, "Show a queue with the counts of its jobs."),
    ("pause", "POST", _print_queues, "Pause a queue: it accepts jobs, but workers start none of them."),
    ("resume", "POST", _print_queues, "Resume a paused queue."),
    ("empty", "POST", _print_deleted, "Delete all queued jobs of a queue."),
):
    group.add_item_command(verb, "queues", QUEUE_ARGUMENT, print_readable, help_text, method)
