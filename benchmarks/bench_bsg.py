"""Speed of BSG: weights generated per CPU second, the array's convolution, whole studies in wall seconds.

Generation is compared with the same inner products as a +-1 matrix product in NumPy (float32 BLAS, one thread). Exit
code 1 if a study takes longer than its bar or the kernel is slower than NumPy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

import archsim
from archsim.accelerators.bsg.function import array_sums
from archsim.accelerators.bsg.generator import bits_of, registers, slice_weights, xorshift_words
from archsim.workload.layers import Conv

SLICES, WEIGHTS = 368, 2304
STUDY_BAR_S = 5.0


def best_s(work: Callable[[], object], runs: int = 3) -> float:
    """Return the least CPU seconds of some runs, after one that compiles."""
    work()
    taken = []
    for _ in range(runs):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


def generation() -> bool:
    """Print million weights per CPU second, both generators, and the same in NumPy."""
    ok = True
    for n_c in (256, 2048):
        base = xorshift_words(1, n_c // 16)
        codes = np.random.default_rng(0).integers(0, 1 << 16, (SLICES, n_c // 16)).astype(np.uint16)
        signs = bits_of(codes).astype(np.float32) * 2 - 1
        for generator in ("rotate", "feedback"):
            matrix = registers(base, WEIGHTS, generator).astype(np.float32) * 2 - 1
            mine = best_s(partial(slice_weights, base, codes, WEIGHTS, generator))
            numpy = best_s(partial(np.matmul, signs, matrix.T))
            speed = SLICES * WEIGHTS / mine / 1e6
            print(f"n_c {n_c} {generator:9} {speed:8.1f} M weights/s, {numpy / mine:5.1f} x NumPy")
            ok &= mine < numpy
    return ok


def convolution() -> None:
    """Print GMAC per CPU second of the float32 kernel that keeps the array's order."""
    layer = Conv(name="c", inputs=("x",), output="y", C=64, M=64, H=32, W=32, R=3, S=3, pad=(1, 1, 1, 1))
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 64, 32, 32), (64, 64, 3, 3)))
    taken = best_s(lambda: array_sums(layer, x, w, (16, 16, 3, 3)))
    print(f"convolution in the array's order {4 * layer.macs_dense / taken / 1e9:.2f} GMAC/s")


def studies() -> bool:
    """Print the wall seconds of the shipped studies without images."""
    ok = True
    for name in ("bsg-resnet56", "bsg-mobilenetv2"):
        started = time.perf_counter()
        archsim.simulate(archsim.load_study(f"{name}.yaml"))
        taken = time.perf_counter() - started
        print(f"{name} {taken:.2f} s (bar {STUDY_BAR_S:g} s)")
        ok &= taken <= STUDY_BAR_S
    return ok


def main() -> int:
    """Run all on one thread."""
    with threadpool_limits(1):
        convolution()
        fast = generation()
    return 0 if studies() and fast else 1


if __name__ == "__main__":
    sys.exit(main())
