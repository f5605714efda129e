"""A client that a stock generator makes of /openapi.json: it compiles, type checkers read it, and it runs jobs."""

import compileall
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.api.application import create_app
from app.settings import Settings
from tests.conftest import RQ_WORKER, Project, free_port, until

EXAMPLE = """
import sys
from typing import assert_type

from jobline_client import Client
from jobline_client.api.functions import call_demo_add
from jobline_client.api.jobs import jobs_enqueue, jobs_get_job, jobs_list_jobs
from jobline_client.models import CallDemoAddBody, JobBody, JobDetail, JobReference, Jobs, Problem

with Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as client:
    job = call_demo_add.sync(client=client, body=CallDemoAddBody(a=1, b=2), prefer="wait=10")
    assert_type(job, JobDetail | JobReference | Problem | None)
    assert isinstance(job, JobDetail), job
    print(job.result)

    body = JobBody(function="demo.fail", args=["no"], timeout="1m", tags=["example"])
    failed = jobs_enqueue.sync(client=client, body=body, prefer="wait=10")
    assert isinstance(failed, JobDetail), failed
    assert failed.error, failed
    print(failed.status, failed.error.message)

    later = jobs_enqueue.sync(client=client, body=JobBody(function="demo.add", args=[1, 2], delay="1h"))
    assert isinstance(later, JobDetail), later
    found = jobs_get_job.sync(later.id, client=client)
    assert isinstance(found, JobDetail), found
    print(found.status)

    listed = jobs_list_jobs.sync(client=client, tag="example")
    assert isinstance(listed, Jobs), listed
    print(len(listed.jobs))

    refused = jobs_enqueue.sync(client=client, body=JobBody(function="demo.add", args=["x", 2]))
    assert isinstance(refused, Problem), refused
    assert refused.errors, refused
    print(refused.status, refused.errors[0].pointer)
"""


def run(*words: str, folder: Path) -> str:
    """What it prints; fails with what it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the generator formats with ruff
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def client(tmp_path: Path, valkey: redis.Redis) -> Path:
    """The folder with the generated package and the example."""
    document = create_app(Settings()).test_client().get("/openapi.json")
    (tmp_path / "openapi.json").write_text(json.dumps(document.get_json()))
    words = "generate --path openapi.json --output-path jobline_client --meta none --fail-on-warning"
    run("-m", "openapi_python_client", *words.split(), folder=tmp_path)
    (tmp_path / "example.py").write_text(EXAMPLE)
    return tmp_path


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    """The API as it is deployed, and a worker; the API's URL."""
    port = free_port()
    processes = [project.start("-m", "app.api.server", PORT=str(port)), project.start(*RQ_WORKER)]
    yield f"http://127.0.0.1:{port}"
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_generated_client_compiles_is_typed_and_runs_the_example(client: Path, server: str) -> None:
    assert compileall.compile_dir(client / "jobline_client", quiet=1)
    run("-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports", "example.py", folder=client)
    until(lambda: answers(f"{server}/readyz"))
    printed = run("example.py", server, folder=client)
    assert printed.splitlines() == ["3", "failed no", "scheduled", "1", "422 #/args/0"]


def answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
        return answer.status == 200
    return False
