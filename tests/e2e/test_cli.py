"""The command line on a real API: what it prints and where, its exit codes, and that it keeps the key to itself."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import urllib3
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from app.__main__ import main
from app.access import api_keys
from app.api.application import create_app
from app.api.routes import streams
from app.enqueue import new_job
from app.events import stream
from app.settings import Settings
from tests.conftest import ROOT, RQ_WORKER, Project, free_port, status, until
from tests.failed import fail

KEY, ENTRY = api_keys.new("cli", ["admin"])
READER, READ = api_keys.new("reader", ["read"])


@contextlib.contextmanager
def serve(settings: Settings, connection: redis.Redis, has_workers: bool = False) -> Iterator[str]:
    app = create_app(settings, connection, has_workers=has_workers)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(stream, "READ_BLOCK_SECONDS", 0.05)
        quick.setattr(streams, "SHUTDOWN_CHECK_SECONDS", 0.05)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            app.extensions["jobline"].events.closing = lambda: True
            server.shutdown()
            thread.join(10)
            until(lambda: app.extensions["jobline"].events._thread is None)


class Line(contextlib.AbstractContextManager["Line"]):
    """To an API, and it can be cut: what is open breaks off, and nobody answers any more until it is mended."""

    def __init__(self, api: str) -> None:
        self.api = int(api.rpartition(":")[2])
        self.calls = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._up = True
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self) -> None:
        self._up = False
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._up = True

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                near, _ = self._listener.accept()
                if not self._up:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.api))
                self._open += [near, far]
                self.calls += 1
                threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near), daemon=True).start()

    @staticmethod
    def _pass(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError), here:
            while said := here.recv(65536):
                there.sendall(said)
            there.shutdown(socket.SHUT_WR)


@pytest.fixture
def api(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An open API; JOBLINE_URL names it."""
    with serve(Settings(), valkey) as url:
        monkeypatch.setenv("JOBLINE_URL", url)
        yield url


