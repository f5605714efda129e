"""The one Valkey or Redis of a run, the same for every row."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis
from redis.exceptions import RedisError

from app.redis import embedded


class NotEmpty(Exception):
    """The given server holds keys, and a run empties it again and again."""


@dataclass(frozen=True)
class Reading:
    """The counters of the server and of the machine at one moment; CPU in seconds."""

    at: float
    machine_cpu: float
    redis_cpu: float
    commands: int
    round_trips: int


class Server:
    """A running server, and what it says of itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Redis.from_url(url, socket_timeout=60)  # emptying it of millions of keys takes long

    def empty(self) -> None:
        """Done when it returns: freeing later would disturb the next row."""
        self.client.execute_command("FLUSHALL", "SYNC")

    def read(self) -> Reading:
        info, machine = self.client.info(), psutil.cpu_times()
        return Reading(
            at=time.monotonic(),
            machine_cpu=sum(machine) - machine.idle - getattr(machine, "iowait", 0),
            redis_cpu=info["used_cpu_sys"] + info["used_cpu_user"],
            commands=info["total_commands_processed"],
            round_trips=info["total_reads_processed"],
        )

    def memory(self) -> int:
        return self.client.info("memory")["used_memory"]

    def expiring(self) -> int:
        """How many keys have a time to live."""
        database = self.client.connection_pool.connection_kwargs.get("db", 0)
        return self.client.info("keyspace").get(f"db{database}", {}).get("expires", 0)

    def count(self, pattern: str, kind: str | None = None) -> int:
        return sum(1 for _ in self.client.scan_iter(pattern, count=2000, _type=kind))

    @property
    def version(self) -> str:
        info = self.client.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    @property
    def append_only(self) -> bool:
        return bool(self.client.info("persistence")["aof_enabled"])


@contextmanager
def running(append_only: bool) -> Iterator[Server]:
    """The server that REDIS_URL names, else the embedded one in a folder of its own.

    Raises:
        NotEmpty
    """
    if url := os.environ.get("REDIS_URL"):
        server = Server(url)
        if server.client.info("keyspace"):
            raise NotEmpty("REDIS_URL names a server that holds keys: this empties it")
        try:
            yield server
        finally:
            server.empty()
        return
    with tempfile.TemporaryDirectory(prefix="jobline-bench-") as folder:
        (Path(folder) / "valkey").mkdir()
        port = free_port()
        command = [*embedded.command(Path(folder), port), "--appendonly", "yes" if append_only else "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            server = Server(f"redis://127.0.0.1:{port}/0")
            _wait_for(server)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _wait_for(server: Server) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            server.client.ping()
        except RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
