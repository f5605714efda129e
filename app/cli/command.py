"""The base of all commands: the options --json, --url and --key-file, the exit codes, and the API client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from app.cli.arguments import Decorator
from app.cli.client import ApiResponse, Client
from app.cli.interrupt import EXIT_INTERRUPTED, interruptible
from app.cli.output import print_json

EXIT_CODES = """\b
Exit codes:
  0    done
  1    the job or the workflow failed, was stopped or canceled (wait, watch, enqueue --wait)
  2    wrong usage
  3    the API refused the request: not found, not allowed, or invalid
  4    the API does not answer, or is unavailable
  124  timeout: the job or the workflow has not ended (wait, watch, enqueue --wait)
  130  interrupted with Ctrl-C, or not confirmed

The API key is read from JOBLINE_API_KEY, or from the file named by --key-file or JOBLINE_API_KEY_FILE.
"""


@dataclass(frozen=True)
class Api:
    """The API client of a command, and how it prints answers."""

    client: Client
    as_json: bool

    def call(self, method: str, *path: str, **options: Any) -> ApiResponse:
        """Send a request: see `Client.call`."""
        return self.client.call(method, *path, **options)

    def show(self, answer: ApiResponse, print_readable: Callable[[Any], None]) -> None:
        """Print an answer: with --json the API's own JSON, else by `print_readable`."""
        if not self.as_json:
            print_readable(answer.json)
        elif answer.text:
            print_json(answer.text)


class Command(click.Command):
    """A command whose function gets an `Api` as its first argument."""

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

    def add_item_command(
        self,
        verb: str,
        resource: str,
        argument: Decorator,
        print_readable: Callable[[Any], None],
        help_text: str,
        method: str = "POST",
    ) -> None:
        """Add the command `VERB NAME`. It sends METHOD to /RESOURCE/NAME, for a POST to /RESOURCE/NAME/VERB."""
        action = [verb] if method == "POST" else []

        @self.command(verb, help=help_text)
        @argument
        @click.pass_obj
        def command(api: Api, **name: str) -> None:
            api.show(api.call(method, resource, *name.values(), *action), print_readable)


def shared_options() -> list[click.Parameter]:
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print the JSON answer of the API instead of text."),
        click.Option(
            ["--url"], envvar="JOBLINE_URL", show_envvar=True, help="URL of the API; default: on this machine."
        ),
        click.Option(
            ["--key-file"],
            type=click.Path(),
            envvar="JOBLINE_API_KEY_FILE",
            show_envvar=True,
            help="File that holds the API key.",
        ),
    ]
