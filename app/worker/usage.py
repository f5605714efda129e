"""CPU time and memory: of a worker with its work horses, and of its host."""

import contextlib
import os

import psutil


class Usage:
    """The use of one worker, added up over all its work horses."""

    def __init__(self) -> None:
        self._horses = dict[int, float]()
        """CPU seconds of each work horse so far, by pid."""

    def read(self, horse: int) -> dict[str, float]:
        """What BEAT (app/worker/beat.lua) takes.

        `rss`: bytes of the worker and this work horse; `cpu`: seconds of the worker and all work horses so far;
        `host_cpu`: per cent of all its processors, since the last call; `host_memory`: per cent.
        """
        own, rss, cpu = psutil.Process(), 0, 0.0
        with contextlib.suppress(psutil.Error):
            rss, cpu = own.memory_info().rss, sum(own.cpu_times()[:2])
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(horse)
            if process.ppid() == os.getpid():
                rss += process.memory_info().rss
                self._horses[horse] = sum(process.cpu_times()[:2])
        return {
            "rss": rss,
            "cpu": round(cpu + sum(self._horses.values()), 3),
            "host_cpu": psutil.cpu_percent(),
            "host_memory": psutil.virtual_memory().percent,
        }
