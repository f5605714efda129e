"""The contract of /schedules."""

from datetime import datetime
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app import Limit, job
from app.access import api_keys
from app.api.application import create_app
from app.catalog.catalog import Catalog, Function
from app.cli import schedules as commands
from app.schedules import cron, every
from app.schedules.process import Scheduler
from app.settings import Settings

PATH = "/api/v1/schedules"
RULE = {"function": "demo.add", "args": [1, 2]}


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


def test_a_schedule_is_put_and_looked_at(client: FlaskClient) -> None:
    rule = {**RULE, "cron": "30 2 * * mon-fri", "timezone": "Europe/Berlin", "jitter": "1m", "description": "Add"}
    answer = client.put(f"{PATH}/nightly", json=rule)
    schedule = answer.get_json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{PATH}/nightly")
    assert client.get(f"{PATH}/nightly").get_json() == schedule
    assert client.get(PATH).get_json() == {
        "schedules": [schedule], "next_cursor": None, "quarantined": [], "rejected": [],
    }  # fmt: skip
    assert schedule["text"] == "At 02:30 AM, Monday through Friday (Europe/Berlin)"
    assert (schedule["timezone"], schedule["jitter"], schedule["declared"]) == ("Europe/Berlin", 60, False)
    assert schedule["counts"] == {"runs": 0, "skips": 0, "misses": 0, "failures": 0}
    assert len(schedule["next_runs"]) == 10
    for due in schedule["next_runs"]:
        local, utc = datetime.fromisoformat(due["local"]), datetime.fromisoformat(due["utc"])
        assert local == utc
        assert (local.hour, local.minute, local.weekday() < 5) == (2, 30, True)
    assert client.put(f"{PATH}/nightly", json={**rule, "jitter": 0}).status_code == 200


@pytest.mark.parametrize("word", ["max_delay", "max"])
def test_a_schedule_s_retry_is_shown_by_its_names_old_and_new(client: FlaskClient, word: str) -> None:
    rule = {**RULE, "interval": 60, "retry": {"max": 2, "backoff": {word: "5m"}}}
    assert client.put(f"{PATH}/s", json=rule).status_code == 201
    backoff = client.get(f"{PATH}/s").get_json()["retry"]["backoff"]
    assert backoff == {"initial": 1, "factor": 2, "max_delay": 300, "max": 300, "jitter": 0.5}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"cron": "x"}, "#/cron"),
        ({"cron": "0 0 30 2 *"}, "#/cron"),
        ({"cron": None, "interval": 0}, "#/interval"),
        ({"interval": 60}, "#"),
        ({"cron": None}, "#"),
        ({"timezone": "Mars/Base"}, "#/timezone"),
        ({"timezone": "../etc/passwd"}, "#/timezone"),
        ({"function": "os.system"}, "#/function"),
        ({"args": ["x", 2]}, "#/args/0"),
        ({"overlap": "never"}, "#/overlap"),
        ({"catch_up": "some"}, "#/catch_up"),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "#"),
        ({"retry": {"max": 0}}, "#/retry/max"),
        ({"colour": "red"}, "#/colour"),
    ],
)
def test_what_could_never_run_is_refused(
    client: FlaskClient, valkey: redis.Redis, change: dict[str, Any], pointer: str
) -> None:
    answer = client.put(f"{PATH}/s", json={**RULE, "cron": "@daily", **change})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.get_json()["errors"]] == [pointer]
    assert valkey.keys() == []


def test_a_rule_is_tried_out(client: FlaskClient, valkey: redis.Redis) -> None:
    answer = client.post(f"{PATH}/preview", json={"cron": "0 0 9 1 1 *", "timezone": "Asia/Tokyo"}).get_json()
    assert answer["text"] == "At 09:00 AM, on day 1 of the month, only in January (Asia/Tokyo)"
    runs = [due["utc"] for due in answer["next_runs"]]
    assert runs == [f"{int(runs[0][:4]) + number}-01-01T00:00:00Z" for number in range(10)]
    assert client.post(f"{PATH}/preview", json={"cron": "61 * * * *"}).status_code == 422
    assert valkey.keys() == []


def test_pause_resume_trigger_delete(client: FlaskClient, valkey: redis.Redis) -> None:
    client.put(f"{PATH}/s", json={**RULE, "interval": "1h"})
    before = client.get(f"{PATH}/s").get_json()["next_runs"]
    job = client.post(f"{PATH}/s/trigger")
    assert (job.status_code, job.get_json()["schedule"]) == (202, "s")
    found = client.get(f"{PATH}/s").get_json()
    assert found["next_runs"] == before
    assert found["last_runs"][0]["job_id"] == job.get_json()["id"]
    assert (found["last_runs"][0]["status"], found["counts"]["runs"]) == ("queued", 1)
    paused = client.post(f"{PATH}/s/pause").get_json()
    assert (paused["paused"], paused["reason"], paused["next_runs"]) == (True, "on request", [])
    resumed = client.post(f"{PATH}/s/resume").get_json()
    assert (resumed["paused"], resumed["reason"], len(resumed["next_runs"])) == (False, None, 10)
    assert client.delete(f"{PATH}/s").status_code == 204
    assert client.get(f"{PATH}/s").status_code == 404
    assert client.get(job.headers["Location"]).status_code == 200
    for verb in ("pause", "resume", "trigger"):
        assert client.post(f"{PATH}/s/{verb}").status_code == 404
    assert client.delete(f"{PATH}/s").status_code == 404


def test_a_declared_schedule_is_not_for_the_api_to_change(client: FlaskClient, valkey: redis.Redis) -> None:
    Scheduler(valkey, Settings(), Catalog(), [every("demo.add", name="s", minutes=5, args=[1, 2])]).step()
    assert client.get(f"{PATH}/s").get_json()["declared"] is True
    assert client.put(f"{PATH}/s", json={**RULE, "interval": 5}).status_code == 409
    assert client.delete(f"{PATH}/s").status_code == 409
    assert client.post(f"{PATH}/s/pause").status_code == 200


