"""Extreme values for each parameter and each part of a body that an OpenAPI document describes, one at a time."""

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import orjson

Schema = dict[str, Any]
MOMENTS = (
    "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00",
)  # fmt: skip
DIGITS = ("9" * 5000, "9" * 30 + "-0", "\u00b2", "-1", "1e400", "NaN")
TEXTS = ("", "\0", "\u202e\x1b[2J", "x" * 10_000)
NUMBERS = (0, -1, 1e-9, 5e-324, 0.5, 1e308, 2**63 - 1, 2**64 - 1)
PLACES: tuple[Any, ...] = (["1", 5], [1, "x"], ["1"], ["nan", "x"], ["9" * 5000, "x"], [None, None], {}, 5)


def _cursors() -> Iterator[str]:
    for place in PLACES:
        source = ["queued", "default", place]
        for plain in (orjson.dumps(source), zlib.compress(orjson.dumps([source]))):
            yield base64.urlsafe_b64encode(plain).decode().rstrip("=")
    yield base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode()


CURSORS = (*_cursors(), *DIGITS, "9" * 19 + "-" + "9" * 19, "18446744073709551616-0", "\u0663-\u0663")


RULES = {"interval", "cron", "at"}
"""Of which a schedule has one."""


class Extremes:
    """Of one document."""

    def __init__(self, document: Schema) -> None:
        self.document = document

    def of(self, operation: Schema) -> Iterator[dict[str, Any]]:
        """Arguments of schemathesis' `Case`: {"query": ...}, {"headers": ...} or {"body": ...}."""
        for parameter in operation.get("parameters", ()):
            place = {"query": "query", "header": "headers"}.get(parameter["in"])
            if place is None:
                continue
            for value in self.values(parameter["schema"], parameter["name"]):
                text = str(value)
                if place == "query" or (text.isprintable() and text.isascii()):
                    shown = f"wait={text}" if parameter["name"] == "Prefer" else text
                    yield {place: {parameter["name"]: shown}}
        self._seen = set[str]()
        body = operation.get("requestBody")
        if body:
            for value in self.instances(next(iter(body["content"].values()))["schema"]):
                yield {"body": value}

    def instances(self, schema: Schema, depth: int = 0) -> Iterator[Any]:
        """Values of a schema: an object with each of its properties in turn, beside those that it needs."""
        if (reference := schema.get("$ref")) in self._seen:
            return
        self._seen |= {reference} - {None}
        schema = self.plain(schema)
        if "anyOf" in schema:
            for one in schema["anyOf"]:
                yield from self.instances({**one, "title": schema.get("title", "")}, depth)
        elif schema.get("type") == "object" and schema.get("properties") and depth < 6:
            known = self.needed(schema)
            for name, part in schema["properties"].items():
                others = {other: value for other, value in known.items() if {other, name} - RULES}
                for value in self.instances({"title": name, **part}, depth + 1):
                    yield {**others, name: value}
        elif schema.get("type") == "array" and "items" in schema and depth < 6:
            for value in self.instances(schema["items"], depth + 1):
                yield [value]
        else:
            yield from self.values(schema, schema.get("title", ""))

    def values(self, schema: Schema, name: str) -> Iterator[Any]:
        """What a parameter may be, and what it may not."""
        schema = self.plain(schema)
        if "anyOf" in schema:
            for one in schema["anyOf"]:
                yield from self.values(one, name)
        elif name.lower() == "cursor":
            yield from CURSORS
        elif name in ("Prefer", "Last-Event-ID"):
            yield from DIGITS
        elif schema.get("format") == "date-time":
            yield from MOMENTS
        elif schema.get("type") in ("number", "integer"):
            yield from {*NUMBERS, *(schema[edge] for edge in ("minimum", "maximum") if edge in schema)}
        elif schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
            yield from TEXTS

    def largest(self, schema: Schema) -> Any:
        """A value that is valid, and as large as it may be."""
        schema = self.plain(schema)
        if "anyOf" in schema:
            return self.largest(schema["anyOf"][0])
        if examples := schema.get("examples"):
            return examples[0]
        if schema.get("type") in ("number", "integer"):
            return schema.get("maximum", 1)
        if schema.get("type") == "array":
            return [self.largest(schema["items"])] if schema.get("minItems") else []
        if schema.get("type") == "object":
            return self.needed(schema)
        return "demo.add" if schema.get("title") == "Function" else "a"

    def needed(self, schema: Schema) -> Schema:
        """The required properties of an object, and with a function its arguments, with an interval a valid one."""
        parts = schema["properties"]
        known = {name: self.largest(parts[name]) for name in schema.get("required", ())}
        known |= {"args": [1, 2]} if {"function", "args"} <= parts.keys() else {}
        return known | ({"interval": 60} if "interval" in parts else {})

    def plain(self, schema: Schema) -> Schema:
        """Without the reference, if it is one."""
        if "$ref" not in schema:
            return schema
        found = self.document
        for word in schema["$ref"].removeprefix("#/").split("/"):
            found = found[word]
        return {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
