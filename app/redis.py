"""The connection to Redis, the names of RQ's keys that we touch, and our scripts."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.client import Pipeline
from redis.commands.core import Script
from redis.retry import Retry

from app import embedded
from app.pools import Pool, WaitingPool
from app.settings import Settings
from app.wire import Wires, pack

Thing = TypeVar("Thing")

DEFAULT_URL = "redis://127.0.0.1:6379/0"
MOST_SHARED, MOST_WAITING = 50, 10_000  # connections
SOCKET_TIMEOUT = 5.0  # seconds; a blocking read takes a connection of its own with a longer one

QUEUES = "rq:queues"
WORKERS = "rq:workers"
LEASES = "jobline:leases"
"""A count for each live worker, which its parent moves."""
PAUSED = "jobline:paused"
"""The names of queues from which our workers take nothing."""
SCHEDULERS = "jobline:schedulers"
"""The keys of rq-scheduler's hashes of all schedulers that may be alive."""
SCHEDULES = "jobline:schedules"
"""The names of all schedules, in their order."""
OPEN_RUNS = "jobline:schedules:open_runs"
"""Runs that had not ended when they were last looked at: the job's id, and the schedule's name."""
AUDIT = "jobline:audit"
"""A stream: who changed what."""
SCHEDULER_WAKE = "jobline:scheduler:wake"
"""A channel on which the leading scheduler hears that something may be due sooner than it knew."""
EVENTS = "jobline:events"
"""A stream of what happens to jobs; it is there while somebody listens (app/events.py)."""
OUTBOX = "jobline:outbox"
"""A stream: a copy of each job that has ended and asks for something to follow. Written by app/outbox.lua."""
DISABLED_WEBHOOKS = "jobline:webhooks:disabled"
"""URLs that have answered 410 Gone, by when they did."""
WORKFLOWS = "jobline:workflows"
"""The ids of all workflows, by when they were made."""
WORKFLOWS_OPEN = "jobline:workflows:open"
WORKFLOWS_STOPPING = "jobline:workflows:stopping"
"""Those that stop for a failure, and have jobs on queues still."""
BROKEN_SCHEDULES = "jobline:schedules:broken"
"""Schedules that are kept and cannot run, and why."""
REJECTED_SCHEDULES = "jobline:schedules:rejected"
"""JSON: the entries of scheduler.py that are no schedules, and why; there is none while all are right."""
QUARANTINED = "jobline:schedules:quarantined"
"""Entries of rq-scheduler's set that are not ours to run, and why."""


STREAM_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
"""The id of an entry in a stream, as callers may give it back; Redis refuses numbers past 64 bits."""


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


ENDING = ("workflows/library", "outbox")
"""What scripts begin with that end a job."""


@cache
def source(*names: str) -> str:
    """The script in app/NAME.lua, after events.lua and the libraries that are named before it."""
    return "\n".join((Path(__file__).parent / f"{name}.lua").read_text() for name in ("events", *names))


_scripts: dict[tuple[str, ...], Script] = {}


def script(connection: redis.Redis | Pipeline, *names: str) -> Callable[..., Any]:
    """As `source`, to be called with `keys` and `args`."""
    if names not in _scripts:
        _scripts[names] = connection.register_script(source(*names))
    return partial(_run, connection, _scripts[names])


def _run(connection: redis.Redis | Pipeline, known: Script, keys: Sequence[Any] = (), args: Sequence[Any] = ()) -> Any:
    if isinstance(connection, Client):
        try:
            return connection.wires.ask(pack("EVALSHA", known.sha, len(keys), *keys, *args))
        except redis.ConnectionError:
            pass  # Redis does not know the script, or is away: the client's own way knows what to do
    return known(keys, args, connection)


def batches(things: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    """So many at a time, that Redis serves others between them."""
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch


def moment(at: datetime) -> str:
    """As rq.utils.utcformat (RQ 2.12), in a fraction of its time; `at` is UTC."""
    return at.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def job_key(job_id: str) -> str:
    return f"rq:job:{job_id}"


def results_key(job_id: str) -> str:
    return f"rq:results:{job_id}"


def queue_key(queue: str) -> str:
    return f"rq:queue:{queue}"


def registry_key(registry: str, queue: str) -> str:
    """`registry`: wip, finished, failed, deferred, scheduled or canceled."""
    return f"rq:{registry}:{queue}"


def ended_key(job_id: str) -> str:
    """A stream that wakes whoever waits for a job which ends without a result (canceled, deleted)."""
    return f"jobline:ended:{job_id}"


def workflow_key(workflow: str) -> str:
    return f"jobline:workflow:{workflow}"


def schedule_key(name: str) -> str:
    return f"jobline:schedule:{name}"
