"""wrk as the load generator: so many connections, each of which sends its next request when the last is answered.

Every request that was sent has been answered when it returns, or counts as failed.
"""

import json
import resource
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import Unavailable

SCRIPT = Path(__file__).with_name("load.lua")
DRAIN = 1  # seconds after the last request in which answers are awaited; servers close idle connections after two


@dataclass(frozen=True)
class Load:
    """What came of it. `failed`: answers of 400 and above, and broken connections; `cpu` is wrk's own, in seconds."""

    accepted: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu: float

    @property
    def per_second(self) -> float:
        """Accepted requests."""
        return self.accepted / self.seconds


def post(url: str, body: bytes, key: str, connections: int, seconds: int, folder: Path) -> Load:
    """Raises Unavailable: there is no wrk."""
    program = shutil.which("wrk")
    if not program:
        raise Unavailable("wrk is not installed")
    file = folder / "body.json"
    file.write_bytes(body)
    lasting = seconds + DRAIN
    options = ["-t1", f"-c{connections}", f"-d{lasting}s", f"--timeout={lasting}s", f"-s{SCRIPT}"]
    before = _cpu()
    done = subprocess.run(
        [program, *options, url, "--", str(seconds), str(file), key, secrets.token_hex(8)],
        capture_output=True,
        text=True,
        timeout=lasting + 30,
        check=False,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    if line is None:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}"[:500])
    found = json.loads(line)
    return Load(
        accepted=found["answered"] - found["refused"],
        failed=found["refused"] + found["broken"],
        seconds=found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        max_ms=found["max_ms"],
        cpu=_cpu() - before,
    )


def _cpu() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
