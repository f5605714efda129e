"""Every command of the README runs, as it is written there."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis

from app import signing
from app.settings import Settings
from app.web import create_app
from tests.conftest import ROOT, Project, free_port, until
from tests.receiver import SECRET

README = (ROOT / "README.md").read_text()
COMMANDS = [
    command.strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip()
]


def test_these_are_all_the_commands() -> None:
    """A new one in the README needs a test here."""
    assert [command.split()[0:2] for command in COMMANDS] == [
        ["make", "run"],
        ["make", "test"],
        ["curl", "-s"],
        [".venv/bin/jobline", "jobs"],
        ["rq", "worker"],
        ["API_KEYS='ci:admin:...'", "docker"],  # tests/e2e/test_deployment.py
        [".venv/bin/python", "-m"],
    ]


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{ROOT}/.venv/bin:/usr/bin:/bin", **environment}
    return subprocess.run(
        command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True
    )


def test_make_run_the_curl_and_the_command_line(tmp_path: Path) -> None:
    port = free_port()
    env = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PORT": str(port), "DATA_DIR": str(tmp_path), "LOG_FORMAT": "json"}
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(
            COMMANDS[0].split(), cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: '"event":"ready"' in (tmp_path / "log").read_text(), 60)
        answer = shell(COMMANDS[2].replace(":8000", f":{port}"), tmp_path)
        assert json.loads(answer.stdout)["result"] == 3
        answer = shell(f"{COMMANDS[3]} --json", ROOT, JOBLINE_URL=f"http://127.0.0.1:{port}")
        assert json.loads(answer.stdout)["result"] == 3
    finally:
        family = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does
        running.wait(60)
    assert family
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


def test_make_test_runs_the_suite() -> None:
    assert "pytest" in shell(f"{COMMANDS[1]} --dry-run", ROOT).stdout


def test_rq_worker(project: Project, valkey: redis.Redis, valkey_url: str) -> None:
    shell(f"{COMMANDS[4]} --burst", project.folder, REDIS_URL=valkey_url)


def test_keys_new_prints_a_key_and_its_entry(tmp_path: Path) -> None:
    key, entry = shell(COMMANDS[6], ROOT, DATA_DIR=str(tmp_path)).stdout.split()
    assert key.startswith("jl_")
    assert re.fullmatch(r"ci:enqueue\+read:[0-9a-f]{64}", entry)
    assert key not in entry


def test_the_example_of_a_webhook_is_taken_and_its_message_verified(fake: redis.Redis) -> None:
    body = json.loads(re.findall(r"```json\n(.*?)```", README, re.DOTALL)[0])
    answer = create_app(Settings(webhook_secret=SECRET), fake).test_client().post("/api/v1/jobs", json=body)
    assert (answer.status_code, answer.get_json()["webhook"]) == (202, body["webhook"])
    source = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "verify" in block)
    found: dict[str, object] = {"body": b"{}", "headers": signing.headers([SECRET], "msg_1", b"{}")}
    exec(source.replace("whsec_...", SECRET), found)
    assert found["message"] == {}


def test_the_example_of_a_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "def total" in block)
    found: dict[str, object] = {}
    exec(source, found)
    assert found["total"]([1.5, 2.5]) == 4.0  # type: ignore[operator]


def test_the_example_of_a_test_passes() -> None:
    source = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "run_jobs" in block)
    found: dict[str, Callable[[], None]] = {}
    exec(source, found)
    found["test_total"]()
