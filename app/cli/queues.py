"""`queues`: look, pause, resume, empty."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import print_message, print_table, print_unreadable, print_warnings

COUNTS = ("queued", "started", "scheduled", "deferred", "failed", "finished", "canceled")
QUEUE_ARGUMENT = click.argument("name", shell_complete=complete.queues)


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Where jobs wait."""


@group.command("list")
@click.pass_obj
def list_queues(api: Api) -> None:
    """Every queue with its counts."""
    api.show(api.call("GET", "queues"), _print_page)


def _print_page(page: Any) -> None:
    _print_queues(page["queues"])
    print_unreadable(page)


@group.command()
@QUEUE_ARGUMENT
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One queue with its counts."""
    api.show(api.call("GET", "queues", name), _print_queue)


@group.command()
@QUEUE_ARGUMENT
@click.pass_obj
def pause(api: Api, name: str) -> None:
    """Accept jobs, and run none."""
    api.show(api.call("POST", "queues", name, "pause"), _print_queue)


@group.command()
@QUEUE_ARGUMENT
@click.pass_obj
def resume(api: Api, name: str) -> None:
    """Run jobs again."""
    api.show(api.call("POST", "queues", name, "resume"), _print_queue)


@group.command()
@QUEUE_ARGUMENT
@click.pass_obj
def empty(api: Api, name: str) -> None:
    """Delete the jobs that wait in it."""
    api.show(
        api.call("POST", "queues", name, "empty"), lambda page: print_message(f"{page['deleted']} jobs are deleted")
    )


def _print_queue(queue: Any) -> None:
    _print_queues([queue])


def _print_queues(queues: list[Any]) -> None:
    rows = (
        (queue["name"], "paused" if queue["paused"] else "", *(queue["counts"][state] for state in COUNTS))
        for queue in queues
    )
    print_table(("name", "", *COUNTS), rows)
    for queue in queues:
        print_warnings(queue)
