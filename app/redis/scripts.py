"""Lua scripts, declared by the comment at their start and called with named arguments.

    -- Cancel a job that has not started. Returns ...
    -- args: id now reason?
    -- rest: fields
    -- uses: redis/job lifecycle/outbox

`args` become local variables of the script, in this order; a question mark marks an optional one, '' if omitted.
`rest` names what may follow them: in Lua, FIELDS is the index in ARGV where it begins. `uses` names libraries, which
may use others. The keys and numbers of app/redis/keys.py are known under the same names. Further constants are
arguments of `Script`.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import redis
from redis.client import Pipeline
from redis.commands.core import Script as RedisScript

from app.redis import script_source
from app.redis.client import Client
from app.redis.pipelined import pack
from app.redis.script_source import Constant


class Script:
    """The script app/NAME.lua; `extra_libraries` are used in addition to those that it declares."""

    def __init__(self, name: str, extra_libraries: Sequence[str] = (), **constants: Constant) -> None:
        self.name, self._extra_libraries, self._constants = name, extra_libraries, constants
        header = script_source.header(name)
        words = header.get("args", "").split()
        self.args = tuple(word.rstrip("?") for word in words)
        self._required = {word for word in words if not word.endswith("?")}
        self._rest = header.get("rest", "")
        self._registered: RedisScript | None = None
        self._checked = set[tuple[str, ...]]()

    @cached_property
    def text(self) -> str:
        """The complete source that is sent to Redis."""
        return script_source.assemble(self.name, self._extra_libraries, self._constants)

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
        if isinstance(connection, Client):
            try:
                return connection.pipelined.ask(self.command(rest, **args))
            except redis.ConnectionError:
                pass  # script not loaded, or Redis is away: redis-py's script call handles both
        if self._registered is None:
            self._registered = connection.register_script(self.text)
        return self._registered((), self.argv(rest, **args), connection)

    def add_to(self, pipeline: Pipeline, rest: Sequence[Any] = (), **args: Any) -> None:
        """Add the script to a transaction by its source: an unknown SHA would fail alone, and the rest be applied."""
        pipeline.eval(self.text, 0, *self.argv(rest, **args))

    def command(self, rest: Sequence[Any] = (), **args: Any) -> bytes:
        """The EVALSHA command in the Redis protocol, for a server that has loaded the script. Raises as `argv`."""
        words = args.values() if tuple(args) == self.args and not rest else self.argv(rest, **args)
        return pack("EVALSHA", self.sha, 0, *words)
