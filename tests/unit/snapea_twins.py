"""The rules of a SnaPEA lane, PE and array, written down window by window in unbounded integers: slow and separate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.unit.kernel_twins import windows_of

Order = tuple[list[int], int]
"""Indices in execution order, and the position of the first weight of the negative part."""


def region(weights: list[int], indices: list[int], how: str, importance: list[float] | None) -> list[int]:
    """Order the indices of one region (all weights of one sign)."""
    if how == "index":
        return sorted(indices)
    if how == "magnitude":
        return sorted(indices, key=lambda i: (-abs(weights[i]), i))
    assert importance is not None
    return sorted(indices, key=lambda i: (-abs(weights[i] * importance[i]), i))


def order(
    weights: list[int], how: str = "magnitude", n: int = 0, drop: bool = False, importance: list[float] | None = None
) -> Order:
    """[n speculation weights] [remaining >= 0] [remaining < 0]."""
    kept = [i for i, w in enumerate(weights) if w or not drop] or [0]
    chosen: list[int] = []
    if n:
        ascending = sorted(kept, key=lambda i: (weights[i], i))
        longer, size = len(kept) % n, len(kept) // n
        at = 0
        for run in range(n):
            end = at + size + (run < longer)
            chosen.append(max(ascending[at:end], key=lambda i: abs(weights[i])))  # the first of equal ones
            at = end
    rest = [i for i in kept if i not in chosen]
    positive = region(weights, [i for i in rest if weights[i] >= 0], how, importance)
    negative = region(weights, [i for i in rest if weights[i] < 0], how, importance)
    return [*chosen, *positive, *negative], len(chosen) + len(positive)


@dataclass(frozen=True)
class Lane:
    """What one window does: steps, output after ReLU, how it stopped, its sum without any stop."""

    op: int
    output: int
    stop: str
    dense: int
    sums: tuple[int, ...] = ()


def run_lane(
    weights: list[int],
    x: list[int],
    sequence: Order,
    bias: int = 0,
    n: int = 0,
    th: int = 0,
    th_compare: str = "<",
    sign_compare: str = "<",
) -> Lane:
    """Step through one window."""
    indices, negative_at = sequence
    below = {"<": lambda a, b: a < b, "<=": lambda a, b: a <= b}
    dense = bias + sum(weights[i] * x[i] for i in indices)
    acc, sums = bias, []
    for k, i in enumerate(indices):
        acc += weights[i] * x[i]
        sums.append(acc)
        if n and k == n - 1 and below[th_compare](acc, th):
            return Lane(k + 1, 0, "threshold", dense, tuple(sums))
        if k >= negative_at and below[sign_compare](acc, 0):
            return Lane(k + 1, 0, "sign", dense, tuple(sums))
    return Lane(len(indices), max(acc, 0), "", dense, tuple(sums))


def run_pe(K: int, groups: list[list[int]], bubble: int) -> dict[str, int]:
    """Events of a PE from the steps of its lanes, group by group; a born-stopped lane did 0."""
    cycles = reads = macs = inputs = spent = 0
    for g, ops in enumerate(groups):
        m = max(ops)
        cost = min(K, m + bubble) if g + 1 < len(groups) else m + bubble
        cycles += cost
        spent += len(ops) * cost
        reads += min(K, m + bubble)
        inputs += min(K, m + bubble) - (1 if bubble and m + bubble <= K else 0)
        macs += sum(ops)
    return {"cycles": cycles, "weight_reads": reads, "input_reads": inputs, "macs": macs, "idle": spent - macs}


def window_words(x: Any, conv: Any) -> Any:
    """x (N, C, H, W) -> (N, P, Q, groups, K): the words of every window, by group of the convolution."""
    taps = windows_of(np.asarray(x, np.int64), conv.R, conv.S, conv.stride, conv.pad, conv.dilation)
    N, C, R, S, P, Q = taps.shape
    grouped = taps.reshape(N, conv.groups, C // conv.groups, R, S, P, Q)
    return np.moveaxis(grouped, (5, 6), (1, 2)).reshape(N, P, Q, conv.groups, -1)
