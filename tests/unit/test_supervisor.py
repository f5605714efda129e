"""What the person at the terminal is told when everything has started, and what a killed run left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.processes import greeting, supervisor
from app.settings import Settings

URL = "redis://:hunter2@127.0.0.1:6400/0"


def greeting_text(settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True)
        greeting.greet(settings, URL)
    return capsys.readouterr().out


def test_the_address_of_valkey_is_shown_with_a_command_in_place_of_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = greeting_text(Settings(data_dir=Path("my data")), capsys, monkeypatch)
    assert "redis://127.0.0.1:6400/0\n" in text
    assert """RQ_REDIS_URL="$(cat 'my data/redis.url')" .venv/bin/rq info""" in text
    assert "hunter2" not in text


def test_a_newcomer_reads_where_everything_is_and_how_to_stop_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = greeting_text(Settings(port=8123), capsys, monkeypatch)
    for path in ("/", "/docs", "/dashboard/", "/api/v1/functions/demo.add/jobs"):
        assert f" http://127.0.0.1:8123{path}" in text
    assert "Ctrl-C" in text
    assert "no API keys" in text
    assert len(text.splitlines()) < 16


def test_of_a_server_that_is_not_ours_only_the_address_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = greeting_text(Settings(redis_url=URL), capsys, monkeypatch)  # type: ignore[arg-type]
    assert "redis://127.0.0.1:6400/0\n" in text
    assert "redis.url" not in text
    assert "hunter2" not in text


def test_data_of_another_user_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(supervisor.private_files, "restrict", refuse)
    monkeypatch.setattr(supervisor, "Interrupts", object)
    monkeypatch.setattr(supervisor.log, "configure", lambda _: None)
    before = os.umask(0o022)
    try:
        assert supervisor.run(Settings(data_dir=tmp_path)) == 1
    finally:
        os.umask(before)
    assert capsys.readouterr().err == f"jobline: [Errno 1] Operation not permitted: '{tmp_path}/valkey'\n"


@pytest.mark.parametrize(("born", "ends"), [(0.0, True), (-60.0, False)])
def test_what_a_killed_run_left_is_ended_and_another_process_with_its_pid_is_not(
    tmp_path: Path, born: float, ends: bool
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        try:
            entry = {"pid": process.pid, "born": psutil.Process(process.pid).create_time() + born}
            gone = {"pid": 2**22 + 1, "born": 0.0}
            (tmp_path / "processes.json").write_text(json.dumps([entry, gone]))
            supervisor._stop_leftovers(tmp_path)
            assert (process.poll() is not None) == ends
        finally:
            process.kill()


@pytest.mark.parametrize("text", [None, "", "no JSON"])
def test_nothing_is_ended_where_nothing_is_known(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "processes.json").write_text(text)
    supervisor._stop_leftovers(tmp_path)
