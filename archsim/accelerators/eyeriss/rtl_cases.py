"""What the PE of `rtl/eyeriss_pe` is made to do: random rows, and tiles of real layers with the psums they really meet.

What must come out is worked out by NumPy (`wide`) or the compiled kernel (`chip16`), the counters by the PE's law.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from archsim.accelerators.base import Stored
from archsim.accelerators.eyeriss.config import WORD_BITS, EyerissConfig
from archsim.accelerators.eyeriss.function import psum_bias
from archsim.accelerators.eyeriss.kernel import Array, accumulate_chip16
from archsim.accelerators.eyeriss.pe_law import Primitive, free_counts, row_counts
from archsim.accelerators.eyeriss.plan import EyerissPlan, as_conv, group_channels, group_filters
from archsim.accelerators.eyeriss.rtl_model import ACCUMULATOR_BITS, ALWAYS_READY, Pattern, Patterns, PeCase, PeRow
from archsim.accelerators.eyeriss.tiles import call_ranges, channel_set_edges, cut
from archsim.errors import MappingError
from archsim.workload.layers import Conv, Layer
from archsim.workload.params import LayerParams
from archsim.workload.random import rng_for

TILE_COLUMNS = 64
"""Output columns of a tile of a real layer, at most."""
MAX_RANDOM_MACS = 400
MAX_RANDOM_COLUMNS = 20
MAX_RANDOM_STRIDE = 4
ADJACENT = (1, 1)
"""Dilation or stride of what lies side by side."""


class RowData(NamedTuple):
    """One output row: weights (p, q, S), ifmap (q, columns), incoming psums (p, F)."""

    shape: Primitive
    shift: int
    weights: Array
    ifmap: Array
    psums: Array


def random_cases(config: EyerissConfig, seed: int) -> Iterator[PeCase]:
    """Yield random cases without end: sizes up to the spads' limits, sums that saturate, every fourth held up."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        rows = [_random_row(config, rng) for _ in range(1 + number % 5 // 4)]
        patterns = Patterns(*(_pattern(rng) for _ in Patterns._fields)) if number % 4 == 1 else ALWAYS_READY
        about = "; ".join(_letters(row.shape) for row in rows)
        yield make_case(config, f"{about}{', held up' if number % 4 == 1 else ''}", rows, patterns)
        number += 1


