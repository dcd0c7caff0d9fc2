"""One number for parallelism: over blocks of images with one BLAS thread each, or inside BLAS, never both."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")
K = TypeVar("K")
V = TypeVar("V")
Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps finished, steps in all), from any thread."""
_threads: ContextVar[int | None] = ContextVar("threads", default=None)


def available_cores() -> int:
    """Return the number of cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def thread_limit() -> int:
    """Return the number in force."""
    return _threads.get() or available_cores()


@contextmanager
def limited_threads(threads: int | None = None) -> Iterator[None]:
    """Use at most `threads` threads inside the block (default: the cores available to the process)."""
    from threadpoolctl import threadpool_limits

    count = threads or available_cores()
    before = _threads.set(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        _threads.reset(before)


def map_blocks(work: Callable[[A], B], blocks: Iterable[A]) -> list[B]:
    """Return `work(block)` of all blocks in order, blocks in parallel, each with one BLAS thread.

    So a floating-point result is the same for any number of threads.
    """
    workers = thread_limit()
    with limited_threads(1), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, blocks))


class Recent(OrderedDict[K, V]):
    """The entries used last; a study tries few settings at a time, a tuner hundreds one after another."""

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda value: 1) -> None:
        """Hold entries that weigh `most` together; each weighs 1 unless told otherwise."""
        super().__init__()
        self.most, self.weigh, self.weight, self.lock = most, weigh, 0, Lock()

    def keep(self, key: K, value: V) -> V:
        """Store an entry as the newest and forget the oldest beyond the limit; threads may do so at once."""
        with self.lock:
            if key in self:
                self.weight -= self.weigh(self[key])
            self[key] = value
            self.move_to_end(key)
            self.weight += self.weigh(value)
            while self.weight > self.most:
                self.weight -= self.weigh(self.popitem(last=False)[1])
        return value

    def recall(self, key: K) -> V | None:
        """Return an entry, which becomes the newest, or None."""
        with self.lock:
            if key in self:
                self.move_to_end(key)
            return self.get(key)
