"""What a pattern stands for with `representative: mode`: the exact operands that are most frequent in its class.

Of equal counts the smaller bits, operand 0 first. All filters of a layer meet the same words at a tap, so words are
counted tap by tap, once for all filters; a weight's count of a word is the sum over the taps that hold this weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from archsim.accelerators.bloom.floats import FLOAT_BITS, Array, top_bits
from archsim.threads import map_blocks

if TYPE_CHECKING:
    from archsim.accelerators.bloom.profile import Operands

Words = tuple[Array, Array, Array]
"""Distinct words uint32 in ascending order, their counts int64, and how many belong to every class, int64."""


def modal_products(layers: Sequence[Operands], apx: int, tops: Array) -> tuple[Array, Array]:
    """Return the most frequent exact operands of multiplications of every pattern, two float32 (n,).

    tops: uint32 (n, 2), patterns that occur. Distinct words of all taps are held at once: at most images x windows x
    taps, 12 bytes each.
    """
    from archsim.accelerators.bloom.kernel import modal_pairs

    x_tops, x_class = np.unique(tops[:, 0], return_inverse=True)
    by_weight = np.argsort(tops[:, 1], kind="stable")
    words = [found for one in layers for found in _words_of_taps(one, apx, x_tops)]
    sizes = np.array([0, *(size for found in words for size in found[2].tolist())])
    bits, first, taps, times = _weights_of_taps(layers)
    w_top, w_tops = top_bits(bits.view(np.float32), apx), tops[by_weight, 1]
    pattern_first, pattern_end = np.searchsorted(w_tops, w_top), np.searchsorted(w_tops, w_top, side="right")
    best, a, b = np.zeros(len(tops), np.int64), np.zeros(len(tops), np.uint32), np.zeros(len(tops), np.uint32)
    modal_pairs(
        np.concatenate([found[0] for found in words]), np.concatenate([found[1] for found in words]),
        np.cumsum(sizes), len(x_tops), bits, first, taps, times, pattern_first, pattern_end, x_class[by_weight],
        best, a, b,
    )  # fmt: skip
    pattern = np.argsort(by_weight)
    return a[pattern].view(np.float32), b[pattern].view(np.float32)


def _words_of_taps(one: Operands, apx: int, x_tops: Array) -> list[Words]:
    """Return the words that every tap of every group meets, those of some classes only."""
    stream, dropped = one.stream, np.uint32(FLOAT_BITS - apx)
    order = np.argsort(stream.k_at, kind="stable")
    ends = np.searchsorted(stream.k_at[order], np.arange(one.w.shape[1] + 1))
    low = x_tops.astype(np.uint32) << dropped
    high = low | np.uint32((1 << (FLOAT_BITS - apx)) - 1)

    def counted(bits: Array, tap: int) -> Words:
        values, counts = np.unique(bits[:, stream.x_at[order[ends[tap] : ends[tap + 1]]]], return_counts=True)
        start, end = np.searchsorted(values, low), np.searchsorted(values, high, side="right")
        chosen = np.concatenate([np.arange(*span) for span in zip(start, end, strict=True)])
        return values[chosen], counts[chosen], end - start

    found = []
    for group in range(stream.groups):
        bits = one.x[:, group * stream.group_words :].view(np.uint32)
        found += map_blocks(partial(counted, bits), range(one.w.shape[1]))
    return found


def _weights_of_taps(layers: Sequence[Operands]) -> tuple[Array, Array, Array, Array]:
    """Return distinct weights uint32 (n,), first int64 (n + 1,), and from first[i] on its taps and its times there.

    Taps are numbered as `_words_of_taps` lists them, layer after layer.
    """
    rows, taps_before = [], 0
    for one in layers:
        groups, taps = one.stream.groups, one.w.shape[1]
        number = taps_before + np.arange(groups * taps, dtype=np.uint64).reshape(groups, 1, taps)
        bits = np.ascontiguousarray(one.w).view(np.uint32).astype(np.uint64).reshape(groups, -1, taps)
        rows.append((bits << np.uint64(FLOAT_BITS) | number).reshape(-1))
        taps_before += groups * taps
    places, times = np.unique(np.concatenate(rows), return_counts=True)
    bits, first = np.unique(places >> np.uint64(FLOAT_BITS), return_index=True)
    taps = (places & np.uint64((1 << FLOAT_BITS) - 1)).astype(np.int64)
    return bits.astype(np.uint32), np.append(first, len(places)), taps, times
