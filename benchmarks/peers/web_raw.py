"""The limit of REST enqueue: a bare WSGI function that writes what Queue.enqueue writes (RQ 2.12), in one pipeline.

No framework, no keys, no checks. A yardstick, not a service.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from redis import Redis

connection = Redis.from_url(os.environ["REDIS_URL"])


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    calls, ids = body.get("jobs") or [body], []
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.sadd("rq:queues", "rq:queue:default")
        for call in calls:
            ids.append(str(uuid4()))
            pipeline.hset(f"rq:job:{ids[-1]}", mapping=fields(call["function"], call["args"]))
        pipeline.rpush("rq:queue:default", *ids)
        pipeline.execute()
    answer = json.dumps({"ids": ids}).encode()
    start_response("202 Accepted", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def fields(function: str, args: list[Any]) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "created_at": now,
        "enqueued_at": now,
        "data": zlib.compress(json.dumps([function, None, args, {}]).encode()),
        "origin": "default",
        "description": f"{function}({', '.join(map(repr, args))})",
        "timeout": 180,
        "status": "queued",
        "success_callback_name": "",
        "failure_callback_name": "",
        "stopped_callback_name": "",
        "started_at": "",
        "ended_at": "",
        "last_heartbeat": "",
        "worker_name": "",
        "group_id": "",
    }
