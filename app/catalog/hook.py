"""A hook of the catalogue: a function of `jobs/` that runs when a worker's process begins or ends."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.author.hooks import Context, HookDeclaration
from app.author.options import declaration_of


@dataclass(frozen=True)
class Hook:
    """A function that was declared with `@on_start` or `@on_stop`."""

    name: str
    """`module.function`"""
    function: Callable[..., Any]
    declaration: HookDeclaration

    def call(self, context: Context) -> Any:
        """Call it with the context, if it takes one. Returns a coroutine if it is an `async def` function."""
        return self.function(*self._arguments(context))

    def problem(self) -> str:
        """Return why it cannot be called; empty if it can."""
        if declaration_of(self.function):
            return "a hook is no job: remove @job, or the decorator of the hook"
        try:
            inspect.signature(self.function).bind(*self._arguments(Context()))
        except TypeError:
            return "a hook takes one argument, the Context, or none"
        return ""

    def _arguments(self, context: Context) -> tuple[Context, ...]:
        return (context,) if inspect.signature(self.function).parameters else ()
