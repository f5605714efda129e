"""How fast a worker can be that does to Redis what stock RQ does, and nothing else: limit.py JOBS_A_ROUND_TRIP.

It pops jobs, marks them started (execution record, wip registry, worker hash), runs them under SIGALRM and writes what
stock RQ leaves behind (status, result stream, finished registry, times to live, worker's counters), until the queue is
empty. Left out: suspension, commands to the worker, callbacks, dependents, logging, heartbeats; a batch is lost to a
crash as a whole. A yardstick, not a worker.
"""

import importlib
import json
import os
import signal
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import uuid4

from redis import Redis
from rq.utils import utcformat

START = """
local out = {}
local worker, now, at, name = KEYS[2], ARGV[1], tonumber(ARGV[2]), ARGV[3]
for n = 4, #ARGV do
  local id = redis.call('LPOP', KEYS[1])
  if not id then break end
  local job, execution = 'rq:job:' .. id, ARGV[n]
  local f = redis.call('HMGET', job, 'data', 'timeout', 'result_ttl', 'success_callback_name')
  if f[1] then
    local key = 'rq:execution:' .. id .. ':' .. execution
    redis.call('HSET', key, 'id', execution, 'created_at', at, 'last_heartbeat', at, 'worker_name', name)
    redis.call('EXPIRE', key, 240)
    redis.call('ZADD', 'rq:executions:' .. id, at + 300, execution)
    redis.call('EXPIRE', 'rq:executions:' .. id, 300)
    redis.call('ZADD', KEYS[3], at + 240, id .. ':' .. execution)
    redis.call('HSET', job, 'last_heartbeat', now, 'status', 'started', 'started_at', now, 'worker_name', name)
    redis.call('HSET', worker, 'state', 'busy', 'current_job', id, 'current_job_working_time', 0,
               'last_heartbeat', now)
    out[#out + 1] = {id, execution, f[1], f[2]}
  end
end
redis.call('EXPIRE', worker, 480)
return out
"""
FINISH = """
local worker, now, at, name = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
for n = 4, #ARGV, 4 do
  local id, execution, value, spent = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]
  local job = 'rq:job:' .. id
  redis.call('HINCRBY', worker, 'successful_job_count', 1)
  redis.call('HINCRBYFLOAT', worker, 'total_working_time', spent)
  redis.call('HSET', job, 'status', 'finished', 'ended_at', now, 'last_heartbeat', now)
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', '~', 10, '*', 'type', 1, 'worker_name', name, 'return_value', value,
             'execution_id', execution, 'execution_started_at', at, 'execution_ended_at', at)
  redis.call('EXPIRE', 'rq:results:' .. id, 500)
  redis.call('ZADD', KEYS[3], at + 500, id)
  redis.call('EXPIRE', job, 500)
  redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution, 'rq:executions:' .. id)
  redis.call('ZREM', KEYS[2], id .. ':' .. execution)
  redis.call('EXISTS', job .. ':dependents')
end
redis.call('HSET', worker, 'state', 'idle')
redis.call('HDEL', worker, 'current_job')
"""
QUEUE, WIP, FINISHED = "rq:queue:default", "rq:wip:default", "rq:finished:default"


@cache
def function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def run(data: bytes, timeout: int) -> bytes:
    name, _, args, kwargs = json.loads(zlib.decompress(data))
    call = function(name)
    signal.alarm(timeout)
    try:
        return b64encode(json.dumps(call(*args, **kwargs)).encode())
    finally:
        signal.alarm(0)


def main(batch: int) -> None:
    redis = Redis.from_url(os.environ["REDIS_URL"])
    start, finish = redis.script_load(START), redis.script_load(FINISH)
    name = uuid4().hex
    worker = f"rq:worker:{name}"
    connection = redis.connection_pool.get_connection()

    def ask(*commands: tuple[Any, ...]) -> Any:
        """The last one's answer; one round trip."""
        connection.send_packed_command(connection.pack_commands(commands))
        return [connection.read_response() for _ in commands][-1]

    def now() -> tuple[str, float, str]:
        moment = datetime.now(UTC)
        return utcformat(moment), moment.timestamp(), name

    def claim() -> tuple[Any, ...]:
        return "EVALSHA", start, 3, QUEUE, worker, WIP, *now(), *(uuid4().hex for _ in range(batch))

    jobs = ask(claim())
    while jobs:
        done: list[Any] = []
        for job_id, execution, data, timeout in jobs:
            began = time.perf_counter()
            done += [job_id, execution, run(data, int(timeout)), f"{time.perf_counter() - began:.6f}"]
        jobs = ask(("EVALSHA", finish, 3, worker, WIP, FINISHED, *now(), *done), claim())


if __name__ == "__main__":
    main(int(sys.argv[1]))
