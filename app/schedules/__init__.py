"""When: schedules as data, kept in rq-scheduler's layout, and the process that runs them.

A schedule is a rule that makes jobs; each run is a fresh job, queued through app/enqueue like every other.
"""

from app.schedules.rule import cron, every, once

__all__ = ["cron", "every", "once"]
