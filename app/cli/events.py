"""`events`: what happens to jobs, as it happens."""

from typing import Any

import click
import orjson

from app.cli import complete, follow
from app.cli.command import Api, Command
from app.cli.output import document, moment, plain, say


@click.command(cls=Command)
@click.option("--queue", shell_complete=complete.queues)
@click.option("--function", shell_complete=complete.functions)
@click.pass_obj
def events(api: Api, **query: Any) -> None:
    """What happens to jobs, as it happens: a line for each change of state, until Ctrl-C."""
    for event in follow.events(api, "events", query=query):
        if event.kind == "reset":
            say(plain(orjson.loads(event.data)["reason"]))
        elif api.as_json:
            document(event.data)
        else:
            one = orjson.loads(event.data)
            click.echo("  ".join([moment(one["at"]), plain(one["status"]), plain(one["queue"]), plain(one["id"])]))
