"""The deployment files as text: valid by the compose specification, commands that exist."""

import ipaddress
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.api import server
from app.settings import Settings
from app.views import waiting
from tests.compose import interpolate
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
TLS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "tls.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DURATION = {"type": "string", "pattern": r"^(\d+(us|ms|s|m|h))+$"}
WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SIZE = {"type": "string", "pattern": r"^(\$\{[A-Z_]+:-\d+[mg]\}|\d+[mg])$"}
NAMED_VOLUME, FILE = r"[a-z]+:/[\w/]+", r"(\./deploy/[\w.-]+|\$\{TLS_DIR:\?[^}]+\}):/etc/nginx/[\w.]+:ro"


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


# From the compose specification: the keys that we use, no others.
SERVICE = closed(
    {
        "image": {"type": "string"},
        "build": closed({"context": {"const": "."}, "args": {"type": "object"}}, "context"),
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
        "volumes": {
            "type": "array",
            "items": {"type": "string", "pattern": f"^({NAMED_VOLUME}|{FILE})$"},
            "uniqueItems": True,
        },
        "ports": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^\$\{BIND:-127\.0\.0\.1\}:\$\{PORT:-\d+\}:\d+$"},
            "uniqueItems": True,
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
        "user": {"type": "string"},
        "read_only": {"type": "boolean"},
        "cap_drop": WORDS,
        "security_opt": WORDS,
        "tmpfs": {"type": "array", "items": {"type": "string", "pattern": r"^/tmp:size=\d+[mg],mode=1777$"}},
        "mem_limit": SIZE,
        "pids_limit": {"type": "integer", "minimum": 1},
        "logging": closed(
            {"driver": {"const": "json-file"}, "options": closed({"max-size": SIZE, "max-file": {"type": "string"}})},
            "driver",
            "options",
        ),
        "networks": {
            "anyOf": [
                WORDS,
                {
                    "type": "object",
                    "additionalProperties": {
                        "anyOf": [{"type": "null"}, closed({"ipv4_address": {"type": "string"}}, "ipv4_address")]
                    },
                },
            ]
        },
    },
)
NETWORK = closed(
    {
        "internal": {"type": "boolean"},
        "ipam": closed(
            {"config": {"type": "array", "items": closed({"subnet": {"type": "string"}}, "subnet")}}, "config"
        ),
    }
)
SCHEMA = {
    **closed(
        {
            "services": {"type": "object", "additionalProperties": SERVICE},
            "networks": {"type": "object", "additionalProperties": {"anyOf": [{"type": "null"}, NETWORK]}},
            "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
        },
        "services",
    ),
    "patternProperties": {"^x-": {}},
}


def words(command: str | list[str]) -> list[str]:
    return shlex.split(command.replace("()", "\\(\\)")) if isinstance(command, str) else command


