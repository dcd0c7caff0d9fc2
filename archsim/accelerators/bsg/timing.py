"""Cycles of a layer: what an infinitely fast memory leaves of them, and the same with the real port on simpy's clock.

A generated slice takes n_c / 16 cycles for its code vector, the latency of the generator, and one cycle per weight; a
loaded one a cycle per word. Computing takes ceil(filters / rows) * ceil(positions / columns) cycles per tap. With two
slice buffers the next slice is generated while one is computed with; a loaded slice is loaded, then computed with.
Words that come from DRAM take the longer of their way through the port and their way into the buffer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.accelerators.base import Clockwork, Timing
from archsim.accelerators.bsg.config import WORD_BYTES, BsgConfig
from archsim.accelerators.bsg.plan import BsgPlan, part, partition_sizes, slice_sizes
from archsim.workload.layers import Layer
from archsim.workload.params import Array

if TYPE_CHECKING:
    import simpy

    from archsim.memory.base import Direction, Region

Process = Generator[Any, Any, None]


def compute_cycles(config: BsgConfig, plan: BsgPlan, positions: int) -> Array:
    """Return the cycles of the array for every slice, int64 (slices,)."""
    filters, taps = slice_sizes(plan)
    rounds = -(-filters // config.array_rows) * -(-positions // config.array_columns)
    return np.asarray(rounds * taps)


def fill_cycles(config: BsgConfig, plan: BsgPlan) -> Array:
    """Return the cycles it takes to generate or to load every slice, int64 (slices,)."""
    if plan.code_words:
        return np.full(plan.slices, config.generation_cycles, np.int64)
    filters, taps = slice_sizes(plan)
    return filters * taps


def visit_cycles(config: BsgConfig, plan: BsgPlan, positions: int) -> int:
    """Return the cycles of one run through a layer with an infinitely fast memory."""
    fill, compute = fill_cycles(config, plan), compute_cycles(config, plan, positions)
    if not (plan.code_words and config.overlap):
        return int(fill.sum() + compute.sum())
    return int(fill[0] + np.maximum(fill[1:], compute[:-1]).sum() + compute[-1])


def layer_cycles(config: BsgConfig, plan: BsgPlan) -> int:
    """Return the cycles of a batch with an infinitely fast memory."""
    visits = sum(count * visit_cycles(config, plan, size) for size, count in partition_sizes(plan).items())
    return plan.base_words + plan.batch * visits


def array_cycles(config: BsgConfig, plan: BsgPlan) -> int:
    """Return the cycles of a batch in which the array works."""
    sizes = partition_sizes(plan)
    return plan.batch * sum(count * int(compute_cycles(config, plan, size).sum()) for size, count in sizes.items())


def time_layer(config: BsgConfig, layer: Layer, plan: BsgPlan, work: Clockwork) -> Generator[Any, Any, Timing]:
    """Simulate one batch, partition by partition, slice by slice."""
    run = _Run(config, layer, plan, work)
    yield from run.parameters()
    for visit in range(plan.visits):
        yield from run.visit(visit)
    cycles, compute = int(work.env.now), array_cycles(config, plan)
    work.counts.add("fpga.active_cycle", cycles)
    words = dict.fromkeys(("read", "write"), 0)
    for (_, direction), n_bytes in work.memory.bytes_moved.items():
        words[direction] += n_bytes // WORD_BYTES
    stalled = cycles > layer_cycles(config, plan) + cycles // 2
    bound = "dram" if stalled else "compute" if 2 * compute >= cycles else "slices"
    told = {"compute_cycles": compute, "dram_words_read": words["read"], "dram_words_written": words["write"]}
    return Timing(bound, told)


class _Run:
    """One batch of one layer on its way.

    Every step waits for its own transfers, so it finds the memory idle: where an idle memory always takes as long for
    the same bytes, steps of one kind are simulated once and multiplied. With a trace or a log all are run.
    """

    def __init__(self, config: BsgConfig, layer: Layer, plan: BsgPlan, work: Clockwork) -> None:
        self.config, self.layer, self.plan, self.work = config, layer, plan, work
        self.filled = 0
        self.words = [plan.code_words] * plan.slices if plan.code_words else fill_cycles(config, plan).tolist()
        self.cycles = {size: compute_cycles(config, plan, size).tolist() for size in partition_sizes(plan)}
        self.repeats = work.memory.stationary and work.trace is None and work.memory.log is None
        self.known: dict[tuple[int, ...], tuple[int, list[tuple[Region, Direction, int]]]] = {}

    def parameters(self) -> Process:
        """Read the base vector, scale and bias."""
        plan = self.plan
        yield self._both(self._read(plan.base_words), plan.base_words)
        yield self._read(plan.affine_words)

    def visit(self, visit: int) -> Process:
        """Read a partition of the ifmap, run all slices on it, write the ofmap's."""
        plan, index = self.plan, visit % self.plan.partitions
        fetch = not visit or (plan.reloaded and not plan.code_words)
        maps = (part(words, plan.partitions, index) for words in (plan.ifmap_words, plan.ofmap_words))
        kind = (part(plan.positions, plan.partitions, index), *maps, int(fetch))
        yield from self._repeated(kind, 1, lambda: self._visit(visit, fetch))

    def _repeated(self, kind: tuple[int, ...], times: int, step: Callable[[], Process]) -> Process:
        """Run a step so many times; one that is known takes its time and moves its bytes without events."""
        if not self.repeats:
            yield from step()
            return
        env, memory = self.work.env, self.work.memory
        if kind not in self.known:
            start, before = int(env.now), memory.snapshot()
            yield from step()
            moved = [(*key, n_bytes - before.get(key, 0)) for key, n_bytes in memory.snapshot().items()]
            self.known[kind] = int(env.now) - start, moved
            times -= 1
        if times:
            cycles, moved = self.known[kind]
            yield env.timeout(times * cycles)
            for region, direction, n_bytes in moved:
                memory.account(direction, region, times * n_bytes)

    def _visit(self, visit: int, fetch: bool) -> Process:
        """Run through the layer once."""
        plan = self.plan
        yield self._map("read", "ifmap", plan.ifmap_words, visit)
        self.filled = plan.base_words + plan.affine_words
        compute = self.cycles[part(plan.positions, plan.partitions, visit % plan.partitions)]
        if plan.code_words and self.config.overlap:
            yield from self._overlapped(compute, fetch)
        elif self.repeats:
            for (words, busy), count in Counter(zip(self.words, compute)).items():
                index = self.words.index(words)
                yield from self._repeated((words, busy, int(fetch)), count, partial(self._slice, index, busy, fetch))
        else:
            for index, busy in enumerate(compute):
                yield from self._slice(index, busy, fetch)
        yield self._map("write", "ofmap", plan.ofmap_words, visit)

    def _slice(self, index: int, busy: int, fetch: bool) -> Process:
        """Fill the buffer, then compute."""
        yield from self._fill(index, fetch)
        yield self._compute(busy)

    def _overlapped(self, compute: list[int], fetch: bool) -> Process:
        """Fill one buffer while the array works from the other."""
        env = self.work.env
        yield from self._fill(0, fetch)
        for index in range(1, len(compute)):
            yield env.process(self._fill(index, fetch)) & self._compute(compute[index - 1])
        yield self._compute(compute[-1])

    def _fill(self, index: int, fetch: bool) -> Process:
        """Bring a slice's words into the buffer, from DRAM if they are not on the chip, and generate the slice."""
        words, start = self.words[index], int(self.work.env.now)
        yield self._both(self._read(words), words) if fetch else self.work.env.timeout(words)
        if self.plan.code_words:
            yield self.work.env.timeout(self.config.generation_cycles - self.plan.code_words)
        self._trace("generator" if self.plan.code_words else "loader", start)

    def _compute(self, busy: int) -> simpy.Event:
        if self.work.trace is not None:
            self.work.trace.add("bsg", "array", self.layer.name, int(self.work.env.now), busy)
        return self.work.env.timeout(busy)

    def _trace(self, track: str, start: int) -> None:
        if self.work.trace is not None:
            self.work.trace.add("bsg", track, self.layer.name, start, int(self.work.env.now) - start)

    def _read(self, words: int) -> simpy.Event:
        """Read the next words of the layer's parameters."""
        first, self.filled = self.filled, self.filled + words
        return self.work.memory.access("read", "weights", first * WORD_BYTES, words * WORD_BYTES)

    def _both(self, arrival: simpy.Event, cycles: int) -> simpy.Event:
        """Return the event of both: words have arrived, and one cycle each has passed."""
        return arrival & self.work.env.timeout(cycles)

    def _map(self, direction: Any, region: Any, words: int, visit: int) -> simpy.Event:
        """Move the part of a feature map that belongs to one visit."""
        image, partition = divmod(visit, self.plan.partitions)
        first = words * image + words * partition // self.plan.partitions
        n_bytes = part(words, self.plan.partitions, partition) * WORD_BYTES
        return self.work.memory.access(direction, region, first * WORD_BYTES, n_bytes)
