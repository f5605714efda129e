"""What holds of Redis after every step: each job is in one place, as its status says, and nothing stays for ever.

Holds for jobs that no stock worker has touched, with whole-second clocks that agree within a second.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime

import redis

from tests.contents import Content, Contents, contents

REGISTRY_OF = {
    "started": "wip", "finished": "finished", "failed": "failed", "stopped": "failed", "canceled": "canceled",
    "deferred": "deferred", "scheduled": "scheduled",
}  # fmt: skip
REGISTRIES = tuple(dict.fromkeys(REGISTRY_OF.values()))
RESULT_TTL = 500
"""Seconds: RQ's, for a job that says none."""
FOR_EVER = (
    "rq:queues", "rq:workers", "jobline:leases", "jobline:outbox", "jobline:events", "jobline:workflows",
    "jobline:audit", "jobline:clock", "jobline:paused", "rq:suspended", "jobline:metrics:",
)  # fmt: skip
"""One key each, or a key for each queue."""

Place = tuple[str, str]


def broken(connection: redis.Redis) -> list[str]:
    """What does not hold, in words; an empty list if all does."""
    return broken_in(contents(connection))


def broken_in(found: Contents) -> list[str]:
    """As `broken`, of what was read before."""
    jobs = {
        key.removeprefix("rq:job:"): Job(key.removeprefix("rq:job:"), content)
        for key, content in found.items()
        if key.startswith("rq:job:") and content.kind == "hash"
    }
    places = _places(found)
    return [
        *(f"{key} is not to be there" for key in ("jobline:result", "jobline:ended") if key in found),
        *(f"{job_id} is in {sorted(where)} and has no hash" for job_id, where in places.items() if job_id not in jobs),
        *(text for job in jobs.values() for text in job.misplaced(places[job.id])),
        *(text for job in jobs.values() for text in job.kept_wrongly(found)),
        *_unknown_queues(found, places),
        *_left_over(found, jobs),
    ]


class Job:
    """A job's hash, and what is to hold of it."""

    def __init__(self, job_id: str, content: Content) -> None:
        self.id, self.expires_at = job_id, content.expires_at
        self.fields = {name.decode(): value.decode(errors="replace") for name, value in content.value.items()}
        self.status, self.queue = self.fields.get("status", ""), self.fields.get("origin", "")

    def misplaced(self, places: Counter[Place]) -> Iterator[str]:
        """It is in one place, once."""
        if self.status == "queued":  # in its queue; or claimed, and not begun
            expected = [Counter([("queue", self.queue)]), Counter([("wip", self.queue)])]
        else:
            expected = [Counter([(REGISTRY_OF[self.status], self.queue)])]
        if places not in expected:
            yield f"{self.id} is {self.status}, and in {sorted(places.elements())}"
        if places == Counter([("wip", self.queue)]) and self.expires_at >= 0:
            yield f"{self.id} is claimed, and expires"

    def kept_wrongly(self, found: Contents) -> Iterator[str]:
        """It expires when it is to, its registry says the same, and its results go with it."""
        if self.status not in ("finished", "failed", "stopped", "canceled"):
            if self.expires_at >= 0 and "ttl" not in self.fields:
                yield f"{self.id} is {self.status}, has no ttl, and expires"
            return
        ended_at = datetime.fromisoformat(self.fields["ended_at"]).timestamp()
        ttl = int(self.fields.get("result_ttl") or RESULT_TTL)
        if self.status != "finished":
            ttl = int(self.fields["failure_ttl"])
        yield from self._expiry("its hash", self.expires_at, ended_at, ttl)
        for part in (f"rq:results:{self.id}", f"rq:job:{self.id}:dependents", f"rq:job::{self.id}:dependencies"):
            if part in found and not (self.status == "canceled" and part.startswith("rq:job:")):
                yield from self._expiry(part, found[part].expires_at, ended_at, ttl)
        score = found[f"rq:{REGISTRY_OF[self.status]}:{self.queue}"].value.get(self.id.encode())
        kept_until = ended_at if self.status == "canceled" else ended_at + ttl if ttl >= 0 else float("inf")
        if self.status in ("failed", "stopped") and ttl < 0:
            kept_until = ttl  # as RQ has it
        if score is not None and not (score == kept_until or abs(score - kept_until) <= 1):
            yield f"{self.id} is {self.status} with score {score}, and not {kept_until}"

    def _expiry(self, what: str, expires_at: int, ended_at: float, ttl: int) -> Iterator[str]:
        if ttl < 0 and expires_at >= 0:
            yield f"{self.id} is {self.status} and kept for ever, and {what} expires"
        if ttl >= 0 and abs(expires_at / 1000 - ended_at - ttl) > 2:
            left = expires_at / 1000 - ended_at
            yield f"{self.id} is {self.status} and kept for {ttl} s, and {what} expires {left} s after its end"


def _places(found: Contents) -> defaultdict[str, Counter[Place]]:
    places: defaultdict[str, Counter[Place]] = defaultdict(Counter)
    for key, content in found.items():
        kind, _, queue = key.removeprefix("rq:").partition(":")
        if kind == "queue" and content.kind == "list":
            for job_id in content.value:
                places[job_id.decode()]["queue", queue] += 1
        elif kind in REGISTRIES and content.kind == "zset":
            for member in content.value:
                name = member.decode()
                places[name.rpartition(":")[0] if kind == "wip" else name][kind, queue] += 1
    return places


def _unknown_queues(found: Contents, places: defaultdict[str, Counter[Place]]) -> Iterator[str]:
    known = found["rq:queues"].value if "rq:queues" in found else set()
    for queue in {queue for where in places.values() for _, queue in where}:
        if f"rq:queue:{queue}".encode() not in known:
            yield f"queue {queue} is not in rq:queues"


def _left_over(found: Contents, jobs: dict[str, Job]) -> Iterator[str]:
    """Every other key belongs to something that is there, or expires."""
    held = {member for key, content in found.items() if key.startswith("rq:wip:") for member in content.value}
    for key, content in found.items():
        start, _, rest = key.removeprefix("rq:").partition(":")
        lives = content.expires_at / 1000 - time.time()
        if key.startswith(FOR_EVER) or (key.startswith("rq:") and start in (*REGISTRIES, "queue")):
            continue
        if key.startswith("rq:workers:"):
            continue
        if key.startswith("rq:execution:"):
            if rest.encode() not in held:
                yield f"{key} is of an execution that is over"
        elif start == "job" and not key.startswith("rq:job::"):
            owner = rest.partition(":dependents")[0]
            if owner not in jobs:
                yield f"{key} is of a job that is gone"
            continue
        elif key.startswith("jobline:log:"):
            if key.removeprefix("jobline:log:") not in jobs:
                yield f"{key} is of a job that is gone"
            continue
        elif start in ("results", "job"):  # rq:job::ID:dependencies
            if rest.strip(":").removesuffix(":dependencies") not in jobs:
                yield f"{key} is of a job that is gone"
            continue
        elif key.startswith(("jobline:limit:", "jobline:limits:", "jobline:workflow:")):
            continue
        if key.startswith(("jobline:unique:", "jobline:idempotency:", "jobline:unreadable:")) and lives > 0:
            continue
        if not 0 < lives <= 1000:
            yield f"{key} is kept for {lives} s"
