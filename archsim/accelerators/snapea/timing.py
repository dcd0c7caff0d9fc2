"""Event model of one batch: rows (or columns) of PEs, and the memory port beside them.

Memory traffic of a layer overlaps with its computation, its first tiles prefetched while the layer before runs: a layer
takes the longer of the two (`double_buffered`), or their sum. With `column_sync` the kernels are no part of that: a
column waits for each of them. Source: V. Akhlaghi, UC San Diego 2020, section 3.6, for the barrier of a row; the rest
is ours.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from archsim.accelerators.base import BatchActivity, Clockwork, Timing
from archsim.accelerators.snapea.actions import dense_activity, ifmap_fits
from archsim.accelerators.snapea.config import WORD_BYTES, SnapeaConfig
from archsim.accelerators.snapea.metrics import timing_metrics
from archsim.accelerators.snapea.plan import SnapeaPlan, as_conv
from archsim.accelerators.snapea.schedule import Tiles, compute_cycles
from archsim.accelerators.snapea.traffic import STREAM_WORDS, Turn, turns_of
from archsim.energy import PriceTable
from archsim.sim import Barrier
from archsim.workload.layers import Layer
from archsim.workload.params import Array

if TYPE_CHECKING:
    import simpy

    from archsim.memory.base import Direction, Region

Process = Generator[Any, Any, None]


def time_layer(
    config: SnapeaConfig, prices: PriceTable, layer: Layer, plan: SnapeaPlan, activity: BatchActivity, work: Clockwork
) -> Generator[Any, Any, Timing]:
    """Simulate one batch, and the same batch with termination off on a clock of its own."""
    conv = as_conv(layer)
    turns = turns_of(conv, plan, ifmap_fits(config, conv))
    yield from run_batch(config, plan, turns, activity.tiles, work)
    work.counts.add("array.active_cycle", int(work.env.now))
    off, dense = work.fresh(), dense_activity(config, conv, plan)
    off.counts.merge(dict(dense.counts))
    off.env.run(off.env.process(run_batch(config, plan, turns, dense.tiles, off)))
    off.counts.add("array.active_cycle", int(off.env.now))
    compute = compute_cycles(config, plan, activity.tiles)
    hidden = config.double_buffered and config.weight_stream == "ideal"
    bound = "compute" if work.env.now <= (compute if hidden else 2 * compute) else "dram"
    return Timing(bound, timing_metrics(config, prices, plan, work, off, compute))


def run_batch(
    config: SnapeaConfig, plan: SnapeaPlan, turns: tuple[Turn, ...], tiles: Tiles, work: Clockwork
) -> Process:
    """Run the PEs and move what lies off chip, at the same time or one after the other."""
    env, memory = work.env, work.memory
    ideal = config.weight_stream == "ideal"
    run = run_rows if ideal else run_columns
    reads, writes = list(off_chip_reads(turns, kernels=ideal)), list(off_chip_writes(turns))
    if config.double_buffered:
        moved = [memory.access(*one) for one in (*reads, *writes)]
        yield env.all_of([*run(config, plan, tiles, work), *moved])
        return
    yield env.all_of([memory.access(*one) for one in reads])
    yield env.all_of(run(config, plan, tiles, work))
    yield env.all_of([memory.access(*one) for one in writes])


def off_chip_reads(turns: tuple[Turn, ...], *, kernels: bool) -> Iterator[tuple[Direction, Region, int, int]]:
    """Yield what every turn reads: its part of the ifmap, and all kernels unless the columns fetch them."""
    for turn in turns:
        if turn.ifmap:
            yield "read", "ifmap", turn.ifmap_offset * WORD_BYTES, turn.ifmap * WORD_BYTES
        if kernels:
            yield "read", "weights", 0, turn.kernels * WORD_BYTES


def off_chip_writes(turns: tuple[Turn, ...]) -> Iterator[tuple[Direction, Region, int, int]]:
    """Yield what every turn writes."""
    for turn in turns:
        if turn.ofmap:
            yield "write", "ofmap", turn.ofmap_offset * WORD_BYTES, turn.ofmap * WORD_BYTES


def run_rows(config: SnapeaConfig, plan: SnapeaPlan, tiles: Tiles, work: Clockwork) -> list[simpy.Process]:
    """Start every row of PEs on its portions; rows do not wait for each other."""
    return [work.env.process(_row(h, cycles, work)) for h, cycles in enumerate(tiles) if cycles]


def _row(h: int, portions: tuple[int, ...], work: Clockwork) -> Process:
    """Work on one portion after another; a portion ends with the slowest PE of the row."""
    for cycles in portions:
        if work.trace is not None:
            work.trace.add("snapea", f"row {h}", "portion", int(work.env.now), cycles)
        yield work.env.timeout(cycles)


def run_columns(config: SnapeaConfig, plan: SnapeaPlan, tiles: Tiles, work: Clockwork) -> list[simpy.Process]:
    """Start every column of PEs on its kernels; all wait for each other at the end of a turn."""
    columns = [Column(v, busy, weights) for v, (busy, weights) in enumerate(zip(tiles[::2], tiles[1::2])) if busy]
    stored = STREAM_WORDS * np.array(plan.kernel_weights) + plan.threshold_words
    kernels = np.array([np.cumsum(stored) - stored, plan.threshold_words])
    barrier = Barrier(work.env, len(columns))
    return [
        work.env.process(_column(config, one, kernels[:, one.v :: config.pe_columns], barrier, work)) for one in columns
    ]


class Column(NamedTuple):
    """A column of PEs and, turn by turn and kernel by kernel, the cycles it works and the weights streamed to it."""

    v: int
    busy: tuple[int, ...]
    weights: tuple[int, ...]


def _column(config: SnapeaConfig, column: Column, kernels: Array, barrier: Barrier, work: Clockwork) -> Process:
    """Wait for a kernel's stream, work while the next one is on its way, meet the other columns every turn.

    kernels int64 (2, kernels): where the column's kernels begin, and how many threshold words stand before them.
    """

    def fetch(i: int) -> simpy.Event:
        first, thresholds = map(int, kernels[:, i % kernels.shape[1]])
        words = column.weights[i] * STREAM_WORDS + thresholds
        return work.memory.access("read", "weights", first * WORD_BYTES, words * WORD_BYTES)

    arrival, last = fetch(0), len(column.busy) - 1
    for i, cycles in enumerate(column.busy):
        yield arrival
        if i < last and config.double_buffered:
            arrival = fetch(i + 1)
        if work.trace is not None:
            work.trace.add("snapea", f"column {column.v}", "kernel", int(work.env.now), cycles)
        yield work.env.timeout(cycles)
        if i < last and not config.double_buffered:
            arrival = fetch(i + 1)
        if (i + 1) % kernels.shape[1] == 0:
            yield barrier.arrive()
