"""Every command and example of the README and docs/ runs, as it is written there."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import psutil
import pytest
import redis

from app.api.application import create_app
from app.catalog.catalog import Catalog, Function
from app.log import ROUTINE
from app.settings import Settings
from app.testing import run_jobs
from app.webhooks import signing
from tests.conftest import ROOT, Project, free_port, status, until
from tests.readme import blocks, pages
from tests.receiver import SECRET

FLOW_CONTROL = pages()["docs/guides/flow-control.md"]

COMMANDS = [
    command.strip()
    for block in blocks("sh")
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip() and not command.startswith("#")
]
EXAMPLES = [json.loads(block) for block in blocks("json")]
SOURCES = blocks("python")
RUN = ["make run", "make test", "curl -s", ".venv/bin/jobline jobs", "rq worker", ".venv/bin/python -m app keys"]
"""How the commands begin that a test here runs."""
ELSEWHERE = ["REDIS_PASSWORD=", "docker compose", ".venv/bin/python -m pip install"]
"""tests/e2e/test_deployment.py, tests/e2e/test_proxy.py and tests/e2e/test_traces.py"""
CHECKS = ["make check", "make install"]
"""Of whoever changes Jobline; .ci/run runs the checks."""


def test_these_are_all_the_commands() -> None:
    """A new one needs a test here."""
    assert [one for one in COMMANDS if not one.startswith((*RUN, *ELSEWHERE, *CHECKS))] == []


def command(start: str) -> str:
    """The one that begins so, on whatever pages it is."""
    [found] = {" ".join(one.split()) for one in COMMANDS if one.startswith(start)}
    return found


def source_with(text: str) -> str:
    return next(source for source in SOURCES if text in source)


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
            command("make run").split(), cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: '"event":"ready"' in (tmp_path / "log").read_text(), 60)
        answer = shell(command("curl -s").replace(":8000", f":{port}"), tmp_path)
        assert json.loads(answer.stdout)["result"] == 3
        answer = shell(f"{command('.venv/bin/jobline')} --json", ROOT, JOBLINE_URL=f"http://127.0.0.1:{port}")
        assert json.loads(answer.stdout)["result"] == 3
    finally:
        family = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGINT)  # as Ctrl-C does
        running.wait(60)
    said = (tmp_path / "log").read_text()
    assert [text for text in (*ROUTINE, "Websockets") if text in said] == []
    assert said[: said.index('"event":"ready"')].count("\n") < 10, "a newcomer reads what is there before it"
    assert family
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


def test_make_test_runs_the_suite() -> None:
    assert "pytest" in shell(f"{command('make test')} --dry-run", ROOT).stdout


def test_rq_worker(project: Project, valkey: redis.Redis, valkey_url: str) -> None:
    client = create_app(Settings(), valkey).test_client()
    jobs = [{"function": "demo.add", "args": [1, 2], "queue": name} for name in Settings().queue_names]
    ids = client.post("/api/v1/jobs/bulk", json={"jobs": jobs}).get_json()["ids"]
    shell(f"{command('rq worker')} --burst", project.folder, REDIS_URL=valkey_url)
    assert [status(valkey, job_id) for job_id in ids] == ["finished"] * 4, "webhooks too"


def test_keys_new_prints_a_key_and_its_entry(tmp_path: Path) -> None:
    key, entry = shell(command(".venv/bin/python -m app keys"), ROOT, DATA_DIR=str(tmp_path)).stdout.split()
    assert key.startswith("jl_")
    assert re.fullmatch(r"ci:enqueue\+read:[0-9a-f]{64}", entry)
    assert key not in entry


def test_the_example_of_a_webhook_is_taken_and_its_message_verified(fake: redis.Redis) -> None:
    body = next(example for example in EXAMPLES if "webhook" in example)
    answer = create_app(Settings(webhook_secret=SECRET), fake).test_client().post("/api/v1/jobs", json=body)
    assert (answer.status_code, answer.get_json()["webhook"]) == (202, body["webhook"])
    source = source_with("from standardwebhooks")
    found: dict[str, object] = {"body": b"{}", "headers": signing.headers([SECRET], "msg_1", b"{}")}
    exec(source.replace("whsec_...", SECRET), found)
    assert found["message"] == {}


def test_the_example_of_a_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_with("def total")
    found: dict[str, object] = {}
    exec(source, found)
    assert found["total"]([1.5, 2.5]) == 4.0  # type: ignore[operator]


def test_the_example_of_a_test_passes() -> None:
    source = source_with("import run_jobs")
    found: dict[str, Callable[[], None]] = {}
    exec(source, found)
    found["test_total"]()


def test_the_example_of_a_test_with_the_fixture_passes() -> None:
    found: dict[str, Any] = {}
    exec(source_with("pytest.mark.run_jobs"), found)
    test = found["test_a_receipt_is_sent_and_told"]
    [marker] = test.pytestmark  # tests/e2e/test_testing_plugin.py runs the fixture itself
    with run_jobs(**marker.kwargs) as jobs:
        test(jobs)


def test_the_example_of_hooks_runs(write_module: Callable[[str, str], None]) -> None:
    write_module("pages", source_with("on_start"))
    with patch("urllib3.PoolManager.request", return_value=Mock(status=204)), run_jobs() as jobs:
        job = jobs.enqueue("pages.check", "https://example.com/")
        jobs.run(raise_errors=True)
        assert job.result == 204


@pytest.mark.parametrize(
    ("name", "expected"), [("chain", 13), ("group", 10), ("chord", 10), ("map", 36), ("chunks", 15)]
)
def test_the_examples_of_workflows_run(name: str, expected: float, write_module: Callable[[str, str], None]) -> None:
    write_module("shop", source_with("def total"))
    body = next(example for example in EXAMPLES if example.get("name") == name)
    with run_jobs() as jobs:
        workflow = jobs.client.post("/api/v1/workflows", json=body).json
        jobs.run()
        ended = jobs.client.get(workflow["links"]["self"]).json
    assert (ended["status"], ended["jobs"][-1]["result"]) == ("finished", expected)


def test_the_example_of_flow_control_is_taken_with_the_function_and_with_the_job(valkey: redis.Redis) -> None:
    found: dict[str, Any] = {}
    exec(source_with("def bill"), found)
    functions = Catalog()
    functions.refresh().functions["shop.bill"] = Function("shop.bill", found["bill"])
    client = create_app(connection=valkey, catalog=functions).test_client()
    call = {"function": "shop.bill", "args": [1, {"id": 7}]}
    [said] = re.findall(r"A request can set all but the breaker.*?: (`.*?`)\.\n", FLOW_CONTROL, re.DOTALL)
    with_job = json.loads(f"{{{said.replace('`', '')}}}")
    statuses = [client.post("/api/v1/jobs", json=body).status_code for body in (call, {**call, **with_job})]
    assert statuses == [202, 409]
    assert client.post("/api/v1/jobs", json={**call, **with_job, "args": [2, {"id": 7}]}).status_code == 202
