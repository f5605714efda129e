"""Sends alerts to ALERT_WEBHOOK and by mail to ALERT_MAIL, from a thread of its own: no job has to run for it."""

import json
import threading
import time
import uuid
from datetime import UTC, datetime
from email.message import EmailMessage
from queue import SimpleQueue

import redis
import structlog

from app.alerts.rules import Alert
from app.author import mail, outbound
from app.redis.keys import ALERTS
from app.serializer import JSON, utc
from app.settings import Settings
from app.webhooks import signing, webhook_delivery

TIMEOUT_SECONDS = 10.0
RETRY_WAITS = (1.0, 5.0)  # seconds; then the next look of the watcher tries again

log = structlog.get_logger("jobline.scheduler")


class Notifier:
    """The sender of one scheduler. What it has told is in ALERTS, so that no other scheduler tells it again."""

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self._connection, self._settings = connection, settings
        self._recipients = [text.strip() for text in settings.alert_mail.split(",") if text.strip()]
        self.is_enabled = bool(settings.alert_webhook or self._recipients)
        self._queue: SimpleQueue[tuple[str, Alert]] = SimpleQueue()
        self._under_way = set[tuple[str, str]]()
        self._thread: threading.Thread | None = None

    def begin(self, alert: Alert) -> None:
        """Tell that an alert begins."""
        self._put("began", alert)

    def end(self, name: str) -> None:
        """Tell that an alert has ended. Raises redis.RedisError."""
        told = self._connection.hget(ALERTS, name)
        if told:
            self._put("ended", Alert(name, **json.loads(told)["alert"]))

    def _put(self, what: str, alert: Alert) -> None:
        if (what, alert.name) in self._under_way:
            return
        self._under_way.add((what, alert.name))
        self._queue.put((what, alert))
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, daemon=True, name="alerts")
            self._thread.start()

    def _run(self) -> None:
        while True:
            what, alert = self._queue.get()
            try:
                self._tell(what, alert)
            except Exception as error:
                log.error("an alert could not be sent", alert=alert.name, error=f"{type(error).__name__}: {error}")  # noqa: TRY400
            self._under_way.discard((what, alert.name))

    def _tell(self, what: str, alert: Alert) -> None:
        log.warning(f"alert {what}", alert=alert.name, text=alert.text)
        for wait in (*RETRY_WAITS, None):
            try:
                self._send(what, alert)
                break
            except Exception:
                if wait is None:
                    raise
                time.sleep(wait)
        if what == "began":
            kept = {"text": alert.text, "look_at": alert.look_at}
            self._connection.hset(ALERTS, alert.name, json.dumps({"alert": kept, "since": utc(datetime.now(UTC))}))
        else:
            self._connection.hdel(ALERTS, alert.name)

    def _send(self, what: str, alert: Alert) -> None:
        """Raises OSError and others: it was not sent, or not to all."""
        title = f"Jobline: {alert.text}" if what == "began" else f"Jobline: over: {alert.text}"
        look_at = f"{self._settings.url}/api/v1{alert.look_at}"
        if self._settings.alert_webhook:
            data = {"name": alert.name, "text": alert.text, "look_at": look_at}
            payload = {"type": f"alert.{what}", "timestamp": utc(datetime.now(UTC)), "text": title, "data": data}
            self._post(self._settings.alert_webhook, JSON.dumps(payload))
        if self._recipients:
            message = EmailMessage()
            message["From"], message["To"] = self._settings.mail_from, ", ".join(self._recipients)
            message["Subject"] = title[:150]
            message.set_content(f"{alert.text}.\n\nLook at {look_at}\n")
            mail.send(message, self._recipients)

    def _post(self, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        secrets = signing.parse(self._settings.webhook_secret.get_secret_value())
        if secrets:
            headers |= signing.headers(secrets, f"alert_{uuid.uuid4().hex}", body)
        with outbound.Client(webhook_delivery.ALLOWED_BY) as client:
            response = client.ask(outbound.parsed(url), TIMEOUT_SECONDS, "POST", body, headers)
            response.close()
        if not 200 <= response.status < 300:
            raise OSError(f"the receiver answered {response.status}")
