"""Benchmarks measure what they say: jobs that are there, refusals that are shown, graphs that are all looked at."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from benchmarks import graphs, lab, load
from benchmarks.environments import ENVIRONMENTS, PEERS
from benchmarks.services import BESIDE, RAW
from tests.conftest import ROOT

EVERY_OTHER_FAILS = """
from web_raw import app as take

seen = 0

def app(environ, start_response):
    global seen
    seen += 1
    if seen % 2:
        return take(environ, start_response)
    start_response("500 Internal Server Error", [("Content-Length", "0")])
    return []
"""
NONE_IS_QUEUED = """
def app(environ, start_response):
    start_response("202 Accepted", [("Content-Length", "0")])
    return []
"""


@pytest.fixture
def small() -> Iterator[lab.Lab]:
    with lab.opened(lab.SMOKE, seed=1, append_only=False) as found:
        yield found


def _service(small: lab.Lab, name: str, source: str) -> load.Service:
    (small.folder / f"{name}.py").write_text(source)
    return replace(RAW, name=name, command=(*BESIDE, f"{name}:app"), bulk_path="")


def _smoke(what: str, *options: str) -> dict[str, list[dict[str, Any]]]:
    """The figures of each row."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", what, "--smoke", "--rounds", "1", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows: dict[str, list[dict[str, Any]]] = json.loads((ENVIRONMENTS / "smoke.json").read_text())[what]
    return rows


@pytest.mark.needs("wrk")
def test_every_job_of_an_accepted_request_is_in_redis_for_us_and_for_those_beside_us() -> None:
    rows = _smoke("load", "--peers", "jobline,flask,raw")
    assert list(rows) == ["jobline 2", "flask + rq 2", "limit 2"]
    for [figures] in rows.values():
        assert "error" not in figures, figures
        assert figures["accepted"] > 0
        assert figures["bulk_accepted"] > 0
        assert figures["failed"] == figures["bulk_failed"] == 0


def test_graphs_are_run_under_kills_and_each_has_ended_right() -> None:
    [[figures]] = _smoke("graphs", "--seed", "3").values()
    assert "error" not in figures, figures
    assert figures["graphs"] == sum(figures["statuses"].values()) == lab.SMOKE.graphs
    assert sum(figures["kills"].values()) > 0
    assert figures["wrong"] == figures["stuck"] == 0, figures


def test_a_workflow_that_is_refused_is_no_graph_that_ended(small: lab.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "random_graph", lambda *_: {"name": "0", "jobs": []})
    with pytest.raises(RuntimeError, match="0 graphs were submitted, of 100"):
        graphs.measure(small, graphs.ROWS[0])


@pytest.mark.needs("wrk")
def test_a_refused_request_is_failed_and_counts_for_nothing(small: lab.Lab) -> None:
    figures = load.measure(small, _service(small, "every_other_fails", EVERY_OTHER_FAILS))
    assert figures["failed"] == pytest.approx(figures["accepted"], abs=4)
    assert figures["accepted"] > 0


@pytest.mark.needs("wrk")
def test_a_service_that_accepts_and_queues_nothing_is_found_out(small: lab.Lab) -> None:
    with pytest.raises(RuntimeError, match=r"\{0\} jobs are in Redis, of \d+ that were accepted"):
        load.measure(small, _service(small, "none_is_queued", NONE_IS_QUEUED))


def test_the_yardstick_writes_what_stock_rq_writes(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))
    from web_raw import fields

    job = Queue(connection=valkey, serializer=JSONSerializer).enqueue("jobs.bench.noop", 1)
    stock = {name.decode(): value for name, value in valkey.hgetall(job.key).items()}
    raw = {name: _bytes(value) for name, value in fields("jobs.bench.noop", [1]).items()}
    moments = {"created_at", "enqueued_at"}
    assert raw.keys() == stock.keys()
    assert {name: raw[name] for name in raw.keys() - moments} == {name: stock[name] for name in raw.keys() - moments}


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
