"""Failures, grouped."""

from pydantic import BaseModel, Field

from app.catalog.fields import Instant, Strict


class FailuresQuery(Strict):
    queue: str | None = None
    function: str | None = None
    since: Instant | None = Field(None, description="Failed at or after")


class Failure(BaseModel):
    function: str | None
    error: str = Field(description="The error's type")
    message: str = Field(description="Of the latest")
    count: int
    first_seen: str | None
    last_seen: str | None
    example: str = Field(description="The id of the latest job")
    queues: list[str]


class Failures(BaseModel):
    failures: list[Failure]
    complete: bool = Field(description="False: there are more failed jobs than were looked at, which were the newest")
