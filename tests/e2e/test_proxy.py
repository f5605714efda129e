"""nginx with deploy/nginx.conf before the API: slow clients, streams, errors, addresses, TLS."""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import trustme
import urllib3
import yaml

from app.api.routes import streams
from app.settings import Settings
from app.views import waiting
from tests.conftest import ROOT, Project, free_port, until
from tests.e2e.test_events import Server

pytestmark = pytest.mark.needs("nginx")

DEPLOY = ROOT / "deploy"
BODY_DEADLINE = "client_body_timeout 10s"


class Proxy(Server):
    """nginx with our configuration, on ports and in a folder of the test's own."""

    def __init__(self, folder: Path, api_port: int, listen: str = "listen.conf", **changes: str) -> None:
        self.folder, self.port, self.health_port = folder, free_port(), free_port()
        folder.mkdir(exist_ok=True)
        changes = {"/tmp/": f"{folder}/", "api:8000": f"127.0.0.1:{api_port}", "8001": str(self.health_port), **changes}
        self._write("nginx.conf", DEPLOY / "nginx.conf", changes)
        self._write("listen.conf", DEPLOY / listen, {"listen 8000": f"listen {self.port}", "/etc/nginx": str(folder)})
        command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        command += ["-g", "user root;"] if os.geteuid() == 0 else []
        subprocess.run([*command, "-t"], check=True, capture_output=True)
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.http = urllib3.PoolManager(num_pools=4, maxsize=50)
        until(self._listens)

    def _write(self, name: str, source: Path, changes: dict[str, str]) -> None:
        text = source.read_text()
        for old, new in changes.items():
            assert old in text or old == "/etc/nginx", old
            text = text.replace(old, new)
        (self.folder / name).write_text(text)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[Server]:
    project = Project(tmp_path_factory.mktemp("proxy") / "project", valkey_url)
    server = Server(project, TRUSTED_PROXIES="127.0.0.1")
    yield server
    server.process.terminate()
    server.process.communicate(timeout=20)


@pytest.fixture
def proxy(tmp_path: Path, api: Server, valkey: redis.Redis) -> Iterator[Proxy]:
    found = Proxy(tmp_path / "nginx", api.port)
    yield found
    found.stop()


@pytest.fixture
def patient(tmp_path: Path, api: Server, valkey: redis.Redis) -> Iterator[Proxy]:
    """Keeps a crowd for as long as a slow machine needs to gather it."""
    found = Proxy(tmp_path / "nginx", api.port, **{BODY_DEADLINE: "client_body_timeout 60s"})
    yield found
    found.stop()


@pytest.fixture
def hurried(tmp_path: Path, api: Server, valkey: redis.Redis) -> Iterator[Proxy]:
    """With short deadlines."""
    found = Proxy(
        tmp_path / "nginx", api.port, **{BODY_DEADLINE: "client_body_timeout 1s", "read_timeout 90s": "read_timeout 1s"}
    )
    yield found
    found.stop()


