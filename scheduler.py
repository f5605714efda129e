"""The declared schedules, as plain data, and the process that runs them: `python scheduler.py`."""

from app.log import configure
from app.redis.client import connect
from app.rq_adapter.rq_parts import catalog
from app.schedules import cron
from app.schedules.process import Scheduler
from app.settings import get_settings

SCHEDULES = [
    cron("0 2 * * *", "maintenance.clean", timezone="Europe/Berlin", kwargs={"folder": ".", "older_than": 30 * 86_400}),
]


def main() -> None:
    settings = get_settings()
    configure(settings)
    Scheduler(connect(settings), settings, catalog(), SCHEDULES).run()


if __name__ == "__main__":
    main()
