"""What operands occur how often: counts over the profile set, the most frequent patterns, what they stand for.

Source: V. Akhlaghi, UC San Diego 2020, sections 2.4.2 and 2.5.2. A pattern is the top bits of all operands of an
operation; the N of highest count are stored, of equal counts the lower key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from archsim.accelerators.bloom.filters import Patterns
from archsim.accelerators.bloom.floats import FLOAT_BITS, Array, apply_unit, flushed, representative, top_bits
from archsim.accelerators.bloom.modes import modal_products
from archsim.accelerators.bloom.stream import Stream
from archsim.threads import map_blocks, thread_limit

Representative = Literal["trunc", "mid", "mean", "first", "mode"]
BLOCK_IMAGES = 32
"""Images whose products are added up at once: sums of blocks are added in order, whatever the number of threads."""
BUCKETS = 1 << 22
HEAVY_SLOTS = 1 << 20


@dataclass(frozen=True, eq=False)
class Operands:
    """The multiplications of one layer over the profile set: x float32 (images, words), w float32 (M, K)."""

    stream: Stream
    x: Array
    w: Array

    def tops(self, images: slice, apx: int) -> tuple[Array, Array]:
        """Return the keys' two parts, uint64: x_top | w_top is a key."""
        return top_bits(self.x[images], apx).astype(np.uint64) << np.uint64(apx), self._w_top(apx)

    def _w_top(self, apx: int) -> Array:
        return top_bits(self.w, apx).astype(np.uint64)

    def blocks(self, size: int) -> list[slice]:
        """Return the images in blocks of `size`."""
        return [slice(first, first + size) for first in range(0, len(self.x), size)]


def operands_of(stream: Stream, x: Array, weights: Array) -> Operands:
    """Return the operands as the unit reads them, x (images, ...), weights (M, ...)."""
    return Operands(stream, flushed(x).reshape(len(x), -1), flushed(weights).reshape(len(weights), -1))


# layers of multiplications --------------------------------------------------------------------------------------------
def frequent_products(
    layers: Sequence[Operands], apx: int, N: int, rep: Representative, counted: tuple[Array, Array] | None = None
) -> Patterns:
    """Return the N most frequent patterns of some layers' multiplications, with what they stand for.

    `counted`: what `key_counts` says of them; None for keys too wide for it.
    """
    keys, counts = most_frequent(*counted, N) if counted else _heavy_top(layers, apx, N)
    tops = np.stack([keys >> np.uint64(apx), keys & np.uint64((1 << apx) - 1)], axis=1).astype(np.uint32)
    return Patterns(tops, counts, _stored_products(layers, apx, keys, tops, rep))


