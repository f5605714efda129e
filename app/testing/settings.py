"""The settings of a test: defaults, and what the test says; never the environment, `.env` or files of secrets."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings import Settings

WEBHOOK_SECRET = "whsec_dGhlIHRlc3Qga2l0IG9mIEpvYmxpbmUh"  # noqa: S105 - of tests alone
"""What signs webhooks in a test that sets no other."""


class KitSettings(Settings):
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


def settings_of(folder: Path, given: Mapping[str, Any], allow_hosts: Iterable[str]) -> Settings:
    """The settings of a test whose data is in `folder`. Names may be upper case; an empty value means the default.

    Raises:
        pydantic.ValidationError: naming every bad value, and every name that is no setting.
    """
    said = {"data_dir": folder, "webhook_secret": WEBHOOK_SECRET, **{name.lower(): v for name, v in given.items()}}
    private = [*allow_hosts, *str(said.get("fetch_allow_hosts") or "").split(",")]
    said["fetch_allow_hosts"] = ",".join(filter(None, private))
    return KitSettings(**{name: value for name, value in said.items() if value not in ("", None)})
