"""What a plan moves between DRAM and the global buffer: the tiles of ifmap and ofmap, in the order of the loop nest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from archsim.accelerators.eyeriss.plan import (
    EyerissPlan,
    call_size,
    group_channels,
    group_filters,
    strip_ifmap_rows,
)
from archsim.workload.layers import Conv

Tiles = npt.NDArray[np.int64]
Range = tuple[int, int]


def cut(first: int, end: int, step: int) -> list[Range]:
    """Return [first, end) cut into ranges of `step`; the last one may be shorter."""
    return [(start, min(start + step, end)) for start in range(first, end, step)]


def call_ranges(size: int, calls: int) -> list[Range]:
    """Return [0, size) cut into `calls` ranges that are equal but for the last one."""
    return cut(0, size, call_size(size, calls))


@lru_cache(maxsize=256)
def ifmap_tiles(conv: Conv, plan: EyerissPlan) -> Tiles:
    """Return the ifmap blocks of one batch, int64 (T, 6): first and end image, channel and padded row.

    Order: channel call, group, block of images, strip, channel block. Every filter call and every block of resident
    filters reads the same blocks again.
    """
    channels = group_channels(conv)
    return _table(
        (images, (group * channels + c0, group * channels + c1), rows)
        for call, group in product(call_ranges(channels, plan.channel_calls), range(conv.groups))
        for images, rows, (c0, c1) in product(
            cut(0, plan.batch, plan.pass_ifmaps), _ifmap_rows(conv, plan), cut(*call, plan.pass_channels)
        )
    )


@lru_cache(maxsize=256)
def ofmap_tiles(conv: Conv, plan: EyerissPlan) -> Tiles:
    """Return the ofmap dumps of one batch, int64 (T, 6): first and end image, filter and output row.

    Order: filter call, group, block of resident filters, block of images, strip.
    """
    filters = group_filters(conv)
    return _table(
        (images, (group * filters + m0, group * filters + m1), rows)
        for call, group in product(call_ranges(filters, plan.filter_calls), range(conv.groups))
        for (m0, m1), images, rows in product(
            cut(*call, plan.resident_filters),
            cut(0, plan.batch, plan.pass_ifmaps),
            cut(0, conv.P, plan.strip_rows),
        )
    )


def channel_set_edges(conv: Conv, plan: EyerissPlan) -> Tiles:
    """Return the channel boundaries of the PE sets within a group, ascending int64: sets of q channels per call."""
    ranges = call_ranges(group_channels(conv), plan.channel_calls)
    return np.array([0] + [c1 for call in ranges for _, c1 in cut(*call, plan.interleaved_channels)])


def tile_words(tiles: Tiles, columns: int) -> Tiles:
    """Return the 16-bit words of every tile of maps with so many columns, int64 (T,)."""
    words: Tiles = np.prod(tiles[:, 1::2] - tiles[:, ::2], axis=1) * columns
    return words


def _ifmap_rows(conv: Conv, plan: EyerissPlan) -> list[Range]:
    """Return the padded input rows every strip reads."""
    strips = cut(0, conv.P, plan.strip_rows)
    firsts = [(first * conv.stride[0], strip_ifmap_rows(conv, end - first)) for first, end in strips]
    return [(row, row + rows) for row, rows in firsts]


def _table(tiles: Iterator[tuple[Range, Range, Range]]) -> Tiles:
    return np.array([(*images, *channels, *rows) for images, channels, rows in tiles], np.int64)
