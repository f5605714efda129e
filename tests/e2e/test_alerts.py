"""Alerts by webhook and mail: told when something begins to be wrong, and when it is over; once each."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from app import job
from app.alerts import rules, watcher
from app.alerts.watcher import Watcher
from app.author.options import Breaker
from app.catalog.catalog import Catalog, Function
from app.lifecycle import queues
from app.metrics import store
from app.metrics.histogram import Histogram
from app.metrics.measures import Measures
from app.redis.keys import ALERTS, ALERTS_CRITICAL, OUTBOX, breaker_key
from app.schedules import manage
from app.schedules.rule import Schedule
from app.settings import Settings, get_settings
from tests.conftest import RQ_WORKER, Project, free_port, until
from tests.receiver import SECRET, Receiver
from tests.scripts.hand import put

SOURCE = """
from app import job

@job(critical=True)
def vital(ok: bool) -> None:
    if not ok:
        raise ValueError("no")
"""


def told(receiver: Receiver) -> list[tuple[str, str]]:
    messages = [json.loads(one.body) for one in receiver.at("/alerts")]
    return [(message["type"], message["data"]["name"]) for message in messages]


@pytest.fixture
def alerted(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> dict[str, str]:
    """Settings of a service that tells its alerts to the receiver."""
    environment = {
        "ALERT_WEBHOOK": f"{receiver.base}/alerts",
        "WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
        "WEBHOOK_SECRET": SECRET,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return environment


def test_a_service_tells_once_that_a_critical_job_has_failed_and_that_all_is_well_again(
    project: Project,
    valkey: redis.Redis,
    receiver: Receiver,
    alerted: dict[str, str],
    started: list[subprocess.Popen[bytes]],
) -> None:
    project.write("care", SOURCE)

    def vital(ok: bool) -> None: ...

    def enqueue(ok: bool) -> None:
        from app.enqueue import new_job, write

        function = Function("care.vital", vital)
        write.enqueue(valkey, [new_job.prepare(function, Settings(), [ok], {})])

    started.append(project.start("-m", "scheduler", **alerted))  # with the jobs of the project
    until(lambda: valkey.exists(ALERTS_CRITICAL))
    started.append(project.start(*RQ_WORKER, "default", **alerted))
    enqueue(ok=False)
    until(lambda: told(receiver) == [("alert.began", "critical:care.vital")], 30)
    enqueue(ok=False)
    until(lambda: valkey.hget(ALERTS_CRITICAL, "care.vital") == b"2 0 1")
    enqueue(ok=True)
    until(lambda: told(receiver)[1:] == [("alert.ended", "critical:care.vital")], 40)
    began = receiver.at("/alerts")[0].verified()
    assert began["text"] == "Jobline: A job of care.vital has failed, and care.vital is critical"
    assert began["data"]["look_at"].endswith("/api/v1/failures?function=care.vital")
    assert not valkey.exists(ALERTS)


@pytest.fixture
def watching(valkey: redis.Redis, alerted: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Watcher:
    monkeypatch.setattr(watcher, "CHECK_INTERVAL_SECONDS", 0)
    return Watcher(valkey, Catalog(), get_settings())


def test_an_alert_begins_and_ends_at_the_second_look_and_is_told_by_one_scheduler(
    watching: Watcher, valkey: redis.Redis, receiver: Receiver
) -> None:
    put(valkey, "job")
    watching.check()
    watching.check()
    until(lambda: valkey.hexists(ALERTS, "no_worker:default"))
    other = Watcher(valkey, Catalog(), get_settings())
    for _ in range(3):
        watching.check()
        other.check()
    assert told(receiver) == [("alert.began", "no_worker:default")]
    valkey.delete("rq:queue:default")
    other.check()
    assert valkey.exists(ALERTS)
    other.check()
    until(lambda: not valkey.exists(ALERTS))
    assert told(receiver) == [("alert.began", "no_worker:default"), ("alert.ended", "no_worker:default")]


def test_an_alert_that_could_not_be_sent_is_sent_later(
    watching: Watcher, valkey: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.alerts.notifier.RETRY_WAITS", ())
    watching._notifier._settings = get_settings().model_copy(update={"alert_webhook": f"{receiver.base}/status/500"})
    put(valkey, "job")
    until(lambda: watching.check() or receiver.at("/status/500"))
    assert not valkey.exists(ALERTS)
    watching._notifier._settings = get_settings()
    until(lambda: watching.check() or valkey.exists(ALERTS))
    assert told(receiver) == [("alert.began", "no_worker:default")]


class Inbox(Message):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Any] = []

    def handle_message(self, message: Any) -> None:
        self.mails.append(message)


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    found = Inbox()
    controller = Controller(found, hostname="127.0.0.1", port=free_port())
    controller.start()
    monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{controller.port}")
    monkeypatch.setenv("ALERT_MAIL", "ops@example.org, boss@example.org")
    get_settings.cache_clear()
    yield found
    controller.stop()


def test_alerts_come_by_mail(valkey: redis.Redis, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "CHECK_INTERVAL_SECONDS", 0)
    watching = Watcher(valkey, Catalog(), get_settings())
    put(valkey, "job")
    until(lambda: watching.check() or inbox.mails)
    [mail] = inbox.mails
    assert mail["Subject"] == "Jobline: 1 jobs wait on queue default, and no worker takes them"
    assert mail["To"] == "ops@example.org, boss@example.org"
    assert "/api/v1/workers" in mail.get_payload()


def test_nothing_is_watched_where_nobody_is_told(valkey: redis.Redis) -> None:
    put(valkey, "job")
    watching = Watcher(valkey, Catalog(), Settings())
    watching.check()
    assert not watching._seen


# The rules


def names(connection: redis.Redis, catalog: Catalog | None = None, **settings: Any) -> list[str]:
    found = rules.current(connection, catalog or Catalog(), Settings(**settings))
    assert all(alert.text and alert.look_at.startswith("/") for alert in found)
    return [alert.name for alert in found]


def serve(connection: redis.Redis, queue: str) -> None:
    connection.sadd("rq:workers", "rq:worker:w")
    now = datetime.now(UTC).isoformat()
    connection.hset("rq:worker:w", mapping={"queues": queue, "last_heartbeat": now, "birth": now})


def test_a_service_at_rest_is_well(valkey: redis.Redis) -> None:
    serve(valkey, "default")
    put(valkey, "job")
    assert names(valkey) == []


def test_a_queue_that_waits(valkey: redis.Redis) -> None:
    serve(valkey, "default")
    put(valkey, "job")
    valkey.hset("rq:job:job", "enqueued_at", (datetime.now(UTC) - timedelta(seconds=301)).isoformat())
    assert names(valkey) == ["queue_waits:default"]
    assert names(valkey, alert_wait=302) == []
    queues.pause(valkey, "default")
    assert names(valkey) == []


def test_a_schedule_that_is_late(valkey: redis.Redis) -> None:
    due = datetime.now(UTC) - timedelta(seconds=90)
    schedule = Schedule.model_validate({"name": "late", "function": "demo.add", "args": [1, 2], "interval": 3600})
    manage.put(valkey, Catalog(), Settings(), schedule, due - timedelta(seconds=3600), declared=False)
    assert names(valkey) == ["schedule_late:late"]
    assert names(valkey, alert_lag=100) == []


def test_a_breaker_that_is_open(valkey: redis.Redis) -> None:
    @job(breaker=Breaker(failures=1))
    def fragile() -> None: ...

    catalog = Catalog()
    catalog.refresh()
    catalog.functions["sample.fragile"] = Function("sample.fragile", fragile)
    assert names(valkey, catalog) == []
    valkey.set(breaker_key("sample.fragile", "open"), 1)
    assert names(valkey, catalog) == ["breaker_open:sample.fragile"]


def test_a_full_redis_and_a_full_outbox(valkey: redis.Redis) -> None:
    used = int(valkey.info("memory")["used_memory"])
    try:
        valkey.config_set("maxmemory", int(used * 1.2))
        assert names(valkey) == ["redis_full"]
        assert names(valkey, alert_memory=0.95) == []
    finally:
        valkey.config_set("maxmemory", 0)
    for _ in range(3):
        valkey.xadd(OUTBOX, {"id": "x"})
    assert names(valkey, alert_outbox=2) == ["outbox_grows"]


@pytest.mark.parametrize(
    ("finished", "failed", "lost", "expected"),
    [(16, 4, 0, []), (15, 6, 0, ["function_fails:demo.add"]), (15, 3, 3, ["function_fails:demo.add"]), (0, 19, 0, [])],
)
def test_a_function_that_fails(valkey: redis.Redis, finished: int, failed: int, lost: int, expected: list[str]) -> None:
    ends = Measures(Counter(finished=finished, failed=failed, lost=lost), Histogram(), Histogram())
    store.add(valkey, {("demo.add", "default"): ends}, str(time.time()))
    assert names(valkey) == expected
