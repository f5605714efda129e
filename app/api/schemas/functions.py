"""Functions and their options."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.jobs import Webhook


class Limit(BaseModel):
    """A limit on how many jobs start in a time (`most` is a rate), or run at once (`most` is a number)."""

    most: int | str
    by: Literal["function", "queue"]
    key: str | None


class Breaker(BaseModel):
    failures: int
    window: float
    cool_down: float


class Unique(BaseModel):
    by: list[str] | str | None
    during: Literal["queued", "queued_or_running"]
    lasts: float | None
    on_conflict: Literal["return", "reject", "replace"]


class FunctionOptions(BaseModel):
    queue: str
    timeout: int | None
    ttl: int | None
    result_ttl: int | None
    failure_ttl: int | None
    max_retries: int
    rate_limit: Limit | None
    concurrency: Limit | None
    breaker: Breaker | None
    unique: Unique | None
    tags: list[str]
    webhook: Webhook | None
    idempotent: bool
    alone: bool
    critical: bool


class Function(BaseModel):
    name: str
    module: str
    description: str
    options: FunctionOptions
    arguments: dict[str, Any]
    result: dict[str, Any]


class RejectedFunction(BaseModel):
    """A function that cannot be called, because its options or annotations are invalid."""

    name: str
    file: str
    line: int
    reason: str


class Functions(BaseModel):
    functions: list[Function]
    broken: dict[str, str] = Field(description="Modules that cannot be imported, and why")
    rejected: list[RejectedFunction] = Field(description="Functions that are set aside, and why")
