"""What the blocks that add and take roots are made to do: numbers that are hard to add, and operations of real kernels.

What must come out is what the units of every simulation compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from archsim.accelerators.base import Stored
from archsim.accelerators.bloom.config import BloomConfig
from archsim.accelerators.bloom.events import events_of
from archsim.accelerators.bloom.floats import FLOAT_BITS, SIGN, Array, apply_unit, flushed, top_bits
from archsim.accelerators.bloom.plan import BloomPlan
from archsim.accelerators.bloom.prepare import Filtered
from archsim.accelerators.bloom.rtl_cases import SPECIAL, TILE_QUERIES, unit_case
from archsim.accelerators.bloom.rtl_model import MAC_KINDS, MAC_PORTS, SQRT_KINDS, SQRT_PORTS, FuCase, unit_parameters
from archsim.errors import MappingError
from archsim.workload.layers import Layer, OpStream
from archsim.workload.random import rng_for

ANY = 1 << FLOAT_BITS
MANTISSA_BITS = 23


def random_mac_cases(config: BloomConfig, seed: int) -> Iterator[FuCase]:
    """Yield random additions and multiply-additions: hits, misses, empty cycles; sums as `hard_addends` makes them."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        kind = MAC_KINDS[number % 2]
        a, b = factors(rng, TILE_QUERIES)
        x = a if kind == "add" else apply_unit("mul", [flushed(a), flushed(b)])
        c = hard_addends(rng, x)
        operands = [a, c] if kind == "add" else [a, b, c]
        yield _random_case(f"random {number}, {kind}", config, MAC_KINDS, kind, operands, rng, spare=b)
        number += 1


def random_sqrt_cases(config: BloomConfig, seed: int) -> Iterator[FuCase]:
    """Yield random roots: any bits, squares and their neighbours, the edges of the format."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        a = rng.integers(0, ANY, TILE_QUERIES).astype(np.uint32)
        short = (rng.integers(1, 1 << 12, TILE_QUERIES) ** 2).astype(np.float32).view(np.uint32)
        near = short + rng.integers(-1, 2, TILE_QUERIES).astype(np.uint32)
        kind = rng.integers(0, 4, TILE_QUERIES)
        a = np.choose(kind, [a, a & ~SIGN, near, rng.choice(np.array(SPECIAL, np.uint32), TILE_QUERIES)])
        operands = [a.astype(np.uint32).view(np.float32)]
        yield _random_case(f"random {number}", config, SQRT_KINDS, "sqrt", operands, rng)
        number += 1


def factors(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Return random operands float32 (n,): products all over the format, some of few bits, some at its edges, some just
    below the least normal number.
    """
    exponents = rng.integers(64, 191, (2, n))
    edge = rng.random(n) < 1 / 8
    exponents[0, edge] = rng.choice([*range(1, 28), *range(228, 255)], int(edge.sum()))
    exponents[1, edge] = rng.integers(118, 136, int(edge.sum()))
    bits = rng.integers(0, ANY, (2, n)).astype(np.uint32)
    bits = bits & np.uint32(0x807F_FFFF) | exponents.astype(np.uint32) << np.uint32(MANTISSA_BITS)
    bits[:, rng.random(n) < 1 / 4] &= np.uint32(0xFFFF_F000)
    below = rng.random(n) < 1 / 16
    lower = rng.integers(1, 127, n).astype(np.uint32)
    bits[0] = np.where(below, lower << np.uint32(MANTISSA_BITS) | np.uint32(0x7F_FFFF), bits[0])
    bits[1] = np.where(below, np.uint32(127) - lower << np.uint32(MANTISSA_BITS), bits[1])
    special = rng.random((2, n)) < 1 / 12
    bits = np.where(special, rng.choice(np.array(SPECIAL, np.uint32), (2, n)), bits)
    a, b = np.ascontiguousarray(bits).view(np.float32)
    return a, b


