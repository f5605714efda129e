"""Watches the rules, and tells when an alert begins and when it ends: once each, over all schedulers."""

import time
from collections import Counter

import redis
import structlog

from app.alerts import rules
from app.alerts.notifier import Notifier
from app.alerts.rules import Alert
from app.catalog.catalog import Catalog
from app.metrics import store
from app.redis.keys import ALERTS, ALERTS_CRITICAL
from app.settings import Settings

CHECK_INTERVAL_SECONDS = 5.0
LOOKS = 2  # in a row that must agree, before an alert begins or ends

log = structlog.get_logger("jobline.scheduler")


class Watcher:
    """Run by the leading scheduler. ALERTS has what was told to have begun."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, settings: Settings) -> None:
        self._connection, self._catalog, self._settings = connection, catalog, settings
        self._notifier = Notifier(connection, settings)
        self._next_check_at = 0.0
        self._seen, self._missed = Counter[str](), Counter[str]()
        """How many looks in a row have found an alert, and how many have missed one that was told."""

    def check(self) -> None:
        """Check the rules, at most once per CHECK_INTERVAL_SECONDS. Raises redis.RedisError."""
        if not self._notifier.is_enabled or time.monotonic() < self._next_check_at:
            return
        self._next_check_at = time.monotonic() + CHECK_INTERVAL_SECONDS
        found = {alert.name: alert for alert in rules.current(self._connection, self._catalog, self._settings)}
        found |= {alert.name: alert for alert in self._critical()}
        told = {name.decode(errors="replace") for name in self._connection.hkeys(ALERTS)}
        self._seen = Counter({name: self._seen[name] + 1 for name in found})
        self._missed = Counter({name: self._missed[name] + 1 for name in told - found.keys()})
        for name in found.keys() - told:
            if found[name].at_once or self._seen[name] >= LOOKS:
                self._notifier.begin(found[name])
        for name, looks in self._missed.items():
            if looks >= LOOKS:
                self._notifier.end(name)

    def _critical(self) -> list[Alert]:
        """Functions with `critical=True` whose last job has failed. A job that finishes ends the alert."""
        names = {function.name for function in self._catalog.offered.values() if function.options.critical}
        if not names:
            return []
        counts = {name: [0, 0] for name in names}
        for (name, _), measures in store.totals(self._connection).items():
            if name in names:
                counts[name][0] += measures.counts["failed"]
                counts[name][1] += measures.counts["finished"]
        known = self._connection.hgetall(ALERTS_CRITICAL)
        failing = []
        for name, (failed, finished) in counts.items():
            old_failed, old_finished, was_failing = map(int, known.get(name.encode(), b"0 0 0").split())
            is_new = name.encode() not in known
            fails = bool(failed > old_failed or (was_failing and finished == old_finished)) and not is_new
            if (failed, finished, int(fails)) != (old_failed, old_finished, was_failing) or is_new:
                self._connection.hset(ALERTS_CRITICAL, name, f"{failed} {finished} {int(fails)}")
            if fails:
                text = f"A job of {name} has failed, and {name} is critical"
                failing.append(Alert(f"critical:{name}", text, f"/failures?function={name}", at_once=True))
        return failing