@pytest.fixture
def secured(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An API that asks for a key; JOBLINE_URL names it."""
    with serve(Settings(api_keys=f"{ENTRY},{READ}"), valkey) as url:
        monkeypatch.setenv("JOBLINE_URL", url)
        yield url


@pytest.fixture
def worker(project: Project) -> Iterator[None]:
    process = project.start(*RQ_WORKER)
    yield
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(main, words, input=stdin)


def answer(*words: str, stdin: str = "") -> Any:
    """The JSON document that is all of its output."""
    done = run(*words, "--json", stdin=stdin)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# What it does


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("words", "stdin", "call"),
    [
        (["a:=1", "b:=2"], "", ([], {"a": 1, "b": 2})),
        (["--args", "[1, 2]"], "", ([1, 2], {})),
        (["--args", "-"], "[1, 2]", ([1, 2], {})),
        (["--kwargs", "-"], '{"a": 1, "b": 2}', ([], {"a": 1, "b": 2})),
        (["--args", "[1]", "b=2"], "", ([1], {"b": "2"})),
    ],
)
def test_arguments_are_text_or_json_or_whole_documents(words: list[str], stdin: str, call: object) -> None:
    job = answer("jobs", "enqueue", "demo.add", *words, stdin=stdin)
    assert (job["args"], job["kwargs"]) == call
    assert answer("jobs", "show", job["id"]) == job


@pytest.mark.usefixtures("api")
def test_text_may_hold_anything() -> None:
    message = "a=b:=c https://x?y=1"
    assert answer("jobs", "enqueue", "demo.fail", f"message={message}")["kwargs"] == {"message": message}


@pytest.mark.usefixtures("api")
def test_options_of_a_job() -> None:
    parent = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    words = "--queue low --id mine --delay 1h --job-timeout 1m --retries 2 --tag a --tag b --description D"
    job = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", *words.split(), "-o", "ttl=2h")
    assert (job["id"], job["queue"], job["status"], job["timeout"]) == ("mine", "low", "scheduled", 60)
    assert (job["retries_left"], job["tags"], job["description"]) == (2, ["a", "b"], "D")
    child = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--depends-on", parent, "--depends-on", "mine")
    assert (child["status"], child["depends_on"]) == ("deferred", [parent, "mine"])


@pytest.mark.usefixtures("api")
def test_lists_are_filtered_and_paged() -> None:
    ids = [answer("jobs", "enqueue", "demo.add", f"a:={n}", "b:=0", "--tag", "x")["id"] for n in range(3)]
    first = answer("jobs", "list", "--tag", "x", "--limit", "2")
    rest = answer("jobs", "list", "--tag", "x", "--limit", "2", "--cursor", first["next_cursor"])
    assert [job["id"] for job in (*first["jobs"], *rest["jobs"])] == ids[::-1]
    assert answer("jobs", "list", "--status", "failed")["jobs"] == []
    printed = run("jobs", "list", "--limit", "2")
    assert ids[2] in printed.stdout
    assert f"--cursor {first['next_cursor']}" in printed.stderr


@pytest.mark.usefixtures("api")
def test_cancel_requeue_delete(valkey: redis.Redis) -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    assert answer("jobs", "cancel", job_id)["status"] == "canceled"
    assert answer("jobs", "requeue", job_id)["status"] == "queued"
    deleted = run("jobs", "delete", job_id, "--json")
    assert (deleted.exit_code, deleted.stdout) == (0, "")
    assert status(valkey, job_id) == "none"


@pytest.mark.usefixtures("api")
def test_a_requeue_may_change_the_call(valkey: redis.Redis) -> None:
    fail(valkey, "mine", args=("no",), queue="low")
    changes = ("--args", "[]", "message=yes", "--queue", "high", "--job-timeout", "1m", "--retries", "2")
    job = answer("jobs", "requeue", "mine", *changes)
    assert (job["status"], job["queue"], job["timeout"], job["retries_left"]) == ("queued", "high", 60, 2)
    assert (job["args"], job["kwargs"]) == ([], {"message": "yes"})
    fail(valkey, "other", args=("no",), queue="low")
    assert run("jobs", "requeue", "other", "text=yes").exit_code == 3
    job = answer("jobs", "requeue", "other")
    assert (job["queue"], job["args"], job["kwargs"]) == ("low", ["no"], {})


@pytest.mark.usefixtures("api")
def test_a_job_that_waits_is_changed() -> None:
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", "mine", "--delay", "1h", "--tag", "x")
    changes = ("--at", "2099-01-01T00:00:00Z", "--queue", "low", "--job-timeout", "1m", "--description", "D")
    job = answer("jobs", "change", "mine", *changes, "--tag", "y", "--tag", "z")
    assert (job["scheduled_for"], job["queue"], job["timeout"]) == ("2099-01-01T00:00:00Z", "low", 60)
    assert (job["description"], job["tags"]) == ("D", ["y", "z"])
    assert answer("jobs", "change", "mine", "-o", "tags:=[]")["tags"] == []
    assert re.search(r"^status +queued$", run("jobs", "change", "mine", "--delay", "0").stdout, re.MULTILINE)
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", "last", "--queue", "low")
    answer("jobs", "change", "last", "--at-front")
    assert [job["id"] for job in answer("jobs", "list", "--queue", "low", "--status", "queued")["jobs"]] == [
        "mine",
        "last",
    ]
    nothing = run("jobs", "change", "mine", "--json")
    assert (nothing.exit_code, nothing.stdout) == (3, "")
    assert "give at least one change" in nothing.stderr


@pytest.fixture
def dead(api: str, valkey: redis.Redis) -> redis.Redis:
    """Five jobs that failed in two ways, and one that waits."""
    fail(valkey, "a", "b", "c", error="KeyError: 'x'")
    fail(valkey, "d", ago=timedelta(days=2))
    fail(valkey, "e", queue="low", tags=["red"])
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", "waits")
    return valkey


FILTERS = [
    (["--error", "KeyError"], "abc"),
    (["--queue", "low"], "e"),
    (["--tag", "red"], "e"),
    (["--status", "failed", "--since", "2000-01-01T00:00:00Z", "--function", "demo.fail", "--search", "no"], "abcde"),
    (["--until", "2000-01-01T00:00:00Z"], ""),
]


@pytest.mark.parametrize(("words", "meant"), FILTERS)
def test_jobs_are_listed_and_requeued_by_the_same_filter(dead: redis.Redis, words: list[str], meant: str) -> None:
    listed = answer("jobs", "list", *words)["jobs"]
    assert sorted(job["id"] for job in listed) == list(meant)
    tried = answer("jobs", "requeue", *words, "--dry-run")
    assert tried == {"matched": len(meant), "requeued": 0, "skipped": 0}
    assert {status(dead, job_id) for job_id in "abcde"} == {"failed"}
    done = run("jobs", "requeue", *words)
    assert re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE) == [
        ("matched", str(len(meant))),
        ("requeued", str(len(meant))),
        ("skipped", "0"),
    ]
    assert [job_id for job_id in "abcde" if status(dead, job_id) == "queued"] == list(meant)


def test_many_are_done_in_as_many_requests_as_it_takes(dead: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.lifecycle.bulk.MAX_SECONDS", 0)
    monkeypatch.setattr("app.lifecycle.bulk.MAX_BATCH_SIZE", 2)
    done = run("jobs", "requeue", "--error", "KeyError", "--json")
    assert json.loads(done.stdout) == {"matched": 3, "requeued": 3, "skipped": 0}
    assert re.search(r"2 requeued, 0 skipped, and going on$", done.stderr, re.MULTILINE)
    assert answer("jobs", "cancel", "--all") == {"matched": 4, "canceled": 4, "skipped": 0}
    assert status(dead, "waits") == "canceled"
    assert answer("jobs", "delete", "--all") == {"matched": 6, "deleted": 6, "skipped": 0}
    assert answer("jobs", "list")["jobs"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["requeue"], "give an ID, a filter, or --all"),
        (["cancel", "--dry-run"], "give an ID, a filter, or --all"),
        (["delete", "--yes"], "give an ID, a filter, or --all"),
        (["delete", "a", "--queue", "low"], "an ID or a filter, not both"),
        (["requeue", "a", "--dry-run"], "an ID or a filter, not both"),
        (["requeue", "--queue", "low", "--retries", "2"], "for one job"),
        (["requeue", "--status", "queued"], "'queued' is not one of"),
        (["cancel", "--status", "failed"], "'failed' is not one of"),
    ],
)
def test_what_is_not_said_clearly_is_done_to_no_job(dead: redis.Redis, words: list[str], said: str) -> None:
    done = run("jobs", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert [status(dead, job_id) for job_id in "abcde"] == ["failed"] * 5


@pytest.mark.parametrize(
    ("words", "typed", "code", "left"),
    [([], "n", 130, "abcde"), ([], "y", 0, "de"), (["--yes"], "", 0, "de"), (["--dry-run"], "", 0, "abcde")],
)
def test_a_terminal_is_asked_before_many_are_deleted(
    dead: redis.Redis, words: list[str], typed: str, code: int, left: str
) -> None:
    screen, terminal = pty.openpty()
    os.write(screen, f"{typed}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "app", "jobs", "delete", "--error", "KeyError", "--json", *words],
        cwd=ROOT, stdin=terminal, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    os.close(terminal)
    os.close(screen)
    assert done.returncode == code
    assert ("Delete 3 jobs?" in done.stderr) is bool(typed)
    assert bool(done.stdout) is (code == 0)
    assert [job_id for job_id in "abcde" if status(dead, job_id) == "failed"] == list(left)


def test_failures_are_grouped(dead: redis.Redis) -> None:
    rows = [line.split() for line in run("failures").stdout.splitlines()]
    assert [(row[0], row[1], row[2]) for row in rows[1:]] == [
        ("demo.fail", "KeyError", "3"),
        ("demo.fail", "ValueError", "2"),
    ]
    assert [group["example"] for group in answer("failures", "--queue", "low")["failures"]] == ["e"]
    assert answer("failures", "--function", "demo.add")["failures"] == []
    assert answer("failures", "--since", "2199-01-01T00:00:00Z") == {"failures": [], "complete": True}


@pytest.mark.usefixtures("dead")
def test_the_audit_log_is_read() -> None:
    answer("queues", "pause", "low")
    answer("jobs", "requeue", "--error", "KeyError")
    printed = run("audit", "--limit", "1")
    assert re.search(r"Z +open +jobs.requeue_many +200 +127.0.0.1 +.*\"requeued\":3", printed.stdout)
    [entry] = answer("audit", "--action", "queues.pause")["entries"]
    assert (entry["target"], entry["actor"]) == ("low", "open")
    first = answer("audit", "--limit", "1")
    assert f"--cursor {first['next_cursor']}" in printed.stderr
    assert answer("audit", "--limit", "1", "--cursor", first["next_cursor"])["entries"] == [entry]
    assert answer("audit", "--actor", "nobody")["entries"] == []
    assert answer("audit", "--since", "2199-01-01T00:00:00Z")["entries"] == []


@pytest.mark.usefixtures("api")
def test_functions_queues_and_workers() -> None:
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--queue", "low")
    assert "demo.add" in [function["name"] for function in answer("functions", "list")["functions"]]
    assert answer("functions", "show", "demo.add")["arguments"]["required"] == ["a", "b"]
    assert re.search(r"^a +integer +required", run("functions", "show", "demo.add").stdout, re.MULTILINE)
    assert [queue["name"] for queue in answer("queues", "list")["queues"]] == ["low"]
    assert answer("queues", "pause", "low")["paused"] is True
    assert re.search(r"^low +paused +1", run("queues", "show", "low").stdout, re.MULTILINE)
    assert answer("queues", "resume", "low")["paused"] is False
    assert answer("queues", "empty", "low") == {"deleted": 1}
    assert answer("workers", "list") == {"workers": []}


@pytest.mark.usefixtures("api", "worker")
def test_one_worker_is_shown_by_its_name() -> None:
    [worker] = until(lambda: answer("workers", "list")["workers"])
    shown = answer("workers", "show", worker["name"])
    assert (shown["name"], shown["pid"], shown["queues"]) == (worker["name"], worker["pid"], worker["queues"])
    assert re.search(
        r"^queues +high,default,low,webhooks$", run("workers", "show", worker["name"]).stdout, re.MULTILINE
    )
    missing = run("workers", "show", "nobody")
    assert (missing.exit_code, missing.stdout, missing.stderr) == (3, "", "Error: No worker 'nobody'\n")


def test_a_queue_that_no_worker_serves_is_warned_of_beside_the_output(valkey: redis.Redis) -> None:
    said = 'Warning: no worker takes jobs from queue "x"\n'
    with serve(Settings(), valkey, has_workers=True) as url:
        enqueued = run("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--queue", "x", "--url", url)
        assert (enqueued.exit_code, enqueued.stderr) == (0, said)
        assert run("queues", "list", "--url", url).stderr == said
        assert run("queues", "show", "x", "--url", url).stderr == said
        graph = json.dumps({"jobs": [{"name": "a", "function": "demo.add", "args": [1, 2], "queue": "x"}]})
        assert run("workflows", "submit", "-", "--url", url, stdin=graph).stderr == said
        printed = run("queues", "show", "x", "--url", url, "--json")
        assert (json.loads(printed.stdout)["warnings"], printed.stderr) == ([said[9:-1]], "")


def test_each_attempt_is_a_line(api: str, project: Project) -> None:
    job_id = answer("jobs", "enqueue", "demo.fail", "message=one\nlast line", "-o", 'retry:={"max":1,"intervals":[0]}')[
        "id"
    ]
    project.work()
    lines = run("jobs", "show", job_id).stdout.splitlines()
    title = next(number for number, line in enumerate(lines) if line.startswith("ATTEMPT"))
    assert lines[title].split() == ["ATTEMPT", "STARTED", "SECONDS", "WORKER", "OUTCOME", "ERROR"]
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +\d+\.\d{3}"
    second, first = lines[title + 1 :]
    assert re.fullmatch(rf"2 +{when} +\w+ +failed +last line", second)
    assert re.fullmatch(rf"1 +{when} +\w+ +retried +last line", first)
    assert not [line for line in lines if line.startswith("history")]


@pytest.mark.usefixtures("api")
def test_what_a_job_waits_for_is_shown() -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--at", "2099-01-01T00:00:00Z")["id"]
    said = r" +delay until 2099-01-01 00:00:00Z$"
    assert re.search(rf"^waits for{said}", run("jobs", "show", job_id).stdout, re.MULTILINE)
    assert re.search(rf"^{job_id}.*Z{said}", run("jobs", "list").stdout, re.MULTILINE)


@pytest.mark.usefixtures("api")
def test_jobs_are_listed_newest_first_across_queues_and_states() -> None:
    for job_id, words in (("one", ["--queue", "low"]), ("two", ["--queue", "high"]), ("three", ["--delay", "1h"])):
        answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", job_id, *words)
    answer("jobs", "cancel", "two")
    assert [line.split()[0] for line in run("jobs", "list").stdout.splitlines()] == ["ID", "three", "two", "one"]


@pytest.mark.usefixtures("api")
def test_schedules() -> None:
    rule = ("demo.add", "a:=1", "b:=2", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "-o", "max_runs:=3")
    put = answer("schedules", "put", "nightly", *rule)
    assert (put["kwargs"], put["timezone"], put["max_runs"]) == ({"a": 1, "b": 2}, "Europe/Berlin", 3)
    assert answer("schedules", "show", "nightly") == put
    assert [one["name"] for one in answer("schedules", "list")["schedules"]] == ["nightly"]
    assert answer("schedules", "pause", "nightly")["paused"] is True
    assert answer("schedules", "resume", "nightly")["paused"] is False
    job_id = run("schedules", "trigger", "nightly").stdout.strip()
    assert answer("jobs", "show", job_id)["schedule"] == "nightly"
    assert "At 02:00 AM" in run("schedules", "show", "nightly").stdout
    assert run("schedules", "delete", "nightly").exit_code == 0
    assert answer("schedules", "preview", "--interval", "90m")["text"] == "Every 90 minutes"


GRAPH = {
    "name": "sum",
    "jobs": [
        {"name": "one", "function": "demo.add", "args": [1, 2]},
        {"name": "two", "function": "demo.add", "args": [{"$result": "one"}, 3], "after": ["one"]},
    ],
}


@pytest.mark.usefixtures("api")
def test_workflows(tmp_path: Path) -> None:
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    submitted = answer("workflows", "submit", str(tmp_path / "graph.json"))
    assert answer("workflows", "submit", "-", stdin=json.dumps(GRAPH))["status"] == "running"
    assert len(answer("workflows", "list", "--name", "sum")["workflows"]) == 2
    shown = run("workflows", "show", submitted["id"]).stdout
    assert re.search(r"^jobs +0 of 2", shown, re.MULTILINE)
    assert re.search(r"^two +\S+ +demo.add +deferred +one$", shown, re.MULTILINE)
    assert answer("workflows", "cancel", submitted["id"])["status"] == "canceled"
    assert "0 of 2" in run("workflows", "list", "--status", "running").stdout
    assert run("workflows", "submit", "-", stdin="{").exit_code == 2
    assert run("workflows", "submit", "-", stdin="{}").exit_code == 3


# Waiting


@pytest.mark.usefixtures("api", "worker")
def test_waiting_ends_with_the_job_s_fate() -> None:
    done = run("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--wait", "--json")
    assert (done.exit_code, json.loads(done.stdout)["result"]) == (0, 3)
    failed = run("jobs", "enqueue", "demo.fail", "message=no", "--wait")
    assert failed.exit_code == 1
    assert "RuntimeError: no" in failed.stdout
    job_id = json.loads(done.stdout)["id"]
    assert (run("jobs", "wait", job_id).exit_code, run("jobs", "watch", job_id).exit_code) == (0, 0)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("how", ["wait", "watch"])
def test_a_wait_that_is_over_is_told_from_a_failure(how: str) -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    late = run("jobs", how, job_id, "--timeout", "0.3", "--json")
    assert (late.exit_code, late.stdout) == (124, "")
    assert "0.3 s" in late.stderr


@pytest.mark.usefixtures("api")
def test_a_canceled_job_ends_a_wait_with_1() -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    run("jobs", "cancel", job_id)
    assert run("jobs", "wait", job_id).exit_code == 1


@pytest.mark.usefixtures("api", "worker")
def test_several_are_watched_until_all_have_ended() -> None:
    slow = answer("jobs", "enqueue", "demo.count", "total:=8")["id"]
    ids = [slow, answer("jobs", "enqueue", "demo.fail", "message=no")["id"]]
    done = run("jobs", "watch", *ids, "--json")
    assert done.exit_code == 1
    assert [(job["id"], job["status"]) for job in json.loads(done.stdout)["jobs"]] == [
        (ids[0], "finished"),
        (ids[1], "failed"),
    ]
    assert f"{slow} demo.count finished" in done.stderr


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    """The command line, in a process of its own; it ends within 30 s, whatever it waits for."""
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT, env={**os.environ, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    killer = threading.Timer(30, process.kill)
    killer.daemon = True
    killer.start()
    return process


def listened_to(valkey: redis.Redis) -> bool:
    return bool(valkey.exists("jobline:events"))


def test_a_job_that_is_watched_is_told_of_and_not_asked_for(api: str, project: Project) -> None:
    job_id = answer("jobs", "enqueue", "demo.count", "total:=5")["id"]
    with Line(api) as line:
        watching = start("jobs", "watch", job_id, "--json", JOBLINE_URL=line.url)
        assert watching.stderr
        assert watching.stderr.readline() == f"{job_id} demo.count queued\n"
        project.work()
        output, told = watching.communicate(timeout=20)
        assert told.splitlines() == [f"{job_id} demo.count started", f"{job_id} demo.count finished"]
        assert (watching.returncode, json.loads(output)["jobs"][0]["result"]) == (0, 5)
        assert line.calls == 2, "its stream, and the job when it has ended"


def test_what_happens_while_the_connection_is_broken_is_told_of_later(api: str, valkey: redis.Redis) -> None:
    with Line(api) as line:
        listening = start("events", "--json", JOBLINE_URL=line.url)
        assert listening.stdout
        until(lambda: listened_to(valkey))
        for job_id in ("one", "two"):
            answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", job_id)
            told = json.loads(listening.stdout.readline())
            assert (told["id"], told["status"], told["queue"]) == (job_id, "queued", "default")
        line.cut()
        answer("jobs", "cancel", "one")
        line.mend()
        answer("jobs", "cancel", "two")
        assert [json.loads(listening.stdout.readline())["id"] for _ in range(2)] == ["one", "two"]
        line.cut()
        valkey.delete("jobline:events")
        line.mend()
        assert listening.stderr
        assert listening.stderr.readline() == "the events since the Last-Event-ID are no longer stored\n"
        until(lambda: listened_to(valkey))
        answer("jobs", "requeue", "one")
        assert json.loads(listening.stdout.readline())["id"] == "one"
        listening.send_signal(signal.SIGINT)
        assert listening.communicate(timeout=20) == ("", "")
        assert listening.returncode == 130


@pytest.mark.usefixtures("api")
def test_events_are_a_line_each_and_filtered(valkey: redis.Redis) -> None:
    listening = start("events", "--queue", "low", "--function", "demo.add")
    assert listening.stdout
    until(lambda: listened_to(valkey))
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")
    answer("jobs", "enqueue", "demo.fail", "message=no", "--queue", "low")
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--queue", "low", "--id", "mine")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  queued  low  mine\n", listening.stdout.readline())
    listening.send_signal(signal.SIGINT)
    assert (listening.communicate(timeout=20), listening.returncode) == (("", ""), 130)


FAN = {
    "jobs": [
        {"name": "a", "function": "demo.add", "args": [1, 2]},
        {"name": "b", "function": "demo.add", "args": [{"$result": "a"}, 3], "after": ["a"]},
        {"name": "c", "function": "demo.fail", "args": ["no"], "after": ["b"]},
        {"name": "d", "function": "demo.add", "args": [1, 2], "after": ["c"]},
    ]
}


@pytest.mark.usefixtures("api")
def test_a_workflow_is_watched_until_it_has_ended(project: Project) -> None:
    flow = answer("workflows", "submit", "-", stdin=json.dumps(FAN))["id"]
    watching = start("workflows", "watch", flow, "--json")
    assert watching.stderr
    assert watching.stderr.readline() == f"{flow} running\n"
    project.work()
    output, told = watching.communicate(timeout=20)
    ran = [f"{flow}-{name} demo.{function}" for name, function in (("a", "add"), ("b", "add"), ("c", "fail"))]
    fates = ["finished", "finished", "failed"]
    lines = [f"{job} {status}" for job, fate in zip(ran, fates, strict=True) for status in ("started", fate)]
    assert sorted(told.splitlines()) == sorted([*lines, f"{flow}-d demo.add canceled", f"{flow} failed"])
    assert watching.returncode == 1
    assert json.loads(output) == answer("workflows", "show", flow)
    assert run("workflows", "watch", flow).exit_code == 1


@pytest.mark.usefixtures("worker")
def test_where_too_many_streams_are_open_it_is_asked_for(valkey: redis.Redis) -> None:
    with serve(Settings(event_streams=1), valkey) as url:
        taken = urllib3.request("GET", f"{url}/api/v1/events", preload_content=False)
        try:
            job_id = answer("jobs", "enqueue", "demo.count", "total:=12", "--url", url)["id"]
            done = run("jobs", "watch", job_id, "--url", url, "--json")
            assert (done.exit_code, json.loads(done.stdout)["jobs"][0]["result"]) == (0, 12)
            assert f"{job_id} demo.count finished" in done.stderr
            flow = answer("workflows", "submit", "-", "--url", url, stdin=json.dumps(GRAPH))["id"]
            assert run("workflows", "watch", flow, "--url", url).exit_code == 0
            refused = run("events", "--url", url)
            assert (refused.exit_code, refused.stdout) == (4, "")
            assert "1 event streams are open already" in refused.stderr
        finally:
            taken.close()


def test_a_key_that_may_not_read_gets_ids(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    key, entry = api_keys.new("producer", ["enqueue"])
    monkeypatch.setenv("JOBLINE_API_KEY", key)
    with serve(Settings(api_keys=f"{entry},{READ}"), valkey) as url:
        job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--url", url)["id"]
        flow = answer("workflows", "submit", "-", "--url", url, stdin=json.dumps(GRAPH))["id"]
        for words in (
            ["jobs", "change", job_id, "--tag", "x"],
            ["jobs", "cancel", job_id],
            ["jobs", "requeue", job_id],
        ):
            done = run(*words, "--url", url)
            assert (done.exit_code, done.stdout.split()) == (0, ["id", job_id])
        done = run("workflows", "cancel", flow, "--url", url)
        assert (done.exit_code, done.stdout.split()) == (0, ["id", flow])
        assert run("jobs", "cancel", "--all", "--url", url).exit_code == 3


@pytest.mark.usefixtures("api")
def test_what_is_not_there_is_not_watched() -> None:
    for resource in ("jobs", "workflows"):
        missing = run(resource, "watch", "gone", "--json")
        assert (missing.exit_code, missing.stdout) == (3, "")


# What scripts rely on


@pytest.mark.usefixtures("api")
def test_json_is_what_the_api_says_to_the_byte(api: str, valkey: redis.Redis) -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    said = create_app(Settings(), valkey).test_client().get(f"/api/v1/jobs/{job_id}").get_data(as_text=True)
    assert run("jobs", "show", job_id, "--json").stdout == f"{said}\n"


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enqueue", "demo.add", "a"], "NAME=TEXT or NAME:=JSON"),
        (["enqueue", "demo.add", "a:=x"], "the value of a is no JSON"),
        (["enqueue", "demo.add", "a=1", "a=2"], "a is given twice"),
        (["enqueue", "demo.add", "--args", "{}"], "--args is a JSON array"),
        (["enqueue", "demo.add", "--kwargs", "[]"], "--kwargs is a JSON object"),
        (["enqueue", "demo.add", "--kwargs", "-"], "--kwargs is no JSON"),
        (["enqueue", "demo.add", "--kwargs", ""], "--kwargs is no JSON"),
        (["enqueue", "demo.add", "--args", ""], "--args is no JSON"),
        (["enqueue", "demo.add", "--args", "-", "--kwargs", "-"], "only one"),
        (["list", "--status", "lost"], "'lost' is not one of"),
        (["show"], "Missing argument"),
    ],
)
def test_wrong_usage_is_2_and_sends_nothing(valkey: redis.Redis, words: list[str], said: str) -> None:
    done = run("jobs", *words, "--json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert valkey.keys() == []


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs", "show", "gone"], "No job 'gone'"),
        (["jobs", "enqueue", "demo.add", "a=x", "b:=1"], "  #/kwargs/a: Input should be a valid integer"),
        (["jobs", "enqueue", "demo.nothing"], "  #/function: No function 'demo.nothing'"),
        (["jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--delay", "soon"], "  #/delay"),
        (["schedules", "put", "x", "demo.add", "a:=1", "b:=2", "--cron", "x"], "  #/cron"),
        (["queues", "show", "no such?queue"], "No queue 'no such?queue'"),
    ],
)
def test_what_the_api_refuses_is_3_with_its_reasons(words: list[str], said: str) -> None:
    done = run(*words, "--json")
    assert (done.exit_code, done.stdout) == (3, "")
    assert said in done.stderr


def test_nobody_there_is_4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", str(free_port()))
    done = run("jobs", "list")
    assert (done.exit_code, done.stdout) == (4, "")
    assert re.search(r"http://127.0.0.1:\d+ does not answer", done.stderr)


def test_redis_away_is_4() -> None:
    with serve(Settings(), redis.Redis(port=free_port())) as url:
        done = run("jobs", "list", "--url", url)
    assert (done.exit_code, done.stdout) == (4, "")
    assert "Redis does not answer" in done.stderr


@pytest.mark.parametrize("head", ["200 OK", "302 Found\r\nLocation: {api}/api/v1/jobs", "200 OK\r\nContent-Length: 99"])
def test_another_server_is_4_and_is_not_followed(api: str, head: str) -> None:
    said = f"HTTP/1.1 {head.format(api=api)}\r\nConnection: close\r\n\r\n<ok>".encode()

    def serve_once() -> None:
        with other.accept()[0] as asked:
            asked.recv(4096)
            asked.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=serve_once, daemon=True).start()
        done = run("jobs", "list", "--url", f"http://127.0.0.1:{other.getsockname()[1]}")
    assert (done.exit_code, done.stdout) == (4, "")


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8000", "http://user:hunter2@host", "http://"])
def test_a_url_that_is_none_is_2(url: str) -> None:
    done = run("jobs", "list", "--url", url or "nonsense")
    assert done.exit_code == 2
    assert "hunter2" not in done.output


# The key


@pytest.mark.usefixtures("secured")
def test_a_key_comes_from_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert run("queues", "list").exit_code == 3
    assert run("queues", "list", "--key-file", str(tmp_path / "key")).exit_code == 0
    monkeypatch.setenv("JOBLINE_API_KEY", READER)
    assert run("queues", "list").exit_code == 0
    refused = run("queues", "pause", "low")
    assert refused.exit_code == 3
    assert "The key 'reader' has no scope 'admin'" in refused.stderr
    monkeypatch.setenv("JOBLINE_API_KEY_FILE", str(tmp_path / "key"))
    assert run("queues", "pause", "low").exit_code == 0


@pytest.mark.usefixtures("secured")
@pytest.mark.parametrize("content", [f"{KEY}\nX-Evil: 1", "", f"{KEY} two", "schlüssel"], ids=range(4))
def test_what_is_no_key_is_2_and_is_not_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content)
    done = run("queues", "list", "--key-file", str(tmp_path / "key"))
    assert done.exit_code == 2
    assert KEY not in done.output
    assert run("queues", "list", "--key-file", str(tmp_path / "none")).exit_code == 2


def test_the_key_is_shown_nowhere(secured: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(KEY)
    monkeypatch.setenv("JOBLINE_API_KEY", KEY)
    nobody = f"http://127.0.0.1:{free_port()}"
    for words in (["--help"], ["--url", nobody], ["--url", f"{secured}/docs"], ["--limit", "0"], []):
        for where in ([], ["--key-file", str(tmp_path / "key")]):
            done = run("jobs", "list", *words, *where)
            assert KEY not in done.output + done.stderr + repr(done.exception)


# The terminal, and the shell


@pytest.mark.usefixtures("api")
def test_nothing_in_a_job_steers_the_terminal() -> None:
    text = "\x1b[31mred\x1b]0;title\x07 [bold]\u202e"
    job_id = answer("jobs", "enqueue", "demo.fail", f"message={text}", "--description", text)["id"]
    for words in (["show", job_id], ["list"], ["list", "--queue", text], ["show", text]):
        printed = run("jobs", *words)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", printed.stdout + printed.stderr)
    assert r"\x1b[31mred" in run("jobs", "show", job_id).stdout


@pytest.mark.usefixtures("api")
def test_a_pipe_gets_whole_lines_without_colour() -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--id", "x" * 128)["id"]
    words = [sys.executable, "-m", "app", "jobs", "list"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "COLUMNS": "40"}, capture_output=True)
    assert b"\x1b" not in done.stdout
    assert [line.split()[:4] for line in done.stdout.decode().splitlines()[1:]] == [
        [job_id, "demo.add", "queued", "default"]
    ]


def on_a_terminal(project: Project, waits: bytes, *words: str) -> tuple[str, str]:
    """What is shown there, and what its output is elsewhere; a worker starts once it shows what `waits`."""
    screen, terminal = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "app", *words]
    process = subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=terminal)
    os.close(terminal)
    shown, worker = b"", None
    with contextlib.suppress(OSError):  # the terminal is closed
        while found := os.read(screen, 4096):
            shown += found
            if waits in shown and worker is None:
                worker = project.start(*RQ_WORKER, "--burst")
    os.close(screen)
    assert worker
    worker.communicate(timeout=20)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "\x1b" not in output
    return shown.decode(), output


@pytest.mark.usefixtures("api")
def test_a_terminal_shows_how_far_jobs_are(project: Project) -> None:
    job_id = answer("jobs", "enqueue", "demo.count", "total:=8")["id"]
    shown, output = on_a_terminal(project, b"queued", "jobs", "watch", job_id)
    assert re.search(r"━.*\d % started counting", shown)
    assert "100 % finished" in shown
    assert job_id in output


@pytest.mark.usefixtures("api")
def test_a_terminal_shows_how_far_a_workflow_and_its_jobs_are(project: Project) -> None:
    count = {"name": "slow", "function": "demo.count", "args": [8]}
    graph = {
        "name": "both",
        "jobs": [count, {"name": "last", "function": "demo.add", "args": [1, 2], "after": ["slow"]}],
    }
    flow = answer("workflows", "submit", "-", stdin=json.dumps(graph))["id"]
    shown, output = on_a_terminal(project, b"0 of 2 jobs", "workflows", "watch", flow)
    assert re.search(rf"both {flow[:8]} .*━.* running 0 of 2 jobs", shown)
    assert re.search(r"demo.count slow .*━.*\d % started counting", shown)
    last = shown.rpartition("both")[2]
    assert "finished" in last
    assert "demo." not in last, "a job has no bar when it has ended"
    assert re.search(r"^jobs +2 of 2$", output, re.MULTILINE)


def test_ctrl_c_is_130_and_no_traceback(api: str) -> None:
    job_id = answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2")["id"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "jobs", "watch", job_id], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr
    assert job_id.encode() in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == (b"", b"")
    assert process.returncode == 130


def test_the_rest_of_the_program_loads_neither_it_nor_a_redis_client() -> None:
    code = "import sys, app.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if re.match(r"app\.cli|rich|urllib3|redis", name)] == []


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Path]:
    """Where `make install` has put `jobline`."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name in ("Makefile", "app", "jobs"):
        (tmp_path / name).symlink_to(ROOT / name)
    subprocess.run(["make", ".venv/bin/jobline"], cwd=tmp_path, check=True)
    return tmp_path / ".venv/bin"


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jobline jo", ["jobs"]),
        ("jobline jobs en", ["enqueue"]),
        ("jobline jobs enqueue demo.a", ["demo.add"]),
        ("jobline jobs list --status fi", ["finished"]),
        ("jobline jobs list --queue l", ["low"]),
        ("jobline schedules show n", ["nightly"]),
        ("jobline jobs show mi", ["mine"]),
    ],
)
def test_bash_completes_commands_and_names(api: str, shell: Path, line: str, offered: list[str]) -> None:
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--queue", "low", "--id", "mine")
    answer("schedules", "put", "nightly", "demo.add", "a:=1", "b:=2", "--cron", "@daily")
    assert complete(shell, line) == offered


