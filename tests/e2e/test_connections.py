"""Each process holds as many connections to Redis as it uses at once, and closes those that it no longer does."""

import os
import secrets
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import rq
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.serializers import JSONSerializer

from app import limits
from app.redis import pools
from app.redis.client import Client, connect
from app.redis.keys import SCHEDULER_WAKE
from app.redis.pipelined import PipelinedConnection, pack
from app.schedules.lease import LEASE_SECONDS
from app.settings import get_settings
from tests.conftest import RQ_WORKER, Project, Server, free_port, until

Start = Callable[..., subprocess.Popen[bytes]]
SCHEDULER, WORKER = 4, 6  # what docs/deployment.md says: a worker has one more for each of its queues
CLIENTS = 3


@pytest.fixture
def start(tmp_path: Path, server: Server) -> Iterator[Start]:
    server.start()
    project, started = Project(tmp_path / "project", server.url), list[subprocess.Popen[bytes]]()

    def begin(*words: str, **environment: str) -> subprocess.Popen[bytes]:
        started.append(project.start(*words, LOG_LEVEL="ERROR", **environment))
        return started[-1]

    yield begin
    for process in started:
        process.terminate()
    for process in started:
        process.communicate(timeout=20)


def held(server: Server) -> int:
    """By all but this test."""
    return len(server.connection.client_list()) - 1


def test_a_scheduler_at_work_holds_no_more_than_it_uses(start: Start, server: Server) -> None:
    start("scheduler.py")
    until(lambda: server.connection.get("rq:scheduler_lock"))
    for number in range(300):  # as many steps as in minutes of idleness
        server.connection.zadd("rq:scheduled:default", {f"gone-{number}": 1})
        server.connection.sadd("rq:queues", "rq:queue:default")
        server.connection.publish(SCHEDULER_WAKE, "")
        time.sleep(0.01)  # one wake, one step
    until(lambda: server.connection.zcard("rq:scheduled:default") == 0)
    assert held(server) <= SCHEDULER


@pytest.mark.parametrize("queues", [["one"], ["one", "two", "three"]])
def test_a_worker_holds_no_more_than_it_uses(start: Start, server: Server, queues: list[str]) -> None:
    start(*RQ_WORKER, *queues)
    until(lambda: server.connection.zcard("jobline:leases") == 1)
    queue = rq.Queue("one", connection=server.connection, serializer=JSONSerializer)
    for number in range(100):
        queue.enqueue("jobs.demo.count" if number % 20 else "jobs.demo.fail", 2, 0)  # a failure is printed
    until(lambda: server.connection.zcard("rq:finished:one") + server.connection.zcard("rq:failed:one") == 100)
    assert held(server) <= WORKER + len(queues), server.connection.client_list()


def test_an_api_process_holds_no_more_than_its_clients_use(start: Start, server: Server) -> None:
    port = free_port()
    start("-m", "app.api.server", PORT=str(port))
    start(*RQ_WORKER, "default")
    base = f"http://127.0.0.1:{port}"

    def ask(path: str, body: bytes | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(f"{base}{path}", body, {"Content-Type": "application/json", **headers})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return bytes(answer.read())

    def answers() -> bool:
        try:
            return bool(ask("/readyz"))
        except OSError:
            return False

    def client() -> None:
        for number in range(60):
            ask("/api/v1/functions/demo.add/jobs", b'{"a": 1, "b": 2}', **({"Prefer": "wait=9"} if number % 3 else {}))
            ask("/api/v1/jobs?limit=5")
            ask("/readyz")

    until(answers)
    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    own = 3 * CLIENTS + 4  # of each of its three pools, and for its own probes
    assert held(server) <= own + WORKER + 1


@pytest.fixture
def client(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """Whose connections can be told from others."""
    monkeypatch.setenv("REDIS_URL", f"{valkey_url}?client_name={secrets.token_hex(8)}")
    get_settings.cache_clear()
    found = connect(get_settings())
    yield found
    found.close()


def open_now(valkey: redis.Redis, client: Client) -> int:
    name = client.connection_pool.connection_kwargs["client_name"]
    return sum(one["name"] == name for one in valkey.client_list())


def by_the_client(client: Client) -> None:
    client.ping()


def by_a_wire(client: Client) -> None:
    client.pipelined.ask(pack("PING"))


def by_a_script(client: Client) -> None:
    limits.sweep(client)


USES = [by_the_client, by_a_wire, by_a_script]


def at_once(client: Client, use: Callable[[Client], None], count: int) -> None:
    """So many threads that use it all at the same time, as often as it takes."""
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait(10)
        for _ in range(50):
            use(client)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("use", USES)
def test_one_after_the_other_share_a_connection(
    client: Client, valkey: redis.Redis, use: Callable[[Client], None]
) -> None:
    for _ in range(2):  # Redis does not know a script at first
        use(client)
    before = open_now(valkey, client)
    for _ in range(200):
        use(client)
    assert open_now(valkey, client) == before <= 2


@pytest.mark.parametrize("use", USES)
def test_what_a_busy_moment_has_opened_is_closed_when_idle(
    client: Client, valkey: redis.Redis, use: Callable[[Client], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "IDLE_CHECK_SECONDS", 0.0)
    use(client)  # Redis does not know a script at first
    at_once(client, use, 20)
    assert open_now(valkey, client) > 2
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)

    def few() -> bool:
        use(client)
        return open_now(valkey, client) <= 2

    until(few)
    at_once(client, use, 20)  # and it opens them again


def test_a_connection_in_use_is_never_closed(
    client: Client, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "IDLE_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
    errors: list[Exception] = []

    def use(client: Client) -> None:
        try:
            client.ping()
            client.pipelined.ask(pack("PING"))
        except redis.RedisError as error:
            errors.append(error)

    at_once(client, use, 20)
    assert errors == []


def test_no_more_than_there_may_be_and_the_others_wait(valkey: redis.Redis, client: Client) -> None:
    from app.redis.pipelined import PipelinedPool

    pipelined = PipelinedPool(redis.Redis.from_pool(client.pipelined._client.connection_pool), 2, 5)
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(pipelined.ask(pack("BLPOP", "none", 0.1)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    until(lambda: open_now(valkey, client) == 2)
    for thread in threads:
        thread.join(20)
    assert results == [None] * 6
    with pytest.raises(redis.TimeoutError, match="no connection came free"):
        PipelinedPool(redis.Redis(), 0, 0.01).ask(pack("PING"))


def test_a_scheduler_gives_a_silent_connection_up_while_it_leads(client: Client) -> None:
    connection = client.connection_pool.get_connection()
    assert 0 < connection._sock.gettimeout() < LEASE_SECONDS
    client.connection_pool.release(connection)


def test_a_worker_that_waits_for_an_answer_tries_once_to_connect_again(server: Server) -> None:
    """RQ's connections try for minutes."""
    server.start()
    waits: list[int] = []

    class Backoff(NoBackoff):
        def compute(self, failures: int) -> float:
            waits.append(failures)
            return 0.0

    wire = PipelinedConnection(redis.Redis(port=server.port, retry=Retry(Backoff(), 5)), retry_connect=False)
    server.kill()
    wire.cut()
    with pytest.raises(redis.ConnectionError):
        wire.connect()
    assert waits == []


def test_a_process_that_is_forked_has_connections_of_its_own(client: Client) -> None:
    ours = client.pipelined.ask(pack("CLIENT", "ID"))
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(into, str(client.pipelined.ask(pack("CLIENT", "ID"))).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(out, 100)) != ours
    assert client.pipelined.ask(pack("CLIENT", "ID")) == ours
    os.close(out)
    os.close(into)