def problem(answer: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    """Status and title of an error, which is complete."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert (body["type"], body["status"]) == ("about:blank", answer.status)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.status, body["title"]


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(address, 0))


def begin(port: int, address: str = "127.0.0.1", length: int = 100) -> socket.socket:
    """A client that has sent the headers and one byte of a body."""
    client = connect(port, address)
    client.sendall(
        f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n{{".encode()
    )
    return client


class Crowd:
    """Clients that begin a body and do not go on, on four addresses."""

    def __init__(self, port: int, size: int) -> None:
        self.clients = [begin(port, f"127.0.0.{2 + number % 4}") for number in range(size)]

    def held(self) -> int:
        """How many have neither an answer nor been cut off."""
        return sum(not _readable(client) for client in self.clients)

    def leave(self) -> None:
        for client in self.clients:
            client.close()


def _readable(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def latencies(port: int, requests: int = 150) -> list[float]:
    """Seconds of each request of four good clients."""
    found: list[float] = []

    def work() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for _ in range(requests):
            started = time.perf_counter()
            client.request(
                "POST", "/api/v1/functions/demo.add/jobs", b'{"a": 1, "b": 2}', {"Content-Type": "application/json"}
            )
            answer = client.getresponse()
            answer.read()
            assert answer.status == 202
            found.append(time.perf_counter() - started)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 * requests
    return found


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


def threads(api: Server) -> int:
    return sum(process.num_threads() for process in psutil.Process(api.process.pid).children())


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_two_thousand_bodies_that_never_come_hold_nobody_up(patient: Proxy, api: Server) -> None:
    """Other work on the machine can only add to what is measured, so the best of three rounds counts."""
    latencies(patient.port, 50)
    rounds = []
    for _ in range(3):
        alone, threads_before = latencies(patient.port), threads(api)
        crowd = Crowd(patient.port, 2000)
        lively = [_timed(patient, "/livez") for _ in range(10)]
        beside = latencies(patient.port)
        assert crowd.held() >= 1900
        assert threads(api) <= threads_before + 20
        crowd.leave()
        rounds.append((max(lively), p99(beside) / max(p99(alone), 0.005)))
        if rounds[-1][0] < 0.1 and rounds[-1][1] < 3:
            return
    raise AssertionError(f"seconds of the slowest /livez, and how many times slower good clients were: {rounds}")


def _timed(proxy: Proxy, path: str) -> float:
    started = time.perf_counter()
    assert proxy.call("GET", path).status == 200
    return time.perf_counter() - started


def refusals(crowd: list[socket.socket]) -> list[bytes]:
    """What has been answered to those of the crowd who did not even get so far as to be waited for."""
    return [client.recv(65536, socket.MSG_PEEK) for client in crowd if _readable(client)]


def is_too_many(answer: bytes) -> bool:
    wanted = (b"Content-Type: application/problem+json\r\n", b"Retry-After: 2\r\n")
    return answer.startswith(b"HTTP/1.1 429 ") and all(header in answer for header in wanted)


@pytest.mark.usefixtures("many_files")
def test_one_address_has_so_many_requests_at_once_and_others_are_served(patient: Proxy) -> None:
    crowd = [begin(patient.port, "127.0.0.2") for _ in range(510)]
    until(lambda: len(refusals(crowd)) == 10)
    assert all(map(is_too_many, refusals(crowd)))
    assert patient.call("GET", "/livez").status == 200
    for client in crowd:
        client.close()


def test_large_bodies_of_one_address_have_a_limit_of_their_own(patient: Proxy) -> None:
    crowd = [begin(patient.port, length=100_000) for _ in range(20)]
    until(lambda: len(refusals(crowd)) == 4)
    assert all(map(is_too_many, refusals(crowd)))
    with connect(patient.port) as client:  # nobody knows how large a chunked one will be
        client.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert is_too_many(client.recv(65536))
    assert patient.call("POST", "/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]}).status == 202
    for client in crowd:
        client.close()


def test_a_body_that_stops_coming_is_cut_off_and_nothing_of_it_arrives(hurried: Proxy, valkey: redis.Redis) -> None:
    started = time.monotonic()
    with begin(hurried.port) as client:
        for _ in range(3):
            time.sleep(0.3)
            client.sendall(b" ")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert 1 < time.monotonic() - started < 10
    assert valkey.keys("rq:job:*") == []


def test_a_head_that_drips_is_cut_off_at_its_deadline(tmp_path: Path, api: Server) -> None:
    found = Proxy(tmp_path / "nginx", api.port, **{"client_header_timeout 10s": "client_header_timeout 1s"})
    started = time.monotonic()
    with connect(found.port) as client, contextlib.suppress(ConnectionError):
        client.sendall(b"GET /livez HTTP/1.1\r\nA: ")
        while time.monotonic() - started < 10:
            client.sendall(b"a")
            time.sleep(0.05)
            if _readable(client):
                break
    assert 0.9 < time.monotonic() - started < 5
    found.stop()


def test_the_deadlines_leave_time_to_wait_and_to_be_silent() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    [read_timeout] = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(read_timeout) > max(waiting.MAX_WAIT_SECONDS, streams.HEARTBEAT_SECONDS)
    [size] = re.findall(r"client_max_body_size (\d+)m;", text)
    assert int(size) * 1024**2 == Settings().bulk_body_limit
    assert f"larger than {size} MiB" in text


def test_event_streams_pass_as_they_are_written(proxy: Proxy) -> None:
    job = proxy.post("/functions/demo.add/jobs", {"a": 1, "b": 2})
    events = proxy.events(f"/jobs/{job['id']}/events")
    assert next(events)["data"]["status"] == "queued"  # the stream goes on: it was not held back
    proxy.post(f"/jobs/{job['id']}/cancel", {})
    assert [event["event"] for event in events][-1] == "end"


def test_a_client_may_wait(proxy: Proxy) -> None:
    path = proxy.call("POST", "/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    answers: list[Any] = []
    waiter = threading.Thread(
        target=lambda: answers.append(proxy.call("GET", path, headers={"Prefer": "wait=30"}).json()["status"])
    )
    waiter.start()
    time.sleep(0.5)
    assert answers == []
    proxy.call("POST", f"{path}/cancel")
    waiter.join(10)
    assert answers == ["canceled"]


def test_a_body_that_is_too_large_is_refused(proxy: Proxy) -> None:
    with connect(proxy.port) as client:
        client.sendall(b"POST /api/v1/jobs/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777217\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        body = json.loads(answer.read())
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    assert (body["status"], body["title"]) == (413, "Content too large")
    whole = b'{"jobs": [' + b" " * (16 * 1024**2 - 12) + b"]}"
    answer = proxy.call("POST", "/api/v1/jobs/bulk", body=whole, headers={"Content-Type": "application/json"})
    assert answer.status == 422  # it has come to the API, which wants at least one job


def test_other_errors_are_problems_too(proxy: Proxy) -> None:
    assert problem(proxy.call("GET", "/livez", headers={"Host": "evil.example"})) == (421, "Misdirected request")
    assert problem(proxy.call("GET", "/livez", headers={"A": "a" * 40_000})) == (400, "Bad request")
    assert problem(proxy.call("TRACE", "/livez")) == (405, "Method not allowed")


def test_an_api_that_does_not_answer_in_time_is_a_problem(hurried: Proxy) -> None:
    path = hurried.call("POST", "/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    answer = hurried.call("GET", path, headers={"Prefer": "wait=3"})
    assert problem(answer) == (504, "Gateway timeout")
    assert answer.headers["Retry-After"] == "2"


def test_an_api_that_is_not_there_is_a_problem_and_nginx_is_well(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["proxy"]
    found = Proxy(tmp_path / "nginx", free_port())
    check = compose["healthcheck"]["test"][-1].replace("8001", str(found.health_port))
    with urllib.request.urlopen(check) as answer:
        assert answer.status == 204
    answer = found.call("GET", "/livez?key=secret")
    assert problem(answer) == (502, "Bad gateway")
    assert answer.headers["Retry-After"] == "2"
    found.stop()
    log = (found.folder / "log").read_text()
    assert '"path":"/livez","status":502' in log
    assert "secret" not in log


def test_the_api_sees_the_clients_address_and_no_forged_one(proxy: Proxy) -> None:
    with connect(proxy.port, "127.0.0.3") as client:
        client.sendall(
            b"POST /api/v1/queues/default/pause?secret=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"X-Forwarded-For: 192.0.2.1\r\nX_Forwarded_For: 192.0.2.2\r\nForwarded: for=192.0.2.3\r\n\r\n"
        )
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200 ")
    [entry] = proxy.call("GET", "/api/v1/audit").json()["entries"]
    assert entry["address"] == "127.0.0.3"
    until(lambda: "queues/default/pause" in (proxy.folder / "log").read_text())
    log = (proxy.folder / "log").read_text()
    assert json.loads(log.splitlines()[0])["address"] == "127.0.0.3"
    assert "secret" not in log


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls(tmp_path: Path, api: Server) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    (tmp_path / "nginx" / "tls").mkdir(parents=True)
    certificate.private_key_pem.write_to_path(tmp_path / "nginx" / "tls" / "tls.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "nginx" / "tls" / "tls.crt", append=True)
    found = Proxy(tmp_path / "nginx", api.port, "listen-tls.conf")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with urllib3.PoolManager(ssl_context=context) as client:
        page = client.request("GET", f"https://localhost:{found.port}/", retries=False)
    assert page.status == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert problem(found.call("GET", "/livez")) == (400, "Bad request")
    old = ssl.create_default_context()
    authority.configure_trust(old)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with connect(found.port) as plain, pytest.raises(ssl.SSLError, match=r"(?i)protocol version"):
        old.wrap_socket(plain, server_hostname="localhost")
    found.stop()
