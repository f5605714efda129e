"""GET /stats and GET /stats/functions."""

from collections import Counter

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.metrics import store
from app.metrics.histogram import Histogram
from app.metrics.measures import Measures
from app.settings import Settings

STATS = "/api/v1/stats"
NONE = dict.fromkeys(("enqueued", "finished", "failed", "retried", "canceled", "stopped", "lost"), 0)
TIMES = Histogram(1.5, 1.0, Counter({-4: 1, 0: 1}))
"""Half a second and a second."""


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


@pytest.fixture
def measured(valkey: redis.Redis) -> None:
    ends = Measures(Counter(finished=2, failed=1), TIMES, TIMES)
    store.add(valkey, {("demo.add", "default"): ends, ("demo.add", "high"): ends}, "one")
    store.add(valkey, {("demo.fail", "default"): Measures(Counter(lost=1))}, "two")


@pytest.mark.usefixtures("measured")
def test_points_cover_the_last_hour_and_add_up(client: FlaskClient) -> None:
    answer = client.get(STATS).get_json()
    assert answer["step"] == 60
    assert 60 <= len(answer["points"]) <= 61
    assert answer["points"][0]["at"] == answer["from"]
    counts = {**NONE, "finished": 4, "failed": 2, "lost": 1}
    assert {name: sum(point[name] for point in answer["points"]) for name in NONE} == counts
    total = answer["total"]
    assert {name: total[name] for name in NONE} == counts
    assert (total["run"]["count"], total["run"]["mean"], total["run"]["max"]) == (4, 0.75, 1.0)
    assert total["run"]["histogram"] == [[0.5, 2], [0.594604, 0], [0.707107, 0], [0.840896, 0], [1.0, 2]]
    assert total["run"]["p50"] == pytest.approx(0.5, rel=0.09)
    assert total["wait"]["p99"] == pytest.approx(1.0, rel=0.09)
    empty = [point for point in answer["points"] if not point["finished"]]
    assert empty[0] == {**NONE, "at": empty[0]["at"], "run": None, "wait": None}


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("query", "finished", "lost"),
    [
        ("", 4, 1),
        ("?queue=high", 2, 0),
        ("?function=demo.add", 4, 0),
        ("?function=demo.add&queue=default", 2, 0),
        ("?function=demo.fail", 0, 1),
        ("?function=unknown", 0, 0),
        ("?from=10m", 4, 1),
        ("?from=72h", 4, 1),
        ("?from=2h&to=1h", 0, 0),
        ("?from=2h&step=10m", 4, 1),
    ],
)
def test_a_function_a_queue_and_a_range_can_be_chosen(
    client: FlaskClient, query: str, finished: int, lost: int
) -> None:
    total = client.get(STATS + query).get_json()["total"]
    assert (total["finished"], total["lost"]) == (finished, lost)


@pytest.mark.usefixtures("measured")
def test_functions_are_listed_with_their_trend(client: FlaskClient) -> None:
    answer = client.get(f"{STATS}/functions?from=15m&step=60s").get_json()
    add, fail = answer["functions"]
    assert (add["name"], add["finished"], add["run"]["count"], sum(add["trend"])) == ("demo.add", 4, 4, 6)
    assert (fail["name"], fail["lost"], fail["run"]) == ("demo.fail", 1, None)
    assert len(add["trend"]) in (15, 16)
    [only] = client.get(f"{STATS}/functions?queue=high").get_json()["functions"]
    assert (only["name"], only["finished"]) == ("demo.add", 2)


def test_what_requests_and_workflows_enqueue_and_cancel_is_counted(client: FlaskClient, valkey: redis.Redis) -> None:
    job = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "queue": "high"}).get_json()
    client.post("/api/v1/jobs/bulk", json={"jobs": [{"function": "demo.add", "args": [1, 2]}] * 3})
    client.post("/api/v1/workflows", json={"jobs": [{"name": "one", "function": "demo.add", "args": [1, 2]}]})
    client.post(f"/api/v1/jobs/{job['id']}/cancel")
    store.sweep(valkey)
    counted = {series: measures.counts for series, measures in store.totals(valkey).items()}
    assert counted == {
        ("demo.add", "high"): {"api": 1, "canceled": 1},
        ("demo.add", "default"): {"api": 3, "workflow": 1},
    }
    total = client.get(STATS).get_json()["total"]
    assert (total["enqueued"], total["canceled"]) == (5, 1)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "#/from"),
        ("from=1h&to=2h", "#/from"),
        ("step=7", "#/step"),
        ("from=8h&step=10", "#/step"),
        ("step=0", "#/step"),
        ("queue=no%20name", "#/queue"),
        ("since=1h", "#/since"),
    ],
)
def test_a_wrong_parameter_is_refused(client: FlaskClient, query: str, pointer: str) -> None:
    answer = client.get(f"{STATS}?{query}")
    assert answer.status_code == 422
    assert {error["pointer"].split("/")[1] for error in answer.get_json()["errors"]} == {pointer.split("/")[1]}
