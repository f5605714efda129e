"""The test kit as an author has it: a project with jobs/ and tests of its own, and a real pytest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SHOP = """
from app import Retry, get_settings, job, outbound
from jobs.email import send_message


def _charge(card: str, amount: int) -> str:
    raise AssertionError("a test must not charge a card")


@job(retry=Retry(max=2, intervals=(60, 600), on=(ConnectionError,)))
def order(number: int, to: str) -> str:
    receipt = _charge("card", number * 10)
    send_message(to, f"Order {number}", receipt)
    return receipt


def ttl() -> int:
    return get_settings().result_ttl
"""
TESTS = """
from datetime import UTC, datetime
from unittest.mock import patch

import pytest

from app.testing import NotAllowed
from jobs import shop

URL = "https://example.com/hook"


@pytest.fixture(autouse=True)
def charge():
    with patch("jobs.shop._charge", return_value="receipt 1") as charge:
        yield charge


def test_an_order(jobs, charge):
    job = jobs.enqueue_with({"webhook": {"url": URL}}, "shop.order", 7, "zoe@example.com")
    jobs.run(raise_errors=True)
    assert job.result == "receipt 1"
    charge.assert_called_once_with("card", 70)
    [mail] = jobs.mails
    assert (mail.to, mail.subject, mail.text.strip()) == (["zoe@example.com"], "Order 7", "receipt 1")
    [delivery] = jobs.webhooks
    assert delivery.verify()["data"]["result"] == "receipt 1"


def test_an_order_is_tried_again(jobs, charge):
    charge.side_effect = [ConnectionError("away"), "receipt 2"]
    job = jobs.enqueue("shop.order", 7, "zoe@example.com")
    jobs.run()
    assert (job.status, jobs.mails) == ("scheduled", [])
    jobs.advance(minutes=1)
    assert (job.result, len(jobs.mails)) == ("receipt 2", 1)


def test_the_function_alone(jobs):
    assert shop.order(1, "zoe@example.com") == "receipt 1"
    assert len(jobs.mails) == 1


def test_settings_are_not_those_outside(jobs):
    job = jobs.enqueue("shop.ttl")
    jobs.run()
    assert job.result == 86_400


@pytest.mark.run_jobs(at=datetime(2027, 1, 1, tzinfo=UTC), settings={"RESULT_TTL": 60})
def test_marked(jobs):
    job = jobs.enqueue("shop.ttl")
    jobs.run()
    assert job.result == 60
    assert datetime.now(UTC).year == 2027


@pytest.mark.run_jobs(settings={"RESULT_TTL": "long"})
def test_bad_setting(jobs):
    pass


def test_fetch(jobs):
    jobs.enqueue("web.fetch", "https://example.com/")
    jobs.run(raise_errors=True)
"""


@pytest.fixture
def environment() -> dict[str, str]:
    """Without the options that this run of pytest was given."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "app").symlink_to(ROOT / "app")
    (folder / "jobs" / "shop.py").write_text(SHOP)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_shop.py").write_text(TESTS)
    (folder / "conftest.py").write_text('pytest_plugins = ["app.testing.fixtures"]\n')
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\npythonpath = .\n")
    (folder / ".env").write_text("SMTP_URL=smtp://127.0.0.1:1\nRESULT_TTL=7\nWEBHOOK_URL=http://127.0.0.1:1/\n")
    return folder


@pytest.mark.parametrize("order", [(), ("tests/test_shop.py::test_the_function_alone", "tests/test_shop.py")])
def test_an_author_s_tests_run_with_the_fixture(
    project: Path, environment: dict[str, str], order: tuple[str, ...]
) -> None:
    env = {**environment, "REDIS_URL": "redis://127.0.0.1:1/0", "TMPDIR": str(project.parent)}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", *order]
    found = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert "5 passed, 1 error" in found.stdout.replace("1 failed, ", ""), found.stdout + found.stderr
    lines = [line for line in found.stdout.splitlines() if line.startswith(("FAILED", "ERROR tests"))]
    assert [line.split(" ")[1] for line in lines] == [
        "tests/test_shop.py::test_fetch",
        "tests/test_shop.py::test_bad_setting",
    ]
    assert "run_jobs(allow_hosts=['example.com'])" in found.stdout
    assert "result_ttl" in found.stdout
    assert list(project.parent.glob("jobline-*")) == [], "temporary folders"


def test_the_marker_is_described(project: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "--markers"]
    said = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "@pytest.mark.run_jobs(at, schedules, settings, allow_hosts, context)" in said
