"""gunicorn's settings: one process, in which waiting clients and event streams cost no thread each.

`-c python:app.web_config`
"""

from typing import Any

from app.log import dict_config
from app.settings import get_settings

_settings = get_settings()

bind = f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "gevent"
worker_connections = 4000
graceful_timeout = 5
timeout = 120
control_socket_disable = True
logconfig_dict = dict_config(_settings)


def post_worker_init(worker: Any) -> None:
    """Event streams end when the worker is told to."""
    worker.wsgi.extensions["jobline"].events.closing = lambda: not worker.alive
