"""Exact integer and float32 convolution and linear layers on top of BLAS.

A matrix product over floats is exact for integers while every partial sum is an integer the float can hold: |sum| is
at most max|x| * max over filters of sum|w|, so that bound, taken from the real data, picks float32 (up to 2^24),
float64 (up to 2^53) or a plain int64 loop. Windows are worked off in blocks: memory stays flat, and the columns of a
block are still in cache when BLAS reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from archsim.kernels._blocks import gather_columns, largest_row_sum, multiply_rows
from archsim.kernels._geometry import Array, ConvShape, Pads, Pair, bias_or_zeros, conv_shape, peak
from archsim.kernels.finish import FinishedOutput, store_block

_INT64 = np.iinfo(np.int64)
BLOCK_BYTES = 16 << 20  # measured: 2 MB costs a fifth (BLAS packs the weights per block), 32 MB gains nothing
BLOCK_WINDOWS = 4096  # layers of few channels: their columns stay in the last-level cache, a fifth faster
LOOP_PRODUCTS = 1 << 27
LINEAR_BYTES = 4 << 20  # converted weights still in cache when BLAS reads them: a quarter faster up to 16 images
LINEAR_IMAGES = 16
_LOWEST, _HIGHEST = -math.inf, math.inf


def conv_accumulate(
    x: Array, w: Array, bias: Array | None, stride: Pair, pad: Pads, dilation: Pair, groups: int
) -> Array:
    """Convolve x (N, C, H, W) with w (M, C/groups, R, S), integers, bias int64 (M,): exact int64 (N, M, P, Q).

    `pad` is (top, left, bottom, right). Raises: OverflowError if a sum could leave int64.
    """
    return conv_fixed(x, w, bias, stride, pad, dilation, groups, None, None, None, 32)[0]


def conv_fixed(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Pair,
    pad: Pads,
    dilation: Pair,
    groups: int,
    low: int | None,
    high: int | None,
    shift: int | None,
    bits: int,
) -> tuple[Array, int]:
    """Convolve integer codes, clip the accumulator to [low, high], requantise: y (N, M, P, Q), saturated words.

    x (N, C, H, W), w (M, C/groups, R, S), bias int64 (M,); y is int16 up to 16 `bits`, else int32; with `shift` None y
    is the clipped int64 accumulator. Raises: OverflowError if a sum could leave int64.
    """
    shape = conv_shape(x, w, stride, pad, dilation, groups)
    biases = bias_or_zeros(bias, shape.M)
    dtype = exact_dtype(x, w.reshape(shape.M, -1), biases)
    output = FinishedOutput((shape.N, shape.M, shape.P * shape.Q), low, high, shift, bits)
    for window, acc in _conv_blocks(x, w, shape, dtype, straddle=True):
        output.write(acc, biases, window)
    return output.y.reshape(shape.N, shape.M, shape.P, shape.Q), output.saturated


def conv_float(x: Array, w: Array, bias: Array | None, stride: Pair, pad: Pads, dilation: Pair, groups: int) -> Array:
    """Convolve x (N, C, H, W) with w (M, C/groups, R, S) in float32: y float32 (N, M, P, Q).

    A block never holds windows of two images, so an image's result does not depend on the others of its batch.
    """
    x, w = np.asarray(x, np.float32), np.asarray(w, np.float32)
    shape = conv_shape(x, w, stride, pad, dilation, groups)
    biases = _float_bias(bias, shape.M)
    y = np.empty((shape.N, shape.M, shape.P * shape.Q), np.float32)
    for window, acc in _conv_blocks(x, w, shape, np.float32, straddle=False):
        store_block(acc, biases, _LOWEST, _HIGHEST, window, y)
    return y.reshape(shape.N, shape.M, shape.P, shape.Q)


def linear_fixed(
    x: Array, w: Array, bias: Array | None, low: int | None, high: int | None, shift: int | None, bits: int
) -> tuple[Array, int]:
    """Multiply codes x (N, C) by w (M, C), clip to [low, high], requantise as `conv_fixed`: y (N, M), saturated words.

    Raises: OverflowError if a sum could leave int64.
    """
    biases = bias_or_zeros(bias, w.shape[0])
    dtype = exact_dtype(x, w, biases)
    columns = np.ascontiguousarray(x.T, dtype)
    output = FinishedOutput((x.shape[0], w.shape[0], 1), low, high, shift, bits)
    for first, rows in _filter_blocks(w, dtype):
        output.write(rows @ columns, biases[first : first + len(rows)], 0, first)
    return output.y[:, :, 0], output.saturated


def linear_float(x: Array, w: Array, bias: Array | None) -> Array:
    """Multiply x (N, C) by w (M, C) in float32: y (N, M).

    Images are taken in blocks of fixed size, the last one filled with zeros, so that BLAS sees the same shape whatever
    N is and an image's result does not depend on the others of its batch.
    """
    images, channels = x.shape
    y = np.empty((images, w.shape[0]), np.float32)
    weights = np.asarray(w, np.float32).T
    for first in range(0, images, LINEAR_IMAGES):
        part = x[first : first + LINEAR_IMAGES]
        block = np.zeros((LINEAR_IMAGES, channels), np.float32)
        block[: len(part)] = part
        y[first : first + len(part)] = (block @ weights)[: len(part)]
    return y + _float_bias(bias, w.shape[0])


def largest_sum(x: Array, w: Array, bias: Array) -> int:
    """Return the bound max |bias| + max |x| * max over rows of sum |w| on any partial sum; integers, w (M, K).

    Raises: OverflowError if it exceeds int64.
    """
    largest = peak(bias) + peak(x) * int(largest_row_sum(np.ascontiguousarray(w)))
    if largest > _INT64.max:
        raise OverflowError(f"|bias| + max|x| * sum|w| must fit 64 bits; got up to {largest}")
    return largest


def exact_dtype(x: Array, w: Array, bias: Array) -> type[np.float32] | type[np.float64] | type[np.int64]:
    """Return the fastest type in which x times w (M, K) is exact; the bias is added in int64.

    Raises: OverflowError if a sum could leave int64.
    """
    products = largest_sum(x, w, bias) - peak(bias)
    if products <= 1 << 24:
        return np.float32
    return np.float64 if products <= 1 << 53 else np.int64


def _float_bias(bias: Array | None, M: int) -> Array:
    """Return the bias as float32 (M,), zeros if there is none."""
    return np.zeros(M, np.float32) if bias is None else np.asarray(bias, np.float32)


def _conv_blocks(
    x: Array, w: Array, shape: ConvShape, dtype: type[Any], *, straddle: bool
) -> Iterator[tuple[int, Array]]:
    """Yield (first window, acc (M, L)) for all windows in order; acc is overwritten by the next block."""
    flat = np.ascontiguousarray(x).reshape(-1)
    loop = dtype is np.int64 or shape.groups == shape.C
    if loop and dtype is np.float32 and x.dtype != np.float32:
        dtype = np.float64  # as fast in the loop, without mixed arithmetic
    weights = np.ascontiguousarray(w, dtype).reshape(shape.M, shape.K)
    columns = 0 if loop else shape.K
    block_rows = _rows_per_block(shape, columns, np.dtype(dtype).itemsize, loop)
    columns_buffer, acc_buffer = (np.empty(k * block_rows * shape.Q, dtype) for k in (columns, shape.M))
    for first, last in row_blocks(shape, block_rows, straddle=straddle):
        windows = (last - first) * shape.Q
        acc = acc_buffer[: shape.M * windows].reshape(shape.M, windows)
        if loop:
            multiply_rows(flat, weights, *shape.kernel_arguments, shape.groups, first, last, acc.reshape(-1))
        else:
            cols = columns_buffer[: shape.K * windows].reshape(shape.K, windows)
            _multiply_groups(flat, weights, shape, first, last, cols, acc)
        yield first * shape.Q, acc


def _multiply_groups(
    x: Array, weights: Array, shape: ConvShape, first: int, last: int, cols: Array, acc: Array
) -> None:
    """acc (M, L) = weights (M, K) times the columns (K, L) of output rows [first, last), group by group."""
    filters, channels = shape.M // shape.groups, shape.C // shape.groups
    for g in range(shape.groups):
        gather_columns(x, g * channels, channels, *shape.kernel_arguments, first, last, cols.reshape(-1))
        part = slice(g * filters, (g + 1) * filters)
        np.matmul(weights[part], cols, out=acc[part])


def _rows_per_block(shape: ConvShape, columns: int, itemsize: int, loop: bool) -> int:
    """Output rows of one block: as BLOCK_BYTES and BLOCK_WINDOWS allow, in the plain loop also LOOP_PRODUCTS."""
    rows = min(BLOCK_BYTES // ((columns + shape.M) * itemsize), BLOCK_WINDOWS) // shape.Q
    if loop:
        rows = min(rows, LOOP_PRODUCTS // (shape.M * shape.K * shape.Q))
    return min(max(rows, 1), shape.N * shape.P)


def row_blocks(shape: ConvShape, block_rows: int, *, straddle: bool) -> Iterator[tuple[int, int]]:
    """Yield [first, last) over the N*P output rows; without `straddle` no block holds rows of two images."""
    unit = shape.N * shape.P if straddle else shape.P
    for start in range(0, shape.N * shape.P, unit):
        for first in range(start, start + unit, block_rows):
            yield first, min(first + block_rows, start + unit)


def _filter_blocks(w: Array, dtype: type[Any]) -> Iterator[tuple[int, Array]]:
    """Yield (first filter, rows of w as `dtype`): the float copy of large linear weights never exists as a whole."""
    rows = max(1, LINEAR_BYTES // max(1, w.shape[1] * np.dtype(dtype).itemsize))
    for first in range(0, w.shape[0], rows):
        yield first, w[first : first + rows].astype(dtype)
