"""Event model of one batch: filters reloaded, then units and memory side by side.

A unit takes an operation per cycle; its result is there six cycles later, eight if the filters are asked first. Hits
save energy, never time. A chain's next operation waits for the result before, so a unit needs as many chains in turn
as its latency. Source: V. Akhlaghi, UC San Diego 2020, sections 2.3.2 and 2.7.1 (six stages, 1.4 ns of 1.5 for a
vector); serial order: README.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from archsim.accelerators.base import BatchActivity, Clockwork, Timing
from archsim.accelerators.bloom.plan import BloomPlan
from archsim.energy import PriceTable


def issue_cycles(operations: int, chains: int, latency: int) -> int:
    """Return the cycles from the first to the last issue of one unit, both included.

    With fewer chains than the latency every round of them takes the latency, but the last.
    """
    if chains >= latency or operations <= chains:
        return operations
    rounds = -(-operations // chains) - 1
    return rounds * latency + operations - rounds * chains


def unit_cycles(plan: BloomPlan, latency: int) -> int:
    """Return the cycles from the first issue until the last result is valid: N + 7 for N that do not wait (serial)."""
    return issue_cycles(-(-plan.total_operations // plan.units), plan.chains_in_turn, latency) + latency - 1


def time_layer(
    prices: PriceTable, plan: BloomPlan, activity: BatchActivity, work: Clockwork
) -> Generator[Any, Any, Timing]:
    """Reload, then compute while ifmap and weights come and the ofmap goes."""
    ((reload, reload_bytes, latency),) = activity.tiles
    busy = unit_cycles(plan, latency)
    yield work.memory.access("read", "other", 0, reload_bytes)
    yield work.env.timeout(reload)
    if work.trace is not None:
        work.trace.add("bloom", "units", "batch", int(work.env.now), busy)
    started = int(work.env.now)
    moved = [
        work.memory.access("read", "weights", 0, plan.weight_bytes),
        work.memory.access("read", "ifmap", 0, plan.ifmap_bytes),
        work.memory.access("write", "ofmap", 0, plan.ofmap_bytes),
    ]
    yield work.env.all_of([work.env.timeout(busy), *moved])
    free = -(-plan.total_operations // plan.units) + latency - 1
    metrics = {"reload_cycles": reload, "stall_cycles": busy - free, **unit_energy(prices, plan, activity)}
    return Timing("compute" if work.env.now - started <= busy else "memory", metrics)


def unit_energy(prices: PriceTable, plan: BloomPlan, activity: BatchActivity) -> dict[str, float]:
    """Return the energy of units and filters, and of the same units without filters, reprogramming left out."""
    spent = sum(
        prices.prices[action].energy_pJ * n
        for action, n in activity.counts
        if action != "accumulator.add" and not action.endswith("vector_write")
    )
    exact = sum(prices.prices[f"{kind}.operation"].energy_pJ * n for kind, n in plan.operations)
    return {"unit_energy_pJ": spent, "unit_exact_energy_pJ": exact}
