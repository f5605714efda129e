"""What can be called."""

from typing import Any

from pydantic import BaseModel, Field

from app.api.schemas.jobs import Webhook


class FunctionOptions(BaseModel):
    queue: str
    timeout: int | None
    ttl: int | None
    result_ttl: int | None
    failure_ttl: int | None
    max_retries: int
    rate_limit: dict[str, Any] | None
    concurrency: dict[str, Any] | None
    breaker: dict[str, Any] | None
    unique: dict[str, Any] | None
    tags: list[str]
    webhook: Webhook | None
    idempotent: bool


class Function(BaseModel):
    name: str
    module: str
    description: str
    options: FunctionOptions
    arguments: dict[str, Any]
    result: dict[str, Any]


class RejectedFunction(BaseModel):
    """A function that is set aside: it cannot be run until its options or annotations are mended."""

    name: str
    file: str
    line: int
    reason: str


class Functions(BaseModel):
    functions: list[Function]
    broken: dict[str, str] = Field(description="Modules that do not import, and why")
    rejected: list[RejectedFunction] = Field(description="Functions that are set aside, and why")
