"""Whether the processes of a host live, as seen in Redis."""

import socket
from datetime import UTC, datetime

import redis

from app.redis import WORKERS

FRESH = 30.0  # seconds


class Unhealthy(Exception):
    """Says what does not move."""


def check_workers(connection: redis.Redis) -> None:
    """That each worker of this host has beaten lately, and seen its horse move.

    Raises:
        Unhealthy: one has not, there is none, or Redis is away.
    """
    try:
        found = [connection.hgetall(key) for key in connection.smembers(WORKERS)]
    except redis.RedisError as error:
        raise Unhealthy(f"Redis is away: {type(error).__name__}") from None
    ours = [worker for worker in found if worker.get(b"hostname") == socket.gethostname().encode()]
    if not ours:
        raise Unhealthy("no worker of this host is registered")
    for worker in ours:
        for field, who in ((b"last_heartbeat", "worker"), (b"horse_moved_at", "its work horse")):
            if _age(worker.get(field)) > FRESH:
                raise Unhealthy(f"{who} with pid {worker.get(b'pid', b'?').decode()} has not moved for {FRESH:.0f} s")


def _age(stamp: bytes | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp.decode())).total_seconds() if stamp else float("inf")
