"""What the control of `rtl/promise_ctl` is made to do: random tiles, and tiles of real layers.

What must come out is worked out from the law of a tile, and for real layers by the kernel that every simulation uses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from archsim.accelerators.base import Signals, Stored
from archsim.accelerators.promise.config import BANK_COLUMNS, VECTOR_LENGTH, PromiseConfig
from archsim.accelerators.promise.function import integer_sums
from archsim.accelerators.promise.mapping import product_of
from archsim.accelerators.promise.rtl_model import (
    ACCUMULATE,
    ALWAYS,
    MAXIMUM,
    PASS,
    RELU,
    CtlCase,
    Pattern,
    Tile,
    answer_cycles,
)
from archsim.accelerators.promise.schedule import PromisePlan, ceil_div
from archsim.accelerators.promise.swing import SWINGS
from archsim.errors import MappingError
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array
from archsim.workload.random import rng_for

P7 = len(SWINGS)
KINDS = ("in step", "in step", "in step", "held up", "late array")


def random_cases(config: PromiseConfig, seed: int) -> Iterator[CtlCase]:
    """Yield random cases without end: full and ragged tiles, all operations, results that wait, a late array."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        yield _random_case(config, rng, number)
        number += 1


def _random_case(config: PromiseConfig, rng: np.random.Generator, number: int) -> CtlCase:
    """Return one random case; every sixteenth has a full tile."""
    kind = KINDS[number % len(KINDS)]
    tiles = tuple(_random_tile(config, rng, number % 16 == 7 and i == 0) for i in range(int(rng.integers(1, 4))))
    about = f"{kind}, {', '.join(f'{len(tile.sums)} columns' for tile in tiles)}"
    if kind == "late array":
        off = int(rng.choice((-1, 1)))
        late = replace(make_case(config, about, tiles), answers_after=answer_cycles(config) + off)
        return replace(late, outcomes=tuple({"res_valid": 1} for _ in late.outcomes), totals={"fault": 1})
    patterns = (_pattern(rng), _pattern(rng)) if kind == "held up" else (ALWAYS, ALWAYS)
    return make_case(config, about, tiles, patterns)


def _random_tile(config: PromiseConfig, rng: np.random.Generator, full: bool) -> Tile:
    """Return a tile of sums of both signs."""
    columns = BANK_COLUMNS if full else 1 + int((BANK_COLUMNS - 1) * rng.random() ** 3)
    size = 1 << int(rng.integers(2, 31))
    sums = rng.integers(-size, size + 1, columns)
    banks = int(rng.integers(1, config.banks + 1))
    return Tile(int(rng.integers(4)), int(rng.integers(1, 8)), int(rng.integers(BANK_COLUMNS)), banks, _ints(sums))


def _ints(values: Array) -> tuple[int, ...]:
    return tuple(int(one) for one in values)


def _pattern(rng: np.random.Generator) -> Pattern:
    """Return a pattern with long pauses, so that all places for results fill up."""
    return (*([0] * int(rng.integers(20, 120))), *rng.integers(0, 2, 9).tolist(), 1)


def make_case(
    config: PromiseConfig,
    about: str,
    tiles: Sequence[Tile],
    patterns: tuple[Pattern, Pattern] = (ALWAYS, ALWAYS),
    results: Sequence[Sequence[int]] | None = None,
) -> CtlCase:
    """Return a case with its results (default: of the tiles' sums) and, where nothing is held up, the law's cycles."""
    told = results or [finished(tile) for tile in tiles]
    outcomes: list[Signals] = [
        {"res_data": value, "res_last": int(i == len(one) - 1)} for one in told for i, value in enumerate(one)
    ]
    totals = {"fault": 0, "cnt_dot": sum(tile.banks * len(tile.sums) for tile in tiles)}
    if patterns == (ALWAYS, ALWAYS):
        cycles = [config.tile_cycles(len(tile.sums)) for tile in tiles]
        bank_cycles = sum(tile.banks * one for tile, one in zip(tiles, cycles))
        totals |= {"cnt_cycles": sum(cycles), "cnt_bank_cycles": bank_cycles, "cnt_stall": 0}
    offered, taken = patterns
    return CtlCase(about, tuple(tiles), answer_cycles(config), tuple(outcomes), totals, offered, taken)


