"""Queues and workers."""

from typing import Literal

from pydantic import BaseModel, Field

from app.api.schemas.system import UNREADABLE, UnreadableName
from app.catalog.fields import QueueName


class Counts(BaseModel):
    queued: int
    started: int
    scheduled: int
    deferred: int
    failed: int
    finished: int
    canceled: int


class Queue(BaseModel):
    name: str
    counts: Counts
    paused: bool
    oldest_enqueued_at: str | None = Field(description="When its next job was queued; null if none is queued")
    warnings: list[str] = Field(
        default_factory=list,
        description="Says if the queue has jobs, but no worker serves it; left out if there are none",
    )


class QueuePath(BaseModel):
    name: QueueName


class Deleted(BaseModel):
    deleted: int


class Queues(BaseModel):
    queues: list[Queue]
    unreadable: list[UnreadableName] = Field(default_factory=list, description=UNREADABLE)


class Worker(BaseModel):
    name: str
    state: Literal["started", "suspended", "busy", "idle", "?"]
    queues: list[str]
    current_job: str | None = Field(description="The oldest of its jobs")
    current_jobs: list[str] = Field(
        description="Its jobs: running ones, and those that it has claimed and is about to run; a stock worker has one"
    )
    hostname: str | None
    pid: int
    birth: str | None
    last_heartbeat: str | None
    successful_job_count: int
    failed_job_count: int
    total_working_time: float
    rss_bytes: int | None = Field(description="Memory of the worker and its work horse; null for a stock worker")
    cpu_seconds: float | None = Field(description="CPU time of the worker and its work horses; null for a stock worker")
    host_cpu_percent: float | None = Field(description="Of all processors of its host, since its last heartbeat")
    host_memory_percent: float | None = Field(description="Memory of its host that is in use")


class Workers(BaseModel):
    workers: list[Worker]
    unreadable: list[UnreadableName] = Field(default_factory=list, description=UNREADABLE)
