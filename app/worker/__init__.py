"""The RQ worker of Jobline: `rq worker -w app.worker.Worker -c app.worker_config`.

`parent` never runs job code: it beats, listens, enforces limits, and keeps one `horse` at work. The `horse` lives long:
it claims jobs through `claims`, waits for them at its `bells`, and runs each as an `attempt`, whose progress a
`reporter` sends. The `board` is what they share.
"""

from app.worker.parent import Worker

__all__ = ["Worker"]
