"""Failed jobs, grouped."""

from pydantic import BaseModel, Field

from app.catalog.fields import Instant, Strict


class FailuresQuery(Strict):
    queue: str | None = None
    function: str | None = None
    since: Instant | None = Field(None, description="Jobs that failed at or after this time")


class Failure(BaseModel):
    function: str | None
    error: str = Field(description="Type of the error")
    message: str = Field(description="Message of the latest error")
    count: int
    first_seen: str | None
    last_seen: str | None
    example: str = Field(description="Id of the latest job")
    queues: list[str]


class Failures(BaseModel):
    failures: list[Failure]
    complete: bool = Field(description="False: only the newest failed jobs were counted")
