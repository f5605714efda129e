"""The functions that can run as jobs.

These are the public functions defined in the modules of `jobs/`, named `module.function`. A module that fails to import
does not affect others: it is listed in `broken` with the reason. Nor does a function whose options or annotations are
invalid: it is listed in `rejected`.
"""

import importlib
import logging
import pkgutil
import sys
import threading
from pathlib import Path

from app.catalog.discovery import Rejected, functions_in, hooks_in
from app.catalog.function import PACKAGE, Arguments, Function
from app.catalog.hook import Hook
from app.errors import Invalid, NotFound
from app.serializer import text_of

__all__ = ["Arguments", "Catalog", "Function", "Rejected", "function_name"]

INTERNAL_FUNCTIONS = ("webhooks.deliver",)
"""Functions that only Jobline itself enqueues."""

log = logging.getLogger(__name__)


def function_name(path: str | None) -> str:
    """Return a function's name, given the path that RQ imports."""
    return (path or "").removeprefix(f"{PACKAGE}.")


class Catalog:
    """The functions of `jobs/`. With `reload`, they are discovered again when a file has changed."""

    def __init__(self, reload: bool = False) -> None:
        self.reload = reload
        self.functions: dict[str, Function] = {}
        self.broken: dict[str, str] = {}
        self.rejected: dict[str, Rejected] = {}
        self.hooks: list[Hook] = []
        """The usable hooks of all imported modules, in the order of their declaration."""
        self.has_lone_functions = False
        """Whether any function has the option `alone`."""
        self._lock = threading.Lock()
        self._file_times: dict[Path, int] | None = None

    def refresh(self) -> "Catalog":
        """Discover the functions at first use, and again after a change in `jobs/`. Returns itself.

        The first discovery uses modules that are already imported. Only a changed file has them imported again.
        """
        if self._file_times is None or self.reload:
            with self._lock:
                file_times = _files()
                if file_times != self._file_times:
                    if self._file_times is not None:
                        _forget_modules()
                    self._discover()
                    self._file_times = file_times
        return self

    def is_stale(self) -> bool:
        """Return whether a file has changed since the last `refresh`."""
        return self.reload and self._file_times is not None and _files() != self._file_times

    @property
    def offered(self) -> dict[str, Function]:
        """The functions that callers may enqueue."""
        return {name: function for name, function in self.functions.items() if name not in INTERNAL_FUNCTIONS}

    def get(self, name: str) -> Function:
        """A function that callers may enqueue. Raises NotFound."""
        if name in INTERNAL_FUNCTIONS:
            raise NotFound(f"Function {name!r} is the service's own: callers cannot enqueue it")
        return self._find(name)

    def _find(self, name: str) -> Function:
        function = self.refresh().functions.get(name)
        if function is None:
            if name in self.rejected:
                raise NotFound(f"Function {name!r} is set aside: {self.rejected[name]}")
            module = name.partition(".")[0]
            reason = f": module {module} does not import" if module in self.broken else ""
            raise NotFound(f"No function {name!r}{reason}")
        return function

    def get_requested(self, name: str, pointer: str) -> Function:
        """Return a function that a request names. Raises Invalid, with the pointer to the name."""
        try:
            return self.get(name)
        except NotFound as error:
            raise Invalid(error.detail, [{"detail": error.detail, "pointer": pointer}]) from None

    def by_path(self, path: str) -> Function:
        """Return the function that RQ would import as `path`, internal ones included. Raises NotFound."""
        return self._find(function_name(path))

    def _discover(self) -> None:
        importlib.invalidate_caches()
        functions: dict[str, Function] = {}
        broken: dict[str, str] = {}
        rejected: dict[str, Rejected] = {}
        for info in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
            if info.name.startswith("_"):
                continue
            try:
                usable, unusable = functions_in(importlib.import_module(f"{PACKAGE}.{info.name}"))
                functions.update((function.name, function) for function in usable)
                rejected.update((rejection.name, rejection) for rejection in unusable)
            except (Exception, SystemExit) as error:  # noqa: BLE001, RUF100 - author's code can raise anything
                broken[text_of(info.name)] = f"{type(error).__name__}: {text_of(error)}"
                log.exception("module %s of %s/ does not import", info.name, PACKAGE)
        hooks: list[Hook] = []
        for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
            callable_hooks, unusable = hooks_in(sys.modules[name])
            hooks += callable_hooks
            rejected.update((rejection.name, rejection) for rejection in unusable)
        for rejection in rejected.values():
            log.error("function %s is set aside: %s", rejection.name, rejection)
        self.functions, self.broken, self.rejected = functions, broken, rejected
        self.has_lone_functions = any(function.options.alone for function in functions.values())
        self.hooks = sorted(hooks, key=lambda hook: hook.declaration.number)


def _forget_modules() -> None:
    """Make the next import load all modules again: each may hold objects imported from another."""
    package = sys.modules[PACKAGE]
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
        module, attribute = sys.modules.pop(name), name.removeprefix(f"{PACKAGE}.")
        if vars(package).get(attribute) is module:  # else `from jobs import name` would return it
            delattr(package, attribute)


def _files() -> dict[Path, int]:
    folders = importlib.import_module(PACKAGE).__path__
    return {path: path.stat().st_mtime_ns for folder in folders for path in Path(folder).rglob("*.py")}
