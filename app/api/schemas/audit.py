"""Entries of the audit log."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.system import UNREADABLE, UnreadableId
from app.catalog.fields import Instant, Strict


class AuditQuery(Strict):
    actor: str | None = Field(None, description='Name of an API key, or "open"')
    action: str | None = Field(None, description='Such as "jobs.requeue"')
    since: Instant | None = None
    cursor: str | None = None
    limit: int = Field(100, ge=1, le=500)


class AuditEntry(BaseModel):
    id: str
    at: str
    actor: str
    action: str
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    route: str
    target: str = Field(description="Id or name in the path, or of the created resource")
    status: int
    address: str
    details: dict[str, Any] = Field(description="Counts, and the filter of a bulk request")


class Audit(BaseModel):
    entries: list[AuditEntry]
    next_cursor: str | None
    unreadable: list[UnreadableId] = Field(default_factory=list, description=UNREADABLE)
