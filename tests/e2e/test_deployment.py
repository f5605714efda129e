"""docker-compose.yml: of the specification's shape, and every command and health check as written runs."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from app import api_keys
from tests.conftest import ROOT, Project, free_port, until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]

# compose-spec: service attributes that we use
KEYS = {
    "image", "build", "command", "restart", "depends_on", "volumes", "environment", "healthcheck", "deploy", "ports",
    "stop_grace_period",
}  # fmt: skip
BIRTH_OF = {"worker": "rq:worker:*", "scheduler": "rq:scheduler_instance:*"}


def test_the_file_has_the_shape_of_the_compose_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"services", "volumes"}
    for service in SERVICES.values():
        assert set(service) <= KEYS
        assert ("image" in service) != ("build" in service)
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[needed]
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in COMPOSE["volumes"]
        assert service["healthcheck"]["test"][0] == "CMD"
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_valkey_keeps_everything() -> None:
    command = SERVICES["valkey"]["command"]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


@pytest.mark.parametrize("name", ["api", "worker", "scheduler"])
def test_each_command_runs_and_its_health_check_passes(
    project: Project, valkey: redis.Redis, valkey_url: str, name: str
) -> None:
    service, port = SERVICES[name], free_port()
    _, key = api_keys.new("test", ["admin"])
    env = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "REDIS_URL": valkey_url,
        "DATA_DIR": str(project.folder / "data"), "PORT": str(port), "API_KEYS": str(key),
    }  # fmt: skip
    command = shlex.split(service["command"].replace("()", "\\(\\)"))
    check = [word.replace(":8000", f":{port}") for word in service["healthcheck"]["test"][1:]]

    def healthy() -> bool:
        return subprocess.run(check, cwd=project.folder, env=env, capture_output=True, timeout=20).returncode == 0

    if name == "api":
        assert not healthy()
    process = subprocess.Popen(command, cwd=project.folder, env=env, start_new_session=True)
    try:
        until(healthy, 40)
        until(lambda: name == "api" or valkey.keys(BIRTH_OF[name]))
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
