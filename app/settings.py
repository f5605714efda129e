"""All settings of Jobline, from the environment, `.env`, or for secrets a file named by `<NAME>_FILE`.

Each process reads them once, at its entry point, by `get_settings()`. All invalid values are reported together. Secrets
never appear in a repr.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.access import api_keys, proxies
from app.author.options import parse_rate
from app.webhooks import signing, urls

DAY = 86_400
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseSettings):
    """Durations are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    redis_url: SecretStr | None = None
    """URL of Redis or Valkey, `rediss://` for TLS. Without it the embedded server runs in DATA_DIR."""
    redis_timeout: float = Field(default=2.0, ge=0.1, le=60)
    """Seconds that the API waits for an answer of Redis. No single command may take longer. Workers and the scheduler
    wait as long as it takes."""
    host: str = "127.0.0.1"
    """Address that the API listens on. Any address but loopback needs API_KEYS."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port that the API listens on."""
    allowed_hosts: str = ""
    """Names by which clients reach the API, separated by commas, beside loopback names and HOST. `*` allows any."""
    trusted_proxies: str = ""
    """Addresses and networks of reverse proxies, separated by commas. Their X-Forwarded-For and X-Forwarded-Proto are
    believed."""
    data_dir: Path = Path(".data")
    """Folder of the embedded server, storage and the SQLite database. `make run` closes it to other users."""
    workers: NonNegativeInt = 1
    """How many workers `make run` starts."""
    concurrency: int = Field(default=1, ge=1, le=1000)
    """How many jobs one worker runs at once. 1: one after the other. More: plain functions in threads, `async def`
    functions on one event loop."""
    queues: str = "high,default,low,webhooks"
    """Queues that `rq worker` takes jobs from, in order of priority, separated by commas."""
    queue_limit: PositiveInt = 100
    """How many queues there may be. A request that would make another is refused (409), unless QUEUES names it."""

    api_keys: SecretStr = SecretStr("")
    """Entries `name:scope+scope:sha256`, separated by commas, spaces or new lines. `python -m app keys new` makes
    one."""
    request_limit: str = ""
    """How many requests one caller may make, such as `600/m`. Empty: no limit."""
    audit: Literal["all", "changes", "off"] = "changes"
    """What the audit log has: every request that changes something (`all`), all of them but enqueues of one job
    (`changes`), nothing (`off`)."""
    audit_limit: PositiveInt = 10_000
    """How many entries of the audit log are kept, about."""

    alert_webhook: str | None = None
    """URL that is told when an alert begins and ends: a POST of JSON, signed by Standard Webhooks if there is a
    WEBHOOK_SECRET. Its `text` suits chats."""
    alert_mail: str = ""
    """Addresses that get a mail when an alert begins and ends, separated by commas."""
    alert_wait: PositiveInt = 300
    """Alert if the next job of a queue has waited for so many seconds."""
    alert_lag: PositiveInt = 60
    """Alert if a run of a schedule is late by so many seconds."""
    alert_failures: float = Field(default=0.2, gt=0, le=1)
    """Alert if a larger share of the jobs of a function has failed in the last 10 minutes, of at least 20."""
    alert_memory: float = Field(default=0.8, gt=0, le=1)
    """Alert if Redis uses a larger share of its maxmemory."""
    alert_outbox: PositiveInt = 1000
    """Alert if more ended jobs wait for their webhooks to be enqueued."""
    rq_exporter_metrics: bool = True
    """Whether `/metrics` also has the metrics of rq-exporter, under its names. They have a series for each worker."""

    storage_dir: Path | None = None
    """The one folder in which jobs read and write files. Default: DATA_DIR/storage."""
    storage_limit: PositiveInt = 10 * 1024**3
    """Bytes of all files in storage together. A job that would exceed it fails."""
    database_url: SecretStr | None = None
    """SQLAlchemy URL for the jobs that come with Jobline. Default: SQLite in DATA_DIR."""
    smtp_url: SecretStr | None = None
    """`smtp://user:password@host:587` (STARTTLS) or `smtps://...:465`. Without it mail is logged and not sent."""
    mail_from: str = "jobline@localhost"
    """Sender of mail."""
    fetch_allow_hosts: str = ""
    """Names of private hosts that `web.fetch` may reach, separated by commas."""

    webhook_url: str | None = None
    """URL that is told the ends of all jobs and workflows that name none themselves."""
    webhook_secret: SecretStr = SecretStr("")
    """`whsec_` and 24 to 64 bytes in Base64. Of several, separated by spaces or commas, each signs."""
    webhook_allow_hosts: str = ""
    """Names of private hosts that webhooks may reach, separated by commas."""

    result_ttl: int = Field(default=DAY, ge=-1)
    """Seconds that a finished job is kept; -1: for ever."""
    failure_ttl: int = Field(default=30 * DAY, ge=-1)
    """Seconds that a failed, stopped or canceled job is kept; -1: for ever."""
    job_timeout: PositiveInt = 180
    """Seconds that a job may run, if neither the request nor the function says otherwise."""
    shutdown_grace: PositiveInt = 30
    """Seconds that a running job gets at shutdown, before it goes back to its queue."""
    timeout_grace: PositiveInt = 5
    """Seconds that a job gets after its timeout was raised in it, before it is killed."""
    result_limit: PositiveInt = 1024 * 1024
    """Bytes of a job's result as JSON. A larger one fails the job."""
    job_log: bool = True
    """Whether what a job logs and prints is kept with it: up to 1,000 lines and 256 KiB of each attempt."""
    horse_jobs: PositiveInt = 100_000
    """A work horse is replaced after so many jobs."""
    horse_growth: PositiveInt = 256 * 1024 * 1024
    """A work horse is replaced when its memory has grown by so many bytes."""

    body_limit: PositiveInt = 1024 * 1024
    """Bytes of a request's body."""
    bulk_body_limit: PositiveInt = 16 * 1024 * 1024
    """Bytes of the body of `POST /jobs/bulk` and `POST /workflows`."""
    arguments_limit: PositiveInt = 64 * 1024
    """Bytes of a job's arguments as JSON."""
    api_processes: PositiveInt = 1
    """Processes of the API. They share one port."""
    event_streams: PositiveInt = 1000
    """Event streams that may be open at once on one API process."""
    reload: bool = False
    """Look for changed files in `jobs/` before each use. `make run` sets it."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of log lines that are written."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """Format of log lines. `auto`: `console` on a terminal, else `json`."""

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, object]) -> dict[str, object]:
        for name in SECRETS:
            path = os.environ.get(f"{name.upper()}_FILE")
            if path and name not in values:
                values[name] = Path(path).read_text().strip()
        return values

    @field_validator("request_limit")
    @classmethod
    def _check_rate(cls, limit: str) -> str:
        if limit:
            parse_rate(limit)
        return limit

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted_proxies(cls, networks: str) -> str:
        proxies.parse(networks)
        return networks

    @field_validator("api_keys")
    @classmethod
    def _check_api_keys(cls, entries: SecretStr) -> SecretStr:
        api_keys.parse(entries.get_secret_value())
        return entries

    @field_validator("webhook_url", "alert_webhook")
    @classmethod
    def _check_webhook_url(cls, url: str | None) -> str | None:
        return url and urls.check_webhook_url(url)

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secrets: SecretStr) -> SecretStr:
        signing.parse(secrets.get_secret_value())
        return secrets

    @model_validator(mode="after")
    def _refuse_to_send_unsigned(self) -> "Settings":
        if self.webhook_url and not self.webhook_secret.get_secret_value().strip():
            raise ValueError("WEBHOOK_URL is set and there is no WEBHOOK_SECRET: webhooks would be unsigned")
        return self

    @model_validator(mode="after")
    def _refuse_to_be_open_to_the_network(self) -> "Settings":
        if self.host not in LOOPBACK and not self.api_keys.get_secret_value().strip():
            raise ValueError(f"HOST={self.host} is not loopback and there are no API_KEYS: set keys, or bind 127.0.0.1")
        return self

    @property
    def url(self) -> str:
        """URL of the API on this machine."""
        host = self.host if self.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - only compared
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def queue_names(self) -> list[str]:
        return [name.strip() for name in self.queues.split(",") if name.strip()]

    @property
    def storage_root(self) -> Path:
        return (self.storage_dir or self.data_dir / "storage").resolve()

    @property
    def database(self) -> str:
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'jobline.db').resolve()}"


SECRETS = ("redis_url", "api_keys", "database_url", "smtp_url", "webhook_secret")
"""May come from a file that `<NAME>_FILE` names."""

_override: Settings | None = None


@cache
def get_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        pydantic.ValidationError: names every invalid value.
    """
    return _override or Settings()


@contextmanager
def override_settings(settings: Settings) -> Iterator[None]:
    """Make `get_settings` return these, in all threads, regardless of the environment. For tests."""
    global _override
    outer, _override = _override, settings
    get_settings.cache_clear()
    try:
        yield
    finally:
        _override = outer
        get_settings.cache_clear()
