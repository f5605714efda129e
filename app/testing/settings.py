"""The settings of a test: defaults, and what the test says; never the environment, `.env` or files of secrets."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings import Settings

WEBHOOK_SECRET = "whsec_dGhlIHRlc3Qga2l0IG9mIEpvYmxpbmUh"  # noqa: S105 - of tests alone
"""What signs webhooks in a test that sets no other."""
NO_REDIS = "no-Redis-here-use-that-of-run_jobs"
"""A socket that does not exist: a job that connects by its settings must not find the Redis of this machine."""


class IsolatedSettings(Settings):
    """Settings from what they are made with, and from nothing else; an unknown name is an error."""

    model_config = SettingsConfigDict(extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, object]) -> dict[str, object]:
        return values


def make_settings(folder: Path, given: Mapping[str, Any], allow_hosts: Iterable[str]) -> Settings:
    """The settings of a test whose data is in `folder`. Names may be upper case; an empty value means the default.

    Raises:
        pydantic.ValidationError: naming every bad value, and every name that is no setting.
    """
    values: dict[str, Any] = {
        "data_dir": folder,
        "redis_url": f"unix://{quote(str(folder / NO_REDIS))}",
        "webhook_secret": WEBHOOK_SECRET,
        "fetch_allow_hosts": "",
    }
    values |= {name.lower(): value for name, value in given.items() if value not in ("", None)}
    values["fetch_allow_hosts"] = ",".join([*allow_hosts, values["fetch_allow_hosts"]])
    return IsolatedSettings(**values)
