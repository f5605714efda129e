"""Schemas that several resources share."""

from typing import Literal

from pydantic import BaseModel, Field


class NamePath(BaseModel):
    name: str


class Health(BaseModel):
    status: Literal["ok", "degraded"]
    redis: Literal["ok"] | None = None
    scheduler: float | None = Field(
        None, description="Seconds since the leading scheduler was last active; null: there was none yet"
    )
    warnings: list[str] | None = Field(None, description="Queues named in QUEUES that no worker serves")
    broken: dict[str, str] | None = Field(None, description="Modules that cannot be imported, and why")
    rejected_functions: dict[str, str] | None = Field(None, description="Functions that are set aside: where, and why")
    rejected_schedules: dict[str, str] | None = Field(None, description="Schedules that are set aside, and why")


class Key(BaseModel):
    name: str | None = Field(description="Null without configured keys")
    scopes: list[Literal["read", "metrics", "enqueue", "admin"]]


class Unreadable(BaseModel):
    """An entry that cannot be read: another program has written it, or a later version of Jobline."""

    reason: str


class UnreadableId(Unreadable):
    id: str


class UnreadableName(Unreadable):
    name: str


UNREADABLE = "Entries that cannot be read, and why; left out if there are none"


class ProblemItem(BaseModel):
    detail: str
    pointer: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemItem] | None = None
