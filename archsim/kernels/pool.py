"""Pooling of (N, C, H, W) maps with ONNX semantics; `pad` is (top, left, bottom, right).

With `ceil_mode` a last window may hang over the end padding, but one that would start in it is dropped; taps beyond the
padding are never counted. Source: ONNX operators MaxPool and AveragePool, opset 19.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from archsim.kernels._geometry import Array, Pads, Pair, output_size, peak
from archsim.kernels.finish import code_dtype


def pool_output_size(size: int, kernel: int, stride: int, begin: int, end: int, ceil_mode: bool) -> int:
    """Return the windows along one axis of `size` with `begin` and `end` padding.

    Raises: ValueError if padding reaches the kernel's size or no window fits.
    """
    if max(begin, end) >= kernel:
        raise ValueError(f"padding must be smaller than the kernel; got {begin}, {end} with kernel {kernel}")
    windows = output_size(size + (stride - 1 if ceil_mode else 0), kernel, stride, begin + end)
    if ceil_mode and (windows - 1) * stride >= size + begin:
        windows -= 1
    if windows < 1:
        raise ValueError(f"the kernel must fit into the padded map; got size {size}, kernel {kernel}")
    return windows


def max_pool(x: Array, R: int, S: int, stride: Pair, pad: Pads, ceil_mode: bool) -> Array:
    """Return the maximum over R x S windows of x (N, C, H, W), any dtype: y (N, C, P, Q); padding never wins."""
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    return _reduce_windows(x, R, S, stride, pad, ceil_mode, lowest, np.maximum)


def average_pool_fixed(
    x: Array,
    R: int,
    S: int,
    stride: Pair,
    pad: Pads,
    ceil_mode: bool,
    count_include_pad: bool,
    fraction_delta: int,
    bits: int,
) -> tuple[Array, int]:
    """Average codes x (N, C, H, W) over R x S windows: y (N, C, P, Q) in `bits`-bit codes, saturated words.

    y = floor((2*sum*2^d + n) / (2n)) in exact arithmetic, d = `fraction_delta` = f_y - f_x, n = taps counted.
    Raises: OverflowError if the terms leave int64.
    """
    counts = _tap_counts(x, R, S, stride, pad, ceil_mode, count_include_pad)
    up, down = max(fraction_delta, 0), max(-fraction_delta, 0)
    taps = int(counts.max())
    if (peak(x) * taps << (up + 1)) + (taps << (down + 1)) >= 1 << 63:
        raise OverflowError(f"the sum of {taps} taps scaled by 2^{fraction_delta} must fit 64 bits")
    y = np.empty((*x.shape[:2], *counts.shape), code_dtype(bits))
    code_max = (1 << (bits - 1)) - 1
    saturated = 0
    for n in range(x.shape[0]):  # by image: the 64-bit sums of a whole batch would be four times its codes
        sums = _reduce_windows(x[n : n + 1].astype(np.int64), R, S, stride, pad, ceil_mode, 0, np.add)[0]
        codes = ((sums << (up + 1)) + (counts << down)) // (counts << (down + 1))
        bounded = np.clip(codes, -code_max - 1, code_max)
        saturated += int(np.count_nonzero(bounded != codes))
        y[n] = bounded
    return y, saturated


def average_pool_float(
    x: Array, R: int, S: int, stride: Pair, pad: Pads, ceil_mode: bool, count_include_pad: bool
) -> Array:
    """Average x (N, C, H, W) over R x S windows, summed in float64: y float32 (N, C, P, Q)."""
    counts = _tap_counts(x, R, S, stride, pad, ceil_mode, count_include_pad)
    sums = _reduce_windows(x.astype(np.float64), R, S, stride, pad, ceil_mode, 0, np.add)
    return (sums / counts).astype(np.float32)


def _reduce_windows(
    x: Array,
    R: int,
    S: int,
    stride: Pair,
    pad: Pads,
    ceil_mode: bool,
    fill: float,
    combine: Callable[..., Array],
) -> Array:
    """Combine the taps of every window, columns first and then rows: R + S passes instead of R * S."""
    top, left, bottom, right = pad
    P = pool_output_size(x.shape[2], R, stride[0], top, bottom, ceil_mode)
    Q = pool_output_size(x.shape[3], S, stride[1], left, right, ceil_mode)
    columns = _reduce_axis(x, 3, S, stride[1], left, Q, fill, combine)
    return _reduce_axis(columns, 2, R, stride[0], top, P, fill, combine)


def _reduce_axis(
    x: Array, axis: int, kernel: int, stride: int, begin: int, windows: int, fill: float, combine: Callable[..., Array]
) -> Array:
    """Combine `kernel` taps along one axis."""
    reach = (windows - 1) * stride + kernel
    widths = [(0, 0)] * x.ndim
    widths[axis] = (begin, max(0, reach - begin - x.shape[axis]))
    padded = np.pad(x, widths, constant_values=fill) if any(widths[axis]) else x
    span = (windows - 1) * stride + 1
    ahead = (slice(None),) * axis
    y = padded[(*ahead, slice(0, span, stride))].copy()
    for tap in range(1, kernel):
        combine(y, padded[(*ahead, slice(tap, tap + span, stride))], out=y)
    return y


def _tap_counts(x: Array, R: int, S: int, stride: Pair, pad: Pads, ceil_mode: bool, count_include_pad: bool) -> Array:
    """Return the number of taps each window divides by: int64 (P, Q)."""
    top, left, bottom, right = pad
    ends = (bottom, right) if count_include_pad else (0, 0)
    starts = (0, 0) if count_include_pad else (top, left)
    per_axis = []
    for axis, kernel, begin, end in ((0, R, top, bottom), (1, S, left, right)):
        size = x.shape[2 + axis]
        windows = pool_output_size(size, kernel, stride[axis], begin, end, ceil_mode)
        first = np.arange(windows, dtype=np.int64) * stride[axis]
        per_axis.append(np.minimum(first + kernel, begin + size + ends[axis]) - np.maximum(first, starts[axis]))
    counts: Array = np.multiply.outer(per_axis[0], per_axis[1])
    return counts
