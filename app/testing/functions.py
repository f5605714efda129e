"""The functions of jobs/ as a test sees them: what it has replaced, with a mock for example, is called as it is now."""

import inspect
import sys
from dataclasses import dataclass
from typing import Any
from unittest.mock import NonCallableMock

from pydantic_core import SchemaValidator

from app.catalog import PACKAGE, Catalog, Function
from app.options import Options


@dataclass(frozen=True)
class Replaced(Function):
    """A function that a test has replaced: it keeps the arguments and options of the original."""

    original: Function

    @property
    def description(self) -> str:
        return self.original.description

    @property
    def options(self) -> Options:
        return self.original.options

    @property
    def parameters(self) -> list[inspect.Parameter]:
        return self.original.parameters

    @property
    def _validator(self) -> SchemaValidator:
        return self.original._validator

    @property
    def schema(self) -> dict[str, Any]:
        return self.original.schema

    @property
    def result_schema(self) -> dict[str, Any]:
        return self.original.result_schema


def _unknown(*args: Any, **kwargs: Any) -> None:
    """Replaced before jobs/ was first looked at: nothing is known of its arguments and options."""


class KitCatalog(Catalog):
    """The catalogue of all tests in this process. It never imports a module that is imported already."""

    def get(self, name: str) -> Function:
        """Raises NotFound."""
        found, now = self.refresh().functions.get(name), _attribute(name)
        if found and found.call is now:
            return found
        if _is_mock(now) or (found and callable(now) and not _is_own(now, found)):
            return Replaced(name, now, found or Function(name, _unknown))
        self._seen = None  # its module is new, or another than at the last look
        return super().get(name)


def _attribute(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return None if attribute.startswith("_") else getattr(sys.modules.get(f"{PACKAGE}.{module}"), attribute, None)


def _is_own(value: Any, function: Function) -> bool:
    """Whether it is a function that the module itself defines."""
    return inspect.isfunction(value) and value.__module__ == f"{PACKAGE}.{function.module}"


def _is_mock(value: Any) -> bool:
    return isinstance(value, NonCallableMock) or isinstance(getattr(value, "mock", None), NonCallableMock)
