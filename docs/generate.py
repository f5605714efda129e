"""Write docs/settings.md and docs/redis.md from the code: `make docs`. A test fails while they are not current."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.redis.fields import FIELDS, OTHERS, RQ
from app.redis.keys import DECLARED
from app.settings import SECRETS, Settings

FOLDER = Path(__file__).parent
MIB, KIB = 1024**2, 1024

SETTINGS = """# Settings

From the environment or `.env`. A setting that is marked secret may come from a file instead: `<NAME>_FILE` names it.
All bad values are reported together when a process starts. RQ's own `RQ_*` variables work too.

This page is generated from `app/settings.py` by `make docs`.

| setting | default | values | meaning |
|---|---|---|---|
"""
REDIS = """# Keys in Redis

Jobline writes into RQ's keys what RQ would write, so that stock workers and the tools of RQ go on working.
Its own keys begin with `jobline:`. Its own fields in RQ's hashes are listed below.

This page is generated from `app/redis/keys.py` and `app/redis/fields.py` by `make docs`.
A test compares it with what a run leaves in Redis.
"""
KEY_TABLE = "| key | type | how long it lives | what it holds |\n|---|---|---|---|\n"
FIELD_TABLE = "| field | type | written by | read by | how long it lives | what it holds |\n|---|---|---|---|---|---|\n"


def pages() -> dict[Path, str]:
    """The text of each generated page."""
    return {FOLDER / "settings.md": SETTINGS + "".join(_settings()), FOLDER / "redis.md": REDIS + "".join(_redis())}


def _settings() -> Iterator[str]:
    about = _docstrings()
    for name, field in Settings.model_fields.items():
        meaning = " ".join(about[name].split()) + (" Secret." if name in SECRETS else "")
        yield f"| `{name.upper()}` | {_default(field)} | {_values(field)} | {meaning} |\n"


def _docstrings() -> dict[str, str]:
    """The text below each setting."""
    module = ast.parse((FOLDER.parent / "app" / "settings.py").read_text())
    [body] = [node.body for node in module.body if isinstance(node, ast.ClassDef)]
    found: dict[str, str] = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(field.target)] = str(text.value.value)
    return found


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if value is None or value == "" or (isinstance(value, SecretStr) and not value.get_secret_value()):
        return "none"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    for size, unit in ((1024**3, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if isinstance(value, int) and value >= size and value % size == 0:
            return f"`{value}` ({value // size} {unit})"
    if isinstance(value, int) and value >= 86_400 and value % 86_400 == 0:
        return f"`{value}` ({value // 86_400} d)"
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    limits = {
        name: getattr(limit, name) for limit in field.metadata for name in ("gt", "ge", "le") if hasattr(limit, name)
    }
    low = limits.get("ge", limits["gt"] + 1 if "gt" in limits else None)
    if low is None:
        return "`0`, `1`" if kind is bool else "text"
    return f"{low} to {limits['le']}" if "le" in limits else f"{low} or more"


def _redis() -> Iterator[str]:
    ours = [key for key in DECLARED.values() if key.pattern.startswith("jobline:")]
    others = [key for key in DECLARED.values() if key not in ours]
    titles = {"Jobline's keys": ours, "RQ's keys that Jobline names": others, "Other keys": list(OTHERS.values())}
    for title, keys in titles.items():
        yield f"\n## {title}\n\n{KEY_TABLE}"
        for key in keys:
            yield f"| `{key.pattern}` | {key.kind} | {key.lifetime or '-'} | {_line(key.description)} |\n"
    for name, fields in FIELDS.items():
        own = [field for field in fields if field.writer != RQ]
        if own:
            yield f"\n## Fields of `{DECLARED[name].pattern}`\n\n"
            if len(own) < len(fields):
                yield "The other fields are RQ's.\n\n"
            yield FIELD_TABLE
            for field in own:
                who = " | ".join((field.writer, field.reader))
                yield f"| `{field.pattern}` | {field.kind} | {who} | {field.lifetime} | {field.description} |\n"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
