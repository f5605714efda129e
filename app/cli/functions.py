"""`functions`: what can be run."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import block, details, plain, say, table


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """What can be run."""


@group.command("list")
@click.pass_obj
def list_functions(api: Api) -> None:
    """Every function, the modules that do not import, and the functions that are set aside."""
    api.show(api.call("GET", "functions"), _table)


@group.command()
@click.argument("name", shell_complete=complete.functions)
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One function, with its arguments."""
    api.show(api.call("GET", "functions", name), _show)


def _table(found: Any) -> None:
    rows = ((one["name"], one["options"]["queue"], one["description"].partition("\n")[0]) for one in found["functions"])
    table(("name", "queue", "description"), rows)
    for module, reason in found["broken"].items():
        say(f"{plain(module)} does not import: {plain(reason)}")
    for one in found["rejected"]:
        say(f"{plain(one['name'])} is set aside: {plain(one['file'])}:{one['line']}: {plain(one['reason'])}")


def _show(function: Any) -> None:
    details({"name": function["name"], **function["options"]})
    click.echo()
    block(function["description"])
    schema = function["arguments"]
    needed = schema.get("required", [])
    rows = [
        (name, _type(said), "required" if name in needed else said.get("default"), said.get("description"))
        for name, said in schema.get("properties", {}).items()
    ]
    if rows:
        click.echo()
        table(("argument", "type", "default", "description"), rows)


def _type(schema: Any) -> str:
    """A JSON Schema in a word, if there is one for it."""
    if not isinstance(schema, dict):
        return "any"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(plain(one) for one in schema["enum"])
    return str(schema.get("format") or schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])
