"""gunicorn's settings for what is measured beside Jobline: the same, but for what only its application knows."""

from app.web_config import *  # noqa: F403


def post_worker_init(worker: object) -> None:
    """Nothing."""
