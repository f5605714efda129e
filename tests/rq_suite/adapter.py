"""Our worker without Jobline's policy, so that RQ's tests can feed it: any function, serializer and class of job."""

from functools import partialmethod
from typing import Any

import rq
from rq.worker import Worker as Stock

from app.catalog.catalog import Catalog
from app.rq_adapter.rq_parts import Job
from app.worker import Worker as Jobline
from app.worker import attempt, horse

Catalog._discover = lambda self: None  # type: ignore[method-assign] # no catalogue: jobs/ is not imported,
Job._execute = rq.job.Job._execute  # type: ignore[method-assign] # and any function is a job
rq.job.Job.retry_by_options = Job.retry_by_options  # asked of every job that fails; RQ's class has it not
rq.job.Job.check_callbacks = lambda self: None  # nor this: any function is a callback


class _Horse(horse.Horse):
    """Runs pickled jobs its own way too, not only RQ's way. It is a process: what it sets is set for itself alone."""

    def __init__(self, worker: Any, *args: Any) -> None:
        super().__init__(worker, *args)
        attempt.dumps_checked = worker.serializer.dumps  # type: ignore[assignment, misc]
        Job.__init__ = partialmethod(rq.job.Job.__init__, serializer=worker.serializer)  # type: ignore[assignment]


class _AsAsked(Stock):
    """Behind ours, which forces JSON and its own classes, and before RQ's, which gets what the test asked for."""

    asked: tuple[tuple[Any, ...], dict[str, Any]]

    def __init__(self, *_: Any, **__: Any) -> None:
        args, kwargs = self.asked
        super().__init__(*args, **kwargs)


class Worker(Jobline, _AsAsked):
    """Our parent, horse and book-keeping, on RQ's Job and Queue."""

    job_class = rq.job.Job
    queue_class = rq.Queue
    horse_class: Any = _Horse
    log_result_lifespan = True

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        self.asked = (queues, *args), kwargs
        super().__init__(queues, *args, **kwargs)

    def fork_work_horse(self, job: Any, queue: Any) -> None:
        """Inherited, and no part of ours: a test that calls it fails for that, not by chance."""
        raise NotImplementedError("our worker does not fork a horse for a job")
