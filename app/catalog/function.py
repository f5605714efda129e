"""One function of the catalogue: what it says of itself, and whether arguments fit it."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.experimental.arguments_schema import generate_arguments_schema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import ArgsKwargs, SchemaValidator, ValidationError

from app.author.options import Options
from app.catalog.function_options import options_of
from app.errors import Invalid
from app.pointers import Place, below, errors_of, place_in
from app.serializer import storable, text_of

PACKAGE = "jobs"
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Arguments = tuple[list[Any], dict[str, Any]]


class JsonSchema(GenerateJsonSchema):
    """An unannotated or unusual type is any JSON, rather than an error."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def default_schema(self, schema: Any) -> dict[str, Any]:
        """A default that has no JSON form is left out."""
        try:
            return super().default_schema(schema)
        except Exception:  # an author's object: it may fail to show itself
            return self.generate_inner(schema["schema"])


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
        return text_of(inspect.getdoc(self.call) or "")

    @cached_property
    def options(self) -> Options:
        """Raises BadOptions: not for a function of the catalogue."""
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
        found: dict[str, Any] = storable(schema)
        return found

    def prepare_alone(self, parameter: str) -> None:
        """As `prepare`, for one parameter: to find the one that is wrong."""

        def skip_others(_: int, name: str, __: Any) -> Literal["skip"] | None:
            return None if name == parameter else "skip"

        JsonSchema().generate(generate_arguments_schema(self.call, "arguments-v3", skip_others))
        SchemaValidator(generate_arguments_schema(self.call, "arguments", skip_others))

    @cached_property
    def result_schema(self) -> dict[str, Any]:
        """JSON Schema of the result; any JSON for a type that has none."""
        mode: JsonSchemaMode = "serialization"
        try:
            hint = inspect.signature(self.call, eval_str=True).return_annotation
            if hint is inspect.Signature.empty:
                return {}
            found: dict[str, Any] = storable(TypeAdapter(hint).json_schema(mode=mode, schema_generator=JsonSchema))
        except Exception:  # an author's type: anything can go wrong in it, and no result is checked by it
            return {}
        return found

    def prepare(self) -> None:
        """Work out how arguments are checked. Raises whatever an author's annotations lead to."""
        self.schema, self._validator  # noqa: B018 - they are kept

    def typed(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments from JSON as the types that the function names.

        Raises:
            pydantic_core.ValidationError: each error's loc is a position or a name.
            Exception: whatever a validator of the author's own raises.
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
        except Exception as error:  # of an author's validator
            raise self._unchecked(error, below(pointer, "args")) from error

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
        except Exception as error:  # of an author's validator
            raise self._unchecked(error, "#") from error
        return args, kwargs

    def named(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """All arguments of a call, by their names; defaults included. Raises Invalid: it does not fit."""
        try:
            bound = inspect.Signature(self.parameters).bind(*args, **kwargs)
        except TypeError as error:
            detail = f"The arguments do not fit {self.name}"
            raise Invalid(detail, [{"detail": str(error), "pointer": "#"}]) from None
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
        found = [one for one in errors_of(error) if not _touches(one["loc"], unknown)]
        known = [(text_of(one["msg"]), place_in(given, one)) for one in found]
        errors = [{"detail": detail, "pointer": pointer(place)} for detail, place in known]
        return Invalid(f"The arguments do not fit {self.name}", errors)

    def _unchecked(self, error: Exception, pointer: str) -> Invalid:
        detail = f"a validator of the function raised {type(error).__name__}: {text_of(error)}"
        return Invalid(f"The arguments of {self.name} cannot be checked", [{"detail": detail, "pointer": pointer}])

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
