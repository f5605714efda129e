"""One attempt at a job: its function is called, within its timeout, and nothing is written to Redis."""

from typing import TYPE_CHECKING, Any

import rq
from rq.job import _job_stack
from rq.timeouts import JobTimeoutException

from app.rq_adapter.rq_parts import Job
from app.serializer import dumps_checked
from app.settings import get_settings
from app.worker.progress_reporter import Reporter
from app.worker.redis_session import Claimed

if TYPE_CHECKING:
    from app.worker.parent import Worker


class ResultTooLarge(Exception):
    """The result exceeds RESULT_LIMIT."""


class Attempt:
    """Runs jobs of one horse. `result` is the JSON result of the last one, None if it had none."""

    def __init__(self, worker: "Worker", reporter: Reporter) -> None:
        self.worker, self.reporter = worker, reporter
        self.limit = get_settings().result_limit
        self.result: bytes | None = None

    def run(self, job: Job, claimed: Claimed, timeout: int) -> BaseException | None:
        """Call the function of a job. Returns what it raised; None if it returned: see `job.outcome` and `result`."""
        self.result, self.reporter.running = None, claimed
        _job_stack.push(job)
        try:
            with self.worker.death_penalty_class(timeout, JobTimeoutException, job_id=job.id):
                job.outcome = job._execute()
            if job.outcome is not None and not isinstance(job.outcome, rq.Retry):
                self.result = self._dumped(job.outcome)
        except BaseException as error:
            return error
        finally:
            _job_stack.pop()
            self.reporter.running = None
        return None

    def _dumped(self, result: Any) -> bytes:
        """Raises TypeError for what has no JSON form, ResultTooLarge and TooDeep."""
        dumped = dumps_checked(result)
        if len(dumped) > self.limit:
            raise ResultTooLarge(f"the result is {len(dumped)} bytes, RESULT_LIMIT is {self.limit}")
        return dumped
