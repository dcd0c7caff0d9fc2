"""Numba kernels of the data-dependent part: zero gating, RLC pairs per tile, 16-bit psum accumulation."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from archsim.kernels._jit import njit

Array = npt.NDArray[Any]

RUN_WORDS = 32
"""Words of the longest RLC pair: a 5-bit run of 31 zeros and the level behind it."""
PSUM_MAX = 32767
PSUM_MIN = -32768


@njit
def count_ungated_taps(x: Array, row_windows: Array, column_windows: Array, taps: Array, nonzeros: Array) -> None:
    """Count per image the window positions that touch a non-zero word: x (N, C, H, W) -> taps, nonzeros int64 (N,).

    `row_windows` (H,) and `column_windows` (W,) int64: window rows and columns that contain a row or column. The inner
    loop has no branch, so it runs at the same speed whatever the pattern of zeros.
    """
    images, channels, rows, columns = x.shape
    for n in range(images):
        image_taps = 0
        image_nonzeros = 0
        for c in range(channels):
            for h in range(rows):
                row_taps = 0
                row_nonzeros = 0
                for i in range(columns):
                    word = int(x[n, c, h, i] != 0)
                    row_taps += column_windows[i] * word
                    row_nonzeros += word
                image_taps += row_windows[h] * row_taps
                image_nonzeros += row_nonzeros
        taps[n] = image_taps
        nonzeros[n] = image_nonzeros


@njit
def count_rlc_pairs(x: Array, pad: tuple[int, int, int, int], tiles: Array, pairs: Array, nonzeros: Array) -> None:
    """Count RLC pairs and non-zero words per tile: x (K*N, C, H, W) unpadded -> pairs, nonzeros int64 (K, T).

    `tiles` (T, 6) int64: first and end image within a batch, channel, padded row. `pad` is (top, left, bottom, right).
    The order of words in a tile is image, channel, row, column over the full padded width.
    """
    batches = pairs.shape[0]
    batch = x.shape[0] // batches
    for b in range(batches):
        images = x[b * batch : (b + 1) * batch]
        for t in range(tiles.shape[0]):
            pairs[b, t], nonzeros[b, t] = _scan_tile(images, pad, tiles[t])


@njit
def _scan_tile(x: Array, pad: tuple[int, int, int, int], tile: Array) -> tuple[int, int]:
    """Return pairs and non-zero words of one tile; a run continues across rows, channels and images."""
    top, left, _, right = pad
    first_image, end_image, first_channel, end_channel, first_row, end_row = tile
    rows, columns = x.shape[2:]
    run = 0
    pairs = 0
    nonzeros = 0
    for n in range(first_image, end_image):
        for c in range(first_channel, end_channel):
            for h in range(first_row - top, end_row - top):
                run += left
                if 0 <= h < rows:
                    row_pairs, row_nonzeros, run = _scan_row(x[n, c, h], run)
                    pairs += row_pairs
                    nonzeros += row_nonzeros
                else:
                    run += columns
                run += right
    return pairs + (run + RUN_WORDS - 1) // RUN_WORDS, nonzeros


@njit
def _scan_row(row: Array, run: int) -> tuple[int, int, int]:
    """Return pairs ended in an unpadded row, its non-zero words and the run of zeros that is still open.

    No branch depends on the data: where half the words are zero that is four times as fast as testing each word.
    """
    last = -run - 1
    pairs = 0
    nonzeros = 0
    for i in range(row.size):
        level = int(row[i] != 0)
        pairs += ((i - last - 1) // RUN_WORDS + 1) * level
        nonzeros += level
        last = i * level + last * (1 - level)
    return pairs, nonzeros, row.size - 1 - last


@njit
def accumulate_chip16(
    x: Array,
    w: Array,
    bias: Array,
    set_edges: Array,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    product_shift: int,
    psums: Array,
) -> int:
    """Accumulate 16-bit psums in the order of the array and return how many adds saturated.

    x (N, C, H, W) padded, w (M, C/groups, R, S), bias (M,) in psum units, `set_edges` int64: the channel boundaries of
    the PE sets within a group, psums int64 (N, M, P, Q) out.
    """
    images, filters, rows, columns = psums.shape
    group_channels = w.shape[1]
    filters_per_group = filters * group_channels // x.shape[1]
    saturated = 0
    for n in range(images):
        for m in range(filters):
            first = m // filters_per_group * group_channels
            maps = x[n, first : first + group_channels]
            for p in range(rows):
                for q in range(columns):
                    window = maps[:, p * stride[0] :, q * stride[1] :]
                    psums[n, m, p, q], events = _psum_chain(window, w[m], bias[m], set_edges, dilation, product_shift)
                    saturated += events
    return saturated


@njit
def _psum_chain(
    window: Array, w: Array, bias: int, set_edges: Array, dilation: tuple[int, int], product_shift: int
) -> tuple[int, int]:
    """Return one psum and its saturated adds: PE sums are added up set after set and, within a set, row after row."""
    psum = bias
    saturated = 0
    for k in range(set_edges.size - 1):
        channels = slice(set_edges[k], set_edges[k + 1])
        for r in range(w.shape[1]):
            local, events = _pe_sum(window[channels, r * dilation[0]], w[channels, r], dilation[1], product_shift)
            exact = psum + local
            psum = _saturate(exact)
            saturated += events + int(psum != exact)
    return psum, saturated


@njit
def _pe_sum(columns: Array, w: Array, step: int, product_shift: int) -> tuple[int, int]:
    """Return what one PE sums up from zero for one window: columns (q, W), w (q, S), tap by tap, channels innermost."""
    local = 0
    saturated = 0
    for s in range(w.shape[1]):
        for c in range(w.shape[0]):
            exact = local + ((int(columns[c, s * step]) * int(w[c, s])) >> product_shift)
            local = _saturate(exact)
            saturated += int(local != exact)
    return local, saturated


@njit
def _saturate(value: int) -> int:
    """Clamp to the 16-bit psum."""
    return min(max(value, PSUM_MIN), PSUM_MAX)
