"""One batch of one layer on simpy's clock: from a reset machine and a fresh memory port to cycles and counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from archsim.accelerators.base import Accelerator, BatchActivity, Clockwork, Plan, Timing
from archsim.counts import Counts
from archsim.memory.base import NOWHERE, Addresses, Memory, RequestLog
from archsim.sim import Timeline
from archsim.workload.layers import Layer


@dataclass(frozen=True, eq=False)
class Timed:
    """What the clock said: cycles of the machine, its counts, the memory's counts, bound and metrics."""

    cycles: int
    counts: Counts
    memory_counts: Counts
    timing: Timing


def simulate_batch(
    machine: Accelerator,
    memory: Memory,
    layer: Layer,
    plan: Plan,
    activity: BatchActivity,
    trace: Timeline | None = None,
    addresses: Addresses = NOWHERE,
    requests: RequestLog | None = None,
) -> Timed:
    """Run `machine.time` for one batch; counts of the activity are included. `requests` notes what memory is asked."""
    import simpy

    def fresh() -> Clockwork:
        env = simpy.Environment()
        return Clockwork(env, memory.port(env, machine.config.clock_MHz, addresses), Counts(), fresh)

    work = replace(fresh(), trace=trace)
    work.memory.log = requests
    work.counts.merge(dict(activity.counts))
    process = work.env.process(machine.time(layer, plan, activity, work))
    timing = work.env.run(until=process)
    assert isinstance(timing, Timing)
    stalled = int(work.env.now) - machine.closed_form_cycles(layer, plan, activity)
    told = {**timing.metrics, "memory_stall_cycles": stalled, **work.memory.metrics()}
    return Timed(int(work.env.now), work.counts, work.memory.counts(), replace(timing, metrics=told))
