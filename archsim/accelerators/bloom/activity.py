"""From what the data did to counts: one BatchActivity per batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity, Draws, Stored
from archsim.accelerators.bloom.config import BloomConfig
from archsim.accelerators.bloom.filters import Bank
from archsim.accelerators.bloom.floats import Array
from archsim.accelerators.bloom.function import compute
from archsim.accelerators.bloom.plan import BloomPlan
from archsim.accelerators.bloom.prepare import Filtered
from archsim.counts import Counts
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Layer, OpStream

QUERIES, HITS, FALSE_HITS = range(3)
REGISTER_BYTES = 4


def execute_layer(
    config: BloomConfig, layer: Layer, plan: BloomPlan, x: Array, stored: Stored, draws: Draws
) -> Activity:
    """Run x, float32 (k*N, ...), and count what every batch asked, hit and computed."""
    outcome = compute(layer, x, stored, draws)
    banks = stored.extra.banks if isinstance(stored.extra, Filtered) else {}
    batches = tuple(
        _batch(config, layer, plan, banks, {kind: stats[at : at + plan.batch].sum(axis=0) for kind, stats in
                                            outcome.stats.items()})
        for at in range(0, len(x), plan.batch)
    )  # fmt: skip
    return Activity(outcome.y, batches)


def _batch(
    config: BloomConfig, layer: Layer, plan: BloomPlan, banks: Mapping[str, Bank], stats: Mapping[str, Array]
) -> BatchActivity:
    """Count one batch. tiles: ((reload cycles, reload bytes, latency cycles),)."""
    counts = Counts()
    for kind, one in stats.items():
        count_unit(config, counts, kind, banks.get(kind), *(int(n) for n in one[:2]))
    counts.add("accumulator.add", plan.accumulations)
    reloaded = banks if config.profile == "layer" and not isinstance(layer, OpStream) else {}
    for kind, bank in reloaded.items():
        counts.add(f"{kind}.vector_write", bank.shape.k * len(bank.patterns.counts))
    queries, hits, false_hits = (int(n) for n in np.sum(list(stats.values()), axis=0))
    metrics = {"query_events": queries, "hit_events": hits, "false_hit_events": false_hits} if banks else {}
    if len(banks) > 1:
        metrics |= {
            f"{kind}_{what}_events": int(n)
            for kind, one in stats.items()
            for what, n in zip(("query", "hit", "false_hit"), one, strict=True)
        }
    return BatchActivity(
        macs_done=max(queries - hits, 1),
        counts=tuple(counts.items()),
        tiles=((reload_cycles(reloaded), reload_bytes(reloaded), config.latency_cycles(bool(banks))),),
        metrics=tuple(metrics.items()),
    )


def count_unit(config: BloomConfig, counts: Counts, kind: str, bank: Bank | None, queries: int, hits: int) -> None:
    """Count what one kind of unit and its filters do. Source: the energy model of bloom's README."""
    counts.add(f"{kind}.operation", queries - hits)
    if bank is None:
        return
    if config.order == "parallel":
        counts.add(f"{kind}.gated_operation", hits)
    shape = bank.shape
    counts.add("hash.bit", queries * shape.key_bits * shape.address_bits * shape.banks)
    counts.add(f"{kind}.vector_read", queries * len(bank.vectors))
    counts.add("output_register.read", hits * (bank.filters if config.register_read == "all" else 1))


def reload_cycles(banks: Mapping[str, Bank]) -> int:
    """Return the cycles of a mode change: a pattern a cycle, then an output register a cycle."""
    return sum(len(bank.patterns.counts) + bank.filters for bank in banks.values())


def reload_bytes(banks: Mapping[str, Bank]) -> int:
    """Return the bytes of the patterns and outputs of a mode change."""
    return sum(
        len(bank.patterns.counts) * -(-bank.shape.key_bits // BITS_PER_BYTE) + bank.filters * REGISTER_BYTES
        for bank in banks.values()
    )
