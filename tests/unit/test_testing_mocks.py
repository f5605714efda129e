"""The test kit and mocks: a job uses the modules that its test has imported, as the test has changed them."""

import importlib
import sys
from collections.abc import Callable
from datetime import date
from types import ModuleType
from unittest.mock import ANY, AsyncMock, patch

import pytest

from app.testing import Jobs, Refused, run_jobs, service
from app.testing.functions import PatchableCatalog

SOURCE = """
from datetime import date

from app import job
from jobs.kitmail import send

charged = []


@job(queue="low", tags=("money",))
def charge(day: date, amount: int) -> str:
    charged.append(amount)
    return send(f"{amount} on {day}")


def _total(prices):
    return sum(prices)


def total(prices: list[int]) -> int:
    return _total(prices)


async def later() -> str:
    return "real"
"""


@pytest.fixture(autouse=True, params=["first look", "later"])
def _shop(
    request: pytest.FixtureRequest, write_module: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the author's, in a process that has looked at jobs/ already, and in one that has not."""
    write_module("kitmail", "def send(text: str) -> str:\n    return 'sent ' + text\n")
    write_module("kitshop", SOURCE)
    monkeypatch.setattr(service, "CATALOG", PatchableCatalog())
    if request.param == "later":
        service.CATALOG.refresh()


@pytest.fixture
def shop() -> ModuleType:
    return importlib.import_module("jobs.kitshop")


def charged(jobs: Jobs) -> object:
    job = jobs.enqueue("kitshop.charge", "2027-01-01", 5)
    jobs.run(raise_errors=True)
    return job.result


def test_a_mock_from_before_run_jobs_is_used() -> None:
    with patch("jobs.kitshop.send", return_value="mocked") as send, run_jobs() as jobs:
        assert charged(jobs) == "mocked"
    send.assert_called_once_with("5 on 2027-01-01")


def test_a_mock_from_before_the_first_enqueue_is_used(jobs: Jobs) -> None:
    with patch("jobs.kitshop.send", return_value="mocked"):
        assert charged(jobs) == "mocked"


def test_a_mock_between_two_runs_is_used_until_it_is_taken_away(jobs: Jobs) -> None:
    assert charged(jobs) == "sent 5 on 2027-01-01"
    with patch("jobs.kitshop.send", return_value="mocked"):
        assert charged(jobs) == "mocked"
    assert charged(jobs) == "sent 5 on 2027-01-01"


def test_a_mock_of_a_private_function_is_used(jobs: Jobs) -> None:
    with patch("jobs.kitshop._total", return_value=7):
        job = jobs.enqueue("kitshop.total", [1, 2])
        jobs.run()
    assert job.result == 7


def test_the_module_of_the_test_is_the_module_of_the_job(shop: ModuleType) -> None:
    with run_jobs() as jobs:
        charged(jobs)
    assert shop.charged == [5]
    assert sys.modules["jobs.kitshop"] is shop


def test_nothing_is_imported_anew() -> None:
    from jobs import demo, email

    with run_jobs() as jobs:
        jobs.enqueue("demo.add", 1, 2)
        jobs.run()
        jobs.enqueue("kitshop.total", [1])
        jobs.run()
    assert (sys.modules["jobs.demo"], sys.modules["jobs.email"]) == (demo, email)


def test_a_module_that_comes_later_is_found(jobs: Jobs, write_module: Callable[[str, str], None]) -> None:
    with pytest.raises(Refused, match=r"No function 'kitlate\.add'"):
        jobs.enqueue("kitlate.add", 1)
    write_module("kitlate", "def add(a: int) -> int:\n    return a + 1\n")
    job = jobs.enqueue("kitlate.add", 1)
    jobs.run()
    assert job.result == 2


def test_a_mock_in_place_of_a_job_keeps_its_arguments_and_options(jobs: Jobs) -> None:
    charged(jobs)
    with patch("jobs.kitshop.charge", return_value="mocked") as charge:
        with pytest.raises(Refused, match="#/args/1"):
            jobs.enqueue("kitshop.charge", "2027-01-01", "much")
        job = jobs.enqueue("kitshop.charge", "2027-01-01", amount="5")
        jobs.run()
    charge.assert_called_once_with(date(2027, 1, 1), amount=5)
    assert job.result == "mocked"
    assert (jobs.get(job.id)["queue"], jobs.get(job.id)["tags"]) == ("low", ["money"])
    assert charged(jobs) == "sent 5 on 2027-01-01"


@pytest.mark.parametrize("options", [{}, {"autospec": True}, {"side_effect": lambda *_: "mocked"}])
def test_a_job_may_be_a_mock_of_any_kind_and_after_it_the_function_again(options: dict[str, object]) -> None:
    with run_jobs() as jobs, patch("jobs.kitshop.charge", **options) as charge:
        charge.return_value = "mocked"
        assert charged(jobs) == "mocked"
    charge.assert_called_once_with(ANY, 5)
    with run_jobs() as jobs:
        assert charged(jobs) == "sent 5 on 2027-01-01"


def test_a_plain_function_in_place_of_a_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.enqueue("kitshop.charge", "2027-01-01", 5)
    monkeypatch.setattr("jobs.kitshop.charge", lambda day, amount: f"{amount}!")
    jobs.run(raise_errors=True)
    [job] = jobs.client.get("/api/v1/jobs").get_json()["jobs"]
    assert job["result"] == "5!"


def test_a_mock_of_a_coroutine_is_awaited(jobs: Jobs) -> None:
    with patch("jobs.kitshop.later", return_value="mocked") as later:
        job = jobs.enqueue("kitshop.later")
        jobs.run(raise_errors=True)
    assert isinstance(later, AsyncMock)
    assert job.result == "mocked"


def test_a_mock_raises_what_the_job_raises(jobs: Jobs) -> None:
    with patch("jobs.kitshop.send", side_effect=ConnectionError("away")):
        job = jobs.enqueue("kitshop.charge", "2027-01-01", 5)
        with pytest.raises(ConnectionError, match="away"):
            jobs.run(raise_errors=True)
    assert job.status == "failed"


def test_a_mock_from_before_the_first_look_takes_any_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CATALOG", PatchableCatalog())
    with patch("jobs.kitshop.charge", return_value="mocked") as charge, run_jobs() as jobs:
        job = jobs.enqueue("kitshop.charge", "any", "thing")
        jobs.run(raise_errors=True)
        charge.assert_called_once_with("any", "thing")
        assert job.result == "mocked"
    with run_jobs() as jobs, pytest.raises(Refused, match="#/args/0"):
        jobs.enqueue("kitshop.charge", "any", 5)


def test_what_only_the_service_enqueues_is_refused_as_ever(jobs: Jobs) -> None:
    with pytest.raises(Refused, match=r"webhooks\.deliver"):
        jobs.enqueue("webhooks.deliver", "https://example.com/", {})
