"""What one batch of a layer does; the data change none of it."""

from __future__ import annotations

from archsim.accelerators.base import BatchActivity
from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.plan import BsgPlan, partition_sizes
from archsim.counts import Counts
from archsim.workload.layers import Layer


def batch_activity(config: BsgConfig, layer: Layer, plan: BsgPlan) -> BatchActivity:
    """Return MACs and counts. A weight is read once for each round of output positions; generated weights outside the
    layer are not written.
    """
    sizes = partition_sizes(plan)
    rounds = plan.batch * sum(count * -(-size // config.array_columns) for size, count in sizes.items())
    counts = Counts()
    for action, n in (
        ("mac_array.mac", layer.macs_dense),
        ("generator.weight", plan.visits * plan.slices * config.slice_weights if plan.code_words else 0),
        ("parameter_buffer.write", plan.read_words),
        ("slice_buffer.write", plan.visits * plan.weights),
        ("slice_buffer.read", rounds * plan.weights),
    ):
        counts.add(action, n)
    return BatchActivity(layer.macs_dense, tuple(counts.items()))
