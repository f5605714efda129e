"""`python -m benchmarks [what ...]`: measure, print tables in Markdown, keep the raw figures in benchmarks/results/.

Rounds are the outer loop, so that a noisy minute spreads over all rows; a ratio is taken inside one round. A row that
cannot be measured is reported with its reason, and stops no other.
"""

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    chaos,
    drain,
    graphs,
    lab,
    latency,
    lives,
    load,
    memory,
    recovery,
    report,
    scale,
    schedules,
    servers,
    ticks,
    waits,
)
from benchmarks.environments import ENVIRONMENTS, PEERS, ROOT
from benchmarks.server import NotEmpty

BENCHMARKS: dict[str, Any] = {
    "drain": drain,
    "waits": waits,
    "latency": latency,
    "load": load,
    "scale": scale,
    "memory": memory,
    "recovery": recovery,
    "chaos": chaos,
    "graphs": graphs,
    "lives": lives,
    "ticks": ticks,
    "schedules": schedules,
    "servers": servers,
}
NAMED_ONLY = ("servers",)
ABOUT = f"What is named, or everything but {', '.join(NAMED_ONLY)}."
NAMES = tuple(dict.fromkeys(row.peer for benchmark in BENCHMARKS.values() for row in benchmark.ROWS))
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is stopped
    now = datetime.now(UTC)
    path = ENVIRONMENTS / "smoke.json" if options.smoke else RESULTS / f"{now:%Y-%m-%dT%H%M%S}.json"
    sizes = lab.SMOKE if options.smoke else lab.Sizes()
    if options.steps:
        sizes = replace(sizes, lives_steps=options.steps)
    try:
        with lab.opened(sizes, options.seed, options.appendonly) as found:
            machine = _machine(found, options.peers)
            results = report.Report(path, {"date": now.isoformat(timespec="seconds"), **machine})
            try:
                for number in range(1, options.rounds + 1):
                    _round(found, results, number, options)
            except KeyboardInterrupt:
                print("interrupted: what there is so far", file=sys.stderr)
    except NotEmpty as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{machine['processor']}, {machine['cores']} cores, Python {machine['python']}, {machine['server']}\n")
    for what, rows in results.found.items():
        print(report.table(BENCHMARKS[what].TITLE, BENCHMARKS[what].COLUMNS, rows))
    print(f"Raw figures: {path.relative_to(ROOT)}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=ABOUT)
    parser.add_argument("what", nargs="*", help=", ".join(BENCHMARKS))
    parser.add_argument("--peers", default=",".join(NAMES), help="only these, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="for chaos, graphs, lives and ticks"
    )
    parser.add_argument("--steps", type=int, help="how many lives makes: 100,000 if not given")
    parser.add_argument("--appendonly", action="store_true", help="the embedded server keeps an append-only file")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does every row work?")
    options = parser.parse_args()
    options.peers = options.peers.split(",")
    options.what = options.what or [what for what in BENCHMARKS if what not in NAMED_ONLY]
    for unknown in {*options.what} - {*BENCHMARKS} | {*options.peers} - {*NAMES}:
        parser.error(f"no {unknown!r}")
    return options


def _round(found: lab.Lab, results: report.Report, number: int, options: argparse.Namespace) -> None:
    for what in options.what:
        benchmark = BENCHMARKS[what]
        for row in benchmark.ROWS if benchmark.EACH_ROUND or number == 1 else ():
            if row.peer in options.peers:
                try:
                    figures = benchmark.measure(found, row)
                except Exception as error:
                    figures = {"error": f"{type(error).__name__}: {error}"}
                print(f"{number}/{options.rounds} {what} {row.name}: {figures}", file=sys.stderr, flush=True)
                results.add(what, row.name, {"round": number, **figures})


def _machine(found: lab.Lab, peers: list[str]) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    cpus = Path("/proc/cpuinfo")
    models = [line for line in cpus.read_text().splitlines() if line.startswith("model name")] if cpus.exists() else []
    pins = {peer: PEERS / f"{peer}.txt" for peer in peers}
    return {
        "commit": commit.stdout.strip(),
        "processor": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "server": found.server.version,
        "appendonly": found.server.append_only,
        "peers": {peer: file.read_text().split() for peer, file in pins.items() if file.exists()},
    }


if __name__ == "__main__":
    sys.exit(main())
