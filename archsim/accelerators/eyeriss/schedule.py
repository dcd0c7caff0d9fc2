"""The loop nest of a plan as arrays, one entry per pass, and the steps a simulation has to run.

Outer to inner: filter call, channel call, group, block of resident filters, block of ifmaps, strip, channel block,
filter block. Source: order inferred from the buffer traffic of Y.-H. Chen et al., JSSC 52(1), 2017.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.accelerators.eyeriss.closed_form import Buses, PassCycles, pass_cycles
from archsim.accelerators.eyeriss.config import WORD_BYTES
from archsim.accelerators.eyeriss.plan import EyerissPlan, group_channels, group_filters
from archsim.accelerators.eyeriss.tiles import call_ranges, cut, ofmap_tiles, tile_words
from archsim.workload.layers import Conv

Numbers = npt.NDArray[np.int64]
NO_TILE = -1
VISIT = np.dtype(
    [
        (name, np.int64)
        for name in (
            "group", "filter_0", "filter_end", "channel_0", "channel_end", "strip_rows", "psums_in",
            "load", "reload", "dump", "dumps_psums",
        )
    ]
)  # fmt: skip
"""All passes of one strip and channel block: what they compute, and the tiles moved before and after them."""


class Step(NamedTuple):
    """From one quiescent moment to the next: stream a pass, dump, reload and load, fill the next pass.

    Quiescent is the moment right after a pass is filled: nothing is on the link and the prefetch waits for the filter
    memory. What follows depends on nothing before it, so steps with equal numbers take equally long.
    """

    stream: int
    dump_bytes: int
    dumps_psums: int
    reload_bytes: int
    load_bytes: int
    filter_bytes: int
    fill: int


class Offsets(NamedTuple):
    """Where the tiles of a step lie in their regions, in bytes."""

    dump: int
    reload: int
    load: int
    filters: int


class Turn(NamedTuple):
    """A step to execute and how often it happens."""

    step: Step
    offsets: Offsets
    times: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """One entry per pass, int64; tiles are indices, -1 where nothing moves; a dump follows its pass.

    `kinds`: (cycles of a pass, psums come in, number of such passes).
    """

    stream: Numbers
    fill: Numbers
    filter_bytes: Numbers
    filter_offset: Numbers
    load: Numbers
    reload: Numbers
    dump: Numbers
    dumps_psums: Numbers
    psum_bytes: Numbers
    kinds: tuple[tuple[PassCycles, bool, int], ...]


@lru_cache(maxsize=256)
def schedule(conv: Conv, plan: EyerissPlan, buses: Buses) -> Schedule:
    """Return the passes of one batch in order; a partial block takes as long as a full one but moves its own bytes."""
    visits = np.array(list(_visits(conv, plan)), VISIT)
    n_blocks = -(-(visits["filter_end"] - visits["filter_0"]) // plan.pass_filters)
    block = np.arange(n_blocks.sum()) - np.repeat(np.cumsum(n_blocks) - n_blocks, n_blocks)
    of = visits[np.repeat(np.arange(len(visits)), n_blocks)]
    opens, closes = block == 0, np.append(block[1:] == 0, True)
    filter_0 = of["filter_0"] + block * plan.pass_filters
    filters = np.minimum(plan.pass_filters, of["filter_end"] - filter_0)
    weights_before = (of["group"] * group_filters(conv) + filter_0) * group_channels(conv) + of["channel_0"] * filters
    tap_bytes = WORD_BYTES * conv.R * conv.S
    cycles = {int(rows): pass_cycles(conv, plan, buses, int(rows)) for rows in np.unique(of["strip_rows"])}
    keys = list(zip(of["strip_rows"].tolist(), of["psums_in"].astype(bool).tolist()))
    return Schedule(
        stream=np.array([cycles[rows].stream(buses, inward) for rows, inward in keys]),
        fill=np.array([cycles[rows].fill(buses) for rows, _ in keys]),
        filter_bytes=tap_bytes * filters * (of["channel_end"] - of["channel_0"]),
        filter_offset=tap_bytes * weights_before,
        load=np.where(opens, of["load"], NO_TILE),
        reload=np.where(opens, of["reload"], NO_TILE),
        dump=np.where(closes, of["dump"], NO_TILE),
        dumps_psums=np.where(closes, of["dumps_psums"], 0),
        psum_bytes=WORD_BYTES * tile_words(ofmap_tiles(conv, plan), conv.Q),
        kinds=tuple((cycles[rows], inward, n) for (rows, inward), n in Counter(keys).items()),
    )


def _visits(conv: Conv, plan: EyerissPlan) -> Iterator[tuple[int, ...]]:
    """Yield the rows of a VISIT table in the order of the loop nest; tiles are numbered as in `tiles.py`."""
    strips, turns = cut(0, conv.P, plan.strip_rows), plan.batch // plan.pass_ifmaps
    calls = call_ranges(group_channels(conv), plan.channel_calls)
    ofmap_0 = 0
    for filters in call_ranges(group_filters(conv), plan.filter_calls):
        m_blocks, ifmap_0 = cut(*filters, plan.resident_filters), 0
        for channels in calls:
            c_blocks = cut(*channels, plan.pass_channels)
            further, last = channels != calls[0], channels == calls[-1]
            nest = product(range(conv.groups), enumerate(m_blocks), range(turns), enumerate(strips))
            for group, (m, (m0, m1)), turn, (s, (p0, p1)) in nest:
                ofmap = ofmap_0 + ((group * len(m_blocks) + m) * turns + turn) * len(strips) + s
                ifmap = ifmap_0 + ((group * turns + turn) * len(strips) + s) * len(c_blocks)
                for x, (c0, c1) in enumerate(c_blocks):
                    reload = ofmap if further and x == 0 else NO_TILE
                    dump = ofmap if x == len(c_blocks) - 1 else NO_TILE
                    spills = int(dump == ofmap and not last)
                    yield group, m0, m1, c0, c1, p1 - p0, further or x > 0, ifmap + x, reload, dump, spills
            ifmap_0 += conv.groups * turns * len(strips) * len(c_blocks)
        ofmap_0 += conv.groups * len(m_blocks) * turns * len(strips)


class _Region(NamedTuple):
    """Sizes and offsets of the tiles of one feature map in DRAM, with a last entry for the tile that is none."""

    sizes: Numbers
    offsets: Numbers


def _region(tile_bytes: Any, tiles: Numbers) -> _Region:
    """Return the region of tiles with these sizes; one size stands for all."""
    sizes = np.array(tile_bytes if len(tile_bytes) > 1 else [*tile_bytes] * (int(tiles.max()) + 1), np.int64)
    ends = np.cumsum(sizes)
    return _Region(np.append(sizes, 0), np.append(ends - sizes, 0))


def plan_steps(passes: Schedule, tiles: tuple[tuple[int, ...], ...], setup_cycles: int, merge: bool) -> list[Turn]:
    """Return the steps of one batch; with `merge` equal steps come once, where they come first.

    `tiles`: bytes of every ifmap and ofmap tile; one number stands for all. The first step streams nothing but the
    set-up, the last one fills no pass.
    """
    ifmap, ofmap = _region(tiles[0], passes.load), _region(tiles[1], passes.dump)
    psums = _region(passes.psum_bytes, passes.dump)
    final_bytes, psum_bytes = ofmap.sizes[passes.dump], psums.sizes[passes.dump]
    final_at, psums_at = ofmap.offsets[passes.dump], psums.offsets[passes.dump]
    steps = _rows(
        np.append(setup_cycles, passes.stream),
        np.append(0, np.where(passes.dumps_psums, psum_bytes, final_bytes)),
        np.append(0, passes.dumps_psums),
        np.append(psums.sizes[passes.reload], 0),
        np.append(ifmap.sizes[passes.load], 0),
        np.append(passes.filter_bytes, 0),
        np.append(passes.fill, 0),
    )
    offsets = _rows(
        np.append(0, np.where(passes.dumps_psums, psums_at, final_at)),
        np.append(psums.offsets[passes.reload], 0),
        np.append(ifmap.offsets[passes.load], 0),
        np.append(passes.filter_offset, 0),
    )
    if not merge:
        return [Turn(Step(*step), Offsets(*at), 1) for step, at in zip(steps, offsets)]
    first = dict(zip(reversed(steps), reversed(offsets)))
    return [Turn(Step(*step), Offsets(*first[step]), times) for step, times in Counter(steps).items()]


def _rows(*columns: Numbers) -> list[tuple[int, ...]]:
    """Return the columns row by row, as plain integers."""
    return list(zip(*(column.tolist() for column in columns)))
