"""`python -m app probe`: a worker is alive if it and its horse both move, a scheduler if it moves and one leads."""

import time

import psutil
import pytest
import redis

from app.api.application import create_app
from app.settings import Settings
from app.views import health
from tests.conftest import RQ_WORKER, Project, until


def healthy(connection: redis.Redis) -> bool:
    try:
        health.check_workers(connection)
    except health.Unhealthy:
        return False
    return True


def test_alive_only_if_both_move(project: Project, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MAX_AGE_SECONDS", 5.0)
    with pytest.raises(health.Unhealthy, match="no worker"):
        health.check_workers(valkey)
    process = project.start(*RQ_WORKER)
    try:
        until(lambda: healthy(valkey))
        probe = project.start("-m", "app", "probe", "worker")
        assert probe.wait(20) == 0
        parent = psutil.Process(process.pid)
        parent.suspend()
        until(lambda: not healthy(valkey))
        parent.resume()
        until(lambda: healthy(valkey))
        (horse,) = parent.children()
        horse.suspend()
        until(lambda: not healthy(valkey))
        until(lambda: healthy(valkey), 30)
        assert parent.children() != [horse]  # it was replaced
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_redis_away_is_said(project: Project) -> None:
    probe = project.start("-m", "app", "probe", "worker", REDIS_URL="redis://127.0.0.1:1/0")
    output, _ = probe.communicate(timeout=30)
    assert probe.returncode == 1
    assert b"Redis is away" in output


def probe(project: Project) -> tuple[int, str]:
    """The exit code, and what is said."""
    process = project.start("-m", "app", "probe", "scheduler")
    output, _ = process.communicate(timeout=30)
    return process.returncode, output.decode().strip()


def test_a_scheduler_is_alive_only_if_it_moves(
    project: Project, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe(project) == (1, "no scheduler of this host is registered")
    process = project.start("scheduler.py", LOG_LEVEL="ERROR")
    try:
        until(lambda: health.scheduler_age(valkey) is not None)
        assert probe(project) == (0, "")
        psutil.Process(process.pid).suspend()
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        (key,) = valkey.smembers("jobline:schedulers")
        valkey.hset(key, "last_heartbeat", time.time() - 31)  # it has been so for half a minute
        assert probe(project) == (1, "the scheduler has not moved for 30 s")
        assert create_app(Settings(), valkey).test_client().get("/readyz").get_json()["scheduler"] > 30  # just started
        monkeypatch.setattr(health, "START_GRACE_SECONDS", 0)
        assert create_app(Settings(), valkey).test_client().get("/readyz").status_code == 503
        psutil.Process(process.pid).resume()
        until(lambda: probe(project) == (0, ""))
    finally:
        process.kill()
        process.communicate()


def test_a_scheduler_that_stands_by_is_no_help_if_none_leads(project: Project, valkey: redis.Redis) -> None:
    valkey.set("rq:scheduler_lock", "another")
    process = project.start("scheduler.py", LOG_LEVEL="ERROR")
    try:
        until(lambda: valkey.scard("jobline:schedulers"))
        assert probe(project) == (1, "no scheduler leads")
        valkey.delete("rq:scheduler_lock")
        until(lambda: probe(project) == (0, ""))
    finally:
        process.kill()
        process.communicate()
