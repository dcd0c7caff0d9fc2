"""Speculation parameters worth trying, and what they do: one pass of partial sums for all thresholds of an n.

Source: kernel profiling of Algorithm 1, V. Akhlaghi, UC San Diego 2020, section 3.5.3; the candidate values are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from archsim.accelerators.base import Candidate, Profiled
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.function import Windows, all_kernels, termination, unsigned
from archsim.accelerators.snapea.kernel import profile_block
from archsim.accelerators.snapea.order import SnapeaStored, Speculation, speculation_set
from archsim.accelerators.snapea.plan import as_conv
from archsim.accelerators.snapea.prepare import order_streams
from archsim.kernels._geometry import bias_or_zeros
from archsim.workload.layers import Conv, Layer
from archsim.workload.params import Array

SAMPLE_ROWS = 256
"""Output rows, spread over the images of a sample, that thresholds are taken from."""


def candidate_levels(
    config: SnapeaConfig, layer: Layer, x: Array, stored: SnapeaStored, grid: Mapping[str, Sequence[float]]
) -> list[Candidate]:
    """Return (th, n) for every n and th_quantile of `grid`, filter by filter; none for a layer that never stops.

    th is a quantile of the partial sums after n weights over the windows whose dense result is negative, so that at
    least this share of them stops. A filter stays exact where n is not below its number of weights or no window of the
    sample ends below 0.
    """
    if termination(config, layer, stored.params).startswith("off"):
        return []
    conv, streams = as_conv(layer), stored.extra
    assert stored.params.weights is not None and streams is not None
    weights, bias = stored.params.weights.reshape(conv.M, -1), bias_or_zeros(stored.params.bias, conv.M)
    words = _sample(Windows(conv, unsigned(x, stored.params)))
    negative = _sums(conv, weights, bias, words) < 0
    found: list[Candidate] = []
    for n in map(int, grid["n"]):
        early = _sums(conv, _chosen(config, weights, n), bias, words)
        usable = (streams.lengths > n) & negative.any(axis=1)
        found += [
            tuple(_row(early[m, negative[m]], n, share) if usable[m] else None for m in range(conv.M))
            for share in grid["th_quantile"]
        ]
    return found


def _row(early: Array, n: int, share: float) -> dict[str, int]:
    """Return the row whose threshold stops at least `share` of the windows."""
    return {"th": int(np.floor(np.quantile(early, share))) + 1, "n": n}


def _sample(windows: Windows) -> list[Array]:
    """Return what the windows of the sample hold, float64 (K, windows), for every group."""
    shape = windows.shape
    rows = np.unique(np.linspace(0, windows.rows - 1, min(SAMPLE_ROWS, windows.rows)).astype(int))
    held = np.empty((shape.groups, len(rows), shape.K * shape.Q), np.int32)
    for g in range(shape.groups):
        for i, row in enumerate(rows):
            windows.gather(g, int(row), int(row) + 1, held[g, i])
    by_position = held.reshape(shape.groups, len(rows), shape.K, shape.Q).transpose(0, 2, 1, 3)
    return [part.reshape(shape.K, -1).astype(np.float64) for part in by_position]


def _sums(conv: Conv, weights: Array, bias: Array, words: list[Array]) -> Array:
    """Return bias + weights times words, float64 (M, windows): exact, sums have 48 bits."""
    filters = conv.M // conv.groups
    parts = [weights[g * filters : (g + 1) * filters].astype(np.float64) @ one for g, one in enumerate(words)]
    return np.asarray(np.concatenate(parts) + bias[:, None])


def _chosen(config: SnapeaConfig, weights: Array, n: int) -> Array:
    """Return the weights (M, K) with all but the n speculation weights of every kernel set to zero."""
    chosen = np.zeros_like(weights)
    for m, row in enumerate(weights):
        kept = np.flatnonzero(row) if config.drop_zero_weights else np.arange(len(row))
        if n <= len(kept):
            index = speculation_set(row, kept, n)
            chosen[m, index] = row[index]
    return chosen


def profile_levels(
    config: SnapeaConfig, layer: Layer, x: Array, stored: SnapeaStored, candidates: Sequence[Candidate]
) -> list[Profiled]:
    """Return MACs and lost results of every candidate, filter by filter: one pass for each n, and one without.

    A loss is what the threshold takes away of a dense result above 0, in accumulator units.
    """
    conv = as_conv(layer)
    windows = Windows(conv, unsigned(x, stored.params))
    macs = np.zeros((len(candidates), conv.M), np.int64)
    errors = np.zeros((len(candidates), conv.M))
    (macs[:],), _ = _pass(config, layer, stored, windows, 0, np.zeros((conv.M, 1)))
    for n in sorted({row["n"] for row in _rows(candidates)}):
        mine = [(i, [m for m, row in enumerate(rows) if row and row["n"] == n]) for i, rows in enumerate(candidates)]
        mine = [(i, filters) for i, filters in mine if filters]
        thresholds = np.full((conv.M, len(mine)), -np.inf)
        for t, (i, filters) in enumerate(mine):
            for m in filters:
                row = candidates[i][m]
                assert row is not None
                thresholds[m, t] = row["th"]
        done, lost = _pass(config, layer, stored, windows, n, thresholds)
        for t, (i, filters) in enumerate(mine):
            macs[i, filters], errors[i, filters] = done[t, filters], lost[t, filters]
    return [Profiled(*one) for one in zip(macs, errors)]


def _rows(candidates: Iterable[Candidate]) -> Iterable[Mapping[str, int]]:
    return (row for rows in candidates for row in rows if row is not None)


def _pass(
    config: SnapeaConfig, layer: Layer, stored: SnapeaStored, windows: Windows, n: int, thresholds: Array
) -> tuple[Array, Array]:
    """Return MACs int64 (T, M) and losses float64 (T, M) of thresholds (M, T) with n speculation weights everywhere."""
    conv = windows.conv
    assert stored.extra is not None
    able = np.flatnonzero(stored.extra.lengths >= n) if n else ()
    streams = order_streams(config, layer, stored.params, {int(m): Speculation(0, n) for m in able})
    kernels = all_kernels(config, streams, bias_or_zeros(stored.params.bias, conv.M), overflows=False)
    inclusive = thresholds + (config.th_compare == "<=")
    macs, errors = np.zeros(thresholds.shape, np.int64), np.zeros(thresholds.shape)
    for block in windows.blocks():
        part = block.filters
        profile_block(
            block.columns,
            block.windows,
            kernels.part(part),
            config.sign_floor,
            inclusive[part],
            macs[part],
            errors[part],
        )
    return macs.T, errors.T
