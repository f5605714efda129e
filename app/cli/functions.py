"""`functions`: list, show."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import one_line, print_details, print_lines, print_message, print_table


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Functions that can be called."""


@group.command("list")
@click.pass_obj
def list_functions(api: Api) -> None:
    """List functions, modules that cannot be imported, and functions that are rejected."""
    api.show(api.call("GET", "functions"), _print_functions)


def _print_functions(answer: Any) -> None:
    rows = (
        (function["name"], function["options"]["queue"], function["description"].partition("\n")[0])
        for function in answer["functions"]
    )
    print_table(("name", "queue", "description"), rows)
    for module, reason in answer["broken"].items():
        print_message(f"{one_line(module)} does not import: {one_line(reason)}")
    for function in answer["rejected"]:
        name, file, reason = (one_line(function[field]) for field in ("name", "file", "reason"))
        print_message(f"{name} is set aside: {file}:{function['line']}: {reason}")


def _print_function(function: Any) -> None:
    print_details({"name": function["name"], **function["options"]})
    click.echo()
    print_lines(function["description"])
    schema = function["arguments"]
    required = schema.get("required", [])
    rows = [
        (name, _type_name(field), "required" if name in required else field.get("default"), field.get("description"))
        for name, field in schema.get("properties", {}).items()
    ]
    if rows:
        click.echo()
        print_table(("argument", "type", "default", "description"), rows)


def _type_name(schema: Any) -> str:
    """The type that a JSON Schema describes, in short."""
    if not isinstance(schema, dict):
        return "any"
    if "anyOf" in schema:
        return " or ".join(_type_name(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(one_line(value) for value in schema["enum"])
    return str(schema.get("format") or schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])


group.add_item_command(
    "show",
    "functions",
    click.argument("name", shell_complete=complete.functions),
    _print_function,
    "Show a function with its options and arguments.",
    "GET",
)