def test_bad_entries_are_shown_with_the_reason_until_they_are_mended(
    client: FlaskClient, valkey: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    good = every("demo.add", name="good", minutes=5, args=[1, 2])

    def reconcile(*declared: Any) -> None:
        scheduler = Scheduler(valkey, Settings(), Catalog(), declared)
        scheduler.step()
        scheduler.lease.release()

    entries = [
        cron("0 2 * * mno", "demo.add", name="typo", args=[1, 2]),
        every("demo.add", name="unfit", minutes=5, args=["x", 2]),
        cron("@daily"),  # type: ignore[call-arg]
        5,
    ]
    reconcile(*entries, good)
    reasons = {
        "typo": "cron: no cron expression",
        "unfit": "Input should be a valid integer",
        "entry 3": "cron() missing 1 required positional argument",
        "entry 4": "an entry is made by cron, every or once",
    }
    listed = client.get(PATH).get_json()
    told = {one["name"]: one["reason"] for one in (*listed["rejected"], *listed["schedules"]) if one["reason"]}
    assert told.keys() == reasons.keys()
    assert all(reasons[name] in told[name] for name in told)
    ready = client.get("/readyz").get_json()
    assert (ready["status"], ready["rejected_schedules"]) == ("degraded", told)
    assert "is set aside: cron: no cron expression" in client.get(f"{PATH}/typo").get_json()["detail"]
    assert client.get(f"{PATH}/good").get_json()["next_runs"]
    commands._print_page(listed)
    assert "typo is set aside: cron: no cron expression" in capsys.readouterr().err
    reconcile(good)
    assert client.get(PATH).get_json()["rejected"] == []
    assert client.get("/readyz").get_json()["status"] == "ok"
    assert not valkey.exists("jobline:schedules:rejected", "jobline:schedules:broken")


def test_a_schedule_that_is_declared_wrongly_keeps_what_is_known_of_it(
    client: FlaskClient, valkey: redis.Redis
) -> None:
    def reconcile(expression: str) -> dict[str, Any]:
        scheduler = Scheduler(valkey, Settings(), Catalog(), [cron(expression, "demo.add", name="s", args=[1, 2])])
        scheduler.step()
        scheduler.lease.release()
        found: dict[str, Any] = client.get(f"{PATH}/s").get_json()
        return found

    reconcile("@daily")
    client.post(f"{PATH}/s/trigger")
    wrong = reconcile("@dayly")
    assert (wrong["counts"]["runs"], wrong["next_runs"]) == (1, [])
    assert "no cron expression" in wrong["reason"]
    mended = reconcile("@daily")
    assert (mended["counts"]["runs"], len(mended["next_runs"]), mended["reason"]) == (1, 10, None)
    assert client.get("/readyz").get_json()["status"] == "ok"


def test_a_schedule_that_cannot_run_is_not_called_paused(client: FlaskClient, valkey: redis.Redis) -> None:
    Scheduler(valkey, Settings(), Catalog(), [every("demo.add", name="s", minutes=5, args=["x", 2])]).step()
    found = client.get(f"{PATH}/s").get_json()
    assert "Input should be a valid integer" in found["reason"]
    assert (found["paused"], found["next_runs"]) == (False, [])


def test_a_schedule_whose_arguments_fit_no_longer_is_not_triggered(client: FlaskClient, valkey: redis.Redis) -> None:
    client.put(f"{PATH}/s", json={**RULE, "interval": 60})
    rule = valkey.hget("jobline:schedule:s", "rule")
    valkey.hset("jobline:schedule:s", "rule", rule.replace(b'"args":[1,2]', b'"args":[1,2,3]'))
    found = client.application.extensions["jobline"].catalog
    found.refresh().functions["demo.add"] = Function("demo.add", limited)
    answer = client.post(f"{PATH}/s/trigger")
    assert (answer.status_code, answer.get_json()["detail"]) == (422, "The arguments do not fit demo.add")


@job(concurrency=Limit(1, key="{a}"))
def limited(a: int, b: int) -> int:
    return a + b


def test_pages_of_schedules(client: FlaskClient) -> None:
    for number in range(5):
        client.put(f"{PATH}/s{number}", json={**RULE, "interval": 60})
    first = client.get(f"{PATH}?limit=3").get_json()
    assert [schedule["name"] for schedule in first["schedules"]] == ["s0", "s1", "s2"]
    rest = client.get(f"{PATH}?limit=3&cursor={first['next_cursor']}").get_json()
    assert [schedule["name"] for schedule in rest["schedules"]] == ["s3", "s4"]
    assert rest["next_cursor"] is None


def test_scopes(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    key, entry = api_keys.new("reader", ["read", "enqueue"])
    monkeypatch.setenv("API_KEYS", str(entry))
    client = create_app(Settings(), valkey).test_client()
    headers = {"Authorization": f"Bearer {key}"}
    assert client.get(PATH, headers=headers).status_code == 200
    assert client.put(f"{PATH}/s", json={**RULE, "interval": 60}, headers=headers).status_code == 403
    assert client.get(PATH).status_code == 401


def test_readyz_knows_the_age_of_the_scheduler(client: FlaskClient, valkey: redis.Redis) -> None:
    assert client.get("/readyz").get_json()["scheduler"] is None
    scheduler = Scheduler(valkey, Settings(), Catalog())
    scheduler.step()
    scheduler._next_heartbeat_at = 0.0
    scheduler.step()
    assert 0 <= client.get("/readyz").get_json()["scheduler"] < 5
