"""What every command has: --json, --url and --key-file, the exit codes, and a connection to the API."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from app.cli.client import ApiResponse, Client
from app.cli.interrupt import EXIT_INTERRUPTED, interruptible
from app.cli.output import print_json

EXIT_CODES = """\b
Exit codes:
  0    done
  1    the job or the workflow failed, was stopped or canceled (wait, watch, enqueue --wait)
  2    wrong usage
  3    the API refuses: no such thing, not allowed, or the input does not fit
  4    the API does not answer, or cannot now
  124  it has not ended in time (wait, watch, enqueue --wait)
  130  Ctrl-C, or no to a question

The key is in JOBLINE_API_KEY, or in a file: --key-file, JOBLINE_API_KEY_FILE.
"""


@dataclass(frozen=True)
class Api:
    """What a command works with."""

    client: Client
    as_json: bool

    def call(self, method: str, *path: str, **options: Any) -> ApiResponse:
        """As Client.call."""
        return self.client.call(method, *path, **options)

    def show(self, answer: ApiResponse, print_readable: Callable[[Any], None]) -> None:
        """The answer: the API's JSON as it came, or what `readable` prints of it."""
        if not self.as_json:
            print_readable(answer.json)
        elif answer.text:
            print_json(answer.text)


class Command(click.Command):
    """Its function gets an Api first."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"epilog": EXIT_CODES, **kwargs})
        self.params += shared_options()

    def invoke(self, ctx: click.Context) -> Any:
        url, key_file, as_json = (ctx.params.pop(name) for name in ("url", "key_file", "as_json"))
        ctx.obj = Api(Client(url, key_file), as_json)
        try:
            with interruptible():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(EXIT_INTERRUPTED)


class Resource(click.Group):
    """The commands of one resource of the API."""

    command_class = Command


def shared_options() -> list[click.Parameter]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print the API's JSON, and nothing else."),
        click.Option(["--url"], envvar="JOBLINE_URL", show_envvar=True, help="Of the API; default: this machine's."),
        click.Option(
            ["--key-file"], type=click.Path(), envvar="JOBLINE_API_KEY_FILE", show_envvar=True, help="Holds the key."
        ),
    ]
