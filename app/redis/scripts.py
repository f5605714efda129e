"""Lua scripts, declared by the comment at their start and called with named arguments.

    -- Cancel a job that has not started. Returns ...
    -- args: id now reason?
    -- rest: fields
    -- uses: redis/job lifecycle/outbox

`args` become local variables of the script, in this order; a question mark marks an optional one, '' if omitted.
`rest` names what may follow them: in Lua, the local FIELDS is the index in ARGV where it begins. `uses` names
libraries, which may use others. A script includes only the library functions that it mentions, because Lua creates all
of them at each call. Likewise it includes the keys and numbers of app/redis/keys.py under the same names. Further
constants are arguments of `Script`.
"""

import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import redis
from redis.client import Pipeline
from redis.commands.core import Script as RedisScript

from app.redis import keys
from app.redis.client import Client
from app.redis.pipelined import pack

FOLDER = Path(__file__).parent.parent
HEADER = re.compile(r"^-- (args|rest|uses):(.*)$", re.MULTILINE)
COMMENT = re.compile(r"^--.*\n| *-- .*", re.MULTILINE)
STATEMENT = re.compile(r"^(?=[a-z](?!nd\b))", re.MULTILINE)
DEFINES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
NAME = re.compile(r"[A-Za-z_]\w*")
PARAMETER = re.compile("\x00(\\w+)\x00")

Constant = str | int | Sequence[str] | Mapping[str, int]


class Script:
    """The script app/NAME.lua; `extra_libraries` are used in addition to those that it declares."""

    def __init__(self, name: str, extra_libraries: Sequence[str] = (), **constants: Constant) -> None:
        self.name, self._extra_libraries, self._constants = name, extra_libraries, constants
        header = _header(name)
        words = header.get("args", "").split()
        self.args = tuple(word.rstrip("?") for word in words)
        self._required = {word for word in words if not word.endswith("?")}
        self._rest = header.get("rest", "")
        self._registered: RedisScript | None = None
        self._checked = set[tuple[str, ...]]()

    @cached_property
    def text(self) -> str:
        """The complete source that is sent to Redis."""
        libraries: dict[str, None] = {}
        for library in (*self._extra_libraries, *_uses(self.name)):
            _collect(library, libraries)
        body = _read(self.name)
        parts = _needed([part for name in libraries for part in _parts(_read(name))], body)
        hidden = {*self.args, self._rest.upper()} & {name for part in parts for name in _defined_by(part)}
        if hidden:
            raise ValueError(f"{self.name}: an argument has the name of a function: {', '.join(sorted(hidden))}")
        return "\n".join([*self._declarations(set(NAME.findall("\n".join((*parts, body))))), *parts, body])

    def _declarations(self, mentioned: set[str]) -> Iterator[str]:
        for name, value in vars(keys).items():
            if name in mentioned and (name in keys.DECLARED or isinstance(value, int)):
                yield _lua_function(value) if callable(value) else f"local {name} = {_lua(value)}"
        for name, value in self._constants.items():
            yield f"local {name} = {_lua(value)}"
        if self.args:
            yield f"local {', '.join(self.args)} = {', '.join(f'ARGV[{n + 1}]' for n in range(len(self.args)))}"
        if self._rest:
            yield f"local {self._rest.upper()} = {len(self.args) + 1}"

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324 - Redis identifies scripts by SHA-1

    def argv(self, rest: Sequence[Any] = (), **args: Any) -> list[Any]:
        """Return ARGV. Raises TypeError if an argument is missing or unknown."""
        if tuple(args) not in self._checked:
            if not (self._required <= args.keys() <= set(self.args)) or (rest and not self._rest):
                raise TypeError(f"{self.name} takes {', '.join(self.args)}; got {', '.join(args)}")
            self._checked.add(tuple(args))
        return [*[args.get(name, "") for name in self.args], *rest]

    def __call__(self, connection: redis.Redis | Pipeline, rest: Sequence[Any] = (), **args: Any) -> Any:
        """Run the script and return its result, or add it to a pipeline that is not a transaction."""
        argv = self.argv(rest, **args)
        if isinstance(connection, Client):
            try:
                return connection.pipelined.ask(self.packed(argv))
            except redis.ConnectionError:
                pass  # script not loaded, or Redis is away: redis-py's script call handles both
        if self._registered is None:
            self._registered = connection.register_script(self.text)
        return self._registered((), argv, connection)

    def add_to(self, pipeline: Pipeline, rest: Sequence[Any] = (), **args: Any) -> None:
        """Add the script to a transaction by its source: an unknown SHA would fail alone, and the rest be applied."""
        pipeline.eval(self.text, 0, *self.argv(rest, **args))

    def packed(self, argv: Sequence[Any]) -> bytes:
        """The EVALSHA command in the Redis protocol, for a server that has loaded the script."""
        return pack("EVALSHA", self.sha, 0, *argv)


def names() -> list[str]:
    """The names of all scripts, without libraries."""
    files = (str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.lua"))
    return sorted(name for name in files if "args" in _header(name))


@cache
def _read(name: str) -> str:
    """The source of a script without comments."""
    return COMMENT.sub("", _source(name))


@cache
def _source(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()


@cache
def _header(name: str) -> dict[str, str]:
    comment = takewhile(lambda line: line.startswith("--"), _source(name).splitlines())
    return {word: value.strip().partition(" (")[0] for word, value in HEADER.findall("\n".join(comment))}


def _uses(name: str) -> list[str]:
    return _header(name).get("uses", "").split()


def _collect(name: str, libraries: dict[str, None]) -> None:
    """Add a library after the libraries that it uses."""
    for library in _uses(name):
        _collect(library, libraries)
    libraries[name] = None


def _parts(library: str) -> list[str]:
    """Split a library into its top-level statements, which begin and end at the left margin."""
    return [part for part in STATEMENT.split(library) if part.strip()]


def _defined_by(part: str) -> set[str]:
    match = DEFINES.match(part)
    return set(NAME.findall(match[1])) if match else set()


def _needed(parts: list[str], body: str) -> list[str]:
    """The statements that the script needs, directly or indirectly, and all that define nothing local."""
    names = [_defined_by(part) for part in parts]
    needed = {n for n, defined in enumerate(names) if not defined}
    mentioned = set(NAME.findall(body)).union(*(NAME.findall(parts[n]) for n in needed))
    while more := {n for n, defined in enumerate(names) if n not in needed and defined & mentioned}:
        needed |= more
        mentioned.update(*(NAME.findall(parts[n]) for n in more))
    return [parts[n] for n in sorted(needed)]


def _lua_function(function: Any) -> str:
    """Translate a key function to Lua."""
    parameters = list(inspect.signature(function).parameters)
    parts = PARAMETER.split(function(*(f"\x00{name}\x00" for name in parameters)))
    pieces = [part if n % 2 else f"'{part}'" for n, part in enumerate(parts) if part]
    return f"local function {function.__name__}({', '.join(parameters)}) return {' .. '.join(pieces)} end"


def _lua(value: Constant) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {number}" for name, number in value.items()) + " }"
    return "{ " + ", ".join(f"'{word}'" for word in value) + " }"
