"""A job's own log: what it logs and prints, kept with it."""

import json
import threading
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.lifecycle import actions
from app.redis.keys import EVENTS, log_key
from app.settings import Settings
from app.worker import reporter
from tests.conftest import Project, status, until
from tests.scripts.hand import put_by_path

SOURCE = """
import asyncio
import logging
import sys
import structlog

def talk() -> None:
    print("printed")
    print("no end", end="")
    print("wrong", file=sys.stderr)
    logging.getLogger("shop").warning("only %d left", 3)
    structlog.get_logger("till").info("paid", amount=5)
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("shop").exception("no sum")

def silent() -> int:
    return 1

def fail() -> None:
    print("before")
    raise ValueError("no")

async def wait(name: str) -> None:
    print(name, "begins")
    await asyncio.sleep(0.2)
    await asyncio.to_thread(print, name, "in a thread")
    print(name, "ends")

def chatter(lines: int) -> None:
    for number in range(lines):
        print("line", number)

def secret() -> None:
    print("the url is smtp://me:hidden-password@localhost:25 and the password hidden-password")
"""


@pytest.fixture
def talking(project: Project) -> Project:
    project.write("talking", SOURCE)
    return project


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


def enqueue(connection: redis.Redis, name: str, *args: object, **fields: Any) -> str:
    return put_by_path(connection, f"jobs.talking.{name}", *args, failure_ttl=900, **fields)


def lines(client: FlaskClient, job_id: str, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/jobs/{job_id}/logs{query}").get_json()
    found: list[dict[str, Any]] = answer["lines"]
    return found


@pytest.mark.parametrize("concurrency", ["1", "20"])
def test_what_a_job_logs_and_prints_is_kept_with_it(
    talking: Project, valkey: redis.Redis, client: FlaskClient, concurrency: str
) -> None:
    talker, mute = enqueue(valkey, "talk"), enqueue(valkey, "silent")
    output = talking.work("default", CONCURRENCY=concurrency)
    *first, last = lines(client, talker)
    assert [(line["source"], line["level"], line["text"]) for line in first] == [
        ("stdout", None, "printed"),
        ("stderr", None, "wrong"),
        ("shop", "warning", "only 3 left"),
        ("till", "info", "paid amount=5"),
        ("shop", "error", first[4]["text"]),
    ]
    assert (last["source"], last["text"], last["attempt"]) == ("stdout", "no end", 1)
    assert "no sum\nTraceback" in first[4]["text"]
    assert "ZeroDivisionError" in first[4]["text"]
    assert lines(client, mute) == []
    assert not valkey.exists(log_key(mute))
    assert valkey.ttl(log_key(talker)) == pytest.approx(500, abs=20)
    assert "printed" in output
    assert "only 3 left" in output


def test_each_of_several_jobs_at_once_has_its_own_lines(
    talking: Project, valkey: redis.Redis, client: FlaskClient
) -> None:
    ids = [enqueue(valkey, "wait", str(number)) for number in range(10)]
    talking.work("default", CONCURRENCY="20")
    for number, job_id in enumerate(ids):
        texts = [line["text"] for line in lines(client, job_id)]
        assert texts == [f"{number} begins", f"{number} in a thread", f"{number} ends"]


def test_attempts_are_told_apart_and_a_failed_job_keeps_its_log_as_long_as_itself(
    talking: Project, valkey: redis.Redis, client: FlaskClient
) -> None:
    job = enqueue(valkey, "fail", retry_waits=[0])
    talking.work("default")
    assert status(valkey, job) == "failed"
    assert [(line["attempt"], line["text"]) for line in lines(client, job)] == [(1, "before"), (2, "before")]
    assert valkey.ttl(log_key(job)) == pytest.approx(900, abs=20)
    actions.delete(valkey, job)
    assert not valkey.exists(log_key(job))
    assert client.get(f"/api/v1/jobs/{job}/logs").status_code == 404


def test_a_job_that_rq_s_own_methods_end_keeps_its_log_as_long_as_itself(
    talking: Project, valkey: redis.Redis, client: FlaskClient
) -> None:
    job = enqueue(valkey, "talk")
    valkey.hset(f"rq:job:{job}", "success_callback_name", "jobs.talking.silent")
    talking.work("default")
    assert len(lines(client, job)) == 6
    assert 0 < valkey.ttl(log_key(job)) <= 900


def test_a_log_has_an_end_and_pages(talking: Project, valkey: redis.Redis, client: FlaskClient) -> None:
    job = enqueue(valkey, "chatter", 3000)
    talking.work("default")
    found = lines(client, job)
    first = client.get(f"/api/v1/jobs/{job}/logs?limit=600").get_json()
    second = client.get(f"/api/v1/jobs/{job}/logs?limit=600&cursor={first['next_cursor']}").get_json()
    assert [line["text"] for line in first["lines"] + second["lines"]][:-1] == [f"line {n}" for n in range(1000)]
    assert second["lines"][-1]["text"] == reporter.CUT
    assert second["next_cursor"] is None
    assert len(found) == 1000
    assert client.get(f"/api/v1/jobs/{job}/logs?cursor=x").status_code == 400


def test_secrets_of_the_settings_are_masked(talking: Project, valkey: redis.Redis, client: FlaskClient) -> None:
    job = enqueue(valkey, "secret")
    talking.work("default", SMTP_URL="smtp://me:hidden-password@localhost:25")
    assert [line["text"] for line in lines(client, job)] == ["the url is *** and the password ***"]


def test_logs_can_be_switched_off(talking: Project, valkey: redis.Redis, client: FlaskClient) -> None:
    job = enqueue(valkey, "talk")
    output = talking.work("default", JOB_LOG="off")
    assert lines(client, job) == []
    assert "printed" in output


def test_lines_come_as_events_of_the_job(talking: Project, valkey: redis.Redis, client: FlaskClient) -> None:
    job = enqueue(valkey, "wait", "one")
    received: list[str] = []

    def follow() -> None:
        received.extend(text.decode() for text in client.get(f"/api/v1/jobs/{job}/events").response)

    thread = threading.Thread(target=follow)
    thread.start()
    until(lambda: valkey.exists(EVENTS))
    talking.work("default")
    thread.join(20)
    logs = [text for text in received if text.startswith("event: log")]
    texts = [line["text"] for text in logs for line in json.loads(text.split("data: ")[1])["lines"]]
    assert texts == ["one begins", "one in a thread", "one ends"]
    assert received[-1].startswith("event: end")


def test_a_log_that_redis_refuses_fails_no_job(talking: Project, valkey: redis.Redis) -> None:
    job = enqueue(valkey, "talk")
    valkey.set(log_key(job), "of another type")
    output = talking.work("default")
    assert status(valkey, job) == "finished"
    assert "the log of a job is not kept" in output
