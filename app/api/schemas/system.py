"""What all resources share."""

from typing import Literal

from pydantic import BaseModel, Field


class NamePath(BaseModel):
    name: str


class Health(BaseModel):
    status: Literal["ok", "degraded"]
    redis: Literal["ok"] | None = None
    scheduler: float | None = Field(
        None, description="Seconds since the scheduler that leads has moved; null: none does yet"
    )
    warnings: list[str] | None = Field(None, description="Queues of QUEUES that no worker serves")
    broken: dict[str, str] | None = Field(None, description="Modules that do not import, and why")
    rejected_functions: dict[str, str] | None = Field(None, description="Functions that are set aside: where, and why")
    rejected_schedules: dict[str, str] | None = Field(None, description="Schedules that are set aside, and why")


class Unreadable(BaseModel):
    """An entry that cannot be read: something else than Jobline has written it, or a version of Jobline to come."""

    reason: str


class UnreadableId(Unreadable):
    id: str


class UnreadableName(Unreadable):
    name: str


UNREADABLE = "Entries that cannot be read, and why; left out if there is none"


class ProblemItem(BaseModel):
    detail: str
    pointer: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemItem] | None = None
