"""The connection to Redis."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from app import embedded
from app.pools import Pool, WaitingPool
from app.settings import Settings
from app.wire import Wires

Thing = TypeVar("Thing")

DEFAULT_URL = "redis://127.0.0.1:6379/0"
MOST_SHARED, MOST_WAITING = 50, 10_000  # connections
SOCKET_TIMEOUT = 5.0  # seconds; a blocking read takes a connection of its own with a longer one


def url(settings: Settings) -> str:
    """REDIS_URL, else the embedded server that runs on this DATA_DIR, else the local default."""
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    return embedded.url(settings.data_dir) or DEFAULT_URL


class Client(redis.Redis):
    """redis-py's client, with wires for scripts: they take a third of the time that the client's own way takes."""

    wires: Wires


def connect(settings: Settings, socket_timeout: float = SOCKET_TIMEOUT) -> Client:
    """Connections for short commands are shared, and waited for; those that may block for long are not.

    Each is opened when it is needed, and closed when it is not.
    """
    said: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2),
        "health_check_interval": 30,
    }
    many = Pool.from_url(url(settings), max_connections=MOST_WAITING, **said)
    if socket_timeout > SOCKET_TIMEOUT:
        client = Client.from_pool(many)
    else:
        few = WaitingPool.from_url(url(settings), max_connections=MOST_SHARED, timeout=5, **said)
        client = Client.from_pool(few)
    client.wires = Wires(redis.Redis.from_pool(many), MOST_SHARED, SOCKET_TIMEOUT)
    return client


def batches(things: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    """So many at a time, that Redis serves others between them."""
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch


def moment(at: datetime) -> str:
    """As rq.utils.utcformat (RQ 2.12), in a fraction of its time; `at` is UTC."""
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
