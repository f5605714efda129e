"""For `rq worker -w app.worker.Worker -c app.worker_config`: RQ reads the upper-case names.

With RQ_WORKER_CLASS=app.worker.Worker and RQ_CONFIG=app.worker_config it is plain `rq worker`.
"""

from rq.logutils import colorizer

from app.log import dict_config
from app.redis.client import url
from app.settings import get_settings

REDIS_URL = url(get_settings())
QUEUES = get_settings().queue_names
DICT_CONFIG = dict_config(get_settings())

colorizer.notty = True  # the log colours its lines itself, and would show RQ's escape codes as text
