"""The test kit's settings, folders and schedules: nothing of the environment, and nothing left behind."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.access import api_keys
from app.redis.client import url
from app.rq_adapter.rq_parts import catalog
from app.schedules import cron, every
from app.settings import get_settings
from app.testing import Jobs, Refused, run_jobs
from app.testing.functions import PatchableCatalog

OUTSIDE = {
    "REDIS_URL": "redis://outside:1/0",
    "SMTP_URL": "smtp://outside:1",
    "DATABASE_URL": "postgresql://outside/db",
    "WEBHOOK_URL": "https://outside.example.com/hook",
    "WEBHOOK_SECRET": "whsec_" + "b3V0" * 8,
    "WEBHOOK_ALLOW_HOSTS": "outside",
    "FETCH_ALLOW_HOSTS": "outside",
    "API_KEYS": "outside:admin:" + "0" * 64,
    "DATA_DIR": "/outside/data",
    "STORAGE_DIR": "/outside/storage",
    "RESULT_TTL": "7",
    "QUEUES": "outside",
    "RELOAD": "true",
}
SECRETS = ("REDIS_URL", "SMTP_URL", "DATABASE_URL", "WEBHOOK_SECRET", "API_KEYS")
SOURCE = """
import threading

from app import get_settings, storage
from app.redis.client import connect


def ttl() -> int:
    return get_settings().result_ttl


def ttl_of_a_thread() -> int:
    found = []
    thread = threading.Thread(target=lambda: found.append(get_settings().result_ttl))
    thread.start()
    thread.join()
    return found[0]


def ping() -> bool:
    return connect(get_settings()).ping()


def write(name: str) -> str:
    path = storage.create(name)
    path.write_text("here")
    return str(path)
