"""The API server, `python -m app.api.server`: granian with API_PROCESSES processes on one port.

Each request occupies a thread. Threads are started on demand and end when idle. Event streams (EVENT_STREAMS) and
waiting clients (app/views/waiting.py) are limited, so that a thread is always free for other requests.
"""

import atexit
import gc
import signal
import socket
import threading

from flask import Flask
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from app import tracing
from app.api.application import create_app
from app.log import configure, dict_config
from app.settings import get_settings
from app.views import waiting

SHORT_REQUEST_THREADS = 64  # threads for requests that neither wait nor stream
KILL_TIMEOUT_SECONDS = 5  # for requests to end


def serve(target: str, factory: bool = False) -> None:
    """Serve the WSGI application `target` (or the one that this factory makes) until SIGTERM or SIGINT."""
    settings = get_settings()
    threads = settings.event_streams + waiting.MAX_WAITERS + SHORT_REQUEST_THREADS
    Granian(
        target,
        factory=factory,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        address=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_TIMEOUT_SECONDS,
        blocking_threads=threads,
        backpressure=threads,
        log_level=LogLevels(settings.log_level.lower()),
        log_dictconfig=dict_config(settings),
    ).serve()


def application() -> Flask:
    """The application of one server process. Its event streams end when the process is told to stop."""
    configure(get_settings())
    tracing.start("jobline-api")
    atexit.register(tracing.stop)
    app = create_app()
    app.extensions["jobline"].events.closing = _shutdown_event().is_set
    app.extensions["jobline"].catalog.refresh()
    gc.collect()
    gc.freeze()  # objects made so far live on: collecting them again would delay requests
    gc.set_threshold(10_000)
    return app


def _shutdown_event() -> threading.Event:
    """An event that the first signal to this process sets. granian handles the signals without a hook for others."""
    signaled, (receiver, sender) = threading.Event(), socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach())

    def wait() -> None:
        receiver.recv(1)
        signaled.set()

    threading.Thread(target=wait, daemon=True).start()
    return signaled


if __name__ == "__main__":
    serve("app.api.server:application", factory=True)
