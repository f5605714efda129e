"""Prometheus itself: it scrapes a running service, and reads the alerts and the queries that come with Jobline."""

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.api.application import create_app
from app.settings import Settings
from tests.browser import served
from tests.conftest import RQ_WORKER, Project, free_port, until

ROOT = Path(__file__).parents[2]
ALERTS, DASHBOARD = ROOT / "deploy/alerts.yml", ROOT / "deploy/grafana.json"
VARIABLES = {"$__rate_interval": "1m", "$queue": ".*", "$function": ".*"}
NEEDS_A_CAUSE = (
    "jobline_recovered_total",
    "jobline_redis_memory_max_bytes",
    "schedule_lag",
    "breaker_open",
    "limit_waiting",
)
"""Nothing is lost, late or limited here, and Redis has no limit: these queries have no result."""

pytestmark = pytest.mark.needs("prometheus")


def promtool(*words: str, stdin: str = "") -> str:
    done = subprocess.run(["promtool", *words], input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def service(project: Project, valkey: redis.Redis, started: list[Any]) -> Iterator[int]:
    """The port of a service that has run some jobs; its worker and its scheduler run."""
    started.append(project.start(*RQ_WORKER, "default"))
    started.append(project.start("scheduler.py"))
    app = create_app(Settings(), valkey)
    client = app.test_client()
    for _ in range(20):
        client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]})
    client.post("/api/v1/jobs", json={"function": "demo.fail", "args": ["no"]})
    with served(app) as port:
        for part in ('outcome="failed"', 'source="api"', "jobline_worker_rss_bytes{", "jobline_scheduler_age_seconds "):
            until(lambda part=part: part in client.get("/metrics").text)
        yield port


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("path", ["/metrics", "/metrics/process"])
def test_promtool_finds_nothing_to_criticize(service: int, path: str) -> None:
    text = read(f"http://127.0.0.1:{service}{path}")
    found = promtool("check", "metrics", stdin=re.sub(r"^rq_.*\n|^# (HELP|TYPE) rq_.*\n", "", text, flags=re.MULTILINE))
    assert found == ""


def test_the_alerts_are_valid_and_fire_when_they_should(tmp_path: Path) -> None:
    promtool("check", "rules", str(ALERTS))
    cases = tmp_path / "alerts_test.yml"
    cases.write_text((ROOT / "tests/prometheus/alerts_test.yml").read_text().replace("ALERTS]", f"{ALERTS}]"))
    promtool("test", "rules", str(cases))


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """The URL of a Prometheus that scrapes this port each half second."""
    config, port = folder / "prometheus.yml", free_port()
    config.write_text(
        f"""
global: {{ scrape_interval: 500ms, evaluation_interval: 1s }}
rule_files: ["{ALERTS}"]
scrape_configs:
  - job_name: jobline
    static_configs: [{{ targets: ["127.0.0.1:{target}"] }}]
"""
    )
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(["prometheus", *options], stdout=log, stderr=log, cwd=folder)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def query(url: str, expression: str) -> list[dict[str, Any]]:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    answer = json.loads(read(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"))
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_prometheus_scrapes_a_service_and_answers_each_query_of_the_dashboard(service: int, tmp_path: Path) -> None:
    expressions = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    ]
    assert len(expressions) > 20
    with prometheus(tmp_path, service) as url:

        def scraped() -> list[dict[str, Any]]:
            with contextlib.suppress(OSError):
                return query(url, "min_over_time(up[2s]) == 1 and count_over_time(up[10s]) > 4")
            return []

        until(scraped, 40)
        [finished] = query(url, 'sum(jobline_jobs_total{function="demo.add",outcome="finished"})')
        assert finished["value"][1] == "20"
        for expression in expressions:
            found = query(url, expression)
            assert found or any(cause in expression for cause in NEEDS_A_CAUSE), expression
        firing = query(url, 'ALERTS{alertstate="firing"}')
        assert firing == []
