"""What the blocks of `bloom` are made to do: random filters and operands, and operand pairs of real layers.

What must come out is worked out by the filters and units that every simulation uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from archsim.accelerators.base import Stored
from archsim.accelerators.bloom.config import FU_STAGES, BloomConfig
from archsim.accelerators.bloom.filters import Bank, Patterns, programmed
from archsim.accelerators.bloom.floats import Array, apply_unit, flushed, top_bits
from archsim.accelerators.bloom.h3 import Shape, coefficients
from archsim.accelerators.bloom.plan import BloomPlan
from archsim.accelerators.bloom.prepare import Filtered
from archsim.accelerators.bloom.rtl_model import BloomFu, FilterCase, FuCase, Token, filter_parameters
from archsim.accelerators.bloom.stream import Stream, stream_of
from archsim.errors import MappingError
from archsim.workload.layers import Layer
from archsim.workload.random import rng_for

TILE_QUERIES = 256
SPECIAL = (
    0x00000000, 0x80000000, 0x00000001, 0x007FFFFF, 0x80400000, 0x00800000, 0x00FFFFFF, 0x3F800000, 0x3F7FFFFF,
    0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC12345, 0x20000000, 0x1FFFFFFF, 0x1F800001, 0x5F800000,
)  # fmt: skip
"""Zeros, subnormals, ends of the range, infinities, NaNs, and factors of products around the least normal number."""

SHORT = np.uint32(0xFFFF_F800)
"""Mantissas of 13 bits: products of 26, a quarter of them just between two numbers."""


def random_filter_cases(config: BloomConfig, seed: int) -> Iterator[FilterCase]:
    """Yield random filters with random queries: stored patterns, neighbours of them, others, empty cycles."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        bank = _random_bank(config, rng)
        a, b = _random_operands(rng, bank)
        yield filter_case(f"random {number}, {bank.filters} filters", config, bank, a, b, gaps=rng)
        number += 1


def random_fu_cases(config: BloomConfig, seed: int) -> Iterator[FuCase]:
    """Yield random operands: hits, misses, a third of the pairs at the edges of the format, some with exact ties."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        bank = _random_bank(config, rng)
        a, b = _random_operands(rng, bank)
        short = np.where(rng.random(len(a)) < 1 / 4, SHORT, np.uint32(0xFFFF_FFFF))
        a, b = ((one.view(np.uint32) & short).view(np.float32) for one in (a, b))
        edge = rng.random(len(a)) < 1 / 3
        special = np.array(SPECIAL, np.uint32)
        a = np.where(edge, rng.choice(special, len(a)), a.view(np.uint32)).astype(np.uint32).view(np.float32)
        both = edge & (rng.random(len(a)) < 0.5)
        b = np.where(both, rng.choice(special, len(a)), b.view(np.uint32)).astype(np.uint32).view(np.float32)
        yield fu_case(f"random {number}", bank, a, b, gaps=rng)
        number += 1


def _random_bank(config: BloomConfig, rng: np.random.Generator) -> Bank:
    """Return filters of the block's size, with some patterns that share an output."""
    size = filter_parameters(config)
    tops = np.unique(rng.integers(0, 1 << size["APX"], (size["NBF"], 2)).astype(np.uint32), axis=0)
    outputs = rng.normal(size=len(tops)).astype(np.float32)
    outputs[1::4] = outputs[0]
    chosen = Patterns(tops, np.arange(len(tops), 0, -1), outputs)
    banks = len(np.unique(outputs.view(np.uint32))) if config.hash == "per_bf" else 1
    shape = Shape(banks, size["K"], int(math.log2(size["M"])), 2, size["APX"])
    return programmed(shape, coefficients(shape, int(rng.integers(1, 2**32))), chosen, single=False)


def _random_operands(rng: np.random.Generator, bank: Bank) -> tuple[Array, Array]:
    """Return operands: a third stored patterns, a third with one operand of a pattern, a third at random."""
    apx, n = bank.shape.apx, TILE_QUERIES
    low = rng.integers(0, 1 << (32 - apx), (n, 2)).astype(np.uint32)
    stored = bank.patterns.tops[rng.integers(len(bank.patterns.tops), size=n)]
    other = rng.integers(0, 1 << apx, (n, 2)).astype(np.uint32)
    how = rng.integers(0, 3, n)[:, None]
    tops = np.where(how == 0, stored, np.where((how == 1) & (np.arange(2) == 0), stored, other))
    values = (tops.astype(np.uint32) << np.uint32(32 - apx) | low).view(np.float32)
    return np.ascontiguousarray(values[:, 0]), np.ascontiguousarray(values[:, 1])


def rows_of(bank: Bank, filters: int) -> tuple[int, ...]:
    """Return the coefficients turned: for every address bit, hash and filter the key bits it is the parity of."""
    shape = bank.shape
    C = bank.C if shape.banks > 1 else np.repeat(bank.C, filters, axis=0)
    rows = [
        sum((coefficient >> b & 1) << i for i, coefficient in enumerate(coefficients_of_hash))
        for one in C[:filters].tolist()
        for coefficients_of_hash in one
        for b in range(shape.log2_m)
    ]
    missing = filters * shape.k * shape.log2_m - len(rows)
    return (*rows, *[0] * missing)


def _spread(n: int, gaps: np.random.Generator | None) -> Array:
    """Return where queries stand when some cycles stay empty, int64 (n,)."""
    if gaps is None:
        return np.arange(n)
    return np.cumsum(1 + (gaps.random(n) < 0.1) * gaps.integers(1, 4, n)) - 1


