"""A model of jobs without Redis: the state of each, which events change, and what its rules let it be."""

from dataclasses import dataclass, field

from tests.properties.transitions import NONE, Transition, drawn

OPEN = ("queued", "claimed", "scheduled", "deferred", "started")
"""`claimed`: taken by a worker and not begun, which the hash and the events call queued."""
DEAD = ("failed", "stopped", "canceled")


@dataclass
class Job:
    id: str
    queue: str
    status: str = NONE
    parents: list[str] = field(default_factory=list)
    workflow: str | None = None
    lock: str | None = None

    @property
    def stored_status(self) -> str:
        return "queued" if self.status == "claimed" else self.status


@dataclass
class Execution:
    """One that a worker holds."""

    job: str
    queue: str
    limits: bytes | None
    begun: bool = False


@dataclass
class Model:
    jobs: dict[str, Job] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    """The job that got each unique lock last."""
    deleted: set[str] = field(default_factory=set)
    moved: Job | None = None
    """A job that the present step may tell of although its state stays the same."""

    def told(self, job_id: str, status: str) -> Transition | str:
        """Apply an event: the transition, or what is wrong with it."""
        job = self.jobs.get(job_id)
        if job is None:
            return f"{status} is told of {job_id}, which is not there"
        before, after = job.status, NONE if status == "deleted" else status
        transition = (before, after)
        if transition not in drawn():
            return f"{job_id} is told to go from {before} to {after}"
        if before == after and self.moved is not job:
            return f"{job_id} is told to be {after}, and is so already"
        job.status = after
        if after == NONE:
            del self.jobs[job_id]
            self.deleted.add(job_id)
        return transition

    def ids(self, *statuses: str) -> list[str]:
        return sorted(job.id for job in self.jobs.values() if not statuses or job.status in statuses)

    def holder(self, lock: str, during: str) -> Job | None:
        """The job that keeps others out of a lock."""
        job = self.jobs.get(self.locks.get(lock, ""))
        if job and (job.status in OPEN[:4] or (job.status == "started" and during == "queued_or_running")):
            return job
        return None

    def may_wait_for(self, job_id: str) -> bool:
        return job_id in self.jobs and self.jobs[job_id].status not in DEAD
