"""Event model of one batch: a prefetch process and an array process that share the link to memory.

Source: Y.-H. Chen et al., JSSC 52(1), 2017: filters are prefetched, loading ifmaps and dumping ofmaps stops processing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsim.accelerators.base import BatchActivity, Clockwork, Timing
from archsim.accelerators.eyeriss.closed_form import buses_of, setup_cycles
from archsim.accelerators.eyeriss.config import EyerissConfig
from archsim.accelerators.eyeriss.metrics import timing_of
from archsim.accelerators.eyeriss.plan import EyerissPlan, as_conv
from archsim.accelerators.eyeriss.schedule import Offsets, Step, Turn, plan_steps, schedule
from archsim.accelerators.eyeriss.traffic import structure_counts
from archsim.workload.layers import Layer

if TYPE_CHECKING:
    import simpy

    from archsim.memory.base import Direction, Region
    from archsim.sim import Timeline

Process = Generator[Any, Any, None]


@dataclass
class Stalls:
    """Cycles the array stood still: for feature maps and psums on the link, for a filter block not yet there."""

    dram: int = 0
    prefetch: int = 0

    def repeat(self, since: tuple[int, int], times: int) -> None:
        """Count what happened since (dram, prefetch) `times` more times."""
        self.dram += (self.dram - since[0]) * times
        self.prefetch += (self.prefetch - since[1]) * times


class FilterMemory:
    """The preload memory, one block: `free` for the next block, `ready` to be taken; who waited renews the event."""

    def __init__(self, env: simpy.Environment) -> None:
        self.free, self.ready = env.event(), env.event()


def time_layer(
    config: EyerissConfig,
    layer: Layer,
    plan: EyerissPlan,
    activity: BatchActivity,
    work: Clockwork,
    merge: bool | None = None,
) -> Generator[Any, Any, Timing]:
    """Simulate one batch and count its structural actions; cycles are the environment's time.

    `merge` (default: if the memory is stationary and nobody traces) executes equal steps once and multiplies them,
    which gives the cycles and counts of the expanded run: see `Step`.
    """
    if merge is None:
        merge = work.memory.stationary and work.trace is None
    conv = as_conv(layer)
    passes = schedule(conv, plan, buses_of(config))
    steps = plan_steps(passes, activity.tiles, setup_cycles(config, plan), merge)
    stalls, filters = Stalls(), FilterMemory(work.env)
    work.env.process(prefetch(work, filters, steps))
    yield from run_array(work, filters, steps, stalls)
    work.counts.merge(structure_counts(conv, plan))
    work.counts.add("array.active_cycle", int(work.env.now))
    return timing_of(config, conv, plan, passes, work, stalls.dram, stalls.prefetch)


def prefetch(work: Clockwork, filters: FilterMemory, steps: list[Turn]) -> Process:
    """Read the filter block of each step's next pass as soon as the filter memory is free."""
    for turn in steps:
        yield filters.free
        filters.free = work.env.event()
        if turn.step.filter_bytes:
            yield work.memory.access("read", "weights", turn.offsets.filters, turn.step.filter_bytes)
            filters.ready.succeed()


def run_array(work: Clockwork, filters: FilterMemory, steps: list[Turn], stalls: Stalls) -> Process:
    """Run the steps in order; a step that stands for several is multiplied where it ends."""
    env, memory = work.env, work.memory
    for step, offsets, times in steps:
        if times == 1:
            yield from run_step(work, filters, step, offsets, stalls)
            continue
        begin, moved, stalled = env.now, memory.snapshot(), (stalls.dram, stalls.prefetch)
        yield from run_step(work, filters, step, offsets, stalls)
        memory.repeat(moved, times - 1)
        stalls.repeat(stalled, times - 1)
        yield env.timeout((env.now - begin) * (times - 1))


def run_step(work: Clockwork, filters: FilterMemory, step: Step, offsets: Offsets, stalls: Stalls) -> Process:
    """Stream a pass, move feature maps while the array stands still, wait for the filters, fill the next pass."""
    env = work.env
    filters.free.succeed()
    yield env.timeout(step.stream)
    streamed = env.now
    for access in link_accesses(step, offsets):
        yield work.memory.access(*access)
    moved = env.now
    stalls.dram += int(moved - streamed)
    if step.filter_bytes:
        yield filters.ready
        filters.ready = env.event()
        stalls.prefetch += int(env.now - moved)
        yield env.timeout(step.fill)
    if work.trace is not None:
        trace_step(work.trace, step, int(streamed), int(moved), int(env.now))


def link_accesses(step: Step, offsets: Offsets) -> Iterator[tuple[Direction, Region, int, int]]:
    """Yield the transfers that stop processing, in order: direction, region, offset and bytes."""
    if step.dump_bytes:
        yield "write", "other" if step.dumps_psums else "ofmap", offsets.dump, step.dump_bytes
    if step.reload_bytes:
        yield "read", "other", offsets.reload, step.reload_bytes
    if step.load_bytes:
        yield "read", "ifmap", offsets.load, step.load_bytes


def trace_step(trace: Timeline, step: Step, streamed: int, moved: int, end: int) -> None:
    """Draw a finished step: when the array streamed, when feature maps moved, when it waited and filled."""
    slices = (
        ("array", "stream", streamed - step.stream, step.stream),
        ("link", "feature maps", streamed, moved - streamed),
        ("array", "wait for filters", moved, end - step.fill - moved),
        ("array", "fill", end - step.fill, step.fill),
    )
    for track, name, start, cycles in slices:
        if cycles:
            trace.add("eyeriss", track, name, start, cycles)
