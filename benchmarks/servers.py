"""servers: Jobline's API under several servers, alone, and beside clients that wait and clients that follow events."""

import json
from dataclasses import replace

import psutil

from app.lifecycle import actions
from benchmarks import crowd, services
from benchmarks.lab import Lab
from benchmarks.load import CONNECTIONS
from benchmarks.report import Column
from benchmarks.services import JOBLINE, WORKERS, Served, Service

GUNICORN = ("python", "-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", WORKERS)
BARE = ("--host", "127.0.0.1", "--port", "{port}", "--log-level", "error", "--workers", WORKERS)
GRANIAN = ("python", "-m", "granian", "--interface", "wsgi", "--factory", *BARE, "--blocking-threads")
WAITRESS = (
    "python",
    "-m",
    "waitress",
    "--listen=127.0.0.1:{port}",
    "--call",
    "--threads=64",
    "--connection-limit=1000",
)


def _under(name: str, *command: str) -> Service:
    return replace(JOBLINE, name=name, peer="servers", command=command)


def _gunicorn(name: str, *words: str) -> Service:
    return _under(f"gunicorn {name}", *GUNICORN, *words, "app.api.server:application()")


ROWS = (
    replace(JOBLINE, name="granian, as it is served"),
    _gunicorn("gthread 2x512", "-k", "gthread", "--threads", "512"),
    _gunicorn("sync 2", "-k", "sync", "--threads", "1"),
    _gunicorn("gevent 2", "-k", "gevent"),
    _under("granian 2x1", *GRANIAN, "1", "app.api.application:create_app"),
    _under("granian 2x32", *GRANIAN, "32", "app.api.application:create_app"),
    _under("waitress 1x64", *WAITRESS, "app.api.application:create_app"),
)
COUNT = 200
TITLE = f"Servers: Jobline's API under each, alone, and beside {COUNT} clients that wait and {COUNT} that follow events"
COLUMNS = (
    Column("alone: requests/s", "alone_requests_per_s"),
    Column("p99 ms", "alone_p99_ms", 1),
    Column("beside them: requests/s", "beside_requests_per_s"),
    Column("p99 ms", "beside_p99_ms", 1),
    Column("failed", "beside_failed"),
    Column("following: open", "streams_open"),
    Column("waiting: told of the end", "waiting_told"),
    Column("refused", "waiting_refused"),
    Column("following: told", "following_told"),
    Column("refused", "following_refused"),
    Column("all within s", "told_s", 2),
    Column("memory MB", "memory_mb"),
)
EACH_ROUND = True
GATHER = 3.0  # seconds for the crowd to be let in
PATIENCE = 10.0  # seconds for the crowd to hear of the job's end


def measure(lab: Lab, service: Service) -> dict[str, float | None]:
    with services.serving(lab, service) as served:
        figures = _rates(lab, served, "alone")
        answer = served.ask({**service.call, "queue": "nobody"})[1]
        job_id = json.loads(answer)["id"]
        with crowd.gathered(served.port, served.key, job_id, COUNT) as people:
            people.listen(GATHER)
            figures |= _rates(lab, served, "beside")
            people.listen(0.1)
            figures["streams_open"] = sum(client.welcome for client in people.following)
            figures["memory_mb"] = _memory(served)
            actions.cancel(lab.server.client, job_id)
            seconds = people.listen(PATIENCE)
            for who, clients in (("waiting", people.waiting), ("following", people.following)):
                figures[f"{who}_told"] = sum(client.told for client in clients)
                figures[f"{who}_refused"] = sum(client.refused for client in clients)
        return figures | {"told_s": round(seconds, 2)}


def _rates(lab: Lab, served: Served, when: str) -> dict[str, float | None]:
    load = served.post(json.dumps(served.service.call).encode(), CONNECTIONS, lab.sizes.load_seconds)
    return {
        f"{when}_requests_per_s": round(load.accepted / max(load.seconds, lab.sizes.load_seconds), 1),
        f"{when}_p50_ms": load.p50_ms if load.accepted else None,
        f"{when}_p99_ms": load.p99_ms if load.accepted else None,
        f"{when}_failed": load.failed,
    }


def _memory(served: Served) -> float:
    """Of all processes of the service, in MB; what they share is counted once for each."""
    processes = [served.command.process, *served.command.process.children(recursive=True)]
    return round(sum(psutil.Process(one.pid).memory_info().rss for one in processes) / 1e6)
