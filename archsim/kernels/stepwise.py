"""Accumulators as wide as the machine's, one product after the other in the machine's order.

One event is one step (loading the bias, or one addition, padding taps included) whose exact result does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from archsim.kernels._blocks import gather_columns
from archsim.kernels._geometry import Array, ConvShape, Pads, Pair, bias_or_zeros, conv_shape
from archsim.kernels._jit import njit
from archsim.kernels.conv import largest_sum, row_blocks

Overflow = Literal["error", "wrap", "saturate"]
_MODES: dict[str, int] = {"error": 0, "wrap": 1, "saturate": 2}
BLOCK_WINDOWS = 512
CALL_PRODUCTS = 1 << 27


@njit(inline="always")
def _add_products(
    acc: Array, first: int, events: Array, cols: Array, column: int, weight: int, shift: int, bits: int, mode: int
) -> tuple[int, int]:
    """acc[first + i] += (weight * cols[column + i]) >> shift; counts events[i]; returns the extreme exact sums.

    Each mode is its own loop without branches, so that it becomes vector instructions; unsigned indices as in _blocks.
    """
    low, high, mask = -(1 << (bits - 1)), (1 << (bits - 1)) - 1, (1 << bits) - 1
    at, source, count = np.uint64(first), np.uint64(column), np.uint64(events.size)
    smallest, largest = 0, 0
    if mode == 0:
        for i in range(count):
            total = acc[at + i] + ((weight * cols[source + i]) >> shift)
            events[i] += (total < low) | (total > high)
            smallest, largest = min(smallest, total), max(largest, total)
            acc[at + i] = total
    elif mode == 1:
        for i in range(count):
            total = acc[at + i] + ((weight * cols[source + i]) >> shift)
            events[i] += (total < low) | (total > high)
            smallest, largest = min(smallest, total), max(largest, total)
            acc[at + i] = ((total - low) & mask) + low
    else:
        for i in range(count):
            total = acc[at + i] + ((weight * cols[source + i]) >> shift)
            events[i] += (total < low) | (total > high)
            smallest, largest = min(smallest, total), max(largest, total)
            acc[at + i] = min(max(total, low), high)
    return smallest, largest


@njit
def _accumulate(
    cols: Array, w: Array, bias: Array, order: Array, shift: int, bits: int, mode: int, acc: Array, events: Array
) -> int:
    """cols (K*L,), w (m, K), bias (m,), order (K,) -> acc (m*L,); adds to events (L,), returns the peak |exact sum|."""
    windows = events.size
    peak = 0
    for m in range(w.shape[0]):
        first = m * windows
        acc[first : first + windows] = bias[m]
        # the bias is a step of its own: a product with weight 0 adds nothing, but the sum is checked and bounded
        smallest, largest = _add_products(acc, first, events, cols, 0, 0, 0, bits, mode)
        peak = max(peak, largest, -smallest)
        for k in order:
            weight = int(w[m, k])
            smallest, largest = _add_products(acc, first, events, cols, k * windows, weight, shift, bits, mode)
            peak = max(peak, largest, -smallest)
    return peak


def accumulate_stepwise(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Pair,
    pad: Pads,
    dilation: Pair,
    groups: int,
    order: Array,
    acc_bits: int,
    overflow: Overflow,
    product_shift: int,
) -> tuple[Array, int, int, int]:
    """Convolve in accumulators of `acc_bits`: acc int64 (N, M, P, Q), events, first image with one or -1, peak |sum|.

    x (N, C, H, W), w (M, C/groups, R, S) integers; bias int64 (M,) is in the accumulator first; `order` is the order of
    the K = (C/groups)*R*S flat weight indices within a window; every product is shifted right (floor) by
    `product_shift`. `overflow`: "error" counts and keeps the exact sums, "wrap" keeps two's complement, "saturate"
    clamps after every step. The peak is that of the adder's exact result. A linear layer is H = W = R = S = 1.
    Raises: ValueError for a bad order, width or shift; OverflowError if an exact sum could leave int64.
    """
    shape = conv_shape(x, w, stride, pad, dilation, groups)
    weights, biases = np.ascontiguousarray(w).reshape(shape.M, shape.K), bias_or_zeros(bias, shape.M)
    steps = np.ascontiguousarray(order, np.int64)
    _check(steps, shape.K, acc_bits, product_shift)
    largest_sum(x, weights, biases)
    y = np.empty((shape.M, shape.N * shape.P * shape.Q), np.int64)
    events = np.zeros(y.shape[1], np.int64)
    peak = 0
    for g, windows, cols in _column_blocks(x, shape):
        for part in _filter_parts(shape, g, cols.shape[1]):
            acc = np.empty(((part.stop - part.start), cols.shape[1]), np.int64)
            flat, mode = (cols.reshape(-1), acc.reshape(-1)), _MODES[overflow]
            args = weights[part], biases[part], steps, product_shift, acc_bits, mode
            peak = max(peak, _accumulate(flat[0], *args, flat[1], events[windows]))
            y[part, windows] = acc
    hit = np.flatnonzero(events)
    first_image = int(hit[0]) // (shape.P * shape.Q) if hit.size else -1
    acc = np.ascontiguousarray(y.reshape(shape.M, shape.N, shape.P, shape.Q).swapaxes(0, 1))
    return acc, int(events.sum()), first_image, int(peak)


def overflow_possible(x_abs_max: int, w: Array, bias: Array | None, acc_bits: int) -> bool:
    """Return whether |bias| + max|x| * sum|w| of a filter of w (M, ...) exceeds 2^(acc_bits-1) - 1; exact integers."""
    filters = w.reshape(w.shape[0], -1)
    limit = (1 << (acc_bits - 1)) - 1
    sums = (int(np.abs(row, dtype=np.int64).sum()) for row in filters)
    return any(abs(int(b)) + int(x_abs_max) * total > limit for b, total in zip(bias_or_zeros(bias, len(w)), sums))


def _check(order: Array, K: int, acc_bits: int, product_shift: int) -> None:
    """Raise ValueError unless `order` is a permutation of 0 .. K-1 and width and shift are in range."""
    if not np.array_equal(np.sort(order), np.arange(K)):
        raise ValueError(f"order must be a permutation of 0 .. {K - 1}; got {order.size} indices")
    if not 2 <= acc_bits <= 62:
        raise ValueError(f"acc_bits must be 2 .. 62; got {acc_bits}")
    if not 0 <= product_shift <= 62:
        raise ValueError(f"product_shift must be 0 .. 62; got {product_shift}")


def _column_blocks(x: Array, shape: ConvShape) -> Iterator[tuple[int, slice, Array]]:
    """Yield (group, windows counted over all images, their columns (K, L) in x's own type)."""
    flat, channels = np.ascontiguousarray(x).reshape(-1), shape.C // shape.groups
    for first, last in row_blocks(shape, max(1, BLOCK_WINDOWS // shape.Q), straddle=True):
        cols = np.empty((shape.K, (last - first) * shape.Q), x.dtype)
        for g in range(shape.groups):
            gather_columns(flat, g * channels, channels, *shape.kernel_arguments, first, last, cols.reshape(-1))
            yield g, slice(first * shape.Q, last * shape.Q), cols


def _filter_parts(shape: ConvShape, g: int, windows: int) -> Iterator[slice]:
    """Yield the filters of group g in parts of at most CALL_PRODUCTS products, so that a call stays short."""
    filters = shape.M // shape.groups
    size = max(1, CALL_PRODUCTS // (shape.K * windows))
    for first in range(g * filters, (g + 1) * filters, size):
        yield slice(first, min(first + size, (g + 1) * filters))