@pytest.mark.parametrize("document", [COMPOSE, TLS], ids=["docker-compose.yml", "tls.yml"])
def test_compose_is_valid(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(document, SCHEMA)


def test_what_is_named_is_there() -> None:
    for service in COMPOSE["services"].values():
        assert {"command", "healthcheck", "restart"} <= set(service)
        assert ("image" in service) != ("build" in service)
        for needed in service.get("depends_on", {}):
            assert "healthcheck" in COMPOSE["services"][needed]
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_file()
        assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert COMPOSE["services"]["worker"]["deploy"]["replicas"] == 2


def test_tls_replaces_what_nginx_listens_on_and_nothing_else() -> None:
    mounted = {volume.split(":")[1]: volume for volume in COMPOSE["services"]["proxy"]["volumes"]}
    listen, certificates = TLS["services"]["proxy"]["volumes"]
    assert (ROOT / listen.split(":")[0]).is_file()
    assert listen.split(":")[1] in mounted
    folder = interpolate(certificates, TLS_DIR="/certificates").split(":")[1]
    assert f"{folder}/tls.key" in (ROOT / "deploy" / "listen-tls.conf").read_text()
    assert {name: set(service) for name, service in TLS["services"].items()} == {"proxy": {"volumes"}}


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "build" in service or service["user"] not in ("", "root", "0")  # the Dockerfile names its user
    assert {"mem_limit", "pids_limit", "tmpfs"} <= set(service)
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_only_the_proxy_is_published_and_only_workers_reach_out() -> None:
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    assert {name for name, service in COMPOSE["services"].items() if "ports" in service} == {"proxy"}
    assert {name for name, network in COMPOSE["networks"].items() if (network or {}).get("internal")} == {
        "redis",
        "proxy",
    }
    assert networks == {
        "valkey": {"redis"},
        "api": {"redis", "proxy"},
        "proxy": {"proxy", "public"},
        "worker": {"redis", "outgoing"},
        "scheduler": {"redis"},
    }


def test_the_api_believes_the_proxy_and_nobody_else() -> None:
    services = COMPOSE["services"]
    [network] = COMPOSE["networks"]["proxy"]["ipam"]["config"]
    proxy, api = (services[name]["networks"]["proxy"]["ipv4_address"] for name in ("proxy", "api"))
    assert services["api"]["environment"]["TRUSTED_PROXIES"] == proxy
    addresses = [ipaddress.ip_address(interpolate(address)) for address in (proxy, api)]
    assert len(set(addresses)) == 2
    for address in addresses:
        assert address in ipaddress.ip_network(interpolate(network["subnet"]))


def test_the_api_may_have_all_its_threads() -> None:
    threads = Settings().event_streams + waiting.MAX_WAITERS + server.SHORT_REQUEST_THREADS
    assert COMPOSE["services"]["api"]["pids_limit"] > 4 * threads


def test_no_secret_has_a_default_and_none_is_written_down() -> None:
    """Without one the start fails, and says how to make it."""
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "deploy" / "tls.yml").read_text()
    for name in ("REDIS_PASSWORD", "API_KEYS", "TLS_DIR"):
        uses = re.findall(rf"\$\{{{name}([^}}]*)}}", text)
        assert uses
        assert all(re.match(r":\?\w", use) for use in uses), name
    assert COMPOSE["services"]["worker"]["environment"]["REDIS_URL"].startswith("redis://:${REDIS_PASSWORD:?")
    with pytest.raises(ValueError, match="openssl rand"):
        interpolate(COMPOSE["services"]["valkey"]["environment"]["REDISCLI_AUTH"])


def test_a_misspelt_key_would_be_found() -> None:
    wrong = {"services": {"api": {**COMPOSE["services"]["api"], "restrat": "always"}}}
    with pytest.raises(jsonschema.ValidationError, match="restrat"):
        jsonschema.validate(wrong, SCHEMA)


def test_every_command_names_a_program_that_exists() -> None:
    last = next(line for line in reversed(DOCKERFILE.splitlines()) if line.startswith("CMD "))
    commands = [words(service["command"]) for service in COMPOSE["services"].values()]
    for program in {command[0] for command in [*commands, json.loads(last.removeprefix("CMD "))]} - {"nginx"}:
        assert (Path(sys.executable).parent / program).exists() or shutil.which(program), program


def test_valkey_neither_evicts_nor_forgets() -> None:
    options = interpolate(COMPOSE["services"]["valkey"]["command"][-1]).split()
    assert options[options.index("--maxmemory-policy") + 1] == "noeviction"
    assert options[options.index("--appendonly") + 1] == "yes"


def test_valkey_refuses_writes_before_its_container_is_out_of_memory() -> None:
    service = COMPOSE["services"]["valkey"]
    options = interpolate(service["command"][-1]).split()
    assert options[options.index("--maxmemory") + 1] == "2gb"
    assert interpolate(service["mem_limit"]) == "4g"


def test_an_open_api_cannot_be_started_by_mistake() -> None:
    environment = COMPOSE["services"]["api"]["environment"]
    assert environment["HOST"] == "0.0.0.0"
    assert environment["API_KEYS"].startswith("${API_KEYS:?")


def test_every_image_can_be_pinned_by_its_digest() -> None:
    images = {service["image"] for service in COMPOSE["services"].values() if "image" in service}
    images |= {
        service["build"]["args"]["PYTHON_IMAGE"] for service in COMPOSE["services"].values() if "build" in service
    }
    variables = {re.fullmatch(r"\$\{(\w+):-[^}]+\}", image)[1]: image for image in images}  # type: ignore[index]
    assert set(variables) == {"VALKEY_IMAGE", "NGINX_IMAGE", "PYTHON_IMAGE"}
    for name, image in variables.items():
        pinned = f"registry.example/{name.lower()}@sha256:{'0' * 64}"
        assert interpolate(image, **{name: pinned}) == pinned
    assert f"ARG PYTHON_IMAGE={interpolate(variables['PYTHON_IMAGE'])}\nFROM ${{PYTHON_IMAGE}}\n" in DOCKERFILE


def test_the_image_is_locked_and_not_run_by_root() -> None:
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "\nUSER jobline\n" in DOCKERFILE
