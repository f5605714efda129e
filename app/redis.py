"""The connection to Redis, the names of RQ's keys that we touch, and our scripts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.client import Pipeline
from redis.commands.core import Script
from redis.retry import Retry

from app import embedded
from app.circuit import Circuit
from app.pools import Pool, WaitingPool
from app.settings import Settings
from app.wire import Wires, pack

Thing = TypeVar("Thing")

DEFAULT_URL = "redis://127.0.0.1:6379/0"
MOST_SHARED, MOST_WAITING = 50, 10_000  # connections
SOCKET_TIMEOUT = 5.0  # seconds; of the API it is REDIS_TIMEOUT
PROBE_TIMEOUT = 0.8  # seconds
JUMP = 2.0  # seconds that the clock may go otherwise than time does

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


READY = "jobline:ready"
"""Written to find out whether Redis takes writes."""
CLOCK = "jobline:clock"
"""The time of Redis as the leading scheduler last saw it: see app/schedules/clock.py."""


def url(settings: Settings) -> str:
    """REDIS_URL, else the embedded server that runs on this DATA_DIR, else the local default."""
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    return embedded.url(settings.data_dir) or DEFAULT_URL


class Client(redis.Redis):
    """redis-py's client, with wires for scripts: they take a third of the time that the client's own way takes."""

    wires: Wires
    circuit: Circuit | None = None
    """Of a client that is not patient."""


def connect(settings: Settings) -> Client:
    """A client for workers, the scheduler and commands: patient, for no caller waits.

    Its connections are shared, and waited for. Each is opened when it is needed, and closed when it is not.
    """
    options = _options(SOCKET_TIMEOUT, SOCKET_TIMEOUT) | {"retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 2)}
    few = WaitingPool.from_url(url(settings), max_connections=MOST_SHARED, timeout=SOCKET_TIMEOUT, **options)
    client = Client.from_pool(few)
    many = Pool.from_url(url(settings), max_connections=MOST_WAITING, **options)
    client.wires = Wires(redis.Redis.from_pool(many), MOST_SHARED, SOCKET_TIMEOUT)
    return client


def connect_api(settings: Settings) -> Client:
    """The same for the API: it gives up after REDIS_TIMEOUT seconds, and has a circuit."""

    def silent() -> bool:
        return client.circuit is not None and client.circuit.is_open()

    timeout = settings.redis_timeout
    options = _options(timeout, timeout)
    few = WaitingPool.from_url(url(settings), silent=silent, max_connections=MOST_SHARED, timeout=timeout, **options)
    client = Client.from_pool(few)
    many = Pool.from_url(url(settings), max_connections=MOST_SHARED, **options)
    client.wires = wires = Wires(redis.Redis.from_pool(many), MOST_SHARED, timeout, timeout, silent)
    client.circuit = Circuit(
        connect_probe(settings).ping,
        in_use=lambda: few.in_use + wires.in_use,
        answered_at=lambda: max(few.answered_at, wires.answered_at),
        timeout=timeout,
    )
    return client


def connect_blocking(settings: Settings, seconds: float) -> redis.Redis:
    """A client of the API for reads that block for up to so many seconds; nobody waits for a connection."""
    options = _options(settings.redis_timeout + seconds, settings.redis_timeout)
    return redis.Redis.from_pool(Pool.from_url(url(settings), max_connections=MOST_WAITING, **options))


def connect_probe(settings: Settings) -> redis.Redis:
    """A client that asks whether Redis answers: it waits for a second at most, and tries once."""
    timeout = min(PROBE_TIMEOUT, settings.redis_timeout)
    options = _options(timeout, timeout) | {"retry": Retry(NoBackoff(), 0)}
    return redis.Redis.from_pool(WaitingPool.from_url(url(settings), max_connections=4, timeout=0.2, **options))


def _options(socket_timeout: float, connect_timeout: float) -> dict[str, Any]:
    """A connection that Redis has closed is opened again once; what was not answered in time is not tried again."""
    return {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": connect_timeout,
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        "health_check_interval": 30,
    }


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


def seconds_now(connection: redis.Redis) -> float:
    """Seconds since 1970 by the clock of Redis, by which all due times go: those of other machines may differ."""
    seconds, microseconds = connection.time()
    return float(seconds) + float(microseconds) / 1e6


def now(connection: redis.Redis) -> datetime:
    """The same as a moment in UTC, from which a delay counts.

    If the clock was put back and the scheduler has not seen it yet, the scheduler will take from all due times as much
    as the clock is behind the time that was noted. Until then a delay counts from a little after that time.
    """
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.time()
        pipeline.get(CLOCK)
        (seconds, microseconds), noted = pipeline.execute()
    found = float(seconds) + float(microseconds) / 1e6
    if noted and float(noted) > found + JUMP:
        found = float(noted) + JUMP
    return datetime.fromtimestamp(found, UTC)


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