def filter_case(
    about: str, config: BloomConfig, bank: Bank, a: Array, b: Array, gaps: np.random.Generator | None = None
) -> FilterCase:
    """Return the case of one bank asked about operand pairs float32 (n,); the block's other filters stay empty."""
    filters, apx = filter_parameters(config)["NBF"], bank.shape.apx
    tops = np.stack([top_bits(a, apx), top_bits(b, apx)], axis=1)
    found, keys = bank.ask(tops).tolist(), [int(one[0]) << apx | int(one[1]) for one in tops]
    owner = np.repeat(np.arange(bank.filters), np.diff(bank.first)).tolist()
    at = _spread(len(keys), gaps)
    queries: list[int | None] = [None] * (int(at[-1]) + 1)
    for place, key in zip(at.tolist(), keys, strict=True):
        queries[place] = key
    return FilterCase(
        about=about,
        rows=rows_of(bank, filters),
        patterns=tuple((f, int(t[0]) << apx | int(t[1])) for f, t in zip(owner, bank.patterns.tops, strict=True)),
        queries=tuple(queries),
        outcomes=tuple({"out_hit": int(f >= 0), "out_bf": max(f, 0)} for f in found),
        totals={"cnt_query": len(keys), "cnt_hit": sum(f >= 0 for f in found)},
    )


def fu_case(about: str, bank: Bank, a: Array, b: Array, gaps: np.random.Generator | None = None) -> FuCase:
    """Return the case of a multiplier behind one bank."""
    tops = np.stack([top_bits(a, bank.shape.apx), top_bits(b, bank.shape.apx)], axis=1)
    exact = apply_unit("mul", [flushed(a), flushed(b)])
    operands = np.stack([a, b], axis=1).view(np.uint32)
    return unit_case(about, bank.outputs, bank.ask(tops), operands, exact, gaps)


def unit_case(
    about: str, outputs: Array, found: Array, operands: Array, exact: Array,
    gaps: np.random.Generator | None = None, ports: tuple[str, ...] = BloomFu.operand_ports,
) -> FuCase:  # fmt: skip
    """Return the case of a unit: output registers float32, the filter that answers each operation or -1 (n,), what
    stands at the operand ports uint32 (n, ports), exact outputs float32 (n,).
    """
    results = np.where(found >= 0, outputs[np.maximum(found, 0)], exact).view(np.uint32).tolist()
    at = _spread(len(found), gaps)
    operations: list[Token | None] = [None] * (int(at[-1]) + 1)
    for place, row, f in zip(at.tolist(), operands.tolist(), found.tolist(), strict=True):
        operations[place] = Token(tuple(row), f if f >= 0 else None)
    misses = int((found < 0).sum())
    return FuCase(
        about=about,
        outputs=tuple(outputs.view(np.uint32).tolist()),
        operations=tuple(operations),
        outcomes=tuple(
            {"out_hit": int(f >= 0), "out_bf": max(f, 0), "out_result": bits}
            for f, bits in zip(found.tolist(), results, strict=True)
        ),
        totals={"cnt_stage": FU_STAGES * misses, "cnt_read": len(found) - misses},
        ports=ports,
    )


def filter_cases_from(
    config: BloomConfig, layer: Layer, plan: BloomPlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[FilterCase]:
    """Yield tiles of 256 operand pairs of a real layer, drawn uniformly over images and operations.

    Raises: MappingError for a layer without filters, or of a level the block was not built for.
    """
    bank = shown_bank(config, layer, stored)
    for about, a, b in _real_operands(layer, x, stored, tiles, seed):
        yield filter_case(about, config, bank, a, b)


def fu_cases_from(
    config: BloomConfig, layer: Layer, plan: BloomPlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[FuCase]:
    """Yield the same tiles for the multiplier. Raises: MappingError."""
    bank = shown_bank(config, layer, stored)
    for about, a, b in _real_operands(layer, x, stored, tiles, seed):
        yield fu_case(about, bank, a, b)


def shown_bank(config: BloomConfig, layer: Layer, stored: Stored) -> Bank:
    """Return the filters of a layer's multiplications. Raises: MappingError if the block has others."""
    size = filter_parameters(config, layer)
    if not isinstance(stored.extra, Filtered):
        raise MappingError(f"layer {layer.name!r} runs with its filters off (bloom_match 0): nothing to show")
    bank = stored.extra.banks["mul"]
    if bank.shape.apx != size["APX"] or bank.filters > size["NBF"]:
        raise MappingError(
            f"layer {layer.name!r}: the block compares {size['APX']} bits in up to {size['NBF']} filters (the last of "
            f"match_levels), the layer {bank.shape.apx} bits in {bank.filters}"
        )
    return bank


def _real_operands(layer: Layer, x: Array, stored: Stored, tiles: int, seed: int) -> Iterator[tuple[str, Array, Array]]:
    """Yield what a tile is about and its operands, float32 (256,)."""
    stream, rng, weights = stream_of(layer), rng_for(seed, "bloom", layer.name, "tiles", 0), stored.params.weights
    assert weights is not None
    flat, w = flushed(x).reshape(len(x), -1), flushed(weights).reshape(len(weights), -1)
    for _ in range(tiles):
        image = int(rng.integers(len(x)))
        first = int(rng.integers(max(1, stream.operations - TILE_QUERIES)))
        operations = np.arange(first, min(first + TILE_QUERIES, stream.operations))
        yield f"{layer.name}, image {image}, operation {first}", *_pairs(stream, flat[image], w, operations)


def _pairs(stream: Stream, x: Array, w: Array, operations: Array) -> tuple[Array, Array]:
    """Return the operands of operations in order of issue."""
    m, e = np.divmod(operations, int(stream.start[-1]))
    shift = m // (len(w) // stream.groups) * stream.group_words
    return x[shift + stream.x_at[e]], w[m, stream.k_at[e]]
