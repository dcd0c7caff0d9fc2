"""The filters of one functional unit: designed once, programmed with patterns, asked for every operation.

Patterns with bit-equal stored outputs share a filter; filter 0 holds the output hit most often in the profile, and the
lowest filter that says hit answers. Source: V. Akhlaghi, UC San Diego 2020, sections 2.3.2 and 2.3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from archsim.accelerators.bloom.floats import FLOAT_BITS
from archsim.accelerators.bloom.h3 import (
    Array,
    Shape,
    addresses,
    byte_tables,
    coefficients,
    full_rank,
    key_hashes,
    operand_hashes,
)
from archsim.errors import MappingError

SEED_STEP = 0x9E37_79B9
MAX_SEEDS = 64
TABLE_BITS = 22
"""Keys up to this width are answered from a table of all of them: 16 MB, and one load instead of k times #BF."""
TABLE_ROWS = 64
NO_TAGS = np.zeros(0, np.int32)


@dataclass(frozen=True, eq=False)
class Patterns:
    """What a unit stores, by descending count: tops uint32 (n, operands), counts int64 (n,), outputs float32 (n,).

    per_filter: most patterns of a filter, 0 for any number; further ones of an output get a filter of their own.
    """

    tops: Array
    counts: Array
    outputs: Array
    per_filter: int = 0

    def by_filter(self) -> tuple[Patterns, Array, Array]:
        """Return the patterns grouped by filter, first int64 (filters + 1,) and the filters' outputs float32.

        Filters go by descending count of all their patterns, then by their first pattern.
        """
        bits = self.outputs.view(np.uint32).astype(np.uint64)
        if self.per_filter:
            before = np.array([np.count_nonzero(bits[:i] == one) for i, one in enumerate(bits)], np.uint64)
            bits = bits | (before // np.uint64(self.per_filter)) << np.uint64(FLOAT_BITS)
        distinct, place, owner = np.unique(bits, return_index=True, return_inverse=True)
        totals = np.bincount(owner, self.counts, len(distinct))
        order = np.lexsort((place, -totals))
        rank_of = np.empty(len(order), np.int64)
        rank_of[order] = np.arange(len(order))
        owner = rank_of[owner]
        grouped = np.argsort(owner, kind="stable")
        sizes = np.bincount(owner, minlength=len(distinct))
        first = np.concatenate([[0], np.cumsum(sizes)])
        chosen = Patterns(self.tops[grouped], self.counts[grouped], self.outputs[grouped])
        return chosen, first, distinct[order].astype(np.uint32).view(np.float32)


@dataclass(frozen=True, eq=False)
class Bank:
    """The programmed filters of one unit.

    C int64 (banks, k, key_bits); vectors uint8 (filters or 1, m); first int64 (filters + 1,): the patterns of every
    filter; tags int32 (m,): the filter by the first address, where one vector serves all (else empty); attempts: seeds
    that were drawn; table: int32 answer to every key, None for wide keys.
    """

    shape: Shape
    seed: int
    attempts: int
    C: Array
    tables: Array
    vectors: Array
    tags: Array
    patterns: Patterns
    first: Array
    outputs: Array
    table: Array | None = None

    @property
    def m(self) -> int:
        """Bits of a vector."""
        return 1 << self.shape.log2_m

    @property
    def filters(self) -> int:
        """Distinct outputs."""
        return len(self.outputs)

    def ask(self, tops: Array) -> Array:
        """Return the filter that answers keys uint32 (n, operands), int64 (n,), -1 where all miss."""
        from archsim.accelerators.bloom.kernel import answer

        found = np.empty(len(tops), np.int64)
        answer(key_hashes(self.tables, tops), self.vectors, self.tags, self.shape.k, self.shape.log2_m, found)
        return found

    def false(self, tops: Array, found: Array) -> Array:
        """Return which answers are false hits: the key is none of the patterns of the filter that answers."""
        right = np.zeros(len(found), bool)
        for f in range(self.filters):
            mine = np.flatnonzero(found == f)
            for one in self.patterns.tops[self.first[f] : self.first[f + 1]]:
                right[mine] |= (tops[mine] == one).all(axis=1)
        return np.asarray((found >= 0) & ~right)


def programmed(shape: Shape, C: Array, chosen: Patterns, *, single: bool, seed: int = 0, attempts: int = 1) -> Bank:
    """Return filters with these coefficients and patterns in place."""
    patterns, first, outputs = chosen.by_filter()
    tables = byte_tables(shape, C)
    at = addresses(shape, key_hashes(tables, patterns.tops))
    owner = np.repeat(np.arange(len(outputs)), np.diff(first))
    vectors = np.zeros((1 if single else len(outputs), 1 << shape.log2_m), np.uint8)
    for n, f in enumerate(owner):
        vectors[0 if single else f, at[n, f if shape.banks > 1 else 0]] = 1
    tags = NO_TAGS
    if single:
        tags = np.zeros(1 << shape.log2_m, np.int32)
        tags[at[::-1, 0, 0]] = owner[::-1]
    return Bank(shape, seed, attempts, C, tables, vectors, tags, patterns, first, outputs)


def answer_table(bank: Bank) -> Array:
    """Return the answer to every key of two operands, int32 (2^key_bits,): filter, FALSE_HIT added, or -1."""
    from archsim.accelerators.bloom.kernel import FALSE_HIT, answer

    shape = bank.shape
    values = np.arange(1 << shape.apx, dtype=np.uint32)
    left, right = (operand_hashes(bank.tables, operand, values) for operand in range(2))
    table = np.empty((len(values), len(values)), np.int32)
    for row in range(0, len(values), TABLE_ROWS):
        part = table[row : row + TABLE_ROWS]
        hashes = (left[row : row + TABLE_ROWS, None] ^ right[None]).reshape(-1, shape.banks)
        answer(hashes, bank.vectors, bank.tags, shape.k, shape.log2_m, part.reshape(-1))
    false = table >= 0
    tops = bank.patterns.tops
    owner = np.repeat(np.arange(bank.filters), np.diff(bank.first))
    false[tops[:, 0], tops[:, 1]] = table[tops[:, 0], tops[:, 1]] != owner
    table[false] |= FALSE_HIT
    return table.reshape(-1)


Screen = Callable[[Bank], float]
"""Returns the share of false hits among the profile's queries that miss the stored set."""


def designed(
    shape: Shape, chosen: Patterns, seed: int, fp_max: float, screen: Screen, *, single: bool, what: str
) -> tuple[Bank, float]:
    """Draw coefficients until they have full rank and the profile's false hits stay within `fp_max`.

    Raises: MappingError after 64 seeds.
    """
    return first_sound(seeds(seed), shape, chosen, fp_max, screen, single=single, what=what)


def seeds(seed: int) -> list[int]:
    """Return the seeds that are tried, never 0."""
    return [(seed + i * SEED_STEP) & 0xFFFF_FFFF or 1 for i in range(MAX_SEEDS)]


def first_sound(
    drawn: Sequence[int], shape: Shape, chosen: Patterns, fp_max: float, screen: Screen, *, single: bool, what: str
) -> tuple[Bank, float]:
    """Return the first bank that passes, and its false-hit rate. Raises: MappingError."""
    best = 1.0
    for attempt, seed in enumerate(drawn, 1):
        C = coefficients(shape, seed)
        if not full_rank(shape, C):
            continue
        bank = programmed(shape, C, chosen, single=single, seed=seed, attempts=attempt)
        rate = screen(bank)
        if rate <= fp_max:
            return bank, rate
        best = min(best, rate)
    raise MappingError(
        f"{what}: no hash coefficients of {len(drawn)} seeds keep the unit's false hits within fp_max_unit {fp_max:g} "
        f"(best {best:.3g}); a longer vector (m), or another number of hashes (k), has fewer"
    )
