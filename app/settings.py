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
    """URL of Redis or Valkey; unset: the embedded server that runs on DATA_DIR."""
    redis_timeout: float = Field(default=2.0, ge=0.1, le=60)
    """How long the API waits for a response of Redis. Workers and the scheduler have timeouts of their own."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    allowed_hosts: str = ""
    """Comma-separated host names that requests may use, in addition to loopback names and HOST; `*`: any."""
    trusted_proxies: str = ""
    """Comma-separated addresses and networks of reverse proxies whose X-Forwarded-For and -Proto are trusted."""
    data_dir: Path = Path(".data")
    workers: NonNegativeInt = 1
    queues: str = "high,default,low,webhooks"
    """Comma-separated, in order of priority: the queues of an `rq worker` that is started without queue names."""
    queue_limit: PositiveInt = 100
    """Maximum number of queues. A request that would create another is refused, unless QUEUES names it."""

    api_keys: SecretStr = SecretStr("")
    """`name:scope+scope:sha256` entries, separated by commas or new lines; `python -m app keys new` creates one."""

    storage_dir: Path | None = None
    """The folder where jobs read and write files; default DATA_DIR/storage."""
    storage_limit: PositiveInt = 10 * 1024**3
    """Maximum total size of the files in storage. A job that would exceed it fails."""
    database_url: SecretStr | None = None
    """A SQLAlchemy URL; default: SQLite in DATA_DIR."""
    smtp_url: SecretStr | None = None
    """smtp://user:password@host:587 (STARTTLS) or smtps://...:465; unset: mail is logged, not sent."""
    mail_from: str = "jobline@localhost"
    fetch_allow_hosts: str = ""
    """Comma-separated host names that `web.fetch` may reach although their address is private."""

    webhook_url: str | None = None
    """Default URL for webhooks about the end of jobs and workflows. A job, workflow or function may set its own."""
    webhook_secret: SecretStr = SecretStr("")
    """`whsec_...`, or several separated by spaces or commas, each of which signs."""
    webhook_allow_hosts: str = ""
    """Comma-separated host names that webhooks may reach although their address is private."""

    result_ttl: int = Field(default=DAY, ge=-1)
    failure_ttl: int = Field(default=30 * DAY, ge=-1)
    job_timeout: PositiveInt = 180
    shutdown_grace: PositiveInt = 30
    timeout_grace: PositiveInt = 5
    """How long a job may continue after its timeout exception was raised, before it is killed."""
    result_limit: PositiveInt = 1024 * 1024
    horse_jobs: PositiveInt = 100_000
    """A work horse is replaced after this number of jobs, or when its memory has grown by `horse_growth`."""
    horse_growth: PositiveInt = 256 * 1024 * 1024
    body_limit: PositiveInt = 1024 * 1024
    bulk_body_limit: PositiveInt = 16 * 1024 * 1024
    arguments_limit: PositiveInt = 64 * 1024
    request_limit: str = ""
    """Maximum rate of requests per caller, such as 600/m; empty: unlimited."""
    api_processes: PositiveInt = 1
    """Number of API processes. They share one port."""
    event_streams: PositiveInt = 1000
    """Maximum number of open event streams per API process."""
    reload: bool = False
    """Check for changed files in jobs/ before each use. `make run` sets it."""

    audit: Literal["all", "changes", "off"] = "changes"
    """Which requests are recorded: all that change something; those except enqueues of single jobs; none."""
    audit_limit: PositiveInt = 10_000
    """Approximate number of entries kept."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("redis_url", "api_keys", "database_url", "smtp_url", "webhook_secret"):
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

    @field_validator("webhook_url")
    @classmethod
    def _check_webhook_url(cls, url: str | None) -> str | None:
        return url and urls.webhook(url)

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
