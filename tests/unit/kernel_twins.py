"""Slow NumPy twins of the kernels: the definition, written without blocks, BLAS or compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def windows_of(x, R, S, stride, pad, dilation, fill=0):
    """x (N, C, H, W) -> (N, C, R, S, P, Q): every tap of every window."""
    top, left, bottom, right = pad
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    P = (x.shape[2] - dilation[0] * (R - 1) - 1) // stride[0] + 1
    Q = (x.shape[3] - dilation[1] * (S - 1) - 1) // stride[1] + 1
    taps = np.empty((*x.shape[:2], R, S, P, Q), x.dtype)
    for r in range(R):
        for s in range(S):
            h, w = r * dilation[0], s * dilation[1]
            rows = x[:, :, h : h + (P - 1) * stride[0] + 1 : stride[0]]
            taps[:, :, r, s] = rows[..., w : w + (Q - 1) * stride[1] + 1 : stride[1]]
    return taps


def convolve(x, w, bias, stride, pad, dilation, groups, dtype: Any = np.int64):
    """The convolution as one einsum per group, in `dtype`."""
    M, channels, R, S = w.shape
    taps = windows_of(x.astype(dtype), R, S, stride, pad, dilation)
    per_group = M // groups
    parts = [
        np.einsum(
            "ncrspq,mcrs->nmpq",
            taps[:, g * channels : (g + 1) * channels],
            w[g * per_group : (g + 1) * per_group].astype(dtype),
        )
        for g in range(groups)
    ]
    y = np.concatenate(parts, axis=1)
    return y if bias is None else y + np.asarray(bias, dtype)[None, :, None, None]


def requantise_word(acc: int, low: int | None, high: int | None, shift: int, bits: int) -> tuple[int, bool]:
    """One accumulator word in unbounded integers: clip, half-up shift, saturate."""
    acc = acc if low is None else max(acc, low)
    acc = acc if high is None else min(acc, high)
    code = (acc + (1 << (shift - 1))) >> shift if shift > 0 else acc << -shift
    bounded = min(max(code, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)
    return bounded, bounded != code


def each_word(acc, function: Callable[[int], tuple[int, bool]], dtype):
    """Apply a word function to an array: (codes, number of True flags)."""
    words = [function(int(word)) for word in acc.reshape(-1)]
    return np.array([word for word, _ in words], dtype).reshape(acc.shape), sum(flag for _, flag in words)


def requantise(acc, low, high, shift, bits):
    """Requantise an accumulator array word by word."""
    dtype = np.int16 if bits <= 16 else np.int32
    return each_word(acc, lambda word: requantise_word(word, low, high, shift, bits), dtype)
