"""A function of the catalogue: its description, options and schemas, and the validation of its arguments."""

import inspect
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.experimental.arguments_schema import generate_arguments_schema
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ArgsKwargs, SchemaValidator, ValidationError

from app.author.hooks import Context
from app.author.options import Options
from app.catalog.function_options import options_of
from app.errors import Invalid
from app.pointers import DocumentPath, error_details, join_pointer, path_in
from app.serializer import text_of, without_unserializable

PACKAGE = "jobs"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Arguments = tuple[list[Any], dict[str, Any]]


class JsonSchema(GenerateJsonSchema):
    """Generates JSON Schema. A type without one is any JSON, rather than an error."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """Leave out a default value that has no JSON form."""
        try:
            return super().default_schema(schema)
        except Exception:  # an author's object can raise anything
            return self.generate_inner(schema["schema"])


@dataclass(frozen=True)
class Function:
    """A function of the catalogue."""

    name: str
    call: Callable[..., Any]

    @property
    def module(self) -> str:
        return self.name.partition(".")[0]

    @property
    def path(self) -> str:
        """The path that RQ imports: `jobs.module.function`."""
        return f"{PACKAGE}.{self.name}"

    @property
    def description(self) -> str:
        return text_of(inspect.getdoc(self.call) or "")

    @cached_property
    def options(self) -> Options:
        """Raises BadOptions, but never for a function that is in the catalogue."""
        return options_of(self.call)

    @cached_property
    def is_coroutine(self) -> bool:
        return inspect.iscoroutinefunction(self.call)

    @cached_property
    def parameters(self) -> list[inspect.Parameter]:
        """The parameters that are arguments of a job."""
        parameters = inspect.signature(self.call).parameters.values()
        return [parameter for parameter in parameters if parameter.name != self.context_parameter]

    @cached_property
    def context_parameter(self) -> str | None:
        """The name of the parameter that receives the Context of the process. Raises what annotations raise."""
        hints = typing.get_type_hints(self.call)
        return next((name for name, hint in hints.items() if hint is Context and name != "return"), None)

    @cached_property
    def _context_position(self) -> int | None:
        """The position of that parameter; None if it can be given by name only."""
        parameters = inspect.signature(self.call).parameters
        positional = [parameter.name for parameter in parameters.values() if parameter.kind in POSITIONAL]
        return positional.index(self.context_parameter) if self.context_parameter in positional else None

    def _skip_context(self, _: int, name: str, __: Any) -> Literal["skip"] | None:
        return "skip" if name == self.context_parameter else None

    @cached_property
    def _validator(self) -> SchemaValidator:
        return SchemaValidator(generate_arguments_schema(self.call, "arguments", self._skip_context))

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments, as an object keyed by parameter name."""
        schema = JsonSchema().generate(generate_arguments_schema(self.call, "arguments-v3", self._skip_context))
        if not any(p.kind is p.VAR_KEYWORD for p in self.parameters):
            schema["additionalProperties"] = False
        serializable: dict[str, Any] = without_unserializable(schema)
        return serializable

    def prepare_parameter(self, parameter: str) -> None:
        """Do what `prepare` does for a single parameter, to find which one is invalid."""

        def skip_others(_: int, name: str, __: Any) -> Literal["skip"] | None:
            return None if name == parameter else "skip"

        JsonSchema().generate(generate_arguments_schema(self.call, "arguments-v3", skip_others))
        SchemaValidator(generate_arguments_schema(self.call, "arguments", skip_others))

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        """JSON Schema of the result; `{}` (any JSON) for a type without one."""
        try:
            hint = inspect.signature(self.call, eval_str=True).return_annotation
            if hint is inspect.Signature.empty:
                return {}
            schema = TypeAdapter(hint).json_schema(mode="serialization", schema_generator=JsonSchema)
            result_schema: dict[str, Any] = without_unserializable(schema)
        except Exception:  # an author's type can raise anything; results are not validated by it
            return {}
        return result_schema

    def prepare(self) -> None:
        """Compute and cache schema and validator. Raises whatever an author's annotations raise."""
        self.schema, self._validator  # noqa: B018 - cached properties

    def coerce(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Convert arguments from JSON to the annotated types.

        Raises:
            pydantic_core.ValidationError: each error's loc is a position or a name.
            Exception: whatever a validator of the author raises.
        """
        return self._validator.validate_python(ArgsKwargs(tuple(args), kwargs))

    def run(self, args: list[Any], kwargs: dict[str, Any], context: Context) -> Any:
        """Call the function with arguments from JSON. Raises as `coerce`, and what the function raises."""
        positional, named = self.coerce(args, kwargs)
        if self.context_parameter is not None:
            position = self._context_position
            if position is not None and position <= len(positional):
                positional = (*positional[:position], context, *positional[position:])
            else:
                named = {**named, self.context_parameter: context}
        return self.call(*positional, **named)

    def check(
        self, args: list[Any], kwargs: dict[str, Any], pointer: str = "#", unknown: Collection[DocumentPath] = ()
    ) -> None:
        """Validate arguments. Raises Invalid, with pointers below `pointer`/args and `pointer`/kwargs.

        Values at, below or above the `unknown` paths are not known before the job starts, and are not validated here.
        """
        try:
            self.coerce(args, kwargs)
        except ValidationError as error:
            invalid = self._invalid(
                error, args, kwargs, lambda path: join_pointer(pointer, _argument_list(path), *path), unknown
            )
            if invalid.errors:
                raise invalid from None
        except Exception as error:  # raised by an author's validator
            raise self._validator_failed(error, join_pointer(pointer, "args")) from error

    def from_body(self, body: dict[str, Any]) -> Arguments:
        """Convert an object keyed by parameter name to positional and keyword arguments, and validate them.

        Raises:
            Invalid: with pointers into the object.
        """
        args, kwargs = self._split(body)
        try:
            self.coerce(args, kwargs)
        except ValidationError as error:
            raise self._invalid(
                error, args, kwargs, lambda path: join_pointer("#", *self._by_parameter(path))
            ) from None
        except Exception as error:  # raised by an author's validator
            raise self._validator_failed(error, "#") from error
        return args, kwargs

    def bind(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return all arguments of a call by parameter name, defaults included. Raises Invalid if they do not fit."""
        try:
            bound = inspect.Signature(self.parameters).bind(*args, **kwargs)
        except TypeError as error:
            detail = f"The arguments do not fit {self.name}"
            raise Invalid(detail, [{"detail": str(error), "pointer": "#"}]) from None
        bound.apply_defaults()
        return bound.arguments

    def _invalid(
        self,
        error: ValidationError,
        args: list[Any],
        kwargs: dict[str, Any],
        pointer: Callable[[DocumentPath], str],
        unknown: Collection[DocumentPath] = (),
    ) -> Invalid:
        given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
        items = [item for item in error_details(error) if not _overlaps(item["loc"], unknown)]
        errors = [{"detail": text_of(item["msg"]), "pointer": pointer(path_in(given, item))} for item in items]
        return Invalid(f"The arguments do not fit {self.name}", errors)

    def _validator_failed(self, error: Exception, pointer: str) -> Invalid:
        detail = f"a validator of the function raised {type(error).__name__}: {text_of(error)}"
        return Invalid(f"The arguments of {self.name} cannot be checked", [{"detail": detail, "pointer": pointer}])

    def _by_parameter(self, path: DocumentPath) -> DocumentPath:
        """Return a path that begins with the name of a parameter instead of its position."""
        if path and isinstance(path[0], int):
            return (*self._parameter_at(path[0]), *path[1:])
        return path

    def _split(self, body: dict[str, Any]) -> Arguments:
        rest = dict(body)
        args: list[Any] = []
        variadic = next((p.name for p in self.parameters if p.kind is p.VAR_POSITIONAL), None)
        extra = rest.pop(variadic, None) if variadic else None
        if extra is not None and not isinstance(extra, list):
            raise Invalid(
                f"The arguments do not fit {self.name}",
                [{"detail": "Input should be a list", "pointer": join_pointer("#", variadic)}],
            )
        for parameter in self.parameters:
            if parameter.kind not in POSITIONAL or (not extra and parameter.kind is not parameter.POSITIONAL_ONLY):
                break
            if parameter.name not in rest:
                if not extra or parameter.default is parameter.empty:
                    return args, rest  # what follows must not take its place
                args.append(parameter.default)
                continue
            args.append(rest.pop(parameter.name))
        return args + list(extra or []), rest

    def _parameter_at(self, position: int) -> DocumentPath:
        named = [p.name for p in self.parameters if p.kind in POSITIONAL]
        if position < len(named):
            return (named[position],)
        variadic = next((p.name for p in self.parameters if p.kind is p.VAR_POSITIONAL), "args")
        return variadic, position - len(named)


def _overlaps(path: DocumentPath, others: Collection[DocumentPath]) -> bool:
    return any(all(a == b for a, b in zip(path, other, strict=False)) for other in others)


def _argument_list(path: DocumentPath) -> str:
    return "args" if path and isinstance(path[0], int) else "kwargs"
