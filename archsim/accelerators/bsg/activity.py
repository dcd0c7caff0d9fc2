"""What one batch of a layer does; the data change none of it."""

from __future__ import annotations

from archsim.accelerators.base import BatchActivity
from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.plan import BsgPlan
from archsim.accelerators.bsg.timing import array_cycles
from archsim.counts import Counts
from archsim.workload.layers import Layer


def batch_activity(config: BsgConfig, layer: Layer, plan: BsgPlan) -> BatchActivity:
    """Return MACs and counts. One weight for each busy row is read per cycle; all weights of a slice are generated."""
    filled = plan.slices * config.slice_weights if plan.code_words else plan.weights
    counts = Counts()
    for action, n in (
        ("mac_array.mac", layer.macs_dense),
        ("generator.weight", plan.visits * filled if plan.code_words else 0),
        ("parameter_buffer.write", plan.read_words),
        ("slice_buffer.write", plan.visits * filled),
        ("slice_buffer.read", array_cycles(config, plan) * min(config.array_rows, max(plan.filters))),
    ):
        counts.add(action, n)
    return BatchActivity(layer.macs_dense, tuple(counts.items()))