def finished(tile: Tile) -> list[int]:
    """Return what the digital end makes of the sums of a tile, column by column."""
    if tile.op == RELU:
        return [max(one, 0) for one in tile.sums]
    if tile.op == ACCUMULATE:
        return list(accumulate(tile.sums))
    return list(accumulate(tile.sums, max)) if tile.op == MAXIMUM else list(tile.sums)


def cases_from(
    config: PromiseConfig, layer: Layer, plan: PromisePlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[CtlCase]:
    """Yield tiles of a layer: one streamed row against up to 128 columns in the banks, drawn uniformly.

    The array's sums are formed bank by bank from windows and weights; the results come from the compiled kernel.
    Raises: MappingError for a layer whose sums are split.
    """
    if len(plan.chunks) > 1 or not isinstance(layer, Conv | Linear):
        raise MappingError(f"layer {layer.name!r}: the block shows sums of one chunk, got {len(plan.chunks)}")
    rng = rng_for(seed, "cosim", layer.name, "tiles", 0)
    for _ in range(tiles):
        batch, group = int(rng.integers(len(x) // plan.batch)), int(rng.integers(plan.groups))
        row, column = int(rng.integers(plan.m)), int(rng.integers(ceil_div(plan.n, BANK_COLUMNS))) * BANK_COLUMNS
        images = x[batch * plan.batch : (batch + 1) * plan.batch].astype(np.int16)
        yield _tile_case(config, layer, plan, images, stored, (group, row, column))


def _tile_case(
    config: PromiseConfig, layer: Conv | Linear, plan: PromisePlan, x: Array, stored: Stored, at: tuple[int, int, int]
) -> CtlCase:
    """Return the case of one row and one column tile of a group."""
    assert stored.params.weights is not None
    group, row, column = at
    windows, filters = operands(layer, x, stored.params.weights.astype(np.int16), group)
    rows, columns = (filters, windows) if plan.swapped else (windows, filters)
    held = columns[column : column + BANK_COLUMNS].astype(np.int64)
    streamed = rows[row].astype(np.int64)
    pieces = [slice(first, first + VECTOR_LENGTH) for first in range(0, plan.k, VECTOR_LENGTH)]
    sums = np.sum([held[:, piece] @ streamed[piece] for piece in pieces], axis=0)
    tile = Tile(PASS, P7, 0, len(pieces), _ints(sums))
    kernel = _kernel_sums(layer, plan, x, stored.params.weights.astype(np.int16), group)
    wanted = (kernel if plan.swapped else kernel.T)[column : column + BANK_COLUMNS, row]
    about = f"group {group}, row {row}, columns from {column}: {len(sums)} columns, {len(pieces)} banks"
    return make_case(config, about, [tile], results=[_ints(wanted)])


def operands(layer: Conv | Linear, x: Array, weights: Array, group: int) -> tuple[Array, Array]:
    """Return the windows (N*P*Q, k) and the filters (M/groups, k) of one group; x (N, C, H, W) or (N, C) codes."""
    (_, k, n), _ = product_of(layer)
    filters = weights.reshape(layer.M, -1)[group * n : (group + 1) * n]
    if isinstance(layer, Linear):
        return x, filters
    channels, (top, left, bottom, right) = layer.C // layer.groups, layer.pad
    mine = x[:, group * channels : (group + 1) * channels]
    padded = np.pad(mine, ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = [
        padded[:, :, r : r + (layer.P - 1) * layer.stride[0] + 1 : layer.stride[0],
               s : s + (layer.Q - 1) * layer.stride[1] + 1 : layer.stride[1]]
        for r in range(0, layer.R * layer.dilation[0], layer.dilation[0])
        for s in range(0, layer.S * layer.dilation[1], layer.dilation[1])
    ]  # fmt: skip
    windows = np.stack(taps, axis=2)  # N, channels, taps, P, Q
    return np.moveaxis(windows.reshape(len(x), k, layer.P * layer.Q), 1, 2).reshape(-1, k), filters


def _kernel_sums(layer: Conv | Linear, plan: PromisePlan, x: Array, weights: Array, group: int) -> Array:
    """Return the sums of one group by the compiled kernel, int64 (N*P*Q, M/groups)."""
    maps = x if x.ndim == 4 else x[:, :, None, None]
    filters = weights if weights.ndim == 4 else weights[:, :, None, None]
    sums = integer_sums(layer, plan, maps, filters)
    n = layer.M // plan.groups
    mine = sums[:, group * n : (group + 1) * n]
    return np.moveaxis(mine.reshape(len(x), n, -1), 1, 2).reshape(-1, n)
