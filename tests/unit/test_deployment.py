"""The deployment files as text: valid by the compose specification, commands that exist."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DURATION = {"type": "string", "pattern": r"^(\d+(us|ms|s|m|h))+$"}
WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# From the compose specification: the keys that we use, no others.
SERVICE = closed(
    {
        "image": {"type": "string"},
        "build": {"type": "string"},
        "command": {"anyOf": [{"type": "string", "minLength": 1}, WORDS]},
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number", "null"]}},
        "depends_on": {
            "type": "object",
            "additionalProperties": closed({"condition": {"const": "service_healthy"}}, "condition"),
        },
        "healthcheck": closed(
            {"test": WORDS, "interval": DURATION, "timeout": DURATION, "retries": {"type": "integer", "minimum": 1}},
            "test",
        ),
        "deploy": closed({"replicas": {"type": "integer", "minimum": 1}}),
        "volumes": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+:/"}, "uniqueItems": True},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^([\d.]+:)?\d+:\d+$"}, "uniqueItems": True},
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
    },
    "command",
    "healthcheck",
    "restart",
)
SCHEMA = {
    **closed(
        {
            "services": {"type": "object", "additionalProperties": SERVICE},
            "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
        },
        "services",
    ),
    "patternProperties": {"^x-": {}},
}


def words(command: str | list[str]) -> list[str]:
    return shlex.split(command.replace("()", "\\(\\)")) if isinstance(command, str) else command


def test_compose_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(COMPOSE, SCHEMA)


def test_what_is_waited_for_has_a_health_check_and_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert ("image" in service) != ("build" in service)
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in COMPOSE["services"][needed]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in COMPOSE["volumes"]
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_a_misspelt_key_would_be_found() -> None:
    wrong = {"services": {"api": {**COMPOSE["services"]["api"], "restrat": "always"}}}
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        jsonschema.validate(wrong, SCHEMA)


def test_every_command_names_a_program_that_exists() -> None:
    last = next(line for line in reversed(DOCKERFILE.splitlines()) if line.startswith("CMD "))
    commands = [words(service["command"]) for service in COMPOSE["services"].values()]
    for program in {command[0] for command in [*commands, json.loads(last.removeprefix("CMD "))]} - {"valkey-server"}:
        assert (Path(sys.executable).parent / program).exists() or shutil.which(program), program


def test_valkey_neither_evicts_nor_forgets() -> None:
    options = words(COMPOSE["services"]["valkey"]["command"])
    assert options[options.index("--maxmemory-policy") + 1] == "noeviction"
    assert options[options.index("--appendonly") + 1] == "yes"


def test_an_open_api_cannot_be_started_by_mistake() -> None:
    environment = COMPOSE["services"]["api"]["environment"]
    assert environment["HOST"] == "0.0.0.0"
    assert environment["API_KEYS"].startswith("${API_KEYS:?")


def test_the_image_is_locked_and_not_run_by_root() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "\nUSER jobline\n" in DOCKERFILE
