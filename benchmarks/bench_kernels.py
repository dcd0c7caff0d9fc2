"""Speed of the convolution kernels: GMAC/s on one core, next to plain int64 NumPy in the same run.

Layers include the gathering of windows and the requantisation. The column `BLAS` is the bare float64 product of the
same size: what no exact int16 kernel built on it can exceed on this machine at this moment (int8 layers use float32).
Exit code 1 if a 3x3 layer with 64 or more channels and maps of at least 14 x 14 stays below the target.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from archsim.kernels import conv, stepwise
from archsim.kernels._geometry import Array

TARGET_GMAC_PER_S = 15.0
RUNS = 5


class Shape(NamedTuple):
    """One convolution: batch, channels, filters, map size, kernel size, stride, groups."""

    N: int
    C: int
    M: int
    H: int
    R: int
    stride: int = 1
    groups: int = 1

    @property
    def targeted(self) -> bool:
        """Whether the target applies."""
        return self.R == 3 and self.C >= 64 and self.H >= 14 and self.groups == 1

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int], int]:
        """Stride, pad, dilation, groups as the kernels take them; pad keeps the map size."""
        half = self.R // 2
        return (self.stride, self.stride), (half, half, half, half), (1, 1), self.groups


SHAPES = (
    Shape(1, 64, 64, 56, 3),
    Shape(1, 128, 128, 28, 3),
    Shape(1, 256, 256, 14, 3),
    Shape(8, 256, 256, 14, 3),
    Shape(8, 128, 128, 28, 3, 2),
    Shape(50, 16, 16, 32, 3),
    Shape(50, 32, 32, 16, 3),
    Shape(50, 64, 64, 8, 3),
    Shape(1, 64, 256, 56, 1),
    Shape(1, 256, 64, 56, 1),
    Shape(1, 3, 64, 224, 7, 2),
    Shape(1, 96, 256, 27, 5, 1, 2),
    Shape(1, 96, 96, 56, 3, 1, 96),
)


def tensors(shape: Shape, bits: int) -> tuple[Array, Array]:
    """Return codes over the whole range of `bits`: x and w."""
    rng = np.random.default_rng(0)
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)
    x = rng.integers(low, high, (shape.N, shape.C, shape.H, shape.H)).astype(np.int16)
    return x, rng.integers(low, high, (shape.M, shape.C // shape.groups, shape.R, shape.R)).astype(np.int16)


def seconds(run: Callable[[], object]) -> list[float]:
    """Return the sorted wall times of RUNS calls, after one that compiles."""
    run()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)


def plain_numpy_seconds(x: Array, w: Array, shape: Shape) -> float:
    """Return the wall time of one image and eight filters as an int64 einsum over all windows, scaled to the layer."""
    half, group = shape.R // 2, shape.C // shape.groups
    filters = min(8, shape.M // shape.groups)
    start = time.perf_counter()
    padded = np.pad(x[:1, :group].astype(np.int64), ((0, 0), (0, 0), (half, half), (half, half)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (shape.R, shape.R), (2, 3))
    columns = windows[:, :, :: shape.stride, :: shape.stride].transpose(1, 4, 5, 0, 2, 3).reshape(w[0].size, -1)
    w[:filters].reshape(filters, -1).astype(np.int64) @ columns
    return (time.perf_counter() - start) * shape.N * shape.M / filters


def bare_product_seconds(shape: Shape, windows: int, w: Array) -> float:
    """Return the wall time of the float64 products of the layer alone, in blocks of its windows."""
    block = min(windows, conv.BLOCK_WINDOWS)
    a, b = np.ones((shape.M // shape.groups, w[0].size)), np.ones((w[0].size, block))
    out = np.empty((a.shape[0], block))
    return seconds(lambda: np.matmul(a, b, out=out))[0] * shape.groups * windows / block


def measure(shape: Shape, bits: int) -> float:
    """Print one line for a layer and return its best GMAC/s."""
    x, w = tensors(shape, bits)
    bias = np.arange(shape.M, dtype=np.int64)
    y, _ = conv.conv_fixed(x, w, bias, *shape.geometry, 0, None, 15, 16)
    macs = y.size * w[0].size
    times = seconds(lambda: conv.conv_fixed(x, w, bias, *shape.geometry, 0, None, 15, 16))
    best, median = (float(macs / at / 1e9) for at in (times[0], times[RUNS // 2]))
    bare = macs / bare_product_seconds(shape, y.size // shape.M, w) / 1e9
    ratio = plain_numpy_seconds(x, w, shape) / times[0]
    mark = " " if not shape.targeted or bits < 16 else "+" if best >= TARGET_GMAC_PER_S else "<"
    name = f"{shape.N}x{shape.C}x{shape.H} -> {shape.M}, {shape.R}x{shape.R}/{shape.stride} g{shape.groups}"
    print(f"{name:<32} int{bits:<3} {best:7.1f} {median:7.1f} {mark} {bare:7.1f} {ratio:9.0f}x")
    return best


def measure_stepwise(overflow: stepwise.Overflow) -> None:
    """Print the speed of the modelled accumulator of 32 bits in one overflow mode."""
    shape = Shape(1, 64, 64, 28, 3)
    x, w = tensors(shape, 16)
    order = np.random.default_rng(1).permutation(w[0].size)
    times = seconds(
        lambda: stepwise.accumulate_stepwise(x, w, None, *shape.geometry, order, 32, overflow, product_shift=0)
    )
    best, median = (shape.M * shape.H * shape.H * w[0].size / at / 1e9 for at in (times[0], times[RUNS // 2]))
    print(f"{'stepwise 32 bits, ' + overflow:<32} int16  {best:7.1f} {median:7.1f}")


def main() -> int:
    """Measure all layers on one core; return 1 if the target is missed."""
    numba.set_num_threads(1)
    print(f"GMAC/s per core, {RUNS} runs")
    print(f"{'layer':<32} {'codes':<6} {'best':>7} {'median':>7}   {'BLAS':>7} {'vs int64':>10}")
    with threadpool_limits(1):
        missed = [shape for shape in SHAPES if measure(shape, 16) < TARGET_GMAC_PER_S and shape.targeted]
        measure(SHAPES[0], 8)
        for overflow in ("error", "wrap", "saturate"):
            measure_stepwise(overflow)
    verdict = f"missed by {len(missed)}" if missed else "met"
    print(f"target {TARGET_GMAC_PER_S} GMAC/s, 3x3, C >= 64, maps >= 14 x 14 (+ met, < missed): {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