"""


@pytest.fixture(autouse=True)
def _author(write_module: Callable[[str, str], None]) -> None:
    write_module("kitsettings", SOURCE)


def result(jobs: Jobs, function: str, *args: Any) -> Any:
    job = jobs.enqueue(function, *args)
    jobs.run(raise_errors=True)
    return job.result


def from_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OUTSIDE.items():
        monkeypatch.setenv(name, value)


def from_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_DIR")
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in OUTSIDE.items()))
    monkeypatch.chdir(folder)


def from_files_of_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        (folder / name).write_text(OUTSIDE[name])
        monkeypatch.setenv(f"{name}_FILE", str(folder / name))


@pytest.mark.parametrize("source", [from_the_environment, from_a_file, from_files_of_secrets])
def test_nothing_comes_from_outside(
    source: Callable[[Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_jobs() as jobs:
        plain = jobs.settings.model_dump(exclude={"data_dir", "redis_url"})
    source(tmp_path, monkeypatch)
    get_settings.cache_clear()
    assert get_settings().redis_url, "outside of the test kit it counts"
    with run_jobs() as jobs:
        assert get_settings() is jobs.settings
        assert jobs.settings.model_dump(exclude={"data_dir", "redis_url"}) == plain
        assert jobs.settings.data_dir.is_dir()
        assert "outside" not in url(jobs.settings)
        assert result(jobs, "demo.add", 1, 2) == 3
        jobs.advance(minutes=1)
        assert jobs.webhooks == []


@pytest.mark.parametrize("name", ["RESULT_TTL", "result_ttl"])
def test_a_test_may_say_otherwise_and_jobs_see_it(name: str) -> None:
    with run_jobs(settings={name: 3600}) as jobs:
        assert jobs.settings.result_ttl == get_settings().result_ttl == 3600
        assert [result(jobs, f"kitsettings.{function}") for function in ("ttl", "ttl_of_a_thread")] == [3600, 3600]
        job = jobs.enqueue("demo.add", 1, 2)
        jobs.run()
        jobs.advance(minutes=59)
        assert job.status == "finished"
        jobs.advance(minutes=2)
        with pytest.raises(KeyError, match=job.id):
            jobs.get(job.id)


def test_bad_settings_are_all_named() -> None:
    with pytest.raises(ValidationError) as caught, run_jobs(settings={"RESULT_TTL": "long", "RESULT_TLT": 5}):
        pass
    assert {error["loc"] for error in caught.value.errors()} == {("result_ttl",), ("result_tlt",)}


def test_with_keys_the_api_asks_for_one_and_the_test_s_own_calls_have_one() -> None:
    key, entry = api_keys.new("me", ["read"])
    with run_jobs(settings={"API_KEYS": str(entry)}) as jobs:
        assert result(jobs, "demo.add", 1, 2) == 3
        assert jobs.client.get("/api/v1/jobs").status_code == 401
        assert jobs.client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_the_settings_of_the_process_are_there_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULT_TTL", "7")
    get_settings.cache_clear()
    before = get_settings()
    for _ in range(2):
        with run_jobs():
            assert get_settings().result_ttl != 7
            assert isinstance(catalog(), PatchableCatalog)
        assert get_settings() == before
        assert not isinstance(catalog(), PatchableCatalog)
    with pytest.raises(ZeroDivisionError), run_jobs():
        raise ZeroDivisionError
    assert get_settings() == before


def test_one_in_another_gives_way_to_the_outer_one() -> None:
    with run_jobs(settings={"RESULT_TTL": 100}) as outer:
        outer_job = outer.enqueue("kitsettings.ttl")
        with run_jobs(settings={"RESULT_TTL": 200}) as inner:
            assert result(inner, "kitsettings.ttl") == 200
            assert inner.settings.data_dir != outer.settings.data_dir
        assert get_settings() is outer.settings
        outer.run()
        assert outer_job.result == 100


def test_another_thread_has_the_settings_of_the_test() -> None:
    found: list[Any] = []
    with run_jobs() as jobs:
        thread = threading.Thread(target=lambda: found.append(get_settings()))
        thread.start()
        thread.join(10)
        assert found == [jobs.settings]


def test_files_lie_in_a_folder_of_the_test_that_is_removed() -> None:
    with run_jobs() as jobs:
        assert jobs.storage.is_dir()
        assert list(jobs.storage.iterdir()) == []
        path = Path(result(jobs, "kitsettings.write", "reports/here.txt"))
        assert path == jobs.storage / "reports" / "here.txt"
        assert path.is_relative_to(jobs.settings.data_dir)
        folder = jobs.settings.data_dir
    assert not folder.exists()


def test_the_folder_is_removed_after_a_failure_too() -> None:
    with pytest.raises(ZeroDivisionError), run_jobs() as jobs:
        raise ZeroDivisionError
    assert not jobs.settings.data_dir.exists()


def test_a_folder_that_the_test_names_is_kept(tmp_path: Path) -> None:
    with run_jobs(settings={"STORAGE_DIR": tmp_path / "kept"}) as jobs:
        result(jobs, "kitsettings.write", "here.txt")
    assert (tmp_path / "kept" / "here.txt").read_text() == "here"


def test_the_database_is_sqlite_in_that_folder(jobs: Jobs) -> None:
    (jobs.storage / "sales.csv").write_text("product,price\napple,1\npear,2\n")
    assert result(jobs, "imports.load_csv", "sales.csv", "sales")["inserted"] == 2
    assert result(jobs, "exports.dump_csv", "sales", "out.csv", ["product"])["rows"] == 2
    assert (jobs.settings.data_dir / "jobline.db").stat().st_size > 0


def test_a_job_that_connects_by_its_settings_reaches_no_redis(jobs: Jobs, valkey_url: str) -> None:
    job = jobs.enqueue("kitsettings.ping")
    jobs.run()
    assert job.error
    assert job.error["type"].endswith("ConnectionError")
    assert "no-Redis-here-use-that-of-run_jobs" in job.error["message"]


def test_a_redis_that_the_test_names_is_reached(valkey_url: str) -> None:
    with run_jobs(settings={"REDIS_URL": valkey_url}) as jobs:
        assert result(jobs, "kitsettings.ping") is True


def test_jobs_see_the_variables_of_the_environment_that_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "mine")
    before = dict(os.environ)
    with run_jobs():
        assert os.environ["SHOP_TOKEN"] == "mine"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (cron("99 * * * *", "demo.add", name="nightly", args=[1, 2]), "schedule nightly: "),
        (every("demo.nothing", minutes=5), "schedule demo.nothing: No function 'demo.nothing'"),
        (every("demo.add", minutes=5, args=[1]), "schedule demo.add: "),
        ("every day", "schedule entry 2: an entry is made by cron, every or once"),
    ],
    ids=["rule", "function", "arguments", "shape"],
)
def test_a_schedule_that_cannot_run_is_an_error(bad: Any, said: str) -> None:
    good = every("demo.add", minutes=5, name="good", args=[1, 2])
    with pytest.raises(Refused) as caught, run_jobs(schedules=[good, bad]):
        pass
    assert said in str(caught.value)
    assert "good" not in str(caught.value)
