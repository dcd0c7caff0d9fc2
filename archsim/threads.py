"""One number for parallelism: the threads of Numba and BLAS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def available_cores() -> int:
    """Return the number of cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def limited_threads(threads: int | None = None) -> Iterator[None]:
    """Limit BLAS inside the block to `threads` (default: the cores available to the process)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads or available_cores()):
        yield