ASKED = {
    "zsh": 'COMP_WORDS="$LINE" COMP_CWORD={place}',
    "fish": 'COMP_WORDS="$LINE" COMP_CWORD="$WORD"',
}
"""As the scripts of the shells ask, which `_JOBLINE_COMPLETE=zsh_source` prints."""


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("jobline ev", ["events"]),
        ("jobline jobs enqueue demo.a", ["demo.add"]),
        ("jobline jobs requeue --queue lo", ["low"]),
        ("jobline jobs change ", ["mine"]),
    ],
)
@pytest.mark.usefixtures("api")
def test_zsh_and_fish_complete_the_same(shell: Path, name: str, line: str, offered: list[str]) -> None:
    answer("jobs", "enqueue", "demo.add", "a:=1", "b:=2", "--queue", "low", "--id", "mine")
    *before, word = line.split(" ")
    env = {**os.environ, "PATH": f"{shell}:{os.environ['PATH']}", "LINE": line, "WORD": word}

    def sh(script: str) -> str:
        done = subprocess.run(["sh", "-c", script], cwd="/", env=env, capture_output=True, text=True, timeout=60)
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout

    assert "_jobline_completion" in sh(f"_JOBLINE_COMPLETE={name}_source jobline")
    printed = sh(f"env {ASKED[name].format(place=len(before))} _JOBLINE_COMPLETE={name}_complete jobline")
    if name == "zsh":
        found = printed.splitlines()[1::3]
    else:
        found = [text.partition(",")[2].partition("\t")[0] for text in printed.splitlines()]
    assert found == offered


