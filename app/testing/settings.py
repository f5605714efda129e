"""The settings of a test: defaults and explicit values, never the environment, `.env` or secret files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings import Settings

WEBHOOK_SECRET = "whsec_dGhlIHRlc3Qga2l0IG9mIEpvYmxpbmUh"  # noqa: S105 - for tests only
"""The default WEBHOOK_SECRET of tests."""
NO_REDIS = "no-Redis-here-use-that-of-run_jobs"
"""A socket that does not exist: a job that connects by its settings must not reach a Redis of this machine."""


class IsolatedSettings(Settings):
    """Settings from the constructor's arguments only. An unknown name is an error."""

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
    """Make the settings of a test with its data in `folder`. Names may be upper case. An empty value means the default.

    Raises:
        pydantic.ValidationError: names every invalid value and unknown name.
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
