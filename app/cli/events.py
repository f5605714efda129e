"""`events`: the event stream of all jobs."""

from typing import Any

import click
import orjson

from app.cli import complete, follow
from app.cli.command import Api, Command
from app.cli.output import format_time, one_line, print_json, print_message


@click.command(cls=Command)
@click.option("--queue", shell_complete=complete.queues)
@click.option("--function", shell_complete=complete.functions)
@click.pass_obj
def events(api: Api, **query: Any) -> None:
    """Print each change of a job's status as it happens, until Ctrl-C."""
    for event in follow.events(api, "events", query=query):
        if event.kind == "reset":
            print_message(one_line(orjson.loads(event.data)["reason"]))
        elif api.as_json:
            print_json(event.data)
        else:
            change = orjson.loads(event.data)
            click.echo(
                "  ".join(
                    [
                        format_time(change["at"]),
                        one_line(change["status"]),
                        one_line(change["queue"]),
                        one_line(change["id"]),
                    ]
                )
            )
