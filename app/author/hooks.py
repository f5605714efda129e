"""Hooks of a worker's process: `on_start` runs before its first job, `on_stop` after its last; jobs use what they open.

A hook is a plain or an `async def` function of a module in `jobs/`; one whose name begins with an underscore counts if
another imports it. A hook takes the Context or nothing.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Function = TypeVar("Function", bound=Callable[..., object])

_declared = itertools.count()


@dataclass(frozen=True)
class HookDeclaration:
    """What `@on_start` and `@on_stop` attach to a function."""

    moment: Literal["start", "stop"]
    number: int
    """Grows from one declaration to the next."""


class Context:
    """What the hooks of a process have opened, such as clients and pools: attributes of any name.

    A job receives it in a parameter that is annotated with `Context`. It is no argument of the job.
    """

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __setattr__(self, name: str, value: Any) -> None:  # tells type checkers that any name is allowed
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the context has no {name}: no on_start hook has set it in this process")

    def __repr__(self) -> str:
        return f"Context({', '.join(vars(self))})"  # the values may be secret


context = Context()
"""That of this process."""


def on_start(function: Function) -> Function:
    """Have a function called once in each work horse, before its first job. If it raises, the work horse runs no job.

    Hooks run in the order of their declaration: those of a module after those of the modules that it imports.
    """
    return _attach(function, HookDeclaration("start", next(_declared)))


def on_stop(function: Function) -> Function:
    """Have a function called once in each work horse, after its last job, in the opposite order of their declaration.

    It is not called when the work horse is killed. What it raises is logged.
    """
    return _attach(function, HookDeclaration("stop", next(_declared)))


def hook_of(function: object) -> HookDeclaration | None:
    """Return what `@on_start` or `@on_stop` has attached to a function, if anything."""
    try:
        declaration = vars(function).get("jobline_hook")
    except Exception:  # an author's object can raise anything
        return None
    return declaration if isinstance(declaration, HookDeclaration) else None


def _attach(function: Any, declaration: HookDeclaration) -> Any:
    function.jobline_hook = declaration
    return function
