"""docker-compose.yml: every command and health check, as written, runs; those of nginx in test_proxy.py."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import yaml

from app.access import api_keys
from app.redis import embedded
from tests.compose import interpolate
from tests.conftest import ROOT, Project, free_port, until

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]

BIRTH_OF = {"worker": "rq:worker:*", "scheduler": "rq:scheduler_instance:*"}


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


def test_valkey_wants_its_password_and_does_not_show_it(tmp_path: Path) -> None:
    password, port = "b5c1e0", free_port()
    (tmp_path / "valkey-server").symlink_to(embedded.binary())
    shell, flag, script = SERVICES["valkey"]["command"]
    command = interpolate(script).replace("/tmp/", f"{tmp_path}/").strip() + f" --port {port} --bind 127.0.0.1"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for name, value in SERVICES["valkey"]["environment"].items():
        env[name] = interpolate(value, REDIS_PASSWORD=password)
    process = subprocess.Popen([shell, flag, command], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    try:
        url = interpolate(SERVICES["worker"]["environment"]["REDIS_URL"], REDIS_PASSWORD=password)
        connection = redis.Redis.from_url(url.replace("valkey:6379", f"127.0.0.1:{port}"))
        until(lambda: _answers(connection))
        assert connection.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        assert connection.config_get("maxmemory")["maxmemory"] == str(2 * 1024**3)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        assert password not in " ".join(psutil.Process(process.pid).cmdline())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _answers(connection: redis.Redis) -> bool:
    try:
        return bool(connection.ping())
    except redis.ConnectionError:
        return False
