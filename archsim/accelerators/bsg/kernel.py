"""Compiled kernels: weights from bits, and a convolution that adds in the order of the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.kernels._jit import njit

Array = npt.NDArray[Any]


@njit
def correlate(registers: Array, codes: Array, code_words: int, out: Array) -> None:
    """out[s, i] = n_c - 2 * popcount(codes[s] XOR registers[i]), n_c = 16 * code_words.

    registers uint64 (count, k), codes uint64 (slices, k), out int16 (slices, count). Bits beyond n_c are 0 in both.
    """
    n_c = 16 * code_words
    for s in range(codes.shape[0]):
        for i in range(registers.shape[0]):
            ones = np.uint64(0)
            for k in range(codes.shape[1]):
                x = codes[s, k] ^ registers[i, k]
                x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
                x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
                x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
                ones += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
            out[s, i] = n_c - 2 * np.int64(ones)


@njit
def convolve(x: Array, w: Array, stride: Array, dilation: Array, groups: int, slice_shape: Array, sums: Array) -> None:
    """Add products in float32, one rounding each, in the order of the array: slices along the channels outermost, then
    kernel rows, kernel columns, and the channels of a slice innermost.

    x float32 (N, C, H, W) with its padding, w float32 (M, C/groups, R, S), sums float32 (N, M, P, Q), zeros. Kernels
    wider than a slice are cut there too. Each output has its own sum, so the loops over positions run innermost.
    """
    per_group, rows, columns = w.shape[1], w.shape[2], w.shape[3]
    filters = w.shape[0] // groups
    k, h, v = slice_shape[1], slice_shape[2], slice_shape[3]
    for n in range(x.shape[0]):
        for m in range(w.shape[0]):
            maps = x[n, m // filters * per_group :]
            for ki in range(0, per_group, k):
                for hi in range(0, rows, h):
                    for vi in range(0, columns, v):
                        for r in range(hi, min(hi + h, rows)):
                            for s in range(vi, min(vi + v, columns)):
                                for c in range(ki, min(ki + k, per_group)):
                                    taken = maps[c, r * dilation[0] :, s * dilation[1] :]
                                    _add_products(w[m, c, r, s], taken, stride[0], stride[1], sums[n, m])


@njit(inline="always")
def _add_products(weight: Any, taken: Array, down: int, right: int, sums: Array) -> None:
    """Add weight * taken[p * down, q * right] to every sum (P, Q); two loops, for only one of them is vectorised."""
    for p in range(sums.shape[0]):
        line, row = taken[p * down], sums[p]
        if right == 1:
            for q in range(row.shape[0]):
                row[q] += weight * line[q]
        else:
            for q in range(row.shape[0]):
                row[q] += weight * line[q * right]