def _even_blocks(one: Operands) -> list[slice]:
    """Return one block of images per thread: for counts, which do not depend on how they are added."""
    return one.blocks(max(1, -(-len(one.x) // thread_limit())))


def count_table(layers: Sequence[Operands], apx: int) -> Array:
    """Return how often every key occurs, int64 (2^(2 apx),)."""
    from archsim.accelerators.bloom.kernel import count_keys

    def counted(one: Operands, images: slice) -> Array:
        counts = np.zeros(1 << (2 * apx), np.int64)
        x_top, w_top = one.tops(images, apx)
        count_keys(x_top, w_top, *one.stream.arguments, counts)
        return counts

    total = np.zeros(1 << (2 * apx), np.int64)
    for one in layers:
        for counts in map_blocks(partial(counted, one), _even_blocks(one)):
            total += counts
    return total


def key_counts(layers: Sequence[Operands], apx: int) -> tuple[Array, Array]:
    """Return the keys that occur, uint64 in ascending order, and how often, int64; keys of at most TABLE_BITS."""
    counts = count_table(layers, apx)
    keys = np.flatnonzero(counts)
    return keys.astype(np.uint64), counts[keys]


def most_frequent(keys: Array, counts: Array, N: int) -> tuple[Array, Array]:
    """Return the N keys of highest count, of equal counts the lower key."""
    order = np.lexsort((keys, -counts))[:N]
    return keys[order], counts[order]


def _heavy_top(layers: Sequence[Operands], apx: int, N: int) -> tuple[Array, Array]:
    """Find the most frequent of keys too wide for a table: no key has a higher count than its bucket.

    Keys of buckets of at least `threshold` are counted exactly; if N of them reach it, no other key can.
    """
    from archsim.accelerators.bloom.kernel import count_buckets

    buckets = np.zeros(BUCKETS, np.int64)
    for one in layers:
        for images in one.blocks(BLOCK_IMAGES):
            x_top, w_top = one.tops(images, apx)
            count_buckets(x_top, w_top, *one.stream.arguments, buckets)
    threshold = max(1, int(np.sort(buckets)[-4 * N]))
    while True:
        keys, counts = _heaviest(layers, apx, N, buckets, threshold)
        least = int(counts[-1]) if len(counts) == N else 1
        if least >= threshold or threshold == 1:
            return keys, counts
        threshold = least


def _heaviest(
    layers: Sequence[Operands], apx: int, N: int, buckets: Array, threshold: int, part: int = 0, parts: int = 1
) -> tuple[Array, Array]:
    """Return the N most frequent keys of every `parts`-th bucket from `part` on that has at least `threshold`.

    Where they are too many for the table, a quarter of the buckets is counted at a time.
    """
    from archsim.accelerators.bloom.kernel import count_heavy

    keys, counts = np.zeros(HEAVY_SLOTS, np.uint64), np.zeros(HEAVY_SLOTS, np.int64)
    for one in layers:
        for images in one.blocks(BLOCK_IMAGES):
            x_top, w_top = one.tops(images, apx)
            if not count_heavy(x_top, w_top, *one.stream.arguments, buckets, threshold, part, parts, keys, counts):
                quarters = [
                    _heaviest(layers, apx, N, buckets, threshold, part + i * parts, 4 * parts) for i in range(4)
                ]
                keys, counts = (np.concatenate(column) for column in zip(*quarters, strict=True))
                return most_frequent(keys, counts, N)
    used = counts > 0
    return most_frequent(keys[used], counts[used], N)


def _stored_products(layers: Sequence[Operands], apx: int, keys: Array, tops: Array, rep: Representative) -> Array:
    """Return the output each pattern stands for, float32 (n,)."""
    if rep in ("trunc", "mid") or apx == FLOAT_BITS:
        return represented("mul", tops, apx, rep)
    if rep == "mode":
        return apply_unit("mul", list(modal_products(layers, apx, tops)))
    sums, seen, first = products_of(layers, apx, keys)
    return first if rep == "first" else (sums / seen).astype(np.float32)


def represented(kind: str, tops: Array, apx: int, rep: Representative) -> Array:
    """Return what a unit makes of the operands that truncated ones stand for, float32 (n,)."""
    columns = [representative(tops[:, o], apx, middle=rep == "mid") for o in range(tops.shape[1])]
    return apply_unit(kind, columns)


def products_of(layers: Sequence[Operands], apx: int, keys: Array) -> tuple[Array, Array, Array]:
    """Return float64 sums, int64 numbers and float32 first ones of the exact products of every pattern."""
    from archsim.accelerators.bloom.kernel import gather_products, place_keys

    slots = 1 << (4 * len(keys) - 1).bit_length()
    table, index = np.zeros(slots, np.uint64), np.full(slots, -1, np.int64)
    place_keys(keys, table, index)

    def gathered(one: Operands, images: slice) -> tuple[Array, Array, Array]:
        sums, seen, first = _nothing(len(keys))
        x_top, w_top = one.tops(images, apx)
        gather_products(one.x[images], one.w, x_top, w_top, *one.stream.arguments, table, index, sums, seen, first)
        return sums, seen, first

    sums, seen, first = _nothing(len(keys))
    for one in layers:
        for part in map_blocks(partial(gathered, one), one.blocks(BLOCK_IMAGES)):
            first = np.where(seen == 0, part[2], first)
            sums += part[0]
            seen += part[1]
    return sums, seen, first


def _nothing(n: int) -> tuple[Array, Array, Array]:
    return np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.float32)


# streams of scalar operations -----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Events:
    """What one kind of unit was asked over the profile set: operands float32 (n, q), its exact outputs float32 (n,)."""

    kind: str
    operands: Array
    outputs: Array


def distinct_rows(tops: Array) -> tuple[Array, Array, Array]:
    """Return distinct rows of uint32 (n, q) in ascending order, where each first occurs, and the number of each row."""
    order = np.lexsort(tops.T[::-1])
    ordered = tops[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    number = np.empty(len(tops), np.int64)
    number[order] = np.cumsum(new) - 1
    return ordered[new], order[new], number


def modal_events(operands: Array, number: Array) -> Array:
    """Return an operation with the most frequent exact operands of every class, int64 (classes,); ties: smaller bits.

    number: the class of every operation, int64 (n,).
    """
    _, first, row = distinct_rows(np.ascontiguousarray(operands).view(np.uint32))
    order = np.lexsort((-np.bincount(row), number[first]))
    classes = number[first][order]
    return np.asarray(first[order][np.concatenate([[True], classes[1:] != classes[:-1]])])


def frequent_events(events: Events, apx: int, N: int, outputs: int | None, rep: Representative) -> Patterns:
    """Return the N most frequent patterns of a unit; with `outputs` only those of so many most frequent outputs."""
    tops = top_bits(events.operands, apx)
    keys, first, number = distinct_rows(tops)
    counts = np.bincount(number)
    if rep in ("trunc", "mid"):
        stored = represented(events.kind, keys, apx, rep)
    elif rep == "first" or apx == FLOAT_BITS:
        stored = events.outputs[first]
    elif rep == "mode":
        stored = events.outputs[modal_events(events.operands, number)]
    else:
        with np.errstate(invalid="ignore"):
            stored = (np.bincount(number, events.outputs.astype(np.float64)) / counts).astype(np.float32)
    stored = flushed(stored)
    if outputs is not None:
        values, place = np.unique(stored.view(np.uint32), return_inverse=True)
        frequent = np.lexsort((values, -np.bincount(place, counts)))[:outputs]
        chosen = np.flatnonzero(np.isin(place, frequent))
        keys, counts, stored = keys[chosen], counts[chosen], stored[chosen]
    order = np.argsort(-counts, kind="stable")[:N]
    return Patterns(keys[order], counts[order], stored[order])
