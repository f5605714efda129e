"""Every setting of Jobline, in one place: from the environment, `.env`, or a file named by `<NAME>_FILE`.

Read once, at each process's entry point, by `get_settings()`. All bad values are reported
together; secrets never show in a repr.
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
    """Where Redis or Valkey is; unset: the embedded server that runs on DATA_DIR."""
    redis_timeout: float = Field(default=2.0, ge=0.1, le=60)
    """How long the API waits for an answer of Redis; workers and the scheduler have their own patience."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    allowed_hosts: str = ""
    """Comma-separated host names by which clients may reach the API, beside loopback names and HOST; `*`: any."""
    trusted_proxies: str = ""
    """Comma-separated addresses and networks of reverse proxies whose X-Forwarded-For and -Proto are believed."""
    data_dir: Path = Path(".data")
    workers: NonNegativeInt = 1
    queues: str = "high,default,low,webhooks"
    """Comma-separated, in order of priority: what `rq worker` takes when it is named no queue."""
    queue_limit: PositiveInt = 100
    """How many queues there may be: a request is refused that would make another, unless QUEUES names it."""

    api_keys: SecretStr = SecretStr("")
    """`name:scope+scope:sha256` entries, separated by commas or new lines; `python -m app keys new` makes one."""

    storage_dir: Path | None = None
    """The one folder that jobs read and write files in; default DATA_DIR/storage."""
    storage_limit: PositiveInt = 10 * 1024**3
    """Bytes of all files in storage together; a job that would exceed it fails."""
    database_url: SecretStr | None = None
    """A SQLAlchemy URL; default: SQLite in DATA_DIR."""
    smtp_url: SecretStr | None = None
    """smtp://user:password@host:587 (STARTTLS) or smtps://...:465; unset: mail is logged, not sent."""
    mail_from: str = "jobline@localhost"
    fetch_allow_hosts: str = ""
    """Comma-separated host names that `web.fetch` may reach although their address is private."""

    webhook_url: str | None = None
    """Where the ends of all jobs and workflows are told, unless one of them or its function says otherwise."""
    webhook_secret: SecretStr = SecretStr("")
    """`whsec_...`; of several, separated by spaces or commas, each signs."""
    webhook_allow_hosts: str = ""
    """Comma-separated host names that webhooks may reach although their address is private."""

    result_ttl: int = Field(default=DAY, ge=-1)
    failure_ttl: int = Field(default=30 * DAY, ge=-1)
    job_timeout: PositiveInt = 180
    shutdown_grace: PositiveInt = 30
    timeout_grace: PositiveInt = 5
    """How long a job may go on after its timeout was raised in it, before it is killed."""
    result_limit: PositiveInt = 1024 * 1024
    horse_jobs: PositiveInt = 100_000
    """A work horse is replaced by a fresh one after so many jobs, or when its memory has grown by `horse_growth`."""
    horse_growth: PositiveInt = 256 * 1024 * 1024
    body_limit: PositiveInt = 1024 * 1024
    bulk_body_limit: PositiveInt = 16 * 1024 * 1024
    arguments_limit: PositiveInt = 64 * 1024
    request_limit: str = ""
    """How many requests a caller may make, such as 600/m; empty: as many as they like."""
    api_processes: PositiveInt = 1
    """They share one port."""
    event_streams: PositiveInt = 1000
    """So many event streams may be open at once on one API process."""
    reload: bool = False
    """Look for changed files in jobs/ before each use; `make run` sets it."""

    audit: Literal["all", "changes", "off"] = "changes"
    """What is written down: every request that changes something; all of them but enqueues of one job; nothing."""
    audit_limit: PositiveInt = 10_000
    """How many entries are kept, about."""

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
    def _check_rate(cls, said: str) -> str:
        if said:
            parse_rate(said)
        return said

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
        return url and urls.check_webhook_url(url)

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secrets: SecretStr) -> SecretStr:
        signing.parse(secrets.get_secret_value())
        return secrets

    @model_validator(mode="after")
    def _refuse_to_send_unsigned(self) -> "Settings":
        if self.webhook_url and not self.webhook_secret.get_secret_value().strip():
            raise ValueError("WEBHOOK_URL is set and there is no WEBHOOK_SECRET: nobody could tell who has sent it")
        return self

    @model_validator(mode="after")
    def _refuse_to_be_open_to_the_network(self) -> "Settings":
        if self.host not in LOOPBACK and not self.api_keys.get_secret_value().strip():
            raise ValueError(f"HOST={self.host} is not loopback and there are no API_KEYS: set keys, or bind 127.0.0.1")
        return self

    @property
    def url(self) -> str:
        """Where the API answers on this machine."""
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
    """This process's settings.

    Raises:
        pydantic.ValidationError: naming every bad value.
    """
    return _override or Settings()


@contextmanager
def override_settings(settings: Settings) -> Iterator[None]:
    """Have `get_settings` return these, in all threads, whatever the environment says. For tests."""
    global _override
    outer, _override = _override, settings
    get_settings.cache_clear()
    try:
        yield
    finally:
        _override = outer
        get_settings.cache_clear()
