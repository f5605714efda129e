"""Which functions can be run as jobs, and whether arguments fit them.

A function is public and defined in a module of `jobs/`; its name is `module.function`. A module that fails to
import takes no other down: it is kept in `broken` with the reason.
"""

import importlib
import inspect
import logging
import pkgutil
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.experimental.arguments_schema import generate_arguments_schema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import ArgsKwargs, SchemaValidator, ValidationError

from app.errors import Invalid, NotFound
from app.options import Options, options_of
from app.pointers import Place, below, place_in

PACKAGE = "jobs"

log = logging.getLogger(__name__)
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Arguments = tuple[list[Any], dict[str, Any]]


class JsonSchema(GenerateJsonSchema):
    """An unannotated or unusual type is any JSON, rather than an error."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002
        return {}


@dataclass(frozen=True)
class Function:
    """One function of the catalogue."""

    name: str
    call: Callable[..., Any]

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """What RQ imports: `jobs.module.function`."""
        return f"{PACKAGE}.{self.name}"

    @property
    def description(self) -> str:
        return inspect.getdoc(self.call) or ""

    @property
    def options(self) -> Options:
        return options_of(self.call)

    @cached_property
    def parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.call).parameters.values())

    @cached_property
    def _validator(self) -> SchemaValidator:
        return SchemaValidator(generate_arguments_schema(self.call, schema_type="arguments"))

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments, as an object by parameter name."""
        schema = JsonSchema().generate(generate_arguments_schema(self.call, schema_type="arguments-v3"))
        if not any(p.kind is p.VAR_KEYWORD for p in self.parameters):
            schema["additionalProperties"] = False
        return schema

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        hint = inspect.signature(self.call, eval_str=True).return_annotation
        if hint is inspect.Signature.empty:
            return {}
        mode: JsonSchemaMode = "serialization"
        return TypeAdapter(hint).json_schema(mode=mode, schema_generator=JsonSchema)

    def typed(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments from JSON as the types that the function names.

        Raises:
            pydantic_core.ValidationError: each error's loc is a position or a name.
        """
        return self._validator.validate_python(ArgsKwargs(tuple(args), kwargs))

    def check(
        self, args: list[Any], kwargs: dict[str, Any], pointer: str = "#", unknown: Collection[Place] = ()
    ) -> None:
        """Raises Invalid with pointers below `pointer`/args and `pointer`/kwargs.

        What lies in, or around, the `unknown` places is known only when the job begins, and is checked then.
        """
        try:
            self.typed(args, kwargs)
        except ValidationError as error:
            misfit = self._misfit(error, args, kwargs, lambda place: below(pointer, _part(place), *place), unknown)
            if misfit.errors:
                raise misfit from None

    def by_name(self, body: dict[str, Any]) -> Arguments:
        """An object of arguments by parameter name as positional and keyword arguments, checked.

        Raises:
            Invalid: with pointers into the object.
        """
        args, kwargs = self._split(body)
        try:
            self.typed(args, kwargs)
        except ValidationError as error:
            raise self._misfit(error, args, kwargs, lambda place: below("#", *self._named(place))) from None
        return args, kwargs

    def named(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments of a call that fits, by their names; defaults included."""
        bound = inspect.Signature(self.parameters).bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _misfit(
        self,
        error: ValidationError,
        args: list[Any],
        kwargs: dict[str, Any],
        pointer: Callable[[Place], str],
        unknown: Collection[Place] = (),
    ) -> Invalid:
        given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        found = error.errors(include_url=False, include_context=False, include_input=False)
        known = [(one["msg"], place_in(given, one)) for one in found if not _touches(one["loc"], unknown)]
        errors = [{"detail": detail, "pointer": pointer(place)} for detail, place in known]
        return Invalid(f"The arguments do not fit {self.name}", errors)

    def _named(self, place: Place) -> Place:
        """A place that begins with the name of a parameter, not its position."""
        if place and isinstance(place[0], int):
            return (*self._name_of(place[0]), *place[1:])
        return place

    def _split(self, body: dict[str, Any]) -> Arguments:
        rest = dict(body)
        args: list[Any] = []
        variadic = next((p.name for p in self.parameters if p.kind is p.VAR_POSITIONAL), None)
        extra = rest.pop(variadic, None) if variadic else None
        if extra is not None and not isinstance(extra, list):
            raise Invalid(
                f"The arguments do not fit {self.name}",
                [{"detail": "Input should be a list", "pointer": below("#", variadic)}],
            )
        for parameter in self.parameters:
            if parameter.kind not in POSITIONAL or (not extra and parameter.kind is not parameter.POSITIONAL_ONLY):
                break
            if parameter.name not in rest:
                if not extra or parameter.default is parameter.empty:
                    break
                args.append(parameter.default)
                continue
            args.append(rest.pop(parameter.name))
        return args + list(extra or []), rest

    def _name_of(self, position: int) -> Place:
        named = [p.name for p in self.parameters if p.kind in POSITIONAL]
        if position < len(named):
            return (named[position],)
        variadic = next((p.name for p in self.parameters if p.kind is p.VAR_POSITIONAL), "args")
        return variadic, position - len(named)


def _touches(place: Place, others: Collection[Place]) -> bool:
    return any(all(a == b for a, b in zip(place, other, strict=False)) for other in others)


def _part(place: Place) -> str:
    return "args" if place and isinstance(place[0], int) else "kwargs"


def name_of(path: str | None) -> str:
    """A function's name, from what RQ imports."""
    return (path or "").removeprefix(f"{PACKAGE}.")


class Catalog:
    """The functions of `jobs/`, found anew when a file changed if `reload` is on."""

    def __init__(self, reload: bool = False) -> None:
        self.reload = reload
        self.functions: dict[str, Function] = {}
        self.broken: dict[str, str] = {}
        self._lock = threading.Lock()
        self._seen: dict[Path, int] | None = None

    def refresh(self) -> "Catalog":
        """Discover at first use, and again after a change in `jobs/`; returns itself.

        The first look takes modules as they are imported already: only a changed file imports them anew.
        """
        if self._seen is None or self.reload:
            with self._lock:
                seen = _files()
                if seen != self._seen:
                    if self._seen is not None:
                        _forget_modules()
                    self._discover()
                    self._seen = seen
        return self

    def stale(self) -> bool:
        """Whether `refresh` would find something else."""
        return self.reload and self._seen is not None and _files() != self._seen

    def get(self, name: str) -> Function:
        """Raises NotFound."""
        function = self.refresh().functions.get(name)
        if function is None:
            module = name.partition(".")[0]
            why = f": module {module} does not import" if module in self.broken else ""
            raise NotFound(f"No function {name!r}{why}")
        return function

    def wanted(self, name: str, pointer: str) -> Function:
        """One that a request names. Raises Invalid, with the pointer to the name."""
        try:
            return self.get(name)
        except NotFound as error:
            raise Invalid(error.detail, [{"detail": error.detail, "pointer": pointer}]) from None

    def by_path(self, path: str) -> Function:
        """The function that RQ would import as `path`. Raises NotFound for one outside the catalogue."""
        return self.get(name_of(path))

    def _discover(self) -> None:
        importlib.invalidate_caches()
        functions, broken = {}, {}
        for found in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
            if found.name.startswith("_"):
                continue
            try:
                for function in _defined_in(importlib.import_module(f"{PACKAGE}.{found.name}")):
                    functions[function.name] = function
            except (Exception, SystemExit) as error:  # noqa: BLE001, RUF100 - author's code: anything can go wrong in it
                broken[found.name] = f"{type(error).__name__}: {error}"
                log.exception("module %s of %s/ does not import", found.name, PACKAGE)
        self.functions, self.broken = functions, broken


def _forget_modules() -> None:
    """Have all of them imported anew: one may hold on to what it imported from another."""
    package = sys.modules[PACKAGE]
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
        module, attribute = sys.modules.pop(name), name.removeprefix(f"{PACKAGE}.")
        if vars(package).get(attribute) is module:  # `from jobs import name` would find it there
            delattr(package, attribute)


def _files() -> dict[Path, int]:
    folders = importlib.import_module(PACKAGE).__path__
    return {path: path.stat().st_mtime_ns for folder in folders for path in Path(folder).rglob("*.py")}


def _defined_in(module: Any) -> list[Function]:
    functions = []
    for name, value in inspect.getmembers(module, inspect.isfunction):
        if value.__module__ == module.__name__ and not name.startswith("_"):
            function = Function(f"{module.__name__.removeprefix(f'{PACKAGE}.')}.{name}", value)
            try:
                function.schema  # noqa: B018 - hints that cannot be checked break the module now, not at a call
            except PydanticUserError as error:
                raise TypeError(f"{name}: {error.message}") from error
            functions.append(function)
    return functions
