"""`python -m app probe worker`: alive only if the worker and its horse both move."""

import psutil
import pytest
import redis

from app import health
from tests.conftest import RQ_WORKER, Project, until


def healthy(connection: redis.Redis) -> bool:
    try:
        health.check_workers(connection)
    except health.Unhealthy:
        return False
    return True


def test_alive_only_if_both_move(project: Project, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FRESH", 5.0)
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
