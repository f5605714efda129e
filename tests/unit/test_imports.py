"""The contracts of imports in pyproject.toml name every module of app/, so that a new one cannot be forgotten."""

import importlib
import re
import tomllib

import pytest

from benchmarks import schedules, ticks
from tests.conftest import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize("name", ["Nothing imports the API, except the test kit", "Nothing imports the test kit"])
def test_a_contract_for_everything_names_everything(name: str) -> None:
    [contract] = [contract for contract in CONTRACTS if contract["name"] == name]
    modules = {
        f"app.{path.stem}"
        for path in (ROOT / "app").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    named = {*contract["source_modules"], *contract["forbidden_modules"]}
    assert modules - named <= {"app.__init__", "app.testing"}
    assert named - modules == {"jobs"}


@pytest.mark.parametrize("source", [schedules.SOURCE, ticks.SOURCE], ids=["schedules", "ticks"])
def test_what_a_benchmark_writes_as_a_program_imports_what_there_is(source: str) -> None:
    imports = re.findall(r"^from (app\S*) import (\w+)$", source, re.MULTILINE)
    assert imports
    for module, name in imports:
        assert hasattr(importlib.import_module(module), name)
