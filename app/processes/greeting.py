"""What `make run` tells the person at the terminal when everything has started."""

import shlex
import sys
from urllib.parse import urlsplit

import structlog

from app.redis import embedded
from app.settings import Settings

logger = structlog.get_logger("jobline")


def greet(settings: Settings, redis_url: str) -> None:
    """Print the URLs, how to look at the queues, how to stop, and a curl to paste; without a terminal log a line."""
    base, named = settings.url, urlsplit(redis_url)
    shown = named._replace(netloc=named.netloc.rpartition("@")[2], query="").geturl()  # without its password
    secured = bool(settings.api_keys.get_secret_value().strip())
    if not sys.stdout.isatty():
        logger.info("ready", url=base, redis=shown, secured=secured)
        return
    key = " -H 'Authorization: Bearer KEY'" if secured else ""
    lines = [
        "",
        "  Jobline is ready." + ("" if secured else " It has no API keys: anyone on this machine can use it."),
        "",
        f"  Start page  {base}/",
        f"  API docs    {base}/docs",
        f"  Dashboard   {base}/dashboard/",
        f"  Redis       {shown}",
    ]
    if settings.redis_url is None:
        file = shlex.quote(str(embedded.url_file(settings.data_dir)))
        lines.append(f"""  Queues      RQ_REDIS_URL="$(cat {file})" .venv/bin/rq info""")
    lines += [
        "  Stop        Ctrl-C; jobs that wait stay for the next start",
        "",
        "  Run a job:",
        f"  curl -s {base}/api/v1/functions/demo.add/jobs{key} -H 'Content-Type: application/json' \\",
        """       -H 'Prefer: wait=10' -d '{"a": 1, "b": 2}'""",
        "",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201