def test_completion_is_silent_while_nobody_answers(shell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLINE_URL", f"http://127.0.0.1:{free_port()}")
    assert complete(shell, "jobline jobs enqueue d") == []


def complete(folder: Path, line: str) -> list[str]:
    words = " ".join(f"'{word}'" for word in line.split())
    script = f"""
        eval "$(_JOBLINE_COMPLETE=bash_source jobline)"
        COMP_WORDS=({words}); COMP_CWORD={len(line.split()) - 1}
        _jobline_completion jobline; echo "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd="/", env=env, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_job_s_log_is_printed_and_followed(api: str, project: Project, valkey: redis.Redis) -> None:
    project.write(
        "demo_log", 'import logging\ndef talk() -> None:\n    print("one")\n    logging.warning("\\x1b[31mtwo")\n'
    )
    job_id = answer("jobs", "enqueue", "demo.count", "total:=1")["id"]
    valkey.hset(f"rq:job:{job_id}", "data", new_job.encode_call("jobs.demo_log.talk", [], {}))
    following = start("jobs", "logs", job_id, "--follow", "--json", JOBLINE_URL=api)
    until(lambda: listened_to(valkey))
    project.work()
    output, _ = following.communicate(timeout=20)
    assert following.returncode == 0
    assert [json.loads(text)["text"] for text in output.splitlines()] == ["one", "\x1b[31mtwo"]
    stored = answer("jobs", "logs", job_id)["lines"]
    assert [line["source"] for line in stored] == ["stdout", "root"]
    printed = run("jobs", "logs", job_id).stdout
    assert "  stdout  one\n" in printed
    assert "  root warning  \\x1b[31mtwo\n" in printed
