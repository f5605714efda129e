"""A disk that is full: Valkey's append-only file on a small tmpfs. Nothing is lost, and nothing is said to be done."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from app.api.application import create_app
from app.settings import Settings
from tests.conftest import RQ_WORKER, Project, Server, status, until

pytestmark = pytest.mark.needs("tmpfs")
SIZE = "4m"
JOBS = "/api/v1/jobs"


class Disk:
    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        with self._ballast.open("wb", buffering=0) as file:
            for size in (65536, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(server: Server) -> Iterator[Disk]:
    found = Disk(server.folder / "valkey")
    server.start()
    yield found
    server.kill()
    found.unmount()


def refuses(connection: redis.Redis) -> bool:
    try:
        connection.set("probe", "x" * 5000, ex=5)
    except redis.RedisError:
        return True
    return False


def test_a_full_disk_is_503_and_changes_nothing(disk: Disk, server: Server) -> None:
    client = create_app(Settings(redis_url=server.url)).test_client()  # type: ignore[arg-type]
    job = {"function": "demo.add", "args": [1, 2], "queue": "low"}
    assert client.post(JOBS, json={**job, "id": "there"}).status_code == 202
    assert client.get("/readyz").status_code == 200
    disk.fill()
    until(lambda: refuses(server.connection))
    for method, path, body in (
        ("POST", JOBS, job),
        ("POST", f"{JOBS}/bulk", {"jobs": [job] * 3}),
        ("POST", f"{JOBS}/cancel", {"queue": "low"}),
        ("POST", f"{JOBS}/there/cancel", None),
        ("DELETE", f"{JOBS}/there", None),
        ("POST", "/api/v1/queues/low/empty", None),
        ("GET", "/readyz", None),
    ):
        answer = client.open(path, method=method, json=body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2"), (method, path, answer.text)
    assert client.get("/livez").status_code == 200
    assert client.get(f"{JOBS}/there").get_json()["status"] == "queued"
    disk.free()
    until(lambda: not refuses(server.connection))
    until(lambda: client.get("/readyz").status_code == 200)
    assert client.post(f"{JOBS}/cancel", json={"queue": "low"}).get_json()["canceled"] == 1


def test_a_job_that_ends_while_the_disk_is_full_has_ended_well(disk: Disk, server: Server, tmp_path: Path) -> None:
    project, log = Project(tmp_path / "project", server.url), tmp_path / "log"
    project.write(
        "slow",
        "import time\n\n\ndef nap() -> int:\n    time.sleep(3)\n"
        f"    open({str(log)!r}, 'a').write('ran ')\n    return 1\n",
    )
    worker = project.start(*RQ_WORKER, "default")
    scheduler = project.start("scheduler.py")
    try:
        until(lambda: server.connection.get("rq:scheduler_lock") and server.connection.zcard("jobline:leases"))
        queue = Queue("default", connection=server.connection, serializer=JSONSerializer)
        queue.enqueue("jobs.slow.nap", job_id="job")
        until(lambda: status(server.connection, "job") == "started")
        disk.fill()
        until(lambda: refuses(server.connection))
        until(log.exists)
        assert status(server.connection, "job") == "started"
        disk.free()
        until(lambda: status(server.connection, "job") == "finished")
        assert log.read_text() == "ran "
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.communicate(timeout=20)
