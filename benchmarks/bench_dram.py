"""Speed of the DRAM timing kernel: million requests per CPU second, one channel, one thread, compilation left out.

Traces are those of the reference simulators, each request on its own; their bars are ten times the faster of
Ramulator 2.1 and DRAMsim3. Runs are the same kind of traffic given as first line and length, which is how machines
ask for it; their bar is 100 M. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from archsim.memory.dram import fields
from archsim.memory.dram.controller import NO_LOG, rules_of, served
from archsim.memory.dram.kernel import advance
from tests.dram.traces import config, trace

REPEATS = 5
TRACES = (
    ("A", "stream", 0, 1_000_000, 4.5),
    ("A", "random", 0, 500_000, 1.6),
    ("A", "random", 60, 200_000, 4.5),
    ("C", "stream", 0, 1_000_000, 3.3),
    ("C", "random", 0, 500_000, 1.83),
    ("C", "random", 60, 200_000, 3.6),
)
"""Configuration, trace, cycles between offers, requests, bar in M requests per CPU second."""
RUNS = (("reads", 0, 1 << 22), ("writes", 1, 1 << 22), ("reads", 0, 1024))
"""Name, write flag and lines of the runs that make a stream."""
STREAM_LINES = 1 << 22
BAR_OF_RUNS = 100.0


def best_seconds(run: Callable[[], object]) -> float:
    """Return the least CPU time of REPEATS calls, after one that compiles."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def trace_speed(name: str, kind: str, gap: int, n: int) -> float:
    """Return M requests per CPU second of a trace."""
    requests = trace(name, kind, n)
    return n / best_seconds(lambda: served(config(name), [requests], gap)) / 1e6


def run_speed(name: str, write: int, lines: int) -> float:
    """Return M requests per CPU second of a stream in runs of `lines`."""
    return STREAM_LINES / best_seconds(lambda: stream(name, write, lines)) / 1e6


def peak_MB(n: int) -> float:
    """Return the peak memory of a process that plays `n` random requests, made piece by piece."""
    code = (
        "import resource, numpy as np; from archsim.memory.dram.played import play;"
        "from tests.dram.traces import config;"
        "from archsim.memory.dram.trace import Requests; rng = np.random.default_rng(0);"
        "piece = lambda k: Requests(rng.integers(0, 1 << 24, k), rng.integers(0, 2, k), np.zeros(k, np.int64));"
        f"play(config('A'), (piece(1 << 18) for _ in range({n} >> 18)));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1000


def stream(name: str, write: int, lines: int) -> None:
    """Serve STREAM_LINES consecutive lines in runs of `lines`."""
    rules, runs = rules_of(config(name)), np.zeros((STREAM_LINES // lines, fields.RUN_FIELDS), np.int64)
    runs[:, fields.FIRST] = lines * np.arange(len(runs))
    runs[:, fields.LINES], runs[:, fields.WRITE], runs[:, fields.LEFT] = lines, write, lines
    advance(rules, *fields.fresh_state(rules), runs, fields.FAR, 0, 1, NO_LOG)
    assert not runs[:, fields.LEFT].any()


def report(label: str, speed: float, bar: float) -> bool:
    """Print a line; tell whether the bar is met."""
    print(f"{label:<36} {speed:8.2f} {bar:8.2f} {'+' if speed >= bar else '<'}", flush=True)
    return speed >= bar


def main() -> int:
    """Measure all; return 1 if a bar is missed."""
    start = time.process_time()
    stream("A", 0, 1024)
    print(f"compiled or loaded in {time.process_time() - start:.1f} CPU s")
    print(f"{'M requests per CPU second':<36} {'best':>8} {'bar':>8}")
    met = []
    for name, kind, gap, n, bar in TRACES:
        met.append(report(f"{name} {kind} ({gap}), {n:,} requests", trace_speed(name, kind, gap, n), bar))
    for name in "AC":
        for direction, write, lines in RUNS:
            speed = run_speed(name, write, lines)
            met.append(report(f"{name} {direction}, runs of {lines:,} lines", speed, BAR_OF_RUNS))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
