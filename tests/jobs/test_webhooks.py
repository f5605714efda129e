"""One attempt to deliver, against a real HTTP server that fails, hangs, redirects and lies."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import redis
import time_machine
from rq.job import _job_stack

from app import Discard
from app.enqueue.new_job import NewJob
from app.enqueue.write import enqueue
from app.rq_adapter.rq_parts import Job
from app.webhooks import webhook_delivery
from app.webhooks.webhook_delivery import DeliveryFailed
from jobs.webhooks import deliver
from tests.conftest import until
from tests.receiver import OTHER_SECRET, SECRET, Receiver

TOLD = {"type": "job.finished", "timestamp": "2026-01-02T03:04:05Z", "data": {"id": "ß", "result": 3}}


@pytest.fixture(autouse=True)
def allowed(setting: Callable[..., None]) -> None:
    setting(WEBHOOK_SECRET=SECRET, WEBHOOK_ALLOW_HOSTS="127.0.0.1,localhost")


@pytest.fixture
def attempt(fake: redis.Redis) -> Callable[..., Any]:
    """As a worker makes it, of the delivery with this id."""

    def make(url: str, job_id: str = "msg_1", secret: str = "", **fields: str) -> Any:
        job = NewJob(
            webhook_delivery.DELIVER, [url, TOLD], {}, webhook_delivery.QUEUE, 25, 500, 500, id=job_id,
            extra_fields={webhook_delivery.DELIVERY_SECRET: secret, **fields},
        )  # fmt: skip
        enqueue(fake, [job])
        _job_stack.push(Job.fetch(job_id, connection=fake))
        try:
            return deliver(url, TOLD)
        finally:
            _job_stack.pop()

    return make


def test_a_message_arrives_signed(attempt: Callable[..., Any], receiver: Receiver) -> None:
    result = attempt(f"{receiver.base}/ok?a=b", attempts="2")
    [received] = receiver.received
    assert received.verified() == TOLD
    assert (received.path, received.headers["webhook-id"]) == ("/ok?a=b", "msg_1")
    assert received.headers["Content-Type"] == "application/json"
    assert abs(int(received.headers["webhook-timestamp"]) - time.time()) < 5
    assert (result["status"], result["attempt"]) == (204, 2)


def test_the_jobs_own_secret_signs_and_all_of_several(
    attempt: Callable[..., Any], receiver: Receiver, setting: Callable[..., None]
) -> None:
    attempt(receiver.base, secret=OTHER_SECRET)
    assert receiver.received[0].verified(OTHER_SECRET)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.received[0].verified(SECRET)
    setting(WEBHOOK_SECRET=f"{OTHER_SECRET}, {SECRET}")
    attempt(receiver.base, "msg_2")
    assert receiver.received[1].verified(OTHER_SECRET)
    assert receiver.received[1].verified(SECRET)


def test_the_id_stays_and_the_timestamp_is_of_the_attempt(attempt: Callable[..., Any], receiver: Receiver) -> None:
    for later in (0, 10):
        with (
            time_machine.travel(time.time() + later),
            pytest.raises(DeliveryFailed, match=r"127\.0\.0\.1 answered 500"),
        ):
            attempt(f"{receiver.base}/status/500")
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert second.verified() == TOLD


@pytest.mark.parametrize(("days", "told"), [(29, 0), (31, 1)])
def test_a_url_that_is_gone_is_tried_again_after_its_time(
    attempt: Callable[..., Any], receiver: Receiver, fake: redis.Redis, days: int, told: int
) -> None:
    url = f"{receiver.base}/ok"
    since = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    fake.zadd("jobline:webhooks:disabled", {url: since})
    with contextlib.nullcontext() if told else pytest.raises(Discard, match="410 Gone"):
        attempt(url)
    assert len(receiver.received) == told


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(attempt: Callable[..., Any], receiver: Receiver, status: int) -> None:
    assert attempt(f"{receiver.base}/status/{status}")["status"] == status


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 408, 429, 500, 502, 503, 504, 999])
def test_anything_else_fails_and_may_be_tried_again(
    attempt: Callable[..., Any], receiver: Receiver, status: int
) -> None:
    with pytest.raises(DeliveryFailed, match=f"answered {status}") as failed:
        attempt(f"{receiver.base}/status/{status}")
    assert failed.value.retry_after is None


@pytest.mark.parametrize("to", ["/ok", "http://127.0.0.1:{port}/ok", "http://10.0.0.1/", "http://[::1]:{port}/ok"])
def test_no_redirect_is_followed(attempt: Callable[..., Any], receiver: Receiver, to: str) -> None:
    with pytest.raises(DeliveryFailed, match="answered 307"):
        attempt(f"{receiver.base}/to/{to.format(port=receiver.port)}")
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("said", "seconds"), [("120", 120), ("0", 1), ("-5", 1), ("999999999", 86_400)])
def test_retry_after_is_honoured_up_to_a_day(
    attempt: Callable[..., Any], receiver: Receiver, status: int, said: str, seconds: float
) -> None:
    with pytest.raises(DeliveryFailed) as failed:
        attempt(f"{receiver.base}/busy/{status}/{said}")
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize("status", [302, 404, 500, 502])
def test_retry_after_of_other_answers_is_passed_over(
    attempt: Callable[..., Any], receiver: Receiver, status: int
) -> None:
    with pytest.raises(DeliveryFailed) as failed:
        attempt(f"{receiver.base}/busy/{status}/120")
    assert failed.value.retry_after is None


def test_retry_after_may_be_a_date_and_what_is_neither_is_passed_over(
    attempt: Callable[..., Any], receiver: Receiver
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    with pytest.raises(DeliveryFailed) as failed:
        attempt(f"{receiver.base}/busy/503/{date.replace(' ', '+')}")
    assert failed.value.retry_after
    assert 50 < failed.value.retry_after <= 60
    for said in ("soon", "nan", "inf"):
        with pytest.raises(DeliveryFailed) as failed:
            attempt(f"{receiver.base}/busy/503/{said}")
        assert failed.value.retry_after is None


def test_410_disables_the_url_until_it_is_enabled(
    attempt: Callable[..., Any], receiver: Receiver, fake: redis.Redis
) -> None:
    gone = f"{receiver.base}/status/410"
    for job_id in ("msg_1", "msg_2"):
        with pytest.raises(Discard, match=r"410 Gone at .*: DELETE /api/v1/webhooks/disabled"):
            attempt(gone, job_id)
    assert len(receiver.received) == 1
    assert [one["url"] for one in webhook_delivery.list_disabled(fake)] == [gone]
    assert attempt(f"{receiver.base}/ok", "msg_3")["status"] == 204
    webhook_delivery.enable(fake, gone)
    with pytest.raises(Discard):
        attempt(gone, "msg_4")
    with time_machine.travel(time.time() + 31 * 86_400), pytest.raises(Discard):
        attempt(gone, "msg_5")  # it is asked again
    assert len(receiver.at("/status/410")) == 3


def test_silence_is_a_failure(attempt: Callable[..., Any], receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert webhook_delivery.SOCKET_TIMEOUT_SECONDS < webhook_delivery.TIMEOUT_SECONDS <= 30
    monkeypatch.setattr(webhook_delivery, "SOCKET_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(DeliveryFailed, match="ReadTimeoutError"):
        attempt(f"{receiver.base}/hang")


def test_a_giant_answer_is_not_read(attempt: Callable[..., Any], receiver: Receiver) -> None:
    assert attempt(f"{receiver.base}/giant")["status"] == 200
    assert until(lambda: receiver.broken)
    assert receiver.sent < 16 << 20  # what the two systems buffer


def test_a_refused_connection_is_tried_again(attempt: Callable[..., Any]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DeliveryFailed, match="refused"):
            attempt(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def test_a_name_without_an_address_is_tried_again(attempt: Callable[..., Any]) -> None:
    with pytest.raises(DeliveryFailed, match="gaierror"):
        attempt("http://nowhere.invalid/")


def test_an_untrusted_certificate_is_a_failure(attempt: Callable[..., Any], receiver: Receiver) -> None:
    with pytest.raises(DeliveryFailed, match="SSL"):
        attempt(receiver.base.replace("http:", "https:"))


def test_tls_is_verified_by_name(attempt: Callable[..., Any], server_tls: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]

        def serve() -> None:
            with server_tls.wrap_socket(listener.accept()[0], server_side=True) as line:
                heard = b""
                while not heard.endswith(b"}"):  # the body may come after the headers
                    heard += line.recv(65536)
                line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert attempt(f"https://localhost:{port}/")["status"] == 204
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "127.1", "[::1]", "[::ffff:127.0.0.1]"])
def test_a_private_address_is_refused_for_good(
    attempt: Callable[..., Any], setting: Callable[..., None], host: str
) -> None:
    setting(WEBHOOK_ALLOW_HOSTS="elsewhere.test", FETCH_ALLOW_HOSTS=host)
    with pytest.raises(Discard, match="not in WEBHOOK_ALLOW_HOSTS"):
        attempt(f"http://{host}/")


def test_a_name_that_leads_to_a_private_address_is_refused_at_every_attempt(
    attempt: Callable[..., Any], receiver: Receiver, setting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rebinding: what is checked is what is asked, and the name is looked up once."""
    setting(WEBHOOK_ALLOW_HOSTS="")
    answers = iter(["127.0.0.1", "8.8.8.8"])

    def look_up(host: str, port: int, **_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Discard, match="not on the public network"):
        attempt(f"http://rebinding.test:{receiver.port}/")
    assert receiver.received == []


def test_only_what_follows_a_job_is_delivered(receiver: Receiver, fake: redis.Redis) -> None:
    with pytest.raises(Discard, match="Only Jobline enqueues deliveries"):
        deliver(f"{receiver.base}/ok", TOLD)
    enqueue(fake, [NewJob(webhook_delivery.DELIVER, [receiver.base, TOLD], {}, "webhooks", 25, 500, 500, id="by-hand")])
    _job_stack.push(Job.fetch("by-hand", connection=fake))
    try:
        with pytest.raises(Discard, match="Only Jobline enqueues deliveries"):
            deliver(f"{receiver.base}/ok", TOLD)
    finally:
        _job_stack.pop()
    assert receiver.received == []


def test_without_a_secret_nothing_is_sent(
    attempt: Callable[..., Any], receiver: Receiver, setting: Callable[..., None]
) -> None:
    setting(WEBHOOK_SECRET="")
    with pytest.raises(DeliveryFailed, match="no WEBHOOK_SECRET"):
        attempt(receiver.base)
    assert receiver.received == []