def _random_row(config: EyerissConfig, rng: np.random.Generator) -> RowData:
    """Return a random row; its products, shifted, are about as large as the psums they are added to."""
    shape = _random_shape(config, rng)
    p, q, S, _, F = shape
    x_bits, w_bits = (int(rng.integers(1, WORD_BITS)) for _ in range(2))
    ifmap = _codes(rng, x_bits, (q, shape.ifmap_words // q))
    ifmap[rng.random(ifmap.shape) < rng.uniform(0.3, 0.6)] = 0
    shift = max(0, x_bits + w_bits - WORD_BITS + int(rng.integers(-2, 5)))
    return RowData(shape, shift, _codes(rng, w_bits, (p, q, S)), ifmap, _random_psums(config, rng, (p, F)))


def _random_shape(config: EyerissConfig, rng: np.random.Generator) -> Primitive:
    """Return sizes the spads hold; short rows where a column has many MACs."""
    S = _size(rng, config.spad_ifmap_words)
    q = _size(rng, config.spad_ifmap_words // S)
    p = _size(rng, min(config.spad_psum_words, config.spad_filter_words // (q * S)))
    columns = min(MAX_RANDOM_COLUMNS, max(1, MAX_RANDOM_MACS // (p * q * S)))
    return Primitive(p, q, S, int(rng.integers(1, MAX_RANDOM_STRIDE + 1)), _size(rng, columns))


def _size(rng: np.random.Generator, top: int) -> int:
    """Return a size from 1 to `top`, in half of all cases one of the two."""
    return int(rng.choice([1, top])) if rng.random() < 0.5 else int(rng.integers(1, top + 1))


def _codes(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> Array:
    """Return codes of both signs below 2^bits, int16."""
    return rng.integers(-(1 << bits), 1 << bits, shape).astype(np.int16)


def _random_psums(config: EyerissConfig, rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Return incoming psums int64, some of them the lowest or highest there is."""
    half = 1 << (ACCUMULATOR_BITS[config.psum_mode] - 1)
    size = half >> int(rng.integers(0, 6))
    extreme = rng.choice([-half, half - 1], shape)
    return np.where(rng.random(shape) < 0.1, extreme, rng.integers(-size, size, shape))


def _pattern(rng: np.random.Generator) -> Pattern:
    """Return a pattern of 0 and 1 with at least one 1, mostly 0 or mostly 1."""
    return (*(rng.random(13) < rng.uniform(0.2, 0.9)).astype(int).tolist(), 1)


def cases_from(
    config: EyerissConfig, layer: Layer, plan: EyerissPlan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[PeCase]:
    """Yield tiles of a real layer: what one PE does for one output row, drawn uniformly over images, rows and blocks.

    x: codes (images, C, H, W) or (images, C). Raises: MappingError for a layer the block does not run.
    """
    conv, rng = as_conv(layer), rng_for(seed, "eyeriss", layer.name, "tiles", 0)
    _check(config, conv)
    top, left, bottom, right = conv.pad
    maps = np.pad(x.reshape(-1, conv.C, conv.H, conv.W), ((0, 0), (0, 0), (top, bottom), (left, right)))
    blocks, sets = filter_ranges(conv, plan), len(channel_set_edges(conv, plan)) - 1
    for _ in range(tiles):
        image, row, r, k = (int(rng.integers(size)) for size in (len(maps), conv.P, conv.R, sets))
        filters = blocks[int(rng.integers(len(blocks)))]
        first = int(rng.integers(max(0, conv.Q - TILE_COLUMNS) + 1))
        data = tile_row(config, conv, plan, maps[image], stored.params, Place(row, first, filters, k, r))
        where = f"image {image}, row {row}, column {first}, filters {filters[0]}-{filters[1] - 1}, set {k}, PE {r}"
        yield make_case(config, f"{layer.name}, {where}: {_letters(data.shape)}", [data])


def _check(config: EyerissConfig, conv: Conv) -> None:
    """Refuse what the block cannot be told to do. Raises: MappingError."""
    if conv.dilation != ADJACENT:
        raise MappingError(
            f"layer {conv.name!r} has dilation {conv.dilation}: the block eyeriss_pe reads adjacent words"
        )
    highest = (1 << config.spad_ifmap_words.bit_length()) - 1
    if conv.stride[1] > highest:
        raise MappingError(
            f"layer {conv.name!r} has horizontal stride {conv.stride[1]}: the block eyeriss_pe takes up to {highest}"
        )


def filter_ranges(conv: Conv, plan: EyerissPlan) -> list[tuple[int, int]]:
    """Return first and end filter of every block of p filters; blocks cross neither groups nor calls."""
    size = group_filters(conv)
    return [
        (group * size + first, group * size + end)
        for group, call in product(range(conv.groups), call_ranges(size, plan.filter_calls))
        for first, end in cut(*call, plan.interleaved_filters)
    ]


class Place(NamedTuple):
    """Which PE does what: output row, first output column, range of filters, PE set of the channels, filter row."""

    row: int
    column: int
    filters: tuple[int, int]
    channel_set: int
    filter_row: int


def tile_row(
    config: EyerissConfig, conv: Conv, plan: EyerissPlan, maps: Array, params: LayerParams, at: Place
) -> RowData:
    """Return what the PE at a place works on: maps (C, H, W) padded. Its psums come from the PEs before it."""
    assert params.weights is not None, "a layer with an ifmap has weights"
    shift, edges, (m0, m1) = config.product_shift_of(conv.name), channel_set_edges(conv, plan), at.filters
    c0, c1 = edges[at.channel_set : at.channel_set + 2].tolist()
    shape = Primitive(m1 - m0, c1 - c0, conv.S, conv.stride[1], min(conv.Q, TILE_COLUMNS))
    window = _window(conv, maps, shape, at)
    weights = params.weights.reshape(conv.M, -1, conv.R, conv.S)[m0:m1]
    psums = np.repeat(_bias(config, conv, params, shift)[m0:m1, None], shape.F, axis=1)
    psums = through_pes(config, window[:c0], weights[:, :c0], psums, shape.U, edges[: at.channel_set + 1], shift)
    window, weights, r = window[c0:c1], weights[:, c0:c1], at.filter_row
    psums = through_pes(config, window[:, :r], weights[:, :, :r], psums, shape.U, np.array([0, shape.q]), shift)
    return RowData(shape, shift, weights[:, :, r], window[:, r], psums)


def _window(conv: Conv, maps: Array, shape: Primitive, at: Place) -> Array:
    """Return the words an output row reads in all channels of its group: (C/groups, R, columns)."""
    first = at.filters[0] // group_filters(conv) * group_channels(conv)
    top, left, columns = at.row * conv.stride[0], at.column * shape.U, shape.ifmap_words // shape.q
    return maps[first : first + group_channels(conv), top : top + conv.R, left : left + columns]


def _bias(config: EyerissConfig, conv: Conv, params: LayerParams, shift: int) -> Array:
    """Return the psums that enter the first PE, int64 (M,)."""
    if config.psum_mode == "chip16":
        return psum_bias(conv, params, shift)
    return np.zeros(conv.M, np.int64) if params.bias is None else params.bias


def through_pes(
    config: EyerissConfig, maps: Array, weights: Array, psums: Array, stride: int, edges: Array, shift: int
) -> Array:
    """Return the psums (p, F) of an output row after PEs for R rows and the channel sets between `edges`.

    maps (C, R, columns), weights (p, C, R, S), psums int64 (p, F) before them. Exact where psums are wide.
    """
    if not weights.size:
        return psums
    S, F = weights.shape[3], psums.shape[1]
    if config.psum_mode == "wide":
        windows = sliding_window_view(maps, S, axis=2)[:, :, ::stride].astype(np.int64)
        sums: Array = psums + np.einsum("crfs,mcrs->mf", windows, weights.astype(np.int64))
        return sums
    done = np.empty((1, len(psums), 1, F), np.int64)
    for column in range(F):
        accumulate_chip16(
            maps[None, :, :, column * stride :], np.ascontiguousarray(weights), psums[:, column].copy(), edges,
            ADJACENT, ADJACENT, shift, done[:, :, :, column : column + 1],
        )  # fmt: skip
    return done[0, :, 0]


def make_case(config: EyerissConfig, about: str, rows: Sequence[RowData], patterns: Patterns = ALWAYS_READY) -> PeCase:
    """Return the case of rows one after another; what comes out is what NumPy or the kernel says."""
    totals: Counter[str] = Counter()
    outcomes: list[int] = []
    for shape, shift, weights, ifmap, psums in rows:
        edges = np.array([0, shape.q])
        done = through_pes(config, ifmap[:, None], weights[:, :, None], psums, shape.U, edges, shift)
        outcomes += done.T.ravel().tolist()
        windows = sliding_window_view(ifmap, shape.S, axis=1)[:, :: shape.U]
        totals.update(row_counts(shape, int((windows == 0).sum())))
        totals.update(free_counts(shape) if patterns == ALWAYS_READY else {})
    return PeCase(
        about=about,
        rows=tuple(_streams(row) for row in rows),
        outcomes=tuple({"psum_out_data": psum} for psum in outcomes),
        totals=dict(totals),
        patterns=patterns,
    )


def _streams(row: RowData) -> PeRow:
    """Return the words in the order the PE takes them."""
    filters, ifmap, psums = (words.T.ravel().tolist() for words in (row.weights, row.ifmap, row.psums))
    return PeRow(row.shape, tuple(filters), tuple(ifmap), tuple(psums), row.shift)


def _letters(shape: Primitive) -> str:
    """Return a row's sizes for messages."""
    return ", ".join(f"{name} {value}" for name, value in shape._asdict().items())
