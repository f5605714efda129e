"""gunicorn's settings: one process that serves many waiting clients, a thread each. `-c python:app.web_config`."""

from app.log import dict_config
from app.settings import get_settings

_settings = get_settings()

bind = f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "gthread"
threads = 32
graceful_timeout = 5
timeout = 120
control_socket_disable = True
logconfig_dict = dict_config(_settings)
