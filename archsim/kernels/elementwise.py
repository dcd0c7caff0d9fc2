"""Element-wise kernels: fixed-point addition and requantisation, and float64 functions of decoded values."""

from __future__ import annotations

import numpy as np

from archsim.kernels._geometry import Array, peak
from archsim.kernels.finish import code_dtype, finish_of, requantise_array

CHUNK = 1 << 17


def add_fixed(
    a: Array, b: Array, shift_a: int, shift_b: int, low: int | None, high: int | None, shift: int, bits: int
) -> tuple[Array, int]:
    """Add codes of one shape: shift both left to the larger fraction, add, clip to [low, high], requantise by `shift`.

    Returns `bits`-bit codes (int16 up to 16 bits, else int32) and the number of saturated words.
    Raises: ValueError for different shapes or a negative shift; OverflowError if a sum could leave int64.
    """
    if a.shape != b.shape:
        raise ValueError(f"both summands must have one shape; got {a.shape} and {b.shape}")
    if min(shift_a, shift_b) < 0:
        raise ValueError(f"summands are aligned to the left, shifts must be >= 0; got {shift_a} and {shift_b}")
    if (peak(a) << shift_a) + (peak(b) << shift_b) >= 1 << 63:
        raise OverflowError(f"summands shifted by {shift_a} and {shift_b} must fit 64 bits")
    finish = finish_of(low, high, shift, bits)
    y = np.empty(a.shape, code_dtype(bits))
    flat_a, flat_b, flat_y = a.reshape(-1), b.reshape(-1), y.reshape(-1)
    saturated = 0
    for first in range(0, y.size, CHUNK):  # in cache-sized pieces: no 64-bit copies of whole tensors
        part = slice(first, first + CHUNK)
        total = (flat_a[part].astype(np.int64) << shift_a) + (flat_b[part].astype(np.int64) << shift_b)
        saturated += requantise_array(total, finish, flat_y[part])
    return y, saturated


def requantise(acc: Array, shift: int, bits: int) -> tuple[Array, int]:
    """Shift integers right by `shift` (half up; left if negative) and saturate: `bits`-bit codes, saturated words."""
    y = np.empty(acc.shape, code_dtype(bits))
    saturated = requantise_array(
        np.ascontiguousarray(acc).reshape(-1), finish_of(None, None, shift, bits), y.reshape(-1)
    )
    return y, saturated


def lrn(values: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """Normalise (N, C, ...) across channels: x / (bias + alpha/size * sum x^2)^beta, float64.

    The sum runs over channels c - floor((size-1)/2) .. c + ceil((size-1)/2). Source: ONNX operator LRN.
    """
    x = np.asarray(values, np.float64)
    squares = x * x
    total = np.zeros_like(x)
    channels = x.shape[1]
    for offset in range(-((size - 1) // 2), size // 2 + 1):
        here, there = max(0, -offset), max(0, offset)
        count = channels - abs(offset)
        if count > 0:
            total[:, here : here + count] += squares[:, there : there + count]
    return np.asarray(x / (bias + alpha / size * total) ** beta)


def softmax(values: Array) -> Array:
    """Return exp(x) / sum exp(x) over axis 1, float64; the maximum is subtracted first."""
    x = np.asarray(values, np.float64)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(values: Array) -> Array:
    """Return 1 / (1 + exp(-x)), float64, without overflow on either side."""
    x = np.asarray(values, np.float64)
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, small) / (1.0 + small))


def tanh(values: Array) -> Array:
    """Return tanh(x), float64."""
    return np.asarray(np.tanh(np.asarray(values, np.float64)))
