"""What the data does in `mac_array`: NumPy and the dense reference on masked weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from archsim.accelerators.base import Activity, Candidate, Profiled, Stored
from archsim.approx import LayerSetting
from archsim.workload.layers import Layer
from archsim.workload.params import Array
from archsim.workload.reference import reference
from tests.doubles.mac_array import MacArrayPlan, batch_activity


def thresholds(setting: LayerSetting, filters: int) -> Array:
    """Return the threshold in force for each filter, int64 (M,); level 0 drops nothing."""
    level = setting.level("drop")
    levels = level if isinstance(level, tuple) else (level,) * filters
    rows = {(row["filter"], row["level"]): row["threshold"] for row in setting.tables.get("drop", ())}
    return np.array([rows[m, lv] if lv else 0 for m, lv in enumerate(levels)], np.int64)


def products_done(weights: Array, threshold: Array) -> Array:
    """Return bool (M, K): which products are done; the largest weight of a filter always is."""
    size = np.abs(weights.reshape(len(weights), -1).astype(np.int64))
    done = size >= threshold[:, None]
    done[np.arange(len(size)), size.argmax(axis=1)] = True
    return done


def execute(layer: Layer, plan: MacArrayPlan, x: Array, stored: Stored) -> Activity:
    weights, done = stored.params.weights, stored.extra
    assert weights is not None
    kept = replace(stored.params, weights=np.where(done.reshape(weights.shape), weights, 0).astype(weights.dtype))
    result = reference(layer, x, kept)
    batch = batch_activity(plan, [int(n) * plan.windows for n in done.sum(axis=1)])
    batches = (batch,) * (len(x) // plan.batch)
    return Activity(result.y, batches, result.saturated_words, result.overflow_events)


def candidates(stored: Stored, grid: Mapping[str, Sequence[float]]) -> list[Candidate]:
    weights = stored.params.weights
    assert weights is not None
    size = np.abs(weights.reshape(len(weights), -1).astype(np.int64))
    return [tuple({"threshold": int(np.quantile(row, share))} for row in size) for share in grid["quantile"]]


def profile(layer: Layer, x: Array, stored: Stored, candidates: Sequence[Candidate]) -> list[Profiled]:
    """One pass over products sorted by weight: partial sums give every threshold's error at once."""
    weights = stored.params.weights
    assert weights is not None
    windows = window_matrix(layer, x, len(weights))
    flat = weights.reshape(len(weights), -1).astype(np.int64)
    order = np.argsort(-np.abs(flat), axis=1, kind="stable")
    results: list[Profiled] = []
    partial = [
        np.cumsum(windows[m][:, order[m]] * flat[m, order[m]], axis=1) for m in range(len(flat))
    ]  # (windows, K) each
    for rows in candidates:
        threshold = np.array([row["threshold"] if row else 0 for row in rows])
        kept = np.maximum((np.abs(flat) >= threshold[:, None]).sum(axis=1), 1)
        error = [np.abs(sums[:, -1] - sums[:, n - 1]).sum() for sums, n in zip(partial, kept)]
        results.append(Profiled(kept * len(windows[0]), np.array(error, float)))
    return results


def window_matrix(layer: Any, x: Array, filters: int) -> list[Array]:
    """Return for each filter its windows, int64 (N*P*Q, K), padding included as zeros."""
    if x.ndim == 2:
        return [x.astype(np.int64)] * filters
    top, left, bottom, right = layer.pad
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    spans = ((layer.R - 1) * dh + 1, (layer.S - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    channels, per_group = layer.C // layer.groups, filters // layer.groups
    by_group = [
        view[:, g * channels : (g + 1) * channels].transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * layer.R * layer.S)
        for g in range(layer.groups)
    ]
    return [by_group[m // per_group] for m in range(filters)]
