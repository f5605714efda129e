"""Find the functions of a module that can be jobs, and the reasons why others cannot.

Author's code can raise anything, so every access is guarded: an error rejects one function and affects no other.
"""

import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from pydantic.errors import PydanticErrorMixin, PydanticSchemaGenerationError, PydanticUserError

from app.author.hooks import hook_of
from app.author.options import declaration_of
from app.catalog.function import Function
from app.catalog.function_options import BadOptions
from app.catalog.hook import Hook
from app.serializer import text_of


@dataclass(frozen=True)
class Rejected:
    """A function that cannot be a job. `file` is relative to the project."""

    name: str
    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


def functions_in(module: ModuleType) -> tuple[list[Function], list[Rejected]]:
    """Return the jobs of a module (its public plain functions), and those functions that cannot be jobs."""
    usable: list[Function] = []
    rejected: list[Rejected] = []
    public = [name for name in vars(module) if isinstance(name, str) and not name.startswith("_")]
    for name in sorted(public):
        value = vars(module)[name]
        declared = declaration_of(value)
        full_name = f"{module.__name__.partition('.')[2]}.{name}"
        if hook_of(value):
            continue
        if type(value) is FunctionType and value.__module__ == module.__name__:
            function = Function(full_name, value)
            problems = list(_problems(function))
            if problems:
                rejected.append(Rejected(full_name, *_location(module, value), "; ".join(problems)))
            else:
                usable.append(function)
        elif declared and declared.module == module.__name__:
            location = _relative(module, declared.file), declared.line
            rejected.append(Rejected(full_name, *location, _not_a_function(value)))
    return usable, rejected


def hooks_in(module: ModuleType) -> tuple[list[Hook], list[Rejected]]:
    """Return the hooks of a module, and those that cannot be called."""
    usable: list[Hook] = []
    rejected: list[Rejected] = []
    for name, value in list(vars(module).items()):
        declared = hook_of(value)
        if not declared or value.__module__ != module.__name__:
            continue
        hook = Hook(f"{module.__name__.partition('.')[2]}.{name}", value, declared)
        if problem := hook.problem():
            rejected.append(Rejected(hook.name, *_location(module, value), problem))
        else:
            usable.append(hook)
    return usable, rejected


def _problems(function: Function) -> Iterator[str]:
    try:
        function.options  # noqa: B018 - computes and caches it
    except BadOptions as error:
        yield text_of(error)
    except Exception as error:  # an author's value can raise anything
        yield _describe(error)
    try:
        function.prepare()
    except Exception as error:  # an author's annotation
        yield from _wrong_annotations(function.call) or [_describe(error)]


def _describe(error: Exception) -> str:
    text = error.message if isinstance(error, PydanticErrorMixin) else text_of(error)
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _wrong_annotations(call: Any) -> list[str]:
    annotations = dict(getattr(call, "__annotations__", {}))
    unreadable = [problem for name in annotations if (problem := _annotation_problem(name, annotations[name], call))]
    return unreadable or [
        problem for name in annotations if name != "return" and (problem := _schema_problem(name, call))
    ]


def _annotation_problem(name: str, annotation: object, call: Any) -> str:
    """Return why an annotation cannot be evaluated; empty if it can."""
    alone = SimpleNamespace(__annotations__={name: annotation})
    try:
        typing.get_type_hints(alone, call.__globals__, {})
    except Exception as error:  # an author's code
        target = "the return value" if name == "return" else f"parameter {name}"
        problem = _describe(error)
        if isinstance(error, NameError):
            problem = f"{text_of(error)} (is it imported under TYPE_CHECKING alone?)"
        return f"the annotation {text_of(annotation)!r} of {target} cannot be read: {problem}"
    return ""


def _schema_problem(name: str, call: Any) -> str:
    """Return why a parameter has no JSON schema; empty if it has one."""
    try:
        Function("", call).prepare_parameter(name)
    except PydanticSchemaGenerationError:
        hint = typing.get_type_hints(call)[name]
        shown = f"{hint.__module__}.{hint.__qualname__}" if isinstance(hint, type) else text_of(hint)
        advice = "if the function is not a job, begin its name with an underscore"
        return f"parameter {name}: no argument can be made from JSON for {shown}; {advice}"
    except PydanticUserError as error:
        if error.code == "typed-dict-version":
            return f"parameter {name}: on Python 3.11 a TypedDict comes from typing_extensions"
        return f"parameter {name}: {_describe(error)}"
    except Exception as error:  # an author's type
        return f"parameter {name}: {_describe(error)}"
    return ""


def _not_a_function(value: object) -> str:
    if type(value) is FunctionType:
        return f"it is wrapped by a function of {value.__module__} that does not use functools.wraps"
    kind = "class" if isinstance(value, type) else type(value).__name__
    return f"@job is for plain functions, and this is a {kind}"


def _location(module: ModuleType, call: FunctionType) -> tuple[str, int]:
    """Return file and line of the definition of a function inside its decorators."""
    try:
        code = inspect.unwrap(call).__code__
    except (AttributeError, ValueError):  # it wraps itself, or something that is not a function
        code = call.__code__
    return _relative(module, code.co_filename), code.co_firstlineno


def _relative(module: ModuleType, file: str) -> str:
    depth = module.__name__.count(".") + hasattr(module, "__path__")
    root = Path(module.__file__ or "").resolve().parents[depth]
    path = Path(file).resolve()
    return text_of(path.relative_to(root) if path.is_relative_to(root) else file)
