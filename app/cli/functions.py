"""`functions`: what can be run."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import one_line, print_details, print_lines, print_message, print_table


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """What can be run."""


@group.command("list")
@click.pass_obj
def list_functions(api: Api) -> None:
    """Every function, the modules that do not import, and the functions that are set aside."""
    api.show(api.call("GET", "functions"), _print_functions)


@group.command()
@click.argument("name", shell_complete=complete.functions)
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One function, with its arguments."""
    api.show(api.call("GET", "functions", name), _print_function)


def _print_functions(answer: Any) -> None:
    rows = (
        (one["name"], one["options"]["queue"], one["description"].partition("\n")[0]) for one in answer["functions"]
    )
    print_table(("name", "queue", "description"), rows)
    for module, reason in answer["broken"].items():
        print_message(f"{one_line(module)} does not import: {one_line(reason)}")
    for one in answer["rejected"]:
        print_message(
            f"{one_line(one['name'])} is set aside: {one_line(one['file'])}:{one['line']}: {one_line(one['reason'])}"
        )


def _print_function(function: Any) -> None:
    print_details({"name": function["name"], **function["options"]})
    click.echo()
    print_lines(function["description"])
    schema = function["arguments"]
    needed = schema.get("required", [])
    rows = [
        (name, _type_name(said), "required" if name in needed else said.get("default"), said.get("description"))
        for name, said in schema.get("properties", {}).items()
    ]
    if rows:
        click.echo()
        print_table(("argument", "type", "default", "description"), rows)


def _type_name(schema: Any) -> str:
    """A JSON Schema in a word, if there is one for it."""
    if not isinstance(schema, dict):
        return "any"
    if "anyOf" in schema:
        return " or ".join(_type_name(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(one_line(one) for one in schema["enum"])
    return str(schema.get("format") or schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])
