"""The catalogue of the test kit. A function that a test has replaced, for example by a mock, is called as replaced."""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import NonCallableMock

from app.catalog.catalog import PACKAGE, Catalog, Function
from app.catalog.hook import Hook


class PatchableCatalog(Catalog):
    """The functions of `jobs/` as they are in their modules at each lookup. No module is imported twice."""

    def current_hooks(self) -> list[Hook]:
        """Return the hooks that are in their modules: one that a test has replaced is not called."""
        return [hook for hook in self.refresh().hooks if _attribute(hook.name) is hook.function]

    def _find(self, name: str) -> Function:
        known = self.refresh().functions.get(name)
        current: Any = None if name.rpartition(".")[2].startswith("_") else _attribute(name)
        if known and known.call is current:
            return known
        if _is_mock(current) or (known and callable(current) and not _is_own_function(current, known)):
            return _replaced(name, known.call if known else _any_arguments, current)
        self._file_times = None  # the module is new, or has been imported again
        return super()._find(name)


def _replaced(name: str, original: Callable[..., Any], replacement: Callable[..., Any]) -> Function:
    """Return a function that calls `replacement`, with the signature and options of `original`."""

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return replacement(*args, **kwargs)

    return Function(name, call)


def _any_arguments(*args: Any, **kwargs: Any) -> None:
    """Stand-in for a function mocked before the first discovery: any arguments, no options."""


def _attribute(name: str) -> Any:
    """Return the current value of a module's name; None if there is none, or the module is not imported."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(f"{PACKAGE}.{module}"), attribute, None)


def _is_own_function(value: Any, function: Function) -> bool:
    """Return whether the module itself defines the value: it was imported again, so this is no replacement."""
    return inspect.isfunction(value) and value.__module__ == f"{PACKAGE}.{function.module}"


def _is_mock(value: Any) -> bool:
    """Return whether the value is a mock. `create_autospec` makes a function with its mock in the attribute `mock`."""
    return isinstance(value, NonCallableMock) or isinstance(getattr(value, "mock", None), NonCallableMock)
