"""Reads the README and the pages of docs/, and says what they name that is not there.

Commands, options, settings, URLs, files, modules and links.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qs, urlsplit

import click
import fakeredis
import rq.cli
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from app.__main__ import main
from app.api.application import create_app
from app.settings import SECRETS, Settings
from tests.conftest import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`|<code>(.*?)</code>")
FILE = re.compile(r"(?!\d)[\w.-]+(/[\w.-]*)+|\w+\.(py|yml|toml|lock|txt|md)")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
JOBLINE = ("jobline", ".venv/bin/jobline", "python -m app", ".venv/bin/python -m app")
PLACEHOLDERS = {*METHODS, "FUNCTION", "NAME", "FILE", "ID", "KEY", "SCHEDULES", "UTC", "SLOWLOG", "QUEUE"}
PLACEHOLDERS |= {"DEBUG", "INFO", "WARNING", "ERROR", "REDIS_PASSWORD"}
"""Upper-case words of examples."""
OTHERS_VARIABLES = {"RQ_WORKER_CLASS", "RQ_REDIS_URL", "RQ_CONFIG", "PATH", "JOBLINE_API_KEY", "_JOBLINE_COMPLETE"}
NOT_IN_THE_REPOSITORY = {"jobs/shop.py", ".venv/bin", ".data/", ".data/redis.url", ".data/valkey", "DATA_DIR/storage"}
"""What `make run` or the reader makes."""


def pages() -> dict[str, str]:
    """The text of each page, by its path in the repository."""
    top = (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    paths = [*top, *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def blocks(language: str) -> list[str]:
    """The code in this language of all pages."""
    return [block[2] for text in pages().values() for block in FENCE.finditer(text) if block[1] == language]


def missing(text: str, path: str = "README.md") -> list[str]:
    """A line for each name in this Markdown, of the page at `path`, that is not there."""
    found: list[str] = []
    for block in FENCE.finditer(text):
        for line in block[2].replace("\\\n", " ").splitlines() if block[1] in ("sh", "http", "text") else ():
            found += _of_span(line.strip())
    plain = FENCE.sub("", text)
    for paragraph in plain.split("\n\n"):
        for line in paragraph.splitlines() if paragraph.lstrip().startswith("|") else [paragraph]:
            found += _of_line(line)
    found += [
        f"link {target}" for target in re.findall(r"\]\(([^)\s]+)\)", plain) if not _link_leads(target, plain, path)
    ]
    return list(dict.fromkeys(found))


def spans(text: str) -> list[str]:
    return [" ".join((a or b).split()) for a, b in SPAN.findall(text)]


def _of_line(line: str) -> Iterator[str]:
    """A paragraph, or a row of a table, in which one span goes on where another left off."""
    method, before, commands = "", "", list[str]()
    first, _, rest = line.removeprefix("|").partition(" | ") if line.startswith("|") else ("", "", line)
    in_first = spans(first)
    is_of_commands = bool(in_first) and _command(in_first[0].split(" ")[0]) is not None
    for number, span in enumerate([*in_first, *spans(rest)]):
        words = span.split(" ")
        if words[0] in METHODS and len(words) > 1:
            method, before = words[0], words[1]
        elif span.startswith(".../"):
            before = f"{before.rpartition('/')[0]}/{span.removeprefix('.../')}"
            span = f"{method} {before}"
        elif number < len(in_first) and _is_path(span) and method:
            span = f"{method} {span}"
        if is_of_commands and number >= len(in_first) and _command(words[0]) is None:
            yield from _of_row(words, commands)
        else:
            commands = [*commands, span] if number < len(in_first) else [span]
            yield from _of_span(span)


def _of_row(words: list[str], commands: list[str]) -> Iterator[str]:
    """In a row of commands: a subcommand or an option of theirs, or something else."""
    named = {text: _walk(text.split(" "))[0] for text in commands}
    if words[0].startswith("--"):
        options = {option for command in named.values() for option in _options(command)}
        yield from (f"option {word}" for word in words if re.match("--[a-z]", word) and word not in options)
    elif re.fullmatch("[a-z]+", words[0]):
        for text, command in named.items():
            if isinstance(command, click.Group):
                yield from _commands([*text.split(" "), *words], main)
    else:
        yield from _of_span(" ".join(words))


def _of_span(span: str) -> Iterator[str]:
    words = span.split(" ")
    yield from _settings(span)
    yield from _modules(span)
    for url in re.findall(r"https?://127\.0\.0\.1:8000(/[^\s'\"]*)", span):
        yield from _url("", url)
    start = next((name for name in JOBLINE if span == name or span.startswith(f"{name} ")), None)
    while words and re.fullmatch(r"\w+=.*", words[0]) and len(words) > 1:
        words = words[1:]
    if words[0] in METHODS and len(words) > 1:
        yield from _url(words[0], words[1])
    elif start:
        yield from _commands(span.removeprefix(start).split(), main)
    elif words[0] == "rq":
        yield from _commands(words[1:], rq.cli.main)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        yield from (f"make {word}" for word in words[1:] if word not in targets)
    elif "benchmarks" in words or words[0] == "...":
        yield from _benchmarks(words[words.index("benchmarks") + 1 :] if "benchmarks" in words else words[1:])
    elif _command(words[0]) is not None and len(words) > 1:
        yield from _commands(words, main)
    elif words[0].startswith("--"):
        options = {option for command in _every(main) for option in _options(command)}
        yield from (f"option {word}" for word in words if re.match("--[a-z]", word) and word not in options)
    elif _is_path(span):
        yield from _url("", span)
    elif FILE.fullmatch(span) and not any((root / span).exists() for root in (ROOT, ROOT / "app")):
        if (ROOT / "app" / f"{span}.lua").exists():
            return
        yield from () if span in NOT_IN_THE_REPOSITORY else (f"file {span}",)


def _is_path(span: str) -> bool:
    return re.fullmatch(r"/[\w{}./-]*(\?\S*)?", span) is not None


def _command(word: str) -> click.Command | None:
    return main.get_command(click.Context(main), word) if re.fullmatch("[a-z]+", word) else None


def _walk(words: list[str], top: click.Command = main) -> tuple[click.Command, list[str], str]:
    """The command that words name, what is left of them, and a word that should be a command and is none."""
    command, left = top, list(words)
    while left and isinstance(command, click.Group) and re.fullmatch("[a-z-]+", left[0]) and left[0][0] != "-":
        found = command.get_command(click.Context(command), left[0])
        if found is None:
            return command, left, left[0]
        command, left = found, left[1:]
    return command, left, ""


def _commands(words: list[str], top: click.Command) -> Iterator[str]:
    command, left, unknown = _walk(words, top)
    if unknown:
        yield f"command {' '.join(words)}"
    options = _options(command)
    yield from (f"option {' '.join(words)}" for word in left if re.match("--?[a-zA-Z]", word) and word not in options)


def _options(command: click.Command) -> set[str]:
    return {"--help", *(option for one in command.params for option in (*one.opts, *one.secondary_opts))}


def _every(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _every(command.get_command(context, name) or command)


def _benchmarks(words: list[str]) -> Iterator[str]:
    known = importlib.import_module("benchmarks.__main__")
    if words and words[0] not in known.BENCHMARKS:
        yield f"benchmark {words[0]}"


def _settings(span: str) -> Iterator[str]:
    variables = {variable for command in _every(main) for one in command.params if (variable := one.envvar)}
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
    known |= set(
        re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text() + (ROOT / "deploy/tls.yml").read_text())
    )
    for word in re.findall(r"(?<![\w$.<>*:-])_?[A-Z][A-Z0-9_]+(?![\w(>*-]|\.md)", span):
        if word not in known | variables | OTHERS_VARIABLES | PLACEHOLDERS and not word.startswith(("COMP_", "OTEL_")):
            yield f"setting {word}"


def _modules(span: str) -> Iterator[str]:
    for name in re.findall(r"(?<![\w./])((?:app|tests|benchmarks)(?:\.\w+)+)", span):
        if name.rpartition(".")[2] in ("py", "lua"):
            continue
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            yield f"module {name}"
    for name in re.findall(r"-m (\w+)", span):
        if not any((ROOT / found).exists() for found in (name, f"{name}.py")) and not find_spec(name):
            yield f"module {name}"


@cache
def _application() -> Any:
    return create_app(Settings(), fakeredis.FakeRedis())


def _url(method: str, url: str) -> Iterator[str]:
    parts = urlsplit(url)
    path = re.sub(r"\{\w+\}", "x", parts.path)
    routes = _application().url_map.bind("localhost")
    if path in ("/api/v1", "/api/v1/"):
        return
    paths = [path, f"/api/v1{path}"]
    methods = [method] if method else METHODS
    if not any(_matches(routes, one, way) for one in paths for way in methods):
        yield f"URL {method} {url}".replace("  ", " ")
        return
    if parts.query:
        spec = _application().test_client().get("/openapi.json").get_json()["paths"]
        operations = spec.get(parts.path) or spec.get(f"/api/v1{parts.path}") or {}
        named = {p["name"] for one in operations.values() for p in one.get("parameters", ())}
        yield from (f"parameter {name} of {url}" for name in parse_qs(parts.query) if name not in named)


def _matches(routes: Any, path: str, method: str) -> bool:
    try:
        routes.match(path, method)
    except RequestRedirect:
        return True
    except HTTPException:
        return False
    return True


def _link_leads(target: str, text: str, path: str) -> bool:
    if "://" in target:
        return True
    file, _, anchor = target.partition("#")
    page = ((ROOT / path).parent / file).resolve() if file else ROOT / path
    if not anchor or not page.exists():
        return page.exists()
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()) if file else text, re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
