"""The multiplications of a layer, filters off or on, added up in order of issue."""

from __future__ import annotations

import numpy as np

from archsim.accelerators.bloom.filters import Bank
from archsim.accelerators.bloom.floats import Array, top_bits
from archsim.accelerators.bloom.h3 import operand_hashes
from archsim.accelerators.bloom.stream import Stream

CALL_OPERATIONS = 1 << 27
"""Operations of one call of a kernel: below half a second, so that Ctrl-C is seen."""


def run_products(stream: Stream, x: Array, w: Array, bias: Array, bank: Bank | None) -> tuple[Array, Array]:
    """Return the sums float32 (images, M, windows), and (hits, false hits) of every image; no bank: filters off.

    x (images, words), w (M, K), bias (M,): float32 with subnormals flushed.
    """
    from archsim.accelerators.bloom.kernel import run_exact

    y, stats = np.empty((len(x), len(w), len(stream.start) - 1), np.float32), np.zeros((len(x), 2), np.int64)
    step = max(1, CALL_OPERATIONS // stream.operations)
    for first in range(0, len(x), step):
        part = slice(first, first + step)
        if bank is None:
            run_exact(x[part], w, bias, *stream.arguments, y[part])
        else:
            _run_bank(stream, x[part], w, bias, bank, y[part], stats[part])
    return y, stats


def _run_bank(stream: Stream, x: Array, w: Array, bias: Array, bank: Bank, y: Array, stats: Array) -> None:
    """Run some images with the filters on: answers looked up, or every key hashed."""
    from archsim.accelerators.bloom.kernel import run_hashed, run_table

    apx, shape = bank.shape.apx, bank.shape
    x_top, w_top = top_bits(x, apx), top_bits(w, apx)
    if bank.table is not None:
        run_table(
            x, w, x_top << np.uint32(apx), w_top, bias, *stream.arguments, bank.table, bank.outputs, y, stats
        )  # fmt: skip
        return
    x_hash, w_hash = operand_hashes(bank.tables, 0, x_top), operand_hashes(bank.tables, 1, w_top)
    first, tops = bank.first.astype(np.int64), np.ascontiguousarray(bank.patterns.tops)
    run_hashed(
        x, w, x_top, w_top, x_hash, w_hash, bias, *stream.arguments, bank.vectors, bank.tags, shape.k, shape.log2_m,
        tops, first, bank.outputs, y, stats,
    )  # fmt: skip