def hard_addends(rng: np.random.Generator, x: Array) -> Array:
    """Return what is added to x, float32 (n,): any bits, exponents at most 27 apart, the opposite and its neighbours,
    half a unit in the last place (exact ties) and about it, numbers at the edges of the format.
    """
    bits, n = np.ascontiguousarray(x).view(np.uint32), len(x)
    sign = rng.integers(0, 2, n).astype(np.uint32) << np.uint32(FLOAT_BITS - 1)
    exponent = (bits >> np.uint32(MANTISSA_BITS) & np.uint32(0xFF)).astype(np.int64)
    random = rng.integers(0, ANY, n).astype(np.uint32)

    def near(apart: Array, mantissa: Array) -> Array:
        placed = np.clip(exponent + apart, 0, 254).astype(np.uint32) << np.uint32(MANTISSA_BITS)
        return np.asarray(sign | placed | mantissa)

    few = rng.choice(np.array([0, 0, 1, 0x40_0000, 0x7F_FFFF], np.uint32), n)
    return np.choose(rng.integers(0, 5, n), [
        random,
        near(rng.integers(-27, 28, n), random & np.uint32(0x7F_FFFF)),
        (bits ^ SIGN) + rng.choice(np.array([-2, -1, 0, 0, 1, 2]), n).astype(np.uint32),
        near(rng.integers(-25, -22, n), few),
        rng.choice(np.array(SPECIAL, np.uint32), n),
    ]).astype(np.uint32).view(np.float32)  # fmt: skip


def _random_case(
    about: str, config: BloomConfig, kinds: Sequence[str], kind: str, operands: Sequence[Array],
    rng: np.random.Generator, spare: Array | None = None,
) -> FuCase:  # fmt: skip
    """Return a case of which a third hits; `spare` stands at the port of b where it must not matter."""
    registers = unit_parameters(config, kinds)["NBF"]
    outputs = rng.integers(0, ANY, registers).astype(np.uint32).view(np.float32)
    found = np.where(rng.random(TILE_QUERIES) < 1 / 3, rng.integers(0, registers, TILE_QUERIES), -1)
    return _case(about, kind, outputs, found, operands, gaps=rng, spare=spare)


def _case(
    about: str, kind: str, outputs: Array, found: Array, operands: Sequence[Array],
    gaps: np.random.Generator | None = None, spare: Array | None = None,
) -> FuCase:  # fmt: skip
    """Return the case of operands float32 (n,) of one kind of unit."""
    exact = apply_unit(kind, [flushed(one) for one in operands])
    columns = [np.ascontiguousarray(one).view(np.uint32) for one in operands]
    if kind == "add":
        columns.insert(1, np.zeros(len(found), np.uint32) if spare is None else spare.view(np.uint32))
    if kind in MAC_KINDS:
        columns.append(np.full(len(found), kind == "add", np.uint32))
    ports = MAC_PORTS if kind in MAC_KINDS else SQRT_PORTS
    return unit_case(about, outputs, found, np.stack(columns, axis=1), exact, gaps, ports)


def mac_cases_from(
    config: BloomConfig, layer: Layer, plan: BloomPlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[FuCase]:
    """Yield tiles of 256 additions or multiply-additions of an image kernel, drawn over images and operations.

    Raises: MappingError for a layer without any, or without filters.
    """
    yield from _real_cases("bloom_mac", MAC_KINDS, layer, x, stored, tiles, seed)


def sqrt_cases_from(
    config: BloomConfig, layer: Layer, plan: BloomPlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[FuCase]:
    """Yield tiles of 256 roots of an image kernel. Raises: MappingError."""
    yield from _real_cases("bloom_sqrt", SQRT_KINDS, layer, x, stored, tiles, seed)


def _real_cases(
    block: str, kinds: Sequence[str], layer: Layer, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[FuCase]:
    """Yield tiles of the kinds in turn. Raises: MappingError."""
    steps = {step.op for step in layer.steps} if isinstance(layer, OpStream) else set()
    here = [kind for kind in kinds if kind in steps]
    if not isinstance(layer, OpStream) or not here:
        raise MappingError(f"layer {layer.name!r} has no {' or '.join(kinds)} for the block {block}")
    if not isinstance(stored.extra, Filtered):
        raise MappingError(f"layer {layer.name!r} runs with its filters off (bloom_match 0): nothing to show")
    rng = rng_for(seed, "bloom", layer.name, "tiles", 0)
    for number in range(tiles):
        image, kind = int(rng.integers(len(x))), here[number % len(here)]
        events, bank = events_of(layer, x[image : image + 1])[kind], stored.extra.banks[kind]
        first = int(rng.integers(max(1, len(events.outputs) - TILE_QUERIES)))
        operands = np.ascontiguousarray(events.operands[first : first + TILE_QUERIES])
        found = bank.ask(top_bits(operands, bank.shape.apx))
        yield _case(f"{layer.name}, image {image}, {kind} {first}", kind, bank.outputs, found, list(operands.T))
