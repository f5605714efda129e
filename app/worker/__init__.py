"""The RQ worker of Jobline: `rq worker -w app.worker.Worker -c app.worker_config`.

`parent` never runs code of jobs: it starts one work horse after the other and monitors each (`horse_monitor`). A
`horse` lives long: it claims jobs (`next_job`, `idle_wait`), runs each (`job_runner`, `attempt`) and reports its end
(`redis_session`). A `concurrent_horse` does so for many jobs at once, each in one of its `places`.
"""

from app.worker.parent import Worker

__all__ = ["Worker"]
