"""Cycles of a pass and, in closed form, of a layer with an infinitely fast memory.

Source: bounds of a pass after Y.-H. Chen et al., JSSC 52(1), 2017; the sum of fill and stream is derived.
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.accelerators.eyeriss.config import WORD_BITS, EyerissConfig
from archsim.accelerators.eyeriss.plan import (
    EyerissPlan,
    group_channels,
    group_filters,
    padded_columns,
    strip_ifmap_rows,
    window_columns,
)
from archsim.accelerators.eyeriss.tiles import call_ranges
from archsim.units import us_to_cycles
from archsim.workload.layers import Conv


class Buses(NamedTuple):
    """What of the configuration decides how long a pass takes; hashable."""

    filter_bits: int
    ifmap_bits: int
    psum_bits: int
    serial_fill: bool
    shared_psum: bool


class PassCycles(NamedTuple):
    """Cycles each resource needs for one pass; `psum` is one way."""

    filter: int
    first_window: int
    compute: int
    ifmap: int
    psum: int

    def fill(self, buses: Buses) -> int:
        """Return the cycles before the array streams: filters into the spads, first window into the array."""
        both = (self.filter, self.first_window)
        return sum(both) if buses.serial_fill else max(both)

    def psum_bus(self, buses: Buses, psums_in: bool) -> int:
        """Return the busy cycles of the slower psum network; inbound is idle while accumulators start at zero."""
        return self.psum * (1 + psums_in) if buses.shared_psum else self.psum

    def stream(self, buses: Buses, psums_in: bool) -> int:
        """Return the cycles of the slowest resource once the pass is filled."""
        return max(self.compute, self.ifmap, self.psum_bus(buses, psums_in))


def buses_of(config: EyerissConfig) -> Buses:
    """Return the buses of a configuration."""
    return Buses(
        config.filter_bus_bits,
        config.ifmap_bus_bits,
        config.psum_bus_bits,
        config.fill == "serial",
        config.shared_psum_bus,
    )


def bus_cycles(words: int, bus_bits: int) -> int:
    """Return the cycles `words` 16-bit words take on a bus."""
    return -(-words * WORD_BITS // bus_bits)


def pass_cycles(conv: Conv, plan: EyerissPlan, buses: Buses, strip_rows: int) -> PassCycles:
    """Return the cycles of one pass of a strip of `strip_rows` output rows; partial blocks count as full ones."""
    n, channels, filters = plan.pass_ifmaps, plan.pass_channels, plan.pass_filters
    rows = strip_ifmap_rows(conv, strip_rows)
    return PassCycles(
        filter=bus_cycles(filters * channels * conv.R * conv.S, buses.filter_bits),
        first_window=bus_cycles(rows * channels * window_columns(conv), buses.ifmap_bits),
        compute=n * conv.Q * conv.S * plan.interleaved_filters * plan.interleaved_channels,
        ifmap=bus_cycles(n * rows * channels * padded_columns(conv), buses.ifmap_bits),
        psum=bus_cycles(n * filters * strip_rows * conv.Q, buses.psum_bits),
    )


def blocks(size: int, calls: int, step: int) -> int:
    """Return the blocks of `step` in `size` cut into `calls`; blocks do not cross calls."""
    return sum(-(-(end - first) // step) for first, end in call_ranges(size, calls))


def channel_blocks(conv: Conv, plan: EyerissPlan) -> int:
    """X: channel blocks of one group, over all channel calls."""
    return blocks(group_channels(conv), plan.channel_calls, plan.pass_channels)


def filter_blocks(conv: Conv, plan: EyerissPlan) -> int:
    """Y: filter blocks of all groups, over all filter calls."""
    return conv.groups * blocks(group_filters(conv), plan.filter_calls, plan.pass_filters)


def resident_blocks(conv: Conv, plan: EyerissPlan) -> int:
    """Return the m-blocks of one group: how often its ifmap is read from DRAM."""
    return blocks(group_filters(conv), plan.filter_calls, plan.resident_filters)


def strips(conv: Conv, plan: EyerissPlan) -> list[tuple[int, int]]:
    """Return (e_s, how many strips of that height)."""
    whole, rest = divmod(conv.P, plan.strip_rows)
    return [(plan.strip_rows, whole)] + ([(rest, 1)] if rest else [])


def setup_cycles(config: EyerissConfig, plan: EyerissPlan) -> int:
    """Return the cycles of loading the configuration, once per call."""
    return us_to_cycles(config.setup_us, config.clock_MHz) * plan.filter_calls * plan.channel_calls


def closed_form(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> int:
    """Return the cycles of one batch with an infinitely fast memory: the sum over passes of fill and stream."""
    buses, x = buses_of(config), channel_blocks(conv, plan)
    repeats = filter_blocks(conv, plan) * (plan.batch // plan.pass_ifmaps)
    cycles = 0
    for strip_rows, count in strips(conv, plan):
        one = pass_cycles(conv, plan, buses, strip_rows)
        column = x * one.fill(buses) + one.stream(buses, False) + (x - 1) * one.stream(buses, True)
        cycles += repeats * count * column
    return cycles + setup_cycles(config, plan)
