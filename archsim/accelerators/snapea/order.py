"""The order a kernel's weights are executed in, and what DRAM holds of it: reordered weights and their indices.

Order: [n speculation weights] [remaining >= 0] [remaining < 0]; n is 0 without speculation, a zero weight is
non-negative. Source: V. Akhlaghi, UC San Diego 2020, sections 3.3 and 3.5.1; ties and run lengths are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from archsim.accelerators.base import Stored
from archsim.accelerators.snapea.kernel import leave_out_zeros
from archsim.errors import MappingError
from archsim.workload.params import Array

MAX_KERNEL_WEIGHTS = 1 << 16
"""An index is a 16-bit word."""
SORT_WEIGHTS = 1 << 18
"""Weights sorted at once."""


@dataclass(frozen=True)
class Speculation:
    """Parameters of one kernel: after `n` weights, a partial sum below `th` (accumulator units) stops the window."""

    th: int
    n: int


@dataclass(frozen=True, eq=False)
class Streams:
    """The kernels of a layer in execution order, one after another: kernel m is [first[m], first[m+1]).

    weights int16 (T,), index uint16 (T,): where a weight stands in its kernel (c, r, s), flat; first int64 (M+1,);
    negative_at, n, th int64 (M,): where the negative part begins, and the speculation (n = 0: none).
    """

    weights: Array
    index: Array
    first: Array
    negative_at: Array
    n: Array
    th: Array

    @property
    def lengths(self) -> Array:
        """Weights of every kernel, int64 (M,)."""
        return np.diff(self.first)

    @cached_property
    def work(self) -> Work:
        """What has to be multiplied: zero weights change no sum, so those outside the negative part are left out."""
        weights, index = np.empty_like(self.weights), np.empty_like(self.index)
        parts, rises = np.empty((4, len(self.n)), np.int64), np.empty(len(self.n), bool)
        kept = leave_out_zeros(
            self.weights, self.index, self.first, self.negative_at, self.n, weights, index, parts, rises
        )
        start, speculated, negative, end = parts
        return Work(weights[:kept], index[:kept], start, speculated, negative, end, rises)

    def kernel(self, m: int) -> tuple[Array, Array]:
        """Return (weights, index) of kernel m in execution order."""
        part = slice(int(self.first[m]), int(self.first[m + 1]))
        return self.weights[part], self.index[part]

    def dense(self, shape: tuple[int, ...]) -> Array:
        """Return the weights in the order they were trained in, dropped ones as zeros; `shape` is (M, ...)."""
        weights = np.zeros((shape[0], int(np.prod(shape[1:]))), self.weights.dtype)
        weights[np.repeat(np.arange(shape[0]), self.lengths), self.index] = self.weights
        return weights.reshape(shape)


@dataclass(frozen=True, eq=False)
class Work:
    """The products of every kernel that a simulation computes; int64 (M,) but weights int16, index uint16, rises bool.

    Kernel m: speculation part [start[m], speculated[m]), then up to negative[m], negative part up to end[m]; `rises`:
    a weight of the negative part is above zero, as disturbed ones may be.
    """

    weights: Array
    index: Array
    start: Array
    speculated: Array
    negative: Array
    end: Array
    rises: Array


@dataclass(frozen=True, eq=False)
class SnapeaStored(Stored):
    """What DRAM holds of a SnaPEA layer; `extra` are its Streams, None for a layer without weights."""

    extra: Streams | None = None

    def perturbed(self, read: Callable[[Array], Array]) -> Stored:
        """Flips hit the reordered weights; the order and the index buffer stay those of the clean ones."""
        if self.extra is None or self.params.weights is None:
            return self
        streams = replace(self.extra, weights=read(self.extra.weights))
        return replace(
            self, params=replace(self.params, weights=streams.dense(self.params.weights.shape)), extra=streams
        )


def order_layer(
    name: str,
    weights: Array,
    region_order: str,
    drop_zeros: bool,
    speculation: Mapping[int, Speculation],
    importance: Array | None = None,
) -> Streams:
    """Order the kernels of layer `name`: weights int16 (M, K); `speculation` by filter.

    `importance` float (M, K), for `region_order` activation: the expected size of the input of each weight.
    Raises: MappingError if a kernel has more weights than an index can tell apart, or fewer than its n.
    """
    M, K = weights.shape
    if K > MAX_KERNEL_WEIGHTS:
        raise MappingError(
            f"layer {name!r}: weights of a kernel within a 16-bit index: got {K}, limit {MAX_KERNEL_WEIGHTS}"
        )
    ordered, index = np.empty(M * K, weights.dtype), np.empty(M * K, np.uint16)
    first = np.zeros(M + 1, np.int64)
    negative_at, n, th = np.zeros((3, M), np.int64)
    for m, order in enumerate(_orders(weights, region_order, drop_zeros, importance)):
        negative_at[m] = len(order) - np.count_nonzero(weights[m] < 0)
        if m in speculation:
            n[m], th[m] = speculation[m].n, speculation[m].th
            _check_n(name, m, int(n[m]), len(order))
            order = _with_speculation(weights[m], order, int(n[m]))
            negative_at[m] += np.count_nonzero(weights[m, order[: n[m]]] < 0)
        first[m + 1] = first[m] + len(order)
        part = slice(int(first[m]), int(first[m + 1]))
        ordered[part], index[part] = weights[m, order], order
    return Streams(ordered[: first[M]], index[: first[M]], first, negative_at, n, th)


def _check_n(name: str, m: int, n: int, weights: int) -> None:
    if not 1 <= n <= weights:
        raise MappingError(f"layer {name!r}, filter {m}: n within 1 .. weights of the kernel: got {n}, limit {weights}")


def _orders(weights: Array, region_order: str, drop_zeros: bool, importance: Array | None) -> Iterator[Array]:
    """Yield the order of every kernel without speculation, uint16; filters are sorted in blocks to keep memory flat."""
    size = max(1, SORT_WEIGHTS // weights.shape[1])
    for first in range(0, len(weights), size):
        part = slice(first, first + size)
        block, expected = weights[part], None if importance is None else importance[part]
        orders = _sorted(block, region_order, expected).astype(np.uint16)
        for row, order in zip(block, orders):
            yield _without_zeros(row, order) if drop_zeros else order


def _without_zeros(weights: Array, order: Array) -> Array:
    """Return `order` without the zero weights; a kernel of zeros keeps one of them."""
    kept = order[weights[order] != 0]
    return kept if len(kept) else order[:1]


def _sorted(weights: Array, region_order: str, importance: Array | None) -> Array:
    """Return the order of every kernel without speculation, int64 (M, K); equal weights stay in place."""
    if region_order == "index":
        return np.argsort(weights < 0, axis=1, kind="stable")
    if region_order == "magnitude":  # 16-bit keys are sorted by radix: 3 times as fast as 32-bit ones
        keys = np.where(weights < 0, weights.view(np.uint16), (np.iinfo(np.int16).max - weights).astype(np.uint16))
        return np.argsort(keys, axis=1, kind="stable")
    assert importance is not None
    return np.lexsort((-np.abs(weights * importance), weights < 0), axis=1)


def _with_speculation(weights: Array, order: Array, n: int) -> Array:
    """Return `order` (weights of one kernel that are executed) with the speculation set of size n in front."""
    chosen = speculation_set(weights, np.sort(order), n)
    return np.concatenate([chosen, order[~np.isin(order, chosen)]])


def speculation_set(weights: Array, candidates: Array, n: int) -> Array:
    """Return n of `candidates` (ascending indices into `weights`): of n near-equal runs the largest magnitudes.

    Runs are cut from the weights in ascending order (stable), the first len(candidates) mod n of them one longer; the
    order of the runs is kept, the first of equal magnitudes is taken. Source: Akhlaghi 2020, section 3.5.1.
    """
    ascending = candidates[np.argsort(weights[candidates], kind="stable")]
    size = np.abs(weights[ascending].astype(np.int64))
    runs = np.array_split(np.arange(len(ascending)), n)
    return ascending[[run[size[run].argmax()] for run in runs]]
